//! `mkvirtinitrd`: packs `/init` and its modules, with the command line of
//! osbuild/initrd's program of this name.

use std::process::ExitCode;

use chrootvm::mkvirtinitrd::MkVirtInitrd;
use chrootvm::program::{EXIT_FAILURE, EXIT_USAGE, main as program_main, parse};
use clap::Parser;

/// Make an initrd that boots a directory over virtiofs
#[derive(Debug, Parser)]
#[command(name = "mkvirtinitrd", version)]
struct Arguments {
    #[command(flatten)]
    pack: MkVirtInitrd,
}

fn main() -> ExitCode {
    program_main(EXIT_FAILURE, |arguments| {
        parse::<Arguments>(arguments, EXIT_USAGE).pack.run().map(|()| ExitCode::SUCCESS)
    })
}
