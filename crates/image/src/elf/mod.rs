//! Tells whether a program of a tree can run there: whether the kernel takes it, and whether its
//! interpreter and its libraries are in the tree.
//!
//! Interfaces: execve(2), elf(5), ld.so(8). The search is that of the dynamic linkers of glibc
//! and musl, without their caches. Libraries that a program opens while it runs (dlopen(3)) are
//! not known. Nothing of the tree is executed, and the tree is not trusted: the bytes that are
//! read, the libraries and the places to look at are bounded.
//!
//! | Module | Contents |
//! |---|---|
//! | `machine` | [`Machine`]: the machine for which an ELF file is |
//! | `finding` | [`Finding`]: what is wrong, and what to do about it |
//! | `read` | the parts of an ELF file that decide how it is started |
//! | `script` | the interpreter of a script |
//! | `search` | the directories of libraries |
//! | `libraries` | the libraries of a program |

mod finding;
mod libraries;
mod machine;
mod read;
// Hidden: small ELF files, also for the fuzzer of this project.
#[doc(hidden)]
pub mod samples;
mod script;
mod search;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use self::finding::shown;
use self::libraries::Libraries;
use self::read::Budget;
use self::script::Script;
use self::search::Linker;
use crate::tree::{Content, Kind, Tree};

pub use finding::{Finding, NamedBy};
pub use machine::{HEADER, Machine, machine};

/// Most scripts that the kernel follows, each the interpreter of the one before
/// (`exec_binprm`, `fs/exec.c`).
const SCRIPTS_MAX: u32 = 4;
/// Any of the bits by which a file can be executed (`S_IXUGO`).
const ANY_EXECUTE: u16 = 0o111;

const DIRECTORY: &str = "a directory, not a program";
const SPECIAL: &str = "a special file, not a program";
const NOT_EXECUTABLE: &str = "not executable: give it the mode 0755";
const UNKNOWN: &str =
    "neither an ELF program nor a script: a script begins with #! and its interpreter";
const NO_INTERPRETER: &str = "a script whose first line has no interpreter after #!";
const TOO_DEEP: &str = "a script whose interpreter is a script, and so on: the kernel follows four";

/// What a program finds besides its tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// The machine that will run it; `None` if any will do.
    pub machine: Option<Machine>,
    /// Value of the variable `LD_LIBRARY_PATH`; empty if it is not set.
    pub library_path: &'a [u8],
}

/// Checks the program at `path`, for a machine like this one. No findings mean that nothing is
/// known to keep it from running.
///
/// # Errors
/// Contents that cannot be read; a program with more libraries than any has.
pub fn check(tree: &Tree, path: &[u8]) -> Result<Vec<Finding>> {
    let machine = Machine::host();
    check_in(tree, path, &Surroundings { machine, ..Surroundings::default() })
}

/// Checks the program at `path` as [`check()`] does, in these surroundings.
///
/// # Errors
/// Those of [`check()`].
pub fn check_in(tree: &Tree, path: &[u8], surroundings: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let mut check = Check { tree, surroundings, budget: Budget::default() };
    check.program(path).with_context(|| shown(path))
}

struct Check<'a> {
    tree: &'a Tree,
    surroundings: &'a Surroundings<'a>,
    budget: Budget,
}

impl Check<'_> {
    /// Checks a program, and the interpreters of scripts one after another.
    fn program(&mut self, path: &[u8]) -> Result<Vec<Finding>> {
        let mut path = path.to_vec();
        for _ in 0..=SCRIPTS_MAX {
            let content = match self.executable(&path) {
                Ok(content) => content,
                Err(finding) => return Ok(vec![finding]),
            };
            let head = read::head(&content, &mut self.budget)?;
            let interpreter = match script::interpreter(&head) {
                Script::No => return self.elf(&path, &content, &head),
                Script::Empty => return Ok(vec![no_program(&path, NO_INTERPRETER)]),
                Script::By(interpreter) => interpreter.to_vec(),
            };
            if self.tree.resolve(&interpreter).is_err() {
                return Ok(vec![Finding::MissingInterpreter {
                    program: shown(&path),
                    interpreter: shown(&interpreter),
                    named_by: NamedBy::Script,
                }]);
            }
            path = interpreter;
        }
        Ok(vec![no_program(&path, TOO_DEEP)])
    }

    /// The contents of the file at `path`, if it can be executed.
    fn executable(&self, path: &[u8]) -> Result<Content, Finding> {
        let id = self.tree.resolve(path).map_err(|_| Finding::Missing { program: shown(path) })?;
        let node = self.tree.node(id);
        let is = match &node.kind {
            Kind::File(_) if node.meta.permissions & ANY_EXECUTE == 0 => NOT_EXECUTABLE,
            Kind::File(content) => return Ok(content.clone()),
            Kind::Directory(_) => DIRECTORY,
            _ => SPECIAL,
        };
        Err(no_program(path, is))
    }

    /// Checks a program that is no script.
    fn elf(&mut self, path: &[u8], content: &Content, head: &[u8]) -> Result<Vec<Finding>> {
        let Some(machine) = machine(head) else { return Ok(vec![no_program(path, UNKNOWN)]) };
        if let Some(of) = self.surroundings.machine.filter(|of| !of.runs(machine)) {
            return Ok(vec![Finding::OtherMachine { program: shown(path), is: machine, of }]);
        }
        let object = match read::object(content, head, &mut self.budget)? {
            Ok(object) => object,
            Err(fault) => return Ok(vec![no_program(path, fault)]),
        };
        let Some(interpreter) = &object.interpreter else { return Ok(Vec::new()) };
        if let Some(finding) = self.linker_fault(path, machine, interpreter)? {
            return Ok(vec![finding]);
        }
        let (tree, library_path) = (self.tree, self.surroundings.library_path);
        let linker = Linker::new(tree, interpreter, machine, library_path, &mut self.budget)?;
        let mut libraries = Libraries::new(tree, &linker, machine, interpreter);
        libraries.load(path, &object, &mut self.budget)?;
        Ok(libraries.into_findings())
    }

    /// What is wrong with the dynamic linker of the program at `path`.
    fn linker_fault(
        &mut self,
        path: &[u8],
        machine: Machine,
        interpreter: &[u8],
    ) -> Result<Option<Finding>> {
        if self.tree.resolve(interpreter).is_err() {
            return Ok(Some(Finding::MissingInterpreter {
                program: shown(path),
                interpreter: shown(interpreter),
                named_by: NamedBy::Program(machine),
            }));
        }
        let content = match self.executable(interpreter) {
            Ok(content) => content,
            Err(finding) => return Ok(Some(finding)),
        };
        Ok(match self::machine(&read::head(&content, &mut self.budget)?) {
            None => Some(no_program(interpreter, UNKNOWN)),
            Some(is) if is == machine => None,
            Some(is) => {
                Some(Finding::OtherMachine { program: shown(interpreter), is, of: machine })
            }
        })
    }
}

fn no_program(path: &[u8], is: &'static str) -> Finding {
    Finding::NotAProgram { program: shown(path), is }
}
