//! Tests that boot real kernels. Each test proves one behaviour.
//!
//! `cargo test -p virtinitrd-vm-tests NAME` runs the tests whose names contain NAME. If no
//! machine can be booted here, all tests are skipped, and counted as skipped; so is a test
//! whose tools are missing. With `REQUIRE_VM=1` a skip is a failure. Each test runs in a
//! process of its own, which `harness::trial` ends when its deadline has passed;
//! `VM_DEADLINE` gives another deadline, in seconds. Groups that repeat the tests of others in
//! another way run only with `REPEAT_VM=1`, or `KVM_VM=1` if they do it with KVM.

mod boot;
mod commands;
mod containerfiles;
mod documents;
mod harness;
mod images;
mod launcher;
mod recipes;
mod registry;
mod root;
mod warm;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use harness::{Bed, Case, CaseBody, Processors, trial};
use launcher::foreign;
use libtest_mimic::{Arguments, Failed, Trial};
use machine::process::signals;
use nix::sys::signal::{SigSet, Signal};
use xtask::testbed;

/// Name of a group of tests, and the tests.
type Group = (&'static str, &'static [Case]);

/// Groups of tests that run with the installed virtiofsd.
#[rustfmt::skip]
const GROUPS: &[Group] = &[
    ("trial", harness::tests::CASES),
    ("contract", boot::contract::CASES),
    ("archive", images::archive::CASES),
    ("host", launcher::host::CASES),
    ("console", launcher::console::CASES),
    ("unwatched", boot::unwatched::CASES),
    ("distribution", boot::distribution::CASES),
    ("unprivileged", launcher::unprivileged::CASES),
    ("command", commands::command::CASES),
    ("streams", commands::streams::CASES),
    ("arguments", commands::arguments::CASES),
    ("directories", root::directories::CASES),
    ("network", commands::network::CASES),
    ("options", launcher::options::CASES),
    ("tty", commands::tty::CASES),
    ("command_kills", commands::command_kills::CASES),
    ("command_host", commands::command_host::CASES),
    ("exec", commands::exec::CASES),
    ("detach", commands::detach::CASES),
    ("logs", commands::logs::CASES),
    ("report", commands::report::CASES),
    ("modules", launcher::modules::CASES),
    ("pvh", launcher::pvh::CASES),
    ("kvm", launcher::kvm::CASES),
    ("kvm_groups", launcher::kvm::GROUPS),
    ("with_kvm", launcher::kvm::INSIDE),
    ("kernel_tree", launcher::kernel_tree::CASES),
    ("kernel_versions", launcher::kernel_versions::CASES),
    ("image", images::image::CASES),
    ("initramfs", images::initramfs::CASES),
    ("roots", root::roots::CASES),
    ("image_runs", images::image_runs::CASES),
    ("workload", images::workload::CASES),
    ("oci", images::oci::CASES),
    ("console_supervision", images::supervision::CASES),
    ("supervised", images::supervised::CASES),
    ("block_devices", root::block_devices::CASES),
    ("mounts", root::mounts::CASES),
    ("open_files", root::open_files::CASES),
    ("host_root", root::host_root::CASES),
    ("unprivileged::host_root", root::host_root::CASES_OF_USERS),
    ("unprivileged::mounts", root::mounts::CASES_OF_USERS),
    ("unprivileged::reads", registry::reads::CASES),
    ("unprivileged::boots", registry::boots::CASES),
    ("unprivileged::breaks", registry::breaks::CASES),
    ("recipe::failures", recipes::failures::CASES),
    ("recipe::changes", recipes::changes::CASES),
    ("recipe::kept", recipes::kept::CASES),
    ("recipe::secrets", recipes::secrets::CASES),
    ("recipe::networks", recipes::networks::CASES),
    ("recipe::layers", recipes::layers::CASES),
    ("recipe::steps", recipes::steps::CASES),
    ("recipe::outputs", recipes::outputs::CASES),
    ("recipe::twice", recipes::twice::CASES),
    ("recipe::ends", recipes::ends::CASES),
    ("recipe::examples", recipes::examples::CASES),
    ("containerfile::stages", containerfiles::stages::CASES),
    ("containerfile::mounts", containerfiles::mounts::CASES),
    ("containerfile::networks", containerfiles::networks::CASES),
    ("containerfile::changes", containerfiles::changes::CASES),
    ("containerfile::parallel", containerfiles::parallel::CASES),
    ("containerfile::failures", containerfiles::failures::CASES),
    ("containerfile::layers", containerfiles::layers::CASES),
    ("containerfile::ends", containerfiles::ends::CASES),
    ("containerfile::examples", containerfiles::examples::CASES),
    ("unprivileged::recipe", recipes::twice::CASES_OF_USERS),
    ("unprivileged::containerfile", containerfiles::twice::CASES_OF_USERS),
    ("documents", documents::CASES),
    ("warm::answers", warm::answers::CASES),
    ("warm::twins", warm::twins::CASES),
    ("warm::damage", warm::damage::CASES),
    ("warm::kills", warm::kills::CASES),
    ("warm::refusals", warm::refusals::CASES),
    ("more::initramfs", images::initramfs::MORE),
    ("more::pvh", launcher::pvh::MORE),
    ("more::image", images::image::MORE),
    ("more::warm::damage", warm::damage::MORE),
    ("more::recipe::failures", recipes::failures::MORE),
];

