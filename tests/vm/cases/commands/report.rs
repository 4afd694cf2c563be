//! `--report` of commands in machines. `crates/chrootvm/tests/cli` has the runs without a guest.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::command_run::FinishedCommand;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("endings_are_reported",       endings_are_reported),
    ("signal_is_reported",         signal_is_reported),
    ("lost_report_is_an_error",    lost_report_is_an_error),
];

/// Name of the report in the directory of a machine.
const FILE: &str = "report.json";

/// The report of a command, whose machine still has its directory.
fn report(finished: &FinishedCommand) -> Result<Value> {
    let file = finished.path(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {text}"))
}

/// A signal has ended the command. The report has what the streams and `--timing` have.
fn endings_are_reported(bed: &Bed) -> Result<()> {
    let script = "uname -r; echo '<0>from the guest' > /dev/kmsg; kill -KILL $$";
    let mut run = bed.sh(script)?.options(&["--quiet", "--memory", "512M"]);
    let file = run.machine.path(FILE);
    run.machine.option("--report", &file);
    let finished = run.finish()?;
    let report = report(&finished)?;
    let release = String::from_utf8_lossy(finished.stdout()).trim().to_owned();
    for (member, expected) in [
        ("status", Value::from(137)),
        ("ending", "exited".into()),
        ("signal", Value::Null),
        ("error", Value::Null),
        ("command", vec!["sh", "-c", script].into()),
        ("memory", (512_u64 << 20).into()),
        ("processors", 1.into()),
    ] {
        ensure!(report[member] == expected, "{member}, not {expected}: {report}");
    }
    ensure!(report["kernel"]["release"] == *release, "{report}");
    let console = report["console"].as_str().unwrap_or_default();
    ensure!(console.contains("from the guest"), "{report}");
    let phases = report["phases"].as_object().context("phases")?;
    for phase in ["host set-up", "init", "command", "tear-down"] {
        ensure!(phases.get(phase).is_some_and(Value::is_f64), "no {phase}: {report}");
    }
    finished.is(137, format!("{release}\n"), "").map(drop)
}

/// A signal is passed on to the command, and QEMU gets it, too, as from Slurm.
fn signal_is_reported(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo is up; exec sleep 3600")?;
    let file = run.machine.path(FILE);
    run.machine.option("--report", &file);
    let mut live = run.start()?;
    live.wait_for("is up")?;
    live.signal_all(Signal::SIGTERM)?;
    let finished = live.finish()?;
    let report = report(&finished)?;
    ensure!(report["signal"] == 15 && report["status"] == 143, "{report}");
    // The command may have been faster than QEMU.
    ensure!(["interrupted", "exited"].iter().any(|word| report["ending"] == *word), "{report}");
    finished.is(143, "is up\n", "").map(drop)
}

/// The disk is full.
fn lost_report_is_an_error(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; exit 3")?.options(&["--report", "/dev/full"]);
    let words = ["error: --report: write /dev/full: No space left on device"];
    run.finish()?.says(125, "out\n", &words).map(drop)
}
