//! Tests that boot real kernels, each proving one behaviour.
//!
//! `cargo test -p virtinitrd-vm-tests NAME` runs those whose name contains
//! NAME. Where a machine cannot be booted they are skipped, and counted so, and
//! so is a test whose tools are missing; with `REQUIRE_VM=1` that is a failure.
//! Each test runs in a process of its own, which [`trial`] ends when its deadline
//! has passed; `VM_DEADLINE` gives another deadline, in seconds.

mod archive;
mod arguments;
mod block_devices;
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
mod host_root;
mod image;
mod image_runs;
mod initramfs;
mod initrd;
mod modules;
mod mounts;
mod network;
mod open_files;
mod options;
mod processes;
mod pvh;
mod random;
mod roots;
mod streams;
mod terminal;
mod trial;
mod tty;
mod unprivileged;
mod unwatched;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use machine::process::signals;
use nix::sys::signal::{SigSet, Signal};
use xtask::testbed;

use harness::Bed;

/// A test's name and body.
type Case = (&'static str, fn(&Bed) -> Result<()>);

/// What a trial runs.
type Body = Box<dyn Fn(&Bed) -> Result<()>>;

fn main() -> ExitCode {
    match (prepare(), trial::asked_for()) {
        (Err(error), _) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
        (Ok(()), Some(name)) => run_one(&name),
        (Ok(()), None) => run_all(),
    }
}

/// Gives this process the usual signal mask and dispositions, whatever its caller set,
/// and a cache of its own.
fn prepare() -> Result<()> {
    SigSet::empty().thread_set_mask().context("unblock signals")?;
    signals::pass_on_defaults(Signal::iterator())?;
    use_own_cache()
}

/// Runs the test that this process was started for.
fn run_one(name: &OsStr) -> ExitCode {
    let hidden =
        trial::HIDDEN.iter().map(|&(name, body)| (name.to_owned(), Box::new(body) as Body));
    let found = tests().chain(hidden).find(|(known, _)| **known == *name);
    let found = found.with_context(|| format!("no test is called {}", name.display()));
    trial::run_here(|| (found?.1)(&Bed::new()?))
}

/// Runs those that the arguments ask for, each in a process of its own.
fn run_all() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two machines at a time keep two processors busy.
    arguments.test_threads.get_or_insert(2);
    let required = virtinitrd_vm_tests::is_required();
    let problem = Bed::new().err().map(|error| format!("{error:#}"));
    if let Some(problem) = &problem {
        eprintln!("no machine can be booted here: {problem}");
    }
    let skip = problem.is_some() && !required;
    let rust = Bed::new().and_then(|bed| bed.with_rust_virtiofsd());
    if let (None, Err(problem)) = (&problem, &rust) {
        eprintln!("no test of the Rust virtiofsd: {problem:#}");
    }
    let lacks = [
        ("rust::", rust.is_err()),
        ("unprivileged::", !unprivileged::can_run()),
        ("block_devices::", !block_devices::can_run()),
    ];
    let trials = tests().map(|(name, _)| {
        let (test, problem) = (name.clone(), problem.clone());
        let run = move || match problem {
            None => trial::run(&test).map_err(|error| Failed::from(format!("{error:#}"))),
            Some(problem) => Err(Failed::from(problem)),
        };
        let lacks = lacks.iter().any(|(group, lacks)| *lacks && name.contains(group));
        Trial::ignorable_test(name, run).with_ignored_flag(skip || lacks && !required)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// All tests, by their full names.
fn tests() -> impl Iterator<Item = (String, Body)> {
    let groups: &[(&str, &[Case])] = &[
        ("trial", trial::CASES),
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
        ("options", options::CASES),
        ("tty", tty::CASES),
        ("command_kills", command_kills::CASES),
        ("command_host", command_host::CASES),
        ("exec", exec::CASES),
        ("modules", modules::CASES),
        ("pvh", pvh::CASES),
        ("image", image::CASES),
        ("initramfs", initramfs::CASES),
        ("roots", roots::CASES),
        ("image_runs", image_runs::CASES),
        ("block_devices", block_devices::CASES),
        ("mounts", mounts::CASES),
        ("open_files", open_files::CASES),
        ("host_root", host_root::CASES),
        ("unprivileged::host_root", host_root::CASES_OF_USERS),
        ("unprivileged::mounts", mounts::CASES_OF_USERS),
    ];
    // The tests of shared directories run with both implementations of virtiofsd.
    let rust_groups: &[(&str, &[Case])] = &[
        ("rust::directories", directories::CASES),
        ("rust::exec", exec::CASES),
        ("rust::unprivileged", unprivileged::CASES),
        ("rust::mounts", mounts::CASES),
        ("rust::open_files", open_files::CASES),
        ("rust::host_root", host_root::CASES),
        ("rust::unprivileged::host_root", host_root::CASES_OF_USERS),
        ("rust::unprivileged::mounts", mounts::CASES_OF_USERS),
    ];
    let cases = groups.iter().flat_map(|&(group, cases)| {
        cases.iter().map(move |&(name, body)| (format!("{group}::{name}"), Box::new(body) as Body))
    });
    let rust_cases = rust_groups.iter().flat_map(|&(group, cases)| {
        cases.iter().map(move |&(name, body)| {
            let body = move |bed: &Bed| body(&bed.with_rust_virtiofsd()?);
            (format!("{group}::{name}"), Box::new(body) as Body)
        })
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
    cases.chain(faults).chain(ends).chain(roots).chain(rust_cases)
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
