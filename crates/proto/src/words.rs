//! The words of a kernel command line.
//!
//! [`Words`] cuts a line as `next_arg()` of the kernel's lib/cmdline.c does: white space
//! separates words, double quotes group, single quotes and backslashes have no meaning.
//! One difference: the kernel also treats the bytes 0x0b and 0xa0 as white space, which
//! would cut `à` in two.
//!
//! The parsers of numbers and UUIDs, which values are made of, are here too.

use alloc::vec::Vec;

/// One word: `param` or `param=value`, without the quotes that the kernel removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The text up to the first `=`.
    pub param: &'a [u8],
    /// The text after the first `=`; `None` without a `=`.
    pub value: Option<&'a [u8]>,
}

/// The words of a command line, in order.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The words of `line`. A newline at its end is white space.
    #[must_use]
    pub fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let line = self.rest.trim_ascii_start();
        if line.is_empty() {
            self.rest = line;
            return None;
        }
        // An opening quote is dropped, but the word goes on to the closing one.
        let (line, quoted) = match line.strip_prefix(b"\"") {
            Some(inner) => (inner, true),
            None => (line, false),
        };
        let mut in_quotes = quoted;
        let end = line
            .iter()
            .position(|&byte| {
                in_quotes ^= byte == b'"';
                byte.is_ascii_whitespace() && !in_quotes
            })
            .unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        self.rest = rest;

        let (param, value) = match word.iter().position(|&byte| byte == b'=') {
            // A leading '=' belongs to the name: the kernel looks from index 1.
            None | Some(0) => (word, None),
            Some(at) => {
                let (param, value) = word.split_at(at);
                (param, value.strip_prefix(b"="))
            }
        };
        Some(match value {
            None => Word { param: close_quote(param, quoted), value: None },
            Some(value) => {
                let (value, opened) = match value.strip_prefix(b"\"") {
                    Some(inner) => (inner, true),
                    None => (value, quoted),
                };
                Word { param, value: Some(close_quote(value, opened)) }
            }
        })
    }
}

/// `bytes` as a string for a `match`; empty if they are not UTF-8. A `match` on bytes would
/// compile to a large tree of comparisons of single bytes.
#[must_use]
#[inline(never)]
pub fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or_default()
}

/// The words of a constant list that are separated by blanks.
pub fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(u8::is_ascii_whitespace)
}

/// The value with the name `word` in a table of names.
#[must_use]
pub fn named<T: Copy>(table: &[(&str, T)], word: &[u8]) -> Option<T> {
    let word = text(word);
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

/// The name of `value` in a table of names; empty if it has none.
#[must_use]
pub fn name_in<'a, T: PartialEq>(table: &[(&'a str, T)], value: &T) -> &'a str {
    table.iter().find(|(_, row)| row == value).map_or("", |(name, _)| name)
}

/// A decimal number; digits only.
#[must_use]
#[inline(never)]
pub fn number(text: &[u8]) -> Option<u64> {
    let append = |number: u64, &byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        number.checked_mul(10)?.checked_add(digit.into()).filter(|_| digit < 10)
    };
    text.iter().try_fold(0, append).filter(|_| !text.is_empty())
}

/// Exactly `N` decimal numbers, each separated by one blank.
#[must_use]
pub fn numbers<const N: usize>(text: &[u8]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    fill(text, &mut numbers).then_some(numbers)
}

/// Reads as many numbers as there are places, and no other word. One copy serves all lengths.
#[inline(never)]
fn fill(text: &[u8], places: &mut [u64]) -> bool {
    let mut words = words(text);
    let mut fill = |place: &mut u64| {
        *place = number(words.next()?)?;
        Some(())
    };
    places.iter_mut().all(|place| fill(place).is_some()) && words.next().is_none()
}

/// A hexadecimal number of one to sixteen digits; digits only.
#[must_use]
#[inline(never)]
pub fn hex(text: &[u8]) -> Option<u64> {
    let append =
        |number: u64, &byte: &u8| Some(number << 4 | u64::from(char::from(byte).to_digit(16)?));
    text.iter().try_fold(0, append).filter(|_| matches!(text.len(), 1..=16))
}

