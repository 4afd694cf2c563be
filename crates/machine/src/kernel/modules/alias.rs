//! Names that stand for modules: `crypto-crc32c` for all that compute that sum.
//!
//! Formats: modules.alias of depmod(8), which is lines `alias PATTERN MODULE` with
//! patterns of fnmatch(3), and modules.builtin.modinfo of the kernel's build, which
//! is strings `MODULE.alias=PATTERN` separated by NUL. `-` and `_` are the same.

use super::canonical;

/// What names stand for.
#[derive(Debug, Default)]
pub struct Aliases {
    /// Pattern and module, as they were found.
    rows: Vec<(String, String)>,
}

impl Aliases {
    /// Reads modules.alias.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let (word, pattern, module) = (words.next()?, words.next()?, words.next()?);
            (word == "alias").then(|| (canonical(pattern), canonical(module)))
        };
        Self { rows: text.lines().filter_map(row).collect() }
    }

    /// Reads modules.builtin.modinfo.
    #[must_use]
    pub fn parse_builtin(text: &str) -> Self {
        let row = |string: &str| {
            let (module, pattern) = string.split_once(".alias=")?;
            Some((canonical(pattern), canonical(module)))
        };
        Self { rows: text.split('\0').filter_map(row).collect() }
    }

    /// The modules that the canonical `name` stands for, each once, in their order.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (pattern, module) in &self.rows {
            if !found.contains(module) && matches(pattern.as_bytes(), name.as_bytes()) {
                found.push(module.clone());
            }
        }
        found
    }
}

/// Whether the whole `text` matches `pattern`, in which `*` is any text, `?` any
/// byte, and `[a-c]` one of those.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut rest) = (pattern, text);
    // The pattern behind the last `*`, and the text that it was compared with.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (at.first(), rest.split_first()) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                at = &at[1..];
                again = Some((at, rest));
                continue;
            }
            (Some(_), Some((byte, _))) => one(at, *byte),
            _ => None,
        };
        match (step, again) {
            (Some(after), _) => (at, rest) = (after, &rest[1..]),
            // One more byte for the last `*`.
            (None, Some((behind, [_, left @ ..]))) => {
                again = Some((behind, left));
                (at, rest) = (behind, left);
            }
            (None, _) => return false,
        }
    }
}

/// The pattern behind its first part, where that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, after) = pattern.split_first()?;
    match first {
        b'?' => Some(after),
        b'[' => {
            // A `]` that comes first is one of the bytes.
            let end = after.iter().skip(1).position(|&byte| byte == b']')? + 1;
            let mut set = after.get(..end)?;
            let mut is_in = false;
            // `canonical` has made `_` of the dash between two.
            while let Some((&low, others)) = set.split_first() {
                match others {
                    [b'-' | b'_', high, left @ ..] => {
                        is_in |= (low..=*high).contains(&byte);
                        set = left;
                    }
                    left => {
                        is_in |= low == byte;
                        set = left;
                    }
                }
            }
            is_in.then(|| after.get(end + 1..)).flatten()
        }
        _ => (*first == byte).then_some(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_modules() {
        let text = "# Aliases extracted from modules themselves.\nalias crypto-crc32c crc32c-intel\n\
                    alias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_generic\n\
                    alias fs-ext[2-3] ext4\nalias char-major-10-* misc\nalias x\noptions y z\r\n";
        let aliases = Aliases::parse(text);
        for (name, expected) in [
            ("crypto-crc32c", &["crc32c_intel", "crc32c_generic"][..]),
            ("crypto_crc32c", &["crc32c_intel", "crc32c_generic"]),
            ("crypto-crc32", &[]),
            ("fs-ext3", &["ext4"]),
            ("fs-ext4", &[]),
            ("char-major-10-223", &["misc"]),
            ("x", &[]),
        ] {
            assert_eq!(aliases.find(&canonical(name)), expected, "{name}");
        }
        let text = "ext4.alias=fs-ext4\0crc32c_generic.alias=crypto-crc32c\0ext4.license=GPL\0";
        assert_eq!(Aliases::parse_builtin(text).find("crypto_crc32c"), ["crc32c_generic"]);
    }

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*b*b", "abab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[abx-z]", "y", true),
            ("[abx-z]", "c", false),
            ("[]]", "]", true),
            ("[a", "a", false),
            ("[", "[", false),
            ("a*", "b", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        let stars = "*a".repeat(40);
        assert!(!matches(stars.as_bytes(), &[b'a'; 39]), "it ends soon");
    }
}
