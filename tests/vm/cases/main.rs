//! Tests that boot real kernels, each proving one behaviour.
//!
//! `cargo test -p virtinitrd-vm-tests NAME` runs those whose name contains
//! NAME. Where a machine cannot be booted they are skipped, and counted so;
//! with `REQUIRE_VM=1` that is a failure.

mod archive;
mod arguments;
mod boot;
mod command;
mod command_host;
mod command_kills;
mod command_run;
mod contract;
mod directories;
mod distribution;
mod exec;
mod fault;
mod harness;
mod host;
mod image;
mod image_runs;
mod initrd;
mod modules;
mod network;
mod processes;
mod pvh;
mod random;
mod roots;
mod streams;
mod terminal;
mod tty;
mod unprivileged;
mod unwatched;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use xtask::testbed;

use harness::Bed;

/// A test's name and body.
type Case = (&'static str, fn(&Bed) -> Result<()>);

/// What a trial runs.
type Body = Box<dyn Fn(&Bed) -> Result<()> + Send>;

fn main() -> ExitCode {
    if let Err(error) = use_own_cache() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // Two machines at a time keep two processors busy.
    arguments.test_threads.get_or_insert(2);
    let required = std::env::var_os("REQUIRE_VM").is_some_and(|value| value == "1");
    let bed = Bed::new().map_err(|error| format!("{error:#}"));
    if let Err(problem) = &bed {
        eprintln!("no machine can be booted here: {problem}");
    }
    let skip = bed.is_err() && !required;
    let bed = Arc::new(bed);
    let groups: [(&str, &[Case]); 20] = [
        ("contract", contract::CASES),
        ("archive", archive::CASES),
        ("host", host::CASES),
        ("unwatched", unwatched::CASES),
        ("distribution", distribution::CASES),
        ("unprivileged", unprivileged::CASES),
        ("command", command::CASES),
        ("streams", streams::CASES),
        ("arguments", arguments::CASES),
        ("directories", directories::CASES),
        ("network", network::CASES),
        ("tty", tty::CASES),
        ("command_kills", command_kills::CASES),
        ("command_host", command_host::CASES),
        ("exec", exec::CASES),
        ("modules", modules::CASES),
        ("pvh", pvh::CASES),
        ("image", image::CASES),
        ("roots", roots::CASES),
        ("image_runs", image_runs::CASES),
    ];
    let cases = groups.into_iter().flat_map(|(group, cases)| {
        cases.iter().map(move |&(name, body)| (format!("{group}::{name}"), Box::new(body) as Body))
    });
    let faults = fault::MATRIX.iter().map(|fault| {
        (format!("fault::{}", fault.name), Box::new(|bed: &Bed| fault.check(bed)) as Body)
    });
    let ends = command::ENDS.iter().map(|end| {
        (format!("command::{}", end.name), Box::new(|bed: &Bed| end.check(bed)) as Body)
    });
    let roots = roots::ROOTS.iter().map(|root| {
        (format!("roots::{}", root.name), Box::new(|bed: &Bed| root.check(bed)) as Body)
    });
    let trials = cases.chain(faults).chain(ends).chain(roots).map(|(name, body)| {
        let bed = Arc::clone(&bed);
        let run = move || match &*bed {
            Ok(bed) => body(bed).map_err(|error| Failed::from(format!("{error:#}"))),
            Err(problem) => Err(Failed::from(problem.clone())),
        };
        let skip =
            skip || !required && !unprivileged::can_run() && name.starts_with("unprivileged");
        Trial::test(name, run).with_ignored_flag(skip)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Sees to it that what kernels are unpacked to is kept once for all tests, and
/// apart from what the user has.
///
/// # Errors
/// This program cannot be started again, with that set.
fn use_own_cache() -> Result<()> {
    const VARIABLE: &str = "XDG_CACHE_HOME";
    let cache = testbed::dir(&harness::workspace()?)?.join("cache");
    if std::env::var_os(VARIABLE).is_some_and(|set| set == cache) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe().context("find this program")?);
    let error = again.args(std::env::args_os().skip(1)).env(VARIABLE, cache).exec();
    Err(error).with_context(|| format!("start {again:?}"))
}