/// Tests of shared directories, which also run with the Rust virtiofsd.
#[rustfmt::skip]
const RUST_GROUPS: &[Group] = &[
    ("rust::directories", root::directories::CASES),
    ("rust::exec", commands::exec::CASES),
    ("rust::unprivileged", launcher::unprivileged::CASES),
    ("rust::mounts", root::mounts::CASES),
    ("rust::open_files", root::open_files::CASES),
    ("rust::host_root", root::host_root::CASES),
    ("rust::unprivileged::host_root", root::host_root::CASES_OF_USERS),
    ("rust::unprivileged::mounts", root::mounts::CASES_OF_USERS),
];

/// Groups and tests that run only if a variable is set. They repeat others in another way: what
/// Containerfiles share with recipes, what warm machines are asked by the tests of commands, and
/// examples of what other tests show. Some tests of each way always run.
#[rustfmt::skip]
const ON_REQUEST: &[(&str, &[&str])] = &[
    ("REPEAT_VM", &[
        "cold::command::", "cold::streams::", "cold::arguments::", "cold::network::", "cold::command_host::",
        "rust::exec::", "rust::mounts::", "rust::open_files::", "rust::host_root::", "rust::unprivileged::",
        "supervision::", "cold::tty::", "cold::command_kills::", "more::",
        "containerfile::failures::failed_instructions_are_named", "containerfile::ends::sigint_leaves_nothing",
        "containerfile::ends::sigterm_leaves_nothing", "containerfile::mounts::secrets_are_in_their_step_only",
        "containerfile::networks::", "containerfile::stages::programs_have_their_surroundings",
        "unprivileged::containerfile::", "recipe::twice::same_bytes_twice",
        "documents::running", "documents::images", "documents::recipes", "documents::containerfiles",
        "documents::manual_pages", "supervised::its_processes_are_killed_at_random",
        "supervised::long_time_to_end_is_granted", "recipe::ends::interrupt_leaves_nothing",
        "trial::silent_boot_is_started_again", "warm::answers::commands_end_the_same",
        "warm::answers::streams_are_apart", "warm::answers::signals_arrive", "warm::answers::the_network_works",
        "warm::answers::a_terminal_works", "warm::answers::exec_enters",
        "warm::kills::chrootvm_killed_while_it_uses_one", "warm::damage::read_only_directory_is_used",
        "rust::directories::file_without_a_file_is_refused", "rust::directories::files_are_volumes",
        "rust::directories::volume_without_a_directory_is_refused", "recipe::kept::more_layers_than_disks",
        "containerfile::layers::image_runs_as_its_user", "workload::name_server_in_any_image",
        "supervised::failures_do_not_count_in_the_start_period", "supervised::unhealthy_too_often",
        "supervised::options_win_over_the_image", "supervised::closed_streams_are_no_end",
        "supervised::full_run_is_no_end", "containerfile::changes::", "image::lz4_squashfs_boots",
        "image::small_erofs_boots", "image::slack_ext4_boots",
    ]),
    ("KVM_VM", &["kvm_groups::"]),
];

/// Groups whose machines have as many processors as `chrootvm` gives them by itself.
#[rustfmt::skip]
const PARALLEL: &[&str] = &[
    "contract::", "distribution::", "command::", "command_kills::", "arguments::", "exec::", "cold::exec::", "options::", "oci::",
    "warm::answers::", "with_kvm::",
];

