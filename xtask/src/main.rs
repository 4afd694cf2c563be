//! `cargo xtask`: parses the arguments and calls the library.

use std::process::ExitCode;

use anyhow::Result;
use chrootvm::program::{EXIT_FAILURE, EXIT_USAGE, main as program_main, parse};
use chrootvm::{ls, mkvirtinitrd};
use clap::{Parser, Subcommand};
use xtask::{
    architectures, bench, check, containerfiles, day, demo, dist, distributions, documents, fleets,
    fuzz, guest, inits, kernels, packages, soak, test,
};

/// Developers' tasks of virtinitrd
#[derive(Debug, Parser)]
#[command(version, bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Architectures(architectures::Architectures),
    Bench(bench::Bench),
    Build(guest::Build),
    Check(check::Check),
    Containerfiles(containerfiles::Containerfiles),
    Deb(packages::Deb),
    Demo(demo::Demo),
    Dist(dist::Dist),
    #[command(name = "distcheck")]
    DistCheck(dist::DistCheck),
    Distributions(distributions::Distributions),
    Documents(documents::Documents),
    Fleets(fleets::Fleets),
    Fuzz(fuzz::Fuzz),
    Inits(inits::Inits),
    Kernels(kernels::Kernels),
    Pack(mkvirtinitrd::Pack),
    Packages(packages::Packages),
    Rpm(packages::Rpm),
    Ls(ls::ListInitrd),
    Soak(soak::Soak),
    Day(day::Day),
    Test(test::Test),
    Vendor(dist::Vendor),
    #[command(name = bench::measure::SUBCOMMAND, hide = true)]
    Measure(bench::measure::Measure),
}

fn main() -> ExitCode {
    program_main(EXIT_FAILURE, |arguments| {
        run(parse::<Cli>(arguments, EXIT_USAGE).task).map(|()| ExitCode::SUCCESS)
    })
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Architectures(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Build(task) => task.run(),
        Task::Check(task) => task.run(),
        Task::Containerfiles(task) => task.run(),
        Task::Demo(task) => task.run(),
        Task::Dist(task) => task.run(),
        Task::DistCheck(task) => task.run(),
        Task::Distributions(task) => task.run(),
        Task::Fleets(task) => task.run(),
        Task::Fuzz(task) => task.run(),
        Task::Inits(task) => task.run(),
        Task::Kernels(task) => task.run(),
        Task::Pack(task) => task.run(),
        Task::Ls(task) => task.run(),
        Task::Soak(task) => task.run(),
        Task::Day(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Vendor(task) => task.run(),
        Task::Deb(task) => task.run(),
        Task::Documents(task) => task.run(),
        Task::Packages(task) => task.run(),
        Task::Rpm(task) => task.run(),
        Task::Measure(task) => task.run(),
    }
}
