//! What is wrong with a program of a tree, and what to do about it.

use std::fmt;

use super::machine::Machine;
use crate::tree::show;

/// A path as printable text, with a leading `/`.
pub(super) fn shown(path: &[u8]) -> String {
    let path = show(path);
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// One reason why a program does not run. Paths are printable text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The file that the kernel starts to run the program is missing.
    MissingInterpreter {
        /// The program.
        program: String,
        /// What is missing.
        interpreter: String,
        /// What names the interpreter.
        named_by: NamedBy,
    },
    /// The dynamic linker does not find a library.
    MissingLibrary {
        /// The program or library that needs it.
        program: String,
        /// The name by which it is looked for.
        library: String,
    },
    /// The program is for another machine than the image.
    OtherMachine {
        /// The program, its dynamic linker, or a library.
        program: String,
        /// The machine for which it is.
        is: Machine,
        /// The machine of the image, or of the program that needs it.
        of: Machine,
    },
    /// The file cannot be executed.
    NotAProgram {
        /// The file.
        program: String,
        /// What it is instead, as the end of a sentence.
        is: &'static str,
    },
    /// There is no such file.
    Missing {
        /// The path.
        program: String,
    },
}

/// What names an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The first line of a script.
    Script,
    /// The headers of a dynamically linked program for this machine.
    Program(Machine),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingInterpreter { program, interpreter, named_by: NamedBy::Script } => {
                write!(f, "{program} is a script, and the image has no {interpreter}")?;
                // The text shows a carriage return as an escape.
                match interpreter.ends_with("\\r") {
                    true => write!(f, ": its lines end with CR LF; save it with LF alone"),
                    false => {
                        write!(f, ": correct its first line, or put the interpreter into the image")
                    }
                }
            }
            Self::MissingInterpreter {
                program,
                interpreter,
                named_by: NamedBy::Program(machine),
            } => {
                write!(
                    f,
                    "{program} is dynamically linked and the image has no {interpreter}: link it \
                     statically (Go: CGO_ENABLED=0; Rust: --target {}; C: -static), or put the \
                     libraries into the image",
                    machine.static_target()
                )
            }
            Self::MissingLibrary { program, library } => write!(
                f,
                "{program} needs the library {library}, which the image does not have: put it \
                 into /usr/lib of the image, or install the package that has it"
            ),
            Self::OtherMachine { program, is, of } => write!(
                f,
                "{program} is for another machine, {is}, than the {of} that is needed: take or \
                 build the one for {of}"
            ),
            Self::NotAProgram { program, is } => write!(f, "{program} is {is}"),
            Self::Missing { program } => {
                write!(f, "{program} is missing in the image: put it there, or correct the path")
            }
        }
    }
}