/// Group of the tests that run on a host with KVM alone. Everywhere, `kvm::` runs them in a machine.
const WITH_KVM: &str = "with_kvm::";

/// Tests of commands, which also run in machines that boot.
#[rustfmt::skip]
const COLD_GROUPS: &[Group] = &[
    ("cold::command", commands::command::CASES),
    ("cold::streams", commands::streams::CASES),
    ("cold::arguments", commands::arguments::CASES),
    ("cold::network", commands::network::CASES),
    ("cold::tty", commands::tty::CASES),
    ("cold::command_kills", commands::command_kills::CASES),
    ("cold::command_host", commands::command_host::CASES),
    ("cold::exec", commands::exec::CASES),
];

/// Body of a test, or of a row of a table.
type Body = Box<dyn Fn(&Bed) -> Result<()>>;

fn main() -> ExitCode {
    // The testbed logs what it downloads.
    chrootvm::logger::install();
    match (prepare(), trial::asked_for()) {
        (Err(error), _) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
        (Ok(()), Some(name)) => run_one(&name),
        (Ok(()), None) => run_all(),
    }
}

/// Gives this process the default signal mask and dispositions, and a cache of its own.
fn prepare() -> Result<()> {
    SigSet::empty().thread_set_mask().context("unblock signals")?;
    signals::pass_on_defaults(Signal::iterator())?;
    use_own_cache()
}

/// Runs the test that this process was started for.
fn run_one(name: &OsStr) -> ExitCode {
    let hidden = harness::tests::HIDDEN
        .iter()
        .map(|&(name, body)| (name.to_owned(), Box::new(body) as Body));
    let found = tests().chain(also_foreign()).chain(hidden).find(|(known, _)| **known == *name);
    let found = found.with_context(|| format!("no test is called {}", name.display()));
    trial::run_here(|| {
        let (name, body) = found?;
        body(&Bed::new()?.with_processors(processors(&name)))
    })
}

/// Number of processors of the machines of a test.
fn processors(name: &str) -> Processors {
    match PARALLEL.iter().any(|group| name.starts_with(group)) {
        true => Processors::Default,
        false => Processors::One,
    }
}

