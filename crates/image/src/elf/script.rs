//! The interpreter of a script.
//!
//! Format: kernel `fs/binfmt_script.c`: `#!`, blanks, a path, blanks, one argument; the line
//! must end within the bytes that the kernel looks at, or the path must.

/// Beginning of a script.
const MARK: &[u8] = b"#!";

/// What the first bytes of a file say about its interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Script<'a> {
    /// The file is no script.
    No,
    /// The line names no interpreter.
    Empty,
    /// Path of the interpreter.
    By(&'a [u8]),
}

/// Reads the first line of a file, of which `head` has the first bytes.
pub(super) fn interpreter(head: &[u8]) -> Script<'_> {
    let Some(rest) = head.strip_prefix(MARK) else { return Script::No };
    let line = rest.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    let words = line.split(|&byte| byte == b' ' || byte == b'\t');
    match words.into_iter().find(|word| !word.is_empty()) {
        Some(path) => Script::By(path),
        None => Script::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        let cases: &[(&[u8], Script<'_>)] = &[
            (b"#!/bin/sh", Script::By(b"/bin/sh")),
            (b"#!/bin/sh\necho", Script::By(b"/bin/sh")),
            (b"#! \t/bin/sh -eu\n", Script::By(b"/bin/sh")),
            (b"#!/bin/sh\0x", Script::By(b"/bin/sh")),
            (b"#!/bin/sh\r\n", Script::By(b"/bin/sh\r")),
            (b"#!/usr/bin/env python3\n", Script::By(b"/usr/bin/env")),
            (b"#!\n/bin/sh", Script::Empty),
            (b"#!  \t", Script::Empty),
            (b" #!/bin/sh", Script::No),
            (b"#", Script::No),
            (b"", Script::No),
        ];
        for (head, expected) in cases {
            assert_eq!(interpreter(head), *expected, "{}", head.escape_ascii());
        }
    }
}
