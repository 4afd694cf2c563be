//! `chrootvm`: boots a directory or an image as a virtual machine.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use chrootvm::{exec, image_command, kernel, mkvirtinitrd, program, ps, run};
use clap::Parser;
use machine::isolation::userns;
use machine::kernel::pack;
use machine::plan::exit_status::EXIT_TROUBLE;
use machine::process::child;
use machine::session::terminal;
use program::parse;

/// Boot a directory or an image as a virtual machine
#[derive(Debug, Parser)]
#[command(name = "chrootvm", version)]
struct ChrootVm {
    #[command(flatten)]
    run: run::RunArguments,
}

/// Run one more command in a running machine
#[derive(Debug, Parser)]
#[command(name = "chrootvm exec", version)]
struct ChrootVmExec {
    #[command(flatten)]
    exec: exec::Exec,
}

/// Make images of directories and archives, and look into them
#[derive(Debug, Parser)]
#[command(name = "chrootvm image", version)]
struct ChrootVmImage {
    #[command(flatten)]
    image: image_command::Image,
}

/// Build and list small guest kernels
#[derive(Debug, Parser)]
#[command(name = "chrootvm kernel", version)]
struct ChrootVmKernel {
    #[command(flatten)]
    kernel: kernel::Kernel,
}

/// List the machines in which a command runs
#[derive(Debug, Parser)]
#[command(name = "chrootvm ps", version)]
struct ChrootVmPs {
    #[command(flatten)]
    ps: ps::Ps,
}

/// Pack an initrd, as `chrootvm --dry-run` prints it (internal)
#[derive(Debug, Parser)]
#[command(name = "chrootvm pack-initrd")]
struct ChrootVmPack {
    #[command(flatten)]
    pack: mkvirtinitrd::Pack,
}

fn main() -> ExitCode {
    program::main(EXIT_TROUBLE, run)
}

/// Runs the subcommand, or `chrootvm ROOTFS`. A user types a ROOTFS with the name of a
/// subcommand as `./exec`.
fn run(mut arguments: Vec<OsString>) -> Result<ExitCode> {
    let last = arguments.last().cloned();
    let subcommand = arguments.get(1).and_then(|word| word.to_str()).map(str::to_owned);
    let subcommand = subcommand.as_deref().unwrap_or_default();
    // Internal subcommands: this program starts itself with them.
    match subcommand {
        child::SUBCOMMAND => {
            return done(child::BoundExec::parse(arguments.into_iter().skip(2))?.run());
        }
        userns::SUBCOMMAND => return done(userns::hold()),
        terminal::SUBCOMMAND => return done(terminal::guard()),
        _ => {}
    }
    let is_subcommand = matches!(subcommand, "exec" | "image" | "kernel" | "ps" | pack::SUBCOMMAND);
    if is_subcommand {
        // clap takes the first argument for the program's name in the usage line.
        arguments.splice(..2, [format!("chrootvm {subcommand}").into()]);
    }
    match subcommand {
        "exec" => parse::<ChrootVmExec>(arguments, EXIT_TROUBLE).exec.run(),
        "image" => parse::<ChrootVmImage>(arguments, EXIT_TROUBLE).image.run(),
        "kernel" => done(parse::<ChrootVmKernel>(arguments, EXIT_TROUBLE).kernel.run()),
        "ps" => done(parse::<ChrootVmPs>(arguments, EXIT_TROUBLE).ps.run()),
        pack::SUBCOMMAND => done(parse::<ChrootVmPack>(arguments, EXIT_TROUBLE).pack.run()),
        _ => parse::<ChrootVm>(arguments, EXIT_TROUBLE).run.run(last.as_deref()),
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
