//! `/step` of the machine in which a recipe is built: keeps the machine running, and runs
//! steps in it. The library has the [commands](virtinitrd_step) and the formats.
//!
//! A step needs three processes, which are this program under other names, because a program
//! without unsafe code does not fork:
//!
//! | Process | Module | Does |
//! |---|---|---|
//! | `/step run` | `run` | mounts the disks; makes the namespaces; mounts the image; cleans up; reports |
//! | `first` | `first` | is PID 1 of the step: mounts /proc, makes the image its root, waits, counts what is left |
//! | `program` | `program` | takes the identity of the step's user and becomes the program |
//!
//! They pass each other files in [`paths::STATE`], a directory that the step's program cannot see.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod dev;
mod disks;
mod etc;
mod fault;
mod first;
mod layers;
mod locate;
mod loopback;
mod mounts;
mod paths;
mod program;
mod requested;
mod run;
mod tree;
mod user;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// Exit status if this program fails itself.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match obey(&words) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "step: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn obey(words: &[OsString]) -> Result<u8> {
    let (command, rest) = words.split_first().context("no command: hold, run or shell")?;
    match (command.to_str().unwrap_or_default(), rest) {
        ("hold", []) => hold(),
        ("run", []) => run::run(),
        ("shell", words) => run::shell(words),
        (first::COMMAND, words) => first::run(words),
        (program::COMMAND, words) => program::run(words),
        (other, _) => bail!("bad command \"{other}\": hold, run or shell"),
    }
}

/// Keeps the machine running until the end of the input.
fn hold() -> Result<u8> {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n").and_then(|()| stdout.flush()).context("say ready")?;
    let mut stdin = std::io::stdin().lock();
    let mut buffer = [0; 512];
    while stdin.read(&mut buffer).context("wait for the end of the input")? > 0 {}
    Ok(0)
}
