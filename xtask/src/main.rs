//! The command lines: parse, and call the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{guest, ls, pack};

/// Exit status for trouble of ours, as podman and env(1) have it.
const EXIT_TROUBLE: u8 = 125;

/// Builds, packs and boots virtinitrd
#[derive(Debug, Parser)]
#[command(version, bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Build(guest::Build),
    Pack(pack::Pack),
    #[command(bin_name = "mkvirtinitrd", hide = true)]
    Mkvirtinitrd(pack::MkVirtInitrd),
    Ls(ls::Ls),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Build(task) => task.run(),
        Task::Pack(task) => task.run(),
        Task::Mkvirtinitrd(task) => task.run(),
        Task::Ls(task) => task.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}
