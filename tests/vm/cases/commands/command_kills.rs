//! Signals and sudden deaths while a command starts and runs. The status is right, and no
//! process and no file is left.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::harness::command_run::CommandRun;
use crate::harness::make::random::Random;
use crate::harness::processes::{
    Victim, all_gone, eventually, family, is_empty, no_process_mentions, still_running,
};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("chrootvm_killed_at_any_moment",    |bed| killed_at_any_moment(bed, Victim::Chrootvm, sleep)),
    ("qemu_killed_at_any_moment",        |bed| killed_at_any_moment(bed, Victim::Qemu, sleep)),
    ("virtiofsd_killed_at_any_moment",   |bed| killed_at_any_moment(bed, Victim::Virtiofsd, sleep)),
    ("signals_reach_the_command",        signals_reach_the_command),
    ("second_signal_ends_the_command",   second_signal_ends_the_command),
    ("signal_ends_a_boot",               signal_ends_a_boot),
    ("ignored_signals_stay_ignored",     ignored_signals_stay_ignored),
    ("ignored_sigchld_hides_no_end",     ignored_sigchld_hides_no_end),
];

/// Number of kills of each program. The environment variable `VM_KILLS` gives another.
const ROUNDS: u64 = 4;

/// Time in milliseconds in which a machine boots and the command runs for a while.
const SPAN: u64 = 4000;

/// Error if a program dies while QEMU is asked for a device.
const PLUG: &str = "error: plug in a device: ";

/// Error if a daemon has ended.
const DAEMON: &str = "error: virtiofsd for tag \"rootfs\" ended while the machine ran (";

/// A command that prints nothing, and does not end.
fn sleep(bed: &Bed) -> Result<CommandRun> {
    bed.sh("exec sleep 3600")
}

/// Kills a program of machines that run what `make` makes, which prints nothing. The moments lie
/// between the start of `chrootvm` and some time after that of the command.
pub(crate) fn killed_at_any_moment(
    bed: &Bed,
    victim: Victim,
    make: fn(&Bed) -> Result<CommandRun>,
) -> Result<()> {
    let rounds = std::env::var("VM_KILLS").ok().and_then(|text| text.parse().ok());
    let mut random = Random::new(victim as u64);
    for _ in 0..rounds.unwrap_or(ROUNDS) {
        let moment = random.below(SPAN);
        let run = make(bed)?;
        killed_at(run, victim, moment).with_context(|| format!("{victim:?} at {moment} ms"))?;
    }
    Ok(())
}

/// Kills a program of the machine of `run`, whose command prints nothing and does not end, `moment`
/// milliseconds after its start.
pub(crate) fn killed_at(run: CommandRun, victim: Victim, moment: u64) -> Result<()> {
    let tmp = run.machine.directory("private-tmp")?;
    let root = run.machine.root();
    let live = run.variable("TMPDIR", &tmp).start()?;
    // This sleep does not wait for anything: the moments are arbitrary on purpose.
    std::thread::sleep(Duration::from_millis(moment));
    let target = victim.wait(live.pid())?;
    let family = family(live.pid())?;
    kill(target, Signal::SIGKILL)?;
    // If a saved machine was just being loaded, chrootvm boots one instead: it loses the same
    // program.
    let mut killed = vec![target];
    let chrootvm = vec![(live.pid(), String::new())];
    eventually("chrootvm ends", || {
        if still_running(&chrootvm).is_empty() {
            return Ok(Some(()));
        }
        let other = victim.find(&self::family(live.pid())?);
        if let Some(other) = other.filter(|other| !killed.contains(other)) {
            // It may have ended meanwhile.
            let _ = kill(other, Signal::SIGKILL);
            killed.push(other);
        }
        Ok(None)
    })?;
    let finished = live.finish()?;
    all_gone(&family)?;
    no_process_mentions(&root)?;
    is_empty(&tmp)?;
    // The error is one of these. The daemon may notice the end of QEMU first.
    let (status, words) = match victim {
        Victim::Chrootvm => (137, &[""][..]),
        Victim::Qemu => (125, &["error: QEMU failed: signal 9", PLUG, DAEMON][..]),
        Victim::Virtiofsd => (125, &[DAEMON, PLUG][..]),
    };
    let is_said = words.iter().any(|words| finished.stderr().contains(words));
    let is_expected = finished.status == status && finished.stdout().is_empty() && is_said;
    finished.check(is_expected, || format!("expected: exit status {status}, {words:?}")).map(drop)
}

