//! Modes of `--chmod` and of mounts: octal, or changes as chmod(1) takes them.

use crate::table::quote;

/// Most permission bits: set-user-ID, set-group-ID, sticky, and three times `rwx`.
const MODE_MAX: u16 = 0o7777;

/// Bit that makes a program run as its owner.
const SET_USER: u16 = 0o4000;

/// Bit that makes a program run with its group.
const SET_GROUP: u16 = 0o2000;

/// Bit that lets only owners remove files from a directory.
const STICKY: u16 = 0o1000;

/// Bits by the letter of who has them (gnulib `modechange.c`).
const WHO: &[(char, u16)] =
    &[('u', 0o700 | SET_USER), ('g', 0o070 | SET_GROUP), ('o', 0o007 | STICKY), ('a', MODE_MAX)];

/// Bits by the letter of the permission, for all; `X` depends on the file.
const PERMISSIONS: &[(char, u16)] =
    &[('r', 0o444), ('w', 0o222), ('x', 0o111), ('s', SET_USER | SET_GROUP), ('t', STICKY)];

/// Permission bits of copied files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// These bits, for files and directories.
    Octal(u16),
    /// Changes to the bits of the source, in order.
    Symbolic(Vec<Clause>),
}

/// One change, such as the `u=rwX` of `u=rwX,go=rX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits that the letters before the operator stand for.
    who: u16,
    /// Operator.
    operator: Operator,
    /// Bits behind the operator.
    bits: Bits,
}

/// Operator of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// `+`
    Add,
    /// `-`
    Remove,
    /// `=`
    Set,
}

/// Bits behind an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    /// These; with `X`, execution for directories and for files that someone can execute.
    Fixed { bits: u16, execution: Execution },
    /// Those of the owner, the group or the others: the distance of their bits from the lowest.
    Copied(u16),
}

/// Whether `X` stands behind an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Execution {
    /// There is an `X`.
    Conditional,
    /// There is none.
    AsGiven,
}

/// Kind of file whose mode changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Directory.
    Directory,
    /// Anything else.
    File,
}

impl CopyMode {
    /// Parses the value of `--chmod`.
    ///
    /// # Errors
    /// It is neither octal nor made of changes.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(bits) = octal(text) {
            return Ok(Self::Octal(bits));
        }
        let clauses: Option<Vec<_>> = text.split(',').map(clauses).collect();
        let wrong = || {
            let text = quote(text);
            format!(
                "mode {text} is wrong: give an octal mode such as 0755, or changes such as u=rwX,go=rX"
            )
        };
        clauses.map(|clauses| Self::Symbolic(clauses.concat())).ok_or_else(wrong)
    }

    /// The mode of a copy, if its source has the permission bits `mode`.
    #[must_use]
    pub fn apply(&self, mode: u16, kind: FileKind) -> u16 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode & MODE_MAX, |mode, clause| clause.apply(mode, kind))
            }
        }
    }
}

impl Clause {
    /// The bits `mode` after this change.
    #[must_use]
    pub fn apply(&self, mode: u16, kind: FileKind) -> u16 {
        let bits = match self.bits {
            Bits::Copied(distance) => {
                let three = (mode >> distance) & 0o7;
                three << 6 | three << 3 | three
            }
            Bits::Fixed { bits, execution } => {
                let is_executable = kind == FileKind::Directory || mode & 0o111 != 0;
                match execution {
                    Execution::Conditional if is_executable => bits | 0o111,
                    _ => bits,
                }
            }
        };
        let bits = bits & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // As in chmod(1), `=` leaves the special bits of directories alone.
            Operator::Set => {
                let kept = match kind {
                    FileKind::Directory => (SET_USER | SET_GROUP) & !bits,
                    FileKind::File => 0,
                };
                mode & !(self.who & !kept) | bits
            }
        }
    }
}

/// Octal mode, up to 7777.
pub(super) fn octal(text: &str) -> Option<u16> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let bits = u16::from_str_radix(text, 8).ok();
    bits.filter(|bits| is_octal && *bits <= MODE_MAX)
}

/// Changes between two commas: letters of who, and operators with their letters.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let (letters, mut rest) = text.split_at(start);
    let mut who = 0;
    for letter in letters.chars() {
        who |= WHO.iter().find(|(known, _)| *known == letter)?.1;
    }
    // Nobody means all. chmod(1) would ask the umask, but a build has none.
    let who = match who {
        0 => MODE_MAX,
        who => who,
    };
    let mut clauses = Vec::new();
    while let Some(first) = rest.chars().next() {
        let operator = match first {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let behind = rest.get(first.len_utf8()..)?;
        let end = behind.find(['+', '-', '=']).unwrap_or(behind.len());
        let (letters, next) = behind.split_at(end);
        clauses.push(Clause { who, operator, bits: bits(letters)? });
        rest = next;
    }
    Some(clauses)
}

/// Bits of the letters behind an operator.
fn bits(letters: &str) -> Option<Bits> {
    match letters {
        "u" => return Some(Bits::Copied(6)),
        "g" => return Some(Bits::Copied(3)),
        "o" => return Some(Bits::Copied(0)),
        _ => {}
    }
    let mut bits = 0;
    let mut execution = Execution::AsGiven;
    for letter in letters.chars() {
        if letter == 'X' {
            execution = Execution::Conditional;
            continue;
        }
        bits |= PERMISSIONS.iter().find(|(known, _)| *known == letter)?.1;
    }
    Some(Bits::Fixed { bits, execution })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_chmod() {
        use FileKind::{Directory, File};
        #[rustfmt::skip]
        const ROWS: &[(&str, u16, FileKind, u16)] = &[
            ("0755",         0o644,  File,      0o755),
            ("4755",         0o644,  File,      0o4755),
            ("u+x",          0o644,  File,      0o744),
            ("+x",           0o644,  File,      0o755),
            ("a+x",          0o600,  File,      0o711),
            ("go-rwx",       0o755,  File,      0o700),
            ("u=rwX,go=rX",  0o600,  File,      0o644),
            ("u=rwX,go=rX",  0o700,  File,      0o755),
            ("u=rwX,go=rX",  0o700,  Directory, 0o755),
            ("g=u",          0o750,  File,      0o770),
            ("o=g-w",        0o770,  File,      0o775),
            ("u+s",          0o755,  File,      0o4755),
            ("g+s",          0o755,  File,      0o2755),
            ("+t",           0o755,  Directory, 0o1755),
            ("u=",           0o755,  File,      0o055),
            ("u=rwx",        0o1777, Directory, 0o1777),
            ("o=",           0o1777, Directory, 0o770),
            ("u-x+w",        0o500,  File,      0o600),
            ("=r",           0o2755, File,      0o444),
            ("=rx",          0o2755, Directory, 0o2555),
            ("a=rX",         0o4644, File,      0o444),
        ];
        for (text, mode, kind, expected) in ROWS {
            let found = CopyMode::parse(text).unwrap().apply(*mode, *kind);
            assert_eq!(found, *expected, "{text} on {mode:o}: {found:o}");
        }
        for bad in ["", "888", "10000", "u", "u+z", "z+x", "u+x,", "rwx", "u+ug", "0o755"] {
            assert!(CopyMode::parse(bad).is_err(), "{bad}");
        }
    }
}
