//! Aliases of modules: `crypto-crc32c` is an alias of every module that computes
//! CRC-32C.
//!
//! Formats: modules.alias of depmod(8) has lines `alias PATTERN MODULE`;
//! modules.builtin.modinfo of the kernel's build has strings `MODULE.alias=PATTERN`,
//! separated by NUL. Patterns are those of fnmatch(3). `-` and `_` mean the same.

use super::name::canonical_name;

/// Table of aliases.
#[derive(Debug, Default)]
pub struct Aliases {
    /// Pattern and module, in the order of the file.
    rows: Vec<(String, String)>,
}

impl Aliases {
    /// Reads modules.alias.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let (word, pattern, module) = (words.next()?, words.next()?, words.next()?);
            (word == "alias").then(|| (canonical_name(pattern), canonical_name(module)))
        };
        Self { rows: text.lines().filter_map(row).collect() }
    }

    /// Reads modules.builtin.modinfo.
    #[must_use]
    pub fn parse_builtin(text: &str) -> Self {
        let row = |string: &str| {
            let (module, pattern) = string.split_once(".alias=")?;
            Some((canonical_name(pattern), canonical_name(module)))
        };
        Self { rows: text.split('\0').filter_map(row).collect() }
    }

    /// The modules that have the canonical `name` as an alias, each once, in the order of
    /// the file.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (pattern, module) in &self.rows {
            if !found.contains(module) && matches_pattern(pattern.as_bytes(), name.as_bytes()) {
                found.push(module.clone());
            }
        }
        found
    }
}

/// Whether the whole `text` matches `pattern`: `*` is any text, `?` is any byte, and
/// `[a-c]` is one byte of that range.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut rest) = (pattern, text);
    // The rest of the pattern after the last `*`, and the text that it is compared with.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (at.first(), rest.split_first()) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                at = &at[1..];
                again = Some((at, rest));
                continue;
            }
            (Some(_), Some((byte, _))) => match_byte(at, *byte),
            _ => None,
        };
        match (step, again) {
            (Some(after), _) => (at, rest) = (after, &rest[1..]),
            // Let the last `*` match one more byte, and compare again.
            (None, Some((behind, [_, left @ ..]))) => {
                again = Some((behind, left));
                (at, rest) = (behind, left);
            }
            (None, _) => return false,
        }
    }
}

/// The rest of `pattern` after its first part; `None` if that part does not match `byte`.
fn match_byte(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, after) = pattern.split_first()?;
    match first {
        b'?' => Some(after),
        b'[' => {
            // A `]` directly after `[` belongs to the set.
            let end = after.iter().skip(1).position(|&byte| byte == b']')? + 1;
            let mut set = after.get(..end)?;
            let mut is_in = false;
            // `canonical_name` has replaced the `-` of a range by `_`.
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
    fn an_alias_leads_to_modules() {
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
            assert_eq!(aliases.find(&canonical_name(name)), expected, "{name}");
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
            assert_eq!(
                matches_pattern(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
        let stars = "*a".repeat(40);
        assert!(!matches_pattern(stars.as_bytes(), &[b'a'; 39]), "the time does not explode");
    }
}
