//! The command lines: parse, and call the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{check, demo, dist, fuzz, guest, ls, pack, test, vm};

/// Exit status of a subcommand that failed.
const EXIT_FAILURE: u8 = 1;

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
    Check(check::Check),
    Demo(demo::Demo),
    Dist(dist::Dist),
    #[command(name = "distcheck")]
    DistCheck(dist::DistCheck),
    Fuzz(fuzz::Fuzz),
    Pack(pack::Pack),
    #[command(bin_name = "mkvirtinitrd", hide = true)]
    Mkvirtinitrd(pack::MkVirtInitrd),
    Ls(ls::Ls),
    Test(test::Test),
    Vendor(dist::Vendor),
    Vm(vm::Vm),
    #[command(bin_name = "chrootvm", hide = true)]
    Chrootvm(vm::Vm),
    #[command(name = vm::child::SUBCOMMAND, hide = true)]
    Exec(vm::child::Exec),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Build(task) => done(task.run()),
        Task::Check(task) => done(task.run()),
        Task::Demo(task) => done(task.run()),
        Task::Dist(task) => done(task.run()),
        Task::DistCheck(task) => done(task.run()),
        Task::Fuzz(task) => done(task.run()),
        Task::Pack(task) => done(task.run()),
        Task::Mkvirtinitrd(task) => done(task.run()),
        Task::Ls(task) => done(task.run()),
        Task::Test(task) => done(task.run()),
        Task::Vendor(task) => done(task.run()),
        Task::Vm(task) | Task::Chrootvm(task) => (task.run(), EXIT_TROUBLE),
        Task::Exec(task) => (task.run().map(|()| ExitCode::SUCCESS), EXIT_TROUBLE),
    };
    match result {
        (Ok(code), _) => code,
        (Err(error), code) => {
            eprintln!("error: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// The usual exit statuses of a subcommand.
fn done(result: anyhow::Result<()>) -> (anyhow::Result<ExitCode>, u8) {
    (result.map(|()| ExitCode::SUCCESS), EXIT_FAILURE)
}