/// Runs the tests that the arguments select, each in a process of its own.
fn run_all() -> ExitCode {
    if let Some(name) = listed_without_a_test() {
        eprintln!("{name} is listed here, but begins the name of no test");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // Two machines keep two processors busy.
    arguments.test_threads.get_or_insert(2);
    let required = virtinitrd_vm_tests::is_required();
    let problem = Bed::new().err().map(|error| format!("{error:#}"));
    if let Some(problem) = &problem {
        eprintln!("no machine can be booted here: {problem}");
    }
    let skip = problem.is_some() && !required;
    let rust = Bed::new().and_then(|bed| bed.with_rust_virtiofsd());
    if let (None, Err(problem)) = (&problem, &rust) {
        eprintln!("tests with the Rust virtiofsd are skipped: {problem:#}");
    }
    let foreign = Bed::new().and_then(|bed| bed.foreign(foreign::ARCH));
    if let (None, Err(problem)) = (&problem, &foreign) {
        eprintln!("tests of machines of {} are skipped: {problem:#}", foreign::ARCH);
    }
    let lacks = [
        ("foreign::", foreign.is_err()),
        ("rust::", rust.is_err()),
        ("unprivileged::", !harness::make::user::can_run()),
        ("block_devices::", !root::block_devices::can_run()),
        ("documents::", !documents::can_run()),
        ("parallel::", !containerfiles::parallel::can_run()),
    ];
    let all = tests().chain(also_foreign()).map(|(name, _)| name);
    let names = all.filter(|name| is_asked_for(name));
    let trials = names.map(|name| {
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

/// A name in the tables of this file that begins the name of no test; `None` if there is none.
fn listed_without_a_test() -> Option<&'static str> {
    let tests: Vec<_> = tests().map(|(name, _)| name).collect();
    let groups = ON_REQUEST.iter().flat_map(|(_, groups)| *groups);
    let mut listed = groups.chain(PARALLEL).chain([&WITH_KVM]);
    listed.find(|listed| !tests.iter().any(|name| name.starts_with(**listed))).copied()
}

/// Whether a test runs on this host, with these variables.
fn is_asked_for(name: &str) -> bool {
    let begins = |groups: &[&str]| groups.iter().any(|group| name.starts_with(group));
    let is_left_out = |(variable, groups): &(&str, &[&str])| {
        begins(groups) && std::env::var_os(variable).is_none()
    };
    let no_kvm = || machine::host::kvm_problem(machine::plan::architecture::HOST).is_some();
    let lacks_kvm = || begins(&[WITH_KVM]) && no_kvm();
    !(ON_REQUEST.iter().any(is_left_out) || lacks_kvm())
}

/// All tests, by their full names.
fn tests() -> impl Iterator<Item = (String, Body)> {
    let cases = named(GROUPS, |body, bed| body(bed));
    let rust_cases = named(RUST_GROUPS, |body, bed| body(&bed.with_rust_virtiofsd()?));
    let cold_cases = named(COLD_GROUPS, |body, bed| body(&bed.cold()));
    let faults =
        boot::fault::MATRIX.iter().map(|fault| test("fault", fault.name, |bed| fault.check(bed)));
    let ends =
        commands::command::ENDS.iter().map(|end| test("command", end.name, |bed| end.check(bed)));
    let cold_ends = commands::command::ENDS
        .iter()
        .map(|end| test("cold::command", end.name, |bed| end.check(&bed.cold())));
    let inits =
        launcher::console::ENDS.iter().map(|end| test("console", end.name, |bed| end.check(bed)));
    let disks =
        root::roots::DISKS.iter().map(|disk| test("roots", disk.name, |bed| disk.check(bed)));
    let supervisions = images::supervision::SUPERVISIONS
        .iter()
        .chain(images::supervision::MORE)
        .map(|row| test("supervision", row.name, |bed| row.on_the_console(bed)));
    let supervised = images::supervision::SUPERVISIONS
        .iter()
        .map(|row| test("supervised", row.name, |bed| row.with_its_streams(bed)));
    let more_faults = boot::fault::MORE
        .iter()
        .map(|fault| test("more::fault", fault.name, |bed| fault.check(bed)));
    let more_disks =
        root::roots::MORE.iter().map(|disk| test("more::roots", disk.name, |bed| disk.check(bed)));
    let more_supervisions = images::supervision::MORE
        .iter()
        .map(|row| test("more::supervised", row.name, |bed| row.with_its_streams(bed)));
    let cases = cases
        .chain(more_faults)
        .chain(more_disks)
        .chain(more_supervisions)
        .chain(faults)
        .chain(ends)
        .chain(inits)
        .chain(disks)
        .chain(supervisions)
        .chain(supervised);
    let foreign_cases = foreign::CASES
        .iter()
        .map(|&(name, body)| test("foreign", name, move |bed| in_foreign(bed, &body)));
    cases.chain(rust_cases).chain(cold_cases).chain(cold_ends).chain(foreign_cases)
}

/// Tests of other groups that also run in machines of another architecture.
fn also_foreign() -> impl Iterator<Item = (String, Body)> {
    foreign::ALSO.iter().map(|&also| {
        let found = tests().find(|(name, _)| name == also).map(|(_, body)| body);
        test("foreign", also, move |bed| match &found {
            Some(body) => in_foreign(bed, body),
            None => bail!("no test is called {also}"),
        })
    })
}

/// Runs `body` with a bed for machines of another architecture.
fn in_foreign(bed: &Bed, body: &dyn Fn(&Bed) -> Result<()>) -> Result<()> {
    let bed = bed.foreign(foreign::ARCH)?;
    match body(&bed) {
        Err(error) if foreign::is_crash(&format!("{error:#}")) => {
            eprintln!("note: a program of the guest has crashed, and the test is started again");
            body(&bed)
        }
        result => result,
    }
}

/// The tests of `groups`, each with its body run by `run`.
fn named(
    groups: &'static [Group],
    run: fn(CaseBody, &Bed) -> Result<()>,
) -> impl Iterator<Item = (String, Body)> {
    groups.iter().flat_map(move |&(group, cases)| {
        cases.iter().map(move |&(name, body)| test(group, name, move |bed| run(body, bed)))
    })
}

/// A test with its full name.
fn test(group: &str, name: &str, body: impl Fn(&Bed) -> Result<()> + 'static) -> (String, Body) {
    (format!("{group}::{name}"), Box::new(body))
}

/// Starts this program again with a cache that all tests share, and that is not the user's.
/// `chrootvm` keeps unpacked kernels there.
///
/// # Errors
/// This program cannot be started again.
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
