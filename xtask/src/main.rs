//! The command lines: parse, and call the library.

use std::ffi::OsString;
use std::io::Write;
use std::process::{ExitCode, exit};

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::sys::signal::Signal;
use xtask::vm::outcome::EXIT_TROUBLE;
use xtask::vm::{signals, time_limit};
use xtask::{
    bench, check, demo, dist, doctor, fuzz, guest, image, ls, own_kernel, pack, tell, test, vm,
};

/// Exit status of a subcommand that failed.
const EXIT_FAILURE: u8 = 1;

/// Exit status for a command line that cannot be read, as clap has it.
const EXIT_USAGE: u8 = 2;

/// Builds, packs and boots virtinitrd
#[derive(Debug, Parser)]
#[command(version, bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Bench(bench::Bench),
    Build(guest::Build),
    Check(check::Check),
    Demo(demo::Demo),
    Dist(dist::Dist),
    #[command(name = "distcheck")]
    DistCheck(dist::DistCheck),
    Doctor(doctor::Doctor),
    Fuzz(fuzz::Fuzz),
    Image(image::cli::Image),
    Kernel(own_kernel::Kernel),
    Pack(pack::Pack),
    Ls(ls::Ls),
    Test(test::Test),
    Vendor(dist::Vendor),
    Vm(Box<vm::Vm>),
    #[command(name = bench::measure::SUBCOMMAND, hide = true)]
    Measure(bench::measure::Measure),
    #[command(name = vm::child::SUBCOMMAND, hide = true)]
    Exec(vm::child::Exec),
    #[command(name = vm::userns::SUBCOMMAND, hide = true)]
    Hold(vm::userns::Hold),
    #[command(name = vm::terminal::SUBCOMMAND, hide = true)]
    Guard(vm::terminal::Guard),
}

// What scripts/chrootvm calls: the task `vm` under the name its users know.
/// Boot a directory as a virtual machine
#[derive(Debug, Parser)]
#[command(name = "chrootvm", version)]
struct ChrootVm {
    #[command(flatten)]
    vm: vm::Vm,
}

/// Run one more command in a machine that runs
#[derive(Debug, Parser)]
#[command(name = "chrootvm exec", version)]
struct ChrootVmExec {
    #[command(flatten)]
    exec: vm::exec::Exec,
}

/// Make images of directories and archives, and look into them
#[derive(Debug, Parser)]
#[command(name = "chrootvm image", version)]
struct ChrootVmImage {
    #[command(flatten)]
    image: image::cli::Image,
}

/// List the machines in which a command runs
#[derive(Debug, Parser)]
#[command(name = "chrootvm ps", version)]
struct ChrootVmPs {
    #[command(flatten)]
    ps: vm::ps::Ps,
}

// What scripts/mkvirtinitrd calls, with the command line of osbuild/initrd's.
/// Make an initrd that boots a directory over virtiofs
#[derive(Debug, Parser)]
#[command(name = "mkvirtinitrd", version)]
struct MkVirtInitrdCommand {
    #[command(flatten)]
    pack: pack::MkVirtInitrd,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let name = arguments.peek().and_then(|name| name.to_str()).map(str::to_owned);
    // A program that ignores SIGCHLD, as its caller did, cannot wait for children.
    let prepared = signals::pass_on_defaults([Signal::SIGCHLD]);
    let result = match (prepared, name.as_deref()) {
        (Err(error), _) => (Err(error), EXIT_TROUBLE),
        (Ok(()), Some("chrootvm")) => (chrootvm(arguments), EXIT_TROUBLE),
        (Ok(()), Some("mkvirtinitrd")) => {
            done(parse::<MkVirtInitrdCommand>(arguments.collect(), EXIT_USAGE).pack.run())
        }
        (Ok(()), _) => run(parse::<Cli>(std::env::args_os().collect(), EXIT_USAGE).task),
    };
    time_limit::hold_if_passed();
    match result {
        (Ok(code), _) => code,
        (Err(error), code) => {
            // The message may block; signals have to end us all the same.
            signals::let_through();
            tell::error(format_args!("{error:#}"));
            ExitCode::from(code)
        }
    }
}

/// A ROOTFS that is called as one of the subcommands is typed `./exec`.
fn chrootvm(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<_> = arguments.collect();
    let subcommand = arguments.get(1).and_then(|word| word.to_str()).map(str::to_owned);
    match subcommand.as_deref() {
        Some("exec") => {
            arguments.remove(0);
            parse::<ChrootVmExec>(arguments, EXIT_TROUBLE).exec.run()
        }
        Some("image") => {
            arguments.remove(0);
            parse::<ChrootVmImage>(arguments, EXIT_TROUBLE).image.run()
        }
        Some("ps") => {
            arguments.remove(0);
            parse::<ChrootVmPs>(arguments, EXIT_TROUBLE).ps.run().map(|()| ExitCode::SUCCESS)
        }
        _ => parse::<ChrootVm>(arguments, EXIT_TROUBLE).vm.run(),
    }
}

/// Parses the arguments; exits with `status` if they are bad. That is the status of
/// trouble for chrootvm: 2 may be the status of a command in the guest.
fn parse<T: Parser>(arguments: Vec<OsString>, status: u8) -> T {
    T::try_parse_from(arguments).unwrap_or_else(|error| {
        if error.use_stderr() {
            tell::lines(error.render());
            exit(status.into());
        }
        let written = error.print().and_then(|()| std::io::stdout().flush());
        match tell::while_read(written.context("write to standard output")) {
            Ok(()) => exit(0),
            Err(error) => {
                tell::error(format_args!("{error:#}"));
                exit(status.into())
            }
        }
    })
}

/// The task's result, and the exit status of an error.
fn run(task: Task) -> (anyhow::Result<ExitCode>, u8) {
    match task {
        Task::Bench(task) => done(task.run()),
        Task::Build(task) => done(task.run()),
        Task::Check(task) => done(task.run()),
        Task::Demo(task) => done(task.run()),
        Task::Dist(task) => done(task.run()),
        Task::DistCheck(task) => done(task.run()),
        Task::Doctor(task) => (task.run(), EXIT_FAILURE),
        Task::Fuzz(task) => done(task.run()),
        Task::Image(task) => (task.run(), EXIT_FAILURE),
        Task::Kernel(task) => done(task.run()),
        Task::Pack(task) => done(task.run()),
        Task::Ls(task) => done(task.run()),
        Task::Test(task) => done(task.run()),
        Task::Vendor(task) => done(task.run()),
        Task::Vm(task) => (task.run(), EXIT_TROUBLE),
        Task::Measure(task) => done(task.run()),
        Task::Hold(task) => done(task.run()),
        Task::Guard(task) => done(task.run()),
        Task::Exec(task) => (task.run().map(|()| ExitCode::SUCCESS), EXIT_TROUBLE),
    }
}

/// The usual exit statuses of a subcommand.
fn done(result: anyhow::Result<()>) -> (anyhow::Result<ExitCode>, u8) {
    (result.map(|()| ExitCode::SUCCESS), EXIT_FAILURE)
}