/// `chrootvm` passes its signals on to the process group of the command, as a terminal does,
/// and exits with the command's status.
fn signals_reach_the_command(bed: &Bed) -> Result<()> {
    // `/init` sends SIGTERM to the group, and once more when the command has ended. A shell
    // that runs its trap may get both signals, so the trap ignores the second one.
    let script = "for signal in HUP TERM INT QUIT; do trap \"echo $signal; exit 7\" $signal; done
                  (trap 'trap \"\" TERM; echo child; exit' TERM; echo child is up
                   while :; do sleep 0.1; done) &
                  sleep 0.2; echo is up; exec 2>/dev/null; while :; do sleep 0.1; done";
    let mut live = bed.sh(script)?.start()?;
    live.wait_for("child is up")?;
    live.wait_for("\nis up")?;
    live.signal(Signal::SIGTERM)?;
    let finished = live.finish()?;
    let mut lines: Vec<&[u8]> = finished.stdout().split(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    let expected = ["", "TERM", "child", "child is up", "is up"].map(str::as_bytes);
    let is_expected = lines == expected && finished.status == 7;
    finished.check(is_expected, || format!("expected: exit status 7, {expected:?}"))?;

    let mut live = bed.sh("echo is up; exec sleep 3600")?.start()?;
    live.wait_for("is up")?;
    live.signal(Signal::SIGHUP)?;
    live.finish()?.is(129, "is up\n", "").map(drop)
}

/// The command ignores the first signal.
fn second_signal_ends_the_command(bed: &Bed) -> Result<()> {
    let script = "trap '' TERM INT; trap 'echo go on' USR1; echo is up; while :; do sleep 1; done";
    let mut live = bed.sh(script)?.start()?;
    live.wait_for("is up")?;
    let family = family(live.pid())?;
    live.signal(Signal::SIGTERM)?;
    live.signal(Signal::SIGINT)?;
    // Both signals may be pending, and the kernel delivers either of them first.
    let finished = live.finish()?;
    all_gone(&family)?;
    let is_expected = matches!(finished.status, 130 | 143) && finished.stdout() == b"is up\n";
    finished.check(is_expected, || "expected: exit status 130 or 143".into()).map(drop)
}

fn signal_ends_a_boot(bed: &Bed) -> Result<()> {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let run = bed.sh("echo not reached")?.options(&["--qemu-arg", "-S"]);
        let root = run.machine.root();
        let live = run.start()?;
        Victim::Qemu.wait(live.pid())?;
        live.signal(signal)?;
        live.finish()?.is(status, "", "")?;
        no_process_mentions(&root)?;
    }
    Ok(())
}

/// `chrootvm` starts with ignored signals, as under nohup(1) or as a background job of a
/// script. The command gets the other signals, but not these.
fn ignored_signals_stay_ignored(bed: &Bed) -> Result<()> {
    let script = "for signal in HUP INT QUIT TERM; do trap \"echo $signal; exit 7\" $signal; done
                  echo is up; exec 2>/dev/null; while :; do sleep 0.1; done";
    let run = bed.sh(script)?.through("trap '' HUP INT QUIT; exec \"$@\"");
    let mut live = run.start()?;
    live.wait_for("is up\n")?;
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        live.signal(signal)?;
    }
    live.finish()?.is(7, "is up\nTERM\n", "").map(drop)
}

/// Programs inherit an ignored SIGCHLD, with which the kernel keeps no status of a child.
/// A shell may not pass it on, so env(1) of coreutils sets it if it can.
fn ignored_sigchld_hides_no_end(bed: &Bed) -> Result<()> {
    let ignore = "env --ignore-signal=CHLD true 2>/dev/null &&
                  exec env --ignore-signal=CHLD,TERM \"$@\"; trap '' CHLD TERM; exec \"$@\"";
    bed.sh("echo out; exit 3")?.through(ignore).finish()?.is(3, "out\n", "")?;
    let mut live = bed.sh("echo is up; exec sleep 3600")?.through(ignore).start()?;
    live.wait_for("is up\n")?;
    let family = family(live.pid())?;
    live.signal(Signal::SIGKILL)?;
    live.finish()?.is(137, "is up\n", "")?;
    all_gone(&family)
}