/// The bytes of a UUID in text form (RFC 4122 §3), in the order of the text.
#[must_use]
pub fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups = text.split(|&byte| byte == b'-');
    if !groups.clone().map(<[u8]>::len).eq(GROUPS) {
        return None;
    }
    let mut digits = groups.flatten();
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        let [high, low] = [digits.next()?, digits.next()?];
        *byte = u8::try_from(hex(&[*high, *low])?).ok()?;
    }
    Some(uuid)
}

/// Drops the closing quote of `text`, if its opening quote was dropped.
fn close_quote(text: &[u8], opened: bool) -> &[u8] {
    if opened { text.strip_suffix(b"\"").unwrap_or(text) } else { text }
}

impl Word<'_> {
    /// Appends the word to `line` as a command line has it: a value with white space is put
    /// in double quotes. A value with a double quote cannot be written.
    pub fn append_to(self, line: &mut Vec<u8>) {
        line.extend_from_slice(self.param);
        if let Some(value) = self.value {
            let quote: &[u8] = if value.iter().any(u8::is_ascii_whitespace) { b"\"" } else { b"" };
            for part in [b"=", quote, value, quote] {
                line.extend_from_slice(part);
            }
        }
    }

    /// The word as an argument of a program: without quotes, but with its `=`.
    #[must_use]
    pub fn to_argument(self) -> Vec<u8> {
        let mut argument = self.param.to_vec();
        if let Some(value) = self.value {
            argument.push(b'=');
            argument.extend_from_slice(value);
        }
        argument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("a", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn hexadecimal_numbers_are_digits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("00fF", Some(255)),
            ("ffffffffffffffff", Some(u64::MAX)),
            ("00000000000000000", None),
            ("", None),
            ("0x1", None),
            ("-1", None),
        ] {
            assert_eq!(hex(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn uuids_have_one_form() {
        let expected = *b"\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\0";
        for text in ["11223344-5566-7788-99aa-bbccddeeff00", "11223344-5566-7788-99AA-BBCCDDEEFF00"]
        {
            assert_eq!(uuid(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "112233445566778899aabbccddeeff00",
            "11223344-5566-7788-99aa-bbccddeeff0",
            "11223344-5566-7788-99aa-bbccddeeff0x",
            "11223344-5566-7788-99aa-bbccddeeff00-",
            "1122334-45566-7788-99aa-bbccddeeff00",
        ] {
            assert_eq!(uuid(text.as_bytes()), None, "{text}");
        }
    }

    use alloc::string::String;

    fn words(line: &str) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Words::new(line.as_bytes()).map(|word| (text(word.param), word.value.map(text))).collect()
    }

    #[test]
    fn a_written_word_is_read_again() {
        for (value, written) in
            [(None, "k"), (Some("v"), "k=v"), (Some("a b"), "k=\"a b\""), (Some(""), "k=")]
        {
            let mut line = Vec::new();
            let word = Word { param: b"k", value: value.map(str::as_bytes) };
            word.append_to(&mut line);
            assert_eq!(line, written.as_bytes());
            assert_eq!(Words::new(&line).next(), Some(word));
        }
    }

    /// Expectations worked out by hand from `next_arg()` of Linux 6.1.
    #[test]
    fn words_are_cut_as_the_kernel_cuts_them() {
        type Case = (&'static str, &'static [(&'static str, Option<&'static str>)]);
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("",                    &[]),
            (" \t\n",               &[]),
            ("a b\n",               &[("a", None), ("b", None)]),
            ("k=v",                 &[("k", Some("v"))]),
            ("k=a=b",               &[("k", Some("a=b"))]),
            ("k=",                  &[("k", Some(""))]),
            ("=x",                  &[("=x", None)]),
            ("k=\"a b\" c",         &[("k", Some("a b")), ("c", None)]),
            ("\"k=a b\" c",         &[("k", Some("a b")), ("c", None)]),
            ("\"a b\"",             &[("a b", None)]),
            ("'a b'",               &[("'a", None), ("b'", None)]),
            ("a\"b c\"d e",         &[("a\"b c\"d", None), ("e", None)]),
            ("k=a\"b c\"",          &[("k", Some("a\"b c\""))]),
            ("\"unclosed a b",      &[("unclosed a b", None)]),
            ("k=\"",                &[("k", Some(""))]),
        ];
        for (line, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(param, value)| (String::from(*param), value.map(String::from)))
                .collect();
            assert_eq!(words(line), expected, "{line:?}");
        }
    }
}
