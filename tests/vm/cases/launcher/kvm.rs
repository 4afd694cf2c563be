//! Tests with KVM, on a host that need not have it.
//!
//! QEMU's translator emulates the virtualization of AMD's processors (SVM). So a machine on the
//! root of this host, with the kernel's module `kvm-amd`, has a `/dev/kvm` that works, and this
//! program runs there once more. The machines in that machine are slow, but they are those of
//! KVM: tests there prove that something works, and nothing about its speed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::commands::command_kills::killed_at;
use crate::harness::command_run::CommandRun;
use crate::harness::processes::Victim;
use crate::harness::{Bed, Case};
use crate::warm::site::{Site, Start};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("works_in_a_machine", |bed| pass(bed, "with_kvm::")),
];

#[rustfmt::skip]
pub(crate) const GROUPS: &[Case] = &[
    ("command",       |bed| pass(bed, "command::")),
    ("streams",       |bed| pass(bed, "streams::")),
    ("command_kills", |bed| pass(bed, "command_kills::")),
    ("tty",           |bed| pass(bed, "tty::")),
    ("pvh",           |bed| pass(bed, "pvh::")),
    ("roots",         |bed| pass(bed, "roots::")),
    ("warm_answers",  |bed| pass(bed, "warm::answers::")),
    ("warm_kills",    |bed| pass(bed, "warm::kills::")),
    ("warm_twins",    |bed| pass(bed, "warm::twins::")),
];

/// Tests that run in a machine that has KVM.
#[rustfmt::skip]
pub(crate) const INSIDE: &[Case] = &[
    ("is_used",                is_used),
    ("microvm_starts",         microvm_starts),
    ("second_run_is_warm",     second_run_is_warm),
    ("killed_qemu_is_noticed", |bed| killed_at(bed.cold().sh("exec sleep 3600")?, Victim::Qemu, 3000)),
];

/// Deadline of a machine with tests in it; a group of them takes up to an hour.
const DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// Tests of an emulated processor. It would be emulated by a processor that is emulated itself, and
/// does not boot within the limit.
const EMULATED: [&str; 2] = ["command::success_is_silent", "command::emulated_processor"];

/// Runs a command whose machine gets an interrupt every few seconds, that of its input. QEMU 7.2
/// has lost the interrupt of the timer while a machine in the machine ran: then all stood still
/// until another interrupt came.
const NUDGED: &str = "while sleep 5 && echo; do :; done 2>/dev/null | \"$@\"";

/// The tests of `group` pass in a machine with KVM.
fn pass(bed: &Bed, group: &str) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let workspace = &bed.workspace;
    // The sources are read-only in the machine, and the tests keep kernels and templates.
    let cache = workspace.join("target/testbed/cache");
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let skipped = EMULATED.map(|name| format!(" --skip {name}")).concat();
    let script = format!(
        "set -e\n\
         mount -t tmpfs cache '{}'\n\
         export REQUIRE_VM=1\n\
         exec 3<&0\n\
         cat <&3 >/dev/null 2>&1 &\n\
         exec '{}' '{group}'{skipped} </dev/null 3<&-\n",
        cache.display(),
        program.display()
    );
    let machine = bed.machine_on(Path::new("/"))?.with_kernel(&bed.kernel);
    let mut run = CommandRun::new(machine, &["sh", "-c", &script]).within(DEADLINE);
    run.volume(workspace, &format!("{}:ro", workspace.display()));
    // A saved machine has no module of its own, and KVM of this host would lack SVM.
    let finished = run
        .options(&["--overlay", "--accel", "tcg", "--memory", "6G", "--warm", "never"])
        .options(&["--module", "kvm_amd"])
        .through(NUDGED)
        .finish()?;
    let stdout = String::from_utf8_lossy(finished.stdout()).into_owned();
    let has_passed = finished.status == 0
        && stdout.contains("test result: ok.")
        && !stdout.contains(" 0 passed");
    finished.check(has_passed, || format!("{group} has not passed with KVM")).map(drop)
}

/// Without an option the machine runs by KVM, its kernel uses the clock of KVM, and its command
/// has its streams and its status.
fn is_used(bed: &Bed) -> Result<()> {
    let script = "dmesg | grep -o 'Hypervisor detected: KVM'
                  cat /sys/devices/system/clocksource/clocksource0/current_clocksource -
                  echo error >&2; exit 7";
    let finished = bed.cold().sh(script)?.input(b"input\n").finish()?;
    finished.is(7, "Hypervisor detected: KVM\nkvm-clock\ninput\n", "error\n").map(drop)
}

/// The second run starts the machine that the first one has saved.
fn second_run_is_warm(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    site.echoes(Start::Warm)
}

/// QEMU's smallest machine has PCI if it is asked for, and runs a command.
fn microvm_starts(bed: &Bed) -> Result<()> {
    let finished = bed
        .cold()
        .sh("test ! -e /sys/firmware/dmi; exit 7")?
        .options(&["--accel", "kvm", "--machine", "microvm,pcie=on,rtc=on"])
        .finish()?;
    finished.is(7, "", "").map(drop)
}
