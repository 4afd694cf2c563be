//! The steps of writing a text to a log file: pure functions of the text and of the file's size.

use std::borrow::Cow;

/// Position in the lines of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinePosition {
    /// The next byte begins a line.
    Start,
    /// The next byte continues a line.
    Within,
}

impl LinePosition {
    /// The position behind `text`, if the position before it is this one.
    pub(super) fn after(self, text: &[u8]) -> Self {
        match text.last() {
            None => self,
            Some(b'\n') => Self::Start,
            Some(_) => Self::Within,
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Append this number of bytes of the text, at least one, to the current file.
    Append(usize),
    /// Rename the current file, and begin a new one.
    Rotate,
}

/// The next step for `text`, which is not empty, if the current file has `size` bytes and ends at
/// `position`. A file gets no larger than `limit`, which is at least 1. Files end at ends of
/// lines, unless a line is longer than `limit`, or its beginning was written before.
pub(super) fn next(text: &[u8], size: u64, position: LinePosition, limit: u64) -> Step {
    let room = usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX);
    let Some(head) = text.get(..room).filter(|head| head.len() < text.len()) else {
        return Step::Append(text.len());
    };
    match head.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => Step::Append(at + 1),
        None if head.is_empty() => Step::Rotate,
        None if position == LinePosition::Start && size > 0 => Step::Rotate,
        None => Step::Append(head.len()),
    }
}

/// `text` with `stamp` and a blank at the beginning of each line. The text begins at `position`.
pub(super) fn stamped<'a>(
    text: &'a [u8],
    position: LinePosition,
    stamp: Option<&str>,
) -> Cow<'a, [u8]> {
    let Some(stamp) = stamp else { return Cow::Borrowed(text) };
    let mut result = Vec::with_capacity(text.len() + stamp.len() + 1);
    let mut position = position;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if position == LinePosition::Start {
            result.extend_from_slice(stamp.as_bytes());
            result.push(b' ');
        }
        result.extend_from_slice(line);
        position = position.after(line);
    }
    Cow::Owned(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rotated_before_it_is_too_large() {
        use LinePosition::{Start, Within};
        for (name, text, size, position, limit, expected) in [
            ("fits", "ab\ncd", 0, Start, 10, Step::Append(5)),
            ("fills the file", "ab\ncd", 5, Start, 10, Step::Append(5)),
            ("first line fits", "ab\ncd", 6, Start, 10, Step::Append(3)),
            ("two lines fit", "a\nb\ncd", 5, Start, 10, Step::Append(4)),
            ("no line fits", "abcde", 6, Start, 10, Step::Rotate),
            ("a full file", "a", 10, Start, 10, Step::Rotate),
            ("a full file within a line", "a", 10, Within, 10, Step::Rotate),
            ("a file larger than the limit", "a", 12, Within, 10, Step::Rotate),
            ("the line goes on", "abcde", 6, Within, 10, Step::Append(4)),
            ("the line ends", "ab\ncde", 6, Within, 10, Step::Append(3)),
            ("a line longer than a file", "abcdefghijkl\n", 0, Start, 10, Step::Append(10)),
            ("one byte", "ab", 0, Start, 1, Step::Append(1)),
        ] {
            assert_eq!(next(text.as_bytes(), size, position, limit), expected, "{name}");
        }
    }

    #[test]
    fn each_line_has_one_stamp() {
        use LinePosition::{Start, Within};
        for (name, text, position, expected) in [
            ("lines", "a\nb\n", Start, "T a\nT b\n"),
            ("a part", "a\nb", Start, "T a\nT b"),
            ("the rest of a line", "b\nc", Within, "b\nT c"),
            ("the end of a line", "\n", Within, "\n"),
            ("empty lines", "\n\n", Start, "T \nT \n"),
            ("nothing", "", Start, ""),
        ] {
            let found = stamped(text.as_bytes(), position, Some("T"));
            assert_eq!(String::from_utf8_lossy(&found), expected, "{name}");
            assert_eq!(&*stamped(text.as_bytes(), position, None), text.as_bytes(), "{name}");
        }
    }
}
