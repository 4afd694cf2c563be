//! What chrootvm tells, keeps and prints around a command, and two machines at a
//! time.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::command_run::{CommandRun, Finished, RESTARTED};
use crate::harness::Bed;
use crate::initrd;
use crate::processes::no_process_mentions;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("two_at_a_time_on_one_root", two_at_a_time_on_one_root),
    ("dry_run_can_be_pasted",     dry_run_can_be_pasted),
    ("all_is_told",               all_is_told),
    ("a_stuck_boot_begins_again", a_stuck_boot_begins_again),
];

/// Both run, both write, and each ends by itself.
fn two_at_a_time_on_one_root(bed: &Bed) -> Result<()> {
    let script = "echo $1 > /$1; until [ -e /one ] && [ -e /two ]; do sleep 0.1; done; echo both";
    let first = bed.run(&["sh", "-c", script, "sh", "one"])?.options(&["--rw"]);
    // The first one's root, so that it has to live as long as both.
    let mut second = bed.command_guest_on(&first.guest.root())?;
    second.option("--kernel", &bed.kernel.image);
    second.option("--modules", &bed.kernel.modules);
    let second = CommandRun::new(second, &["sh", "-c", script, "sh", "two"]).options(&["--rw"]);
    let (first, second) = (first.start()?, second.start()?);
    let second = second.finish();
    let _guest = first.finish()?.is(0, "both\n", "")?;
    second?.is(0, "both\n", "").map(drop)
}

/// What is printed is a program for a shell, with the command's streams and its
/// status as its own.
fn dry_run_can_be_pasted(bed: &Bed) -> Result<()> {
    for (words, status, output, error) in [
        (
            &["sh", "-c", "cat; echo \"it's $1\" >&2; exit 42", "sh", "a b"][..],
            42,
            "in\n",
            "it's a b\n",
        ),
        (&["gone"], 127, "", "error: execute gone: not found\n"),
    ] {
        let run = bed.run(words)?;
        let tmp = run.guest.directory("private-tmp")?;
        let mut command = run.guest.command();
        let printed =
            command.args(["--dry-run", "--"]).args(words).stdin(Stdio::null()).output()?;
        ensure!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        let input = run.guest.path("input");
        fs::write(&input, "in\n")?;
        let script = String::from_utf8(printed.stdout)?;
        let shell = Command::new("sh")
            .args(["-c", &script])
            .env("TMPDIR", &tmp)
            .stdin(fs::File::open(&input)?)
            .output()
            .context("run sh")?;
        // At the end of the machine virtiofsd may have a word to say, too.
        let text = [&shell.stdout, &shell.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        ensure!(
            shell.status.code() == Some(status) && text[0] == output && text[1].contains(error),
            "{words:?}: {} {text:?}\n{script}",
            shell.status
        );
        ensure!(fs::read_dir(&tmp)?.next().is_none(), "a file is left in TMPDIR");
        no_process_mentions(&run.guest.root())?;
    }
    Ok(())
}

/// `--keep`, `--verbose` and `--timing` write to standard error alone.
fn all_is_told(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo '<0>from the guest' > /dev/kmsg; exit 5")?;
    let tmp = run.guest.directory("private-tmp")?;
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
    let _guest = finished.says(5, "out\n", &words)?;
    let timing = stderr.lines().last().unwrap_or_default();
    for phase in ["host set-up", "firmware", "kernel", "init", "command", "tear-down"] {
        ensure!(timing.contains(&format!("{phase} ")), "no {phase} in {timing}");
    }
    let console = fs::read_to_string(kept.join("console.log"))?;
    ensure!(console.contains("from the guest"), "{console}");
    ensure!(fs::read_to_string(kept.join("commands"))?.contains("qemu-system"));
    let listed = Command::new(bed.workspace.join("target/release/xtask"))
        .arg("ls")
        .arg(kept.join("initrd"))
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains(" init\n") && listed.contains(" virtinit.run\n"), "{listed}");
    Ok(())
}

/// What a kernel whose boot is stuck says. The second boot knows itself by a word
/// that was left where neither firmware nor kernel put anything.
const STUCK: &str = "#!/bin/sh
    busybox mkdir -p /dev; busybox mount -t devtmpfs dev /dev
    busybox devmem 0x9fff0 | busybox grep -q 0x12345678 && busybox umount /dev && exec /init
    busybox devmem 0x9fff0 32 0x12345678
    echo 'watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:1]' > /dev/console
    busybox sleep 3600
    ";

/// What was typed meanwhile is there, and a reset by the guest ends it as ever.
fn a_stuck_boot_begins_again(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat; exit 7")?.input(b"typed\n");
    stuck_at_first(bed, run)?.is(7, "typed\n", RESTARTED)?;
    let run = bed.sh("busybox reboot -f")?.options(&["--quiet"]);
    let reset = "the guest reset instead of powering off";
    stuck_at_first(bed, run)?.says(125, "", &[reset]).map(drop)
}

fn stuck_at_first(bed: &Bed, mut run: CommandRun) -> Result<Finished> {
    let script = run.guest.path("script");
    fs::write(&script, STUCK)?;
    let modules = initrd::with_module(bed, "virtio_console")?;
    run.guest.initrd(&[modules, initrd::with_system(bed, &script)?].concat())?;
    run.guest.append("rdinit=/bin/test-init");
    run.finish()
}
