//! Reports, kept files and dry runs of `chrootvm` with a command, and two machines at a time.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::harness::command_run::{CommandRun, FinishedCommand, RESTARTED};
use crate::harness::make::initrd;
use crate::harness::processes::{is_empty, no_process_mentions};
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("two_machines_share_a_root",      two_machines_share_a_root),
    ("dry_run_can_be_pasted",          dry_run_can_be_pasted),
    ("keep_verbose_and_timing_report", keep_verbose_and_timing_report),
    ("stuck_boot_is_started_again",    stuck_boot_is_started_again),
];

/// Both machines write to the root, and each waits for the other's file.
fn two_machines_share_a_root(bed: &Bed) -> Result<()> {
    let script = "echo $1 > /$1; until [ -e /one ] && [ -e /two ]; do sleep 0.1; done; echo both";
    let first = bed.run(&["sh", "-c", script, "sh", "one"])?.options(&["--rw"]);
    let second = bed.machine_on(&first.machine.root())?.with_kernel(&bed.kernel);
    let second = CommandRun::new(second, &["sh", "-c", script, "sh", "two"]).options(&["--rw"]);
    let (first, second) = (first.start()?, second.start()?);
    let second = second.finish();
    // The first machine owns the root.
    let _machine = first.finish()?.is(0, "both\n", "")?;
    second?.is(0, "both\n", "").map(drop)
}

/// `--dry-run` prints a shell program that has the streams and the status of the command, and
/// shares a file alone.
fn dry_run_can_be_pasted(bed: &Bed) -> Result<()> {
    for (words, status, output, error) in [
        (
            &["sh", "-c", "cat - /tmp/file; echo \"it's $1\" >&2; exit 42", "sh", "a b"][..],
            42,
            "in\nof the host\n",
            "it's a b\n",
        ),
        (&["gone"], 127, "", "error: execute gone: not found\n"),
    ] {
        let mut run = bed.run(words)?;
        let tmp = run.machine.directory("private-tmp")?;
        let file = run.machine.path("a file");
        fs::write(&file, "of the host\n")?;
        run.volume(&file, "/tmp/file");
        let mut command = run.machine.command();
        let printed =
            command.args(["--dry-run", "--"]).args(words).stdin(Stdio::null()).output()?;
        ensure!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        let input = run.machine.path("input");
        fs::write(&input, "in\n")?;
        let script = String::from_utf8(printed.stdout)?;
        let shell = Command::new("sh")
            .args(["-c", &script])
            .env("TMPDIR", &tmp)
            .stdin(fs::File::open(&input)?)
            .output()
            .context("run sh")?;
        // virtiofsd may print messages when the machine ends.
        let text = [&shell.stdout, &shell.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        ensure!(
            shell.status.code() == Some(status) && text[0] == output && text[1].contains(error),
            "{words:?}: {} {text:?}\n{script}",
            shell.status
        );
        is_empty(&tmp)?;
        no_process_mentions(&run.machine.root())?;
    }
    Ok(())
}

/// `--keep`, `--verbose` and `--timing` write to standard error alone.
fn keep_verbose_and_timing_report(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo '<0>from the guest' > /dev/kmsg; exit 5")?;
    let tmp = run.machine.directory("private-tmp")?;
    let run = run.variable("TMPDIR", &tmp).options(&["--keep", "--verbose", "--timing"]);
    let finished = run.finish()?;
    let stderr = finished.stderr();
    let kept = fs::read_dir(&tmp)?.next().context("nothing is kept")??.path();
    let words = [
        &format!("keeping initrd, commands and console.log in {}", kept.display()),
        "from the guest",
        "\ntiming: host set-up ",
        " ms in all\n",
    ];
    let _machine = finished.says(5, "out\n", &words)?;
    let timing = stderr.lines().last().unwrap_or_default();
    for phase in ["host set-up", "firmware", "kernel", "init", "command", "tear-down"] {
        ensure!(timing.contains(&format!("{phase} ")), "no {phase} in {timing}");
    }
    let console = fs::read_to_string(kept.join("console.log"))?;
    ensure!(console.contains("from the guest"), "{console}");
    ensure!(fs::read_to_string(kept.join("commands"))?.contains("qemu-system"));
    let listed = stdout_of(bed.xtask().arg("ls").arg(kept.join("initrd")))?;
    ensure!(listed.contains(" init\n") && listed.contains(" virtinit.run\n"), "{listed}");
    Ok(())
}

/// Payload that acts as a kernel whose boot is stuck. It recognises the second boot by a value
/// that it left in memory, where neither firmware nor kernel puts anything.
const STUCK: &str = "#!/bin/sh
    busybox mkdir -p /dev; busybox mount -t devtmpfs dev /dev
    busybox devmem 0x9fff0 | busybox grep -q 0x12345678 && busybox umount /dev && exec /init
    busybox devmem 0x9fff0 32 0x12345678
    echo 'watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:1]' > /dev/console
    busybox sleep 3600
    ";

/// Input that arrives before the restart is not lost. A later reset by the guest ends the
/// machine.
fn stuck_boot_is_started_again(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat; exit 7")?.input(b"typed\n");
    run_stuck_at_first(bed, run)?.is(7, "typed\n", RESTARTED)?;
    let run = bed.sh("busybox reboot -f")?.options(&["--quiet"]);
    let reset = "the guest reset instead of powering off";
    run_stuck_at_first(bed, run)?.says(125, "", &[reset]).map(drop)
}

fn run_stuck_at_first(bed: &Bed, mut run: CommandRun) -> Result<FinishedCommand> {
    let script = run.machine.path("script");
    fs::write(&script, STUCK)?;
    let modules = initrd::with_module(bed, "virtio_console")?;
    run.machine.initrd(&[modules, initrd::with_system(bed, &script)?].concat())?;
    run.machine.append("rdinit=/bin/test-init");
    run.finish()
}
