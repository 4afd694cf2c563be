//! Signals and sudden deaths while a command runs, or is about to: the status
//! is right, and no process and no file stays.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::command_run::Live;
use crate::harness::Bed;
use crate::processes::{all_gone, family, no_process_mentions};
use crate::random::Random;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("chrootvm_at_any_moment",      |bed| at_any_moment(bed, Victim::Chrootvm)),
    ("qemu_at_any_moment",          |bed| at_any_moment(bed, Victim::Qemu)),
    ("virtiofsd_at_any_moment",     |bed| at_any_moment(bed, Victim::Virtiofsd)),
    ("signals_reach_the_command",   signals_reach_the_command),
    ("a_second_signal_ends_it",     a_second_signal_ends_it),
    ("a_signal_ends_a_boot",        a_signal_ends_a_boot),
    ("an_ignored_signal_stays_so",  an_ignored_signal_stays_so),
    ("ends_are_seen_all_the_same",  ends_are_seen_all_the_same),
];

/// Deaths of each kind, unless `VM_KILLS` says how many.
const ROUNDS: u64 = 4;

/// Milliseconds in which a machine boots and the command runs for a while.
const SPAN: u64 = 4000;

/// How long a program may take to be started.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Chrootvm,
    Qemu,
    Virtiofsd,
}

impl Victim {
    /// Its process, once it runs; not one that chrootvm asks for a version.
    fn find(self, live: &Live, root: &str) -> Result<Pid> {
        let is_it = |line: &str| {
            let program = line.split(' ').next().unwrap_or_default();
            match self {
                Self::Chrootvm => true,
                Self::Qemu => program.contains("qemu-system") && line.contains("virtinit.0.stdin"),
                Self::Virtiofsd => program.contains("virtiofsd") && line.contains(root),
            }
        };
        // Under load it is not there yet.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let family = family(live.pid())?;
            if let Some((pid, _)) = family.iter().find(|(_, line)| is_it(line)) {
                return Ok(*pid);
            }
            ensure!(Instant::now() < deadline, "no {self:?} in {family:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// From the start of chrootvm up to well after that of the command.
fn at_any_moment(bed: &Bed, victim: Victim) -> Result<()> {
    let rounds = std::env::var("VM_KILLS").ok().and_then(|text| text.parse().ok());
    let mut random = Random::new(victim as u64);
    for _ in 0..rounds.unwrap_or(ROUNDS) {
        let moment = random.below(SPAN);
        killed_at(bed, victim, moment).with_context(|| format!("{victim:?} at {moment} ms"))?;
    }
    Ok(())
}

fn killed_at(bed: &Bed, victim: Victim, moment: u64) -> Result<()> {
    let run = bed.sh("exec sleep 3600")?;
    let tmp = run.guest.directory("private-tmp")?;
    let root = run.guest.root();
    let live = run.variable("TMPDIR", &tmp).start()?;
    // Not for readiness: the moments are arbitrary on purpose.
    std::thread::sleep(Duration::from_millis(moment));
    let target = victim.find(&live, &root.to_string_lossy())?;
    let family = family(live.pid())?;
    kill(target, Signal::SIGKILL)?;
    let finished = live.finish()?;
    all_gone(&family)?;
    no_process_mentions(&root)?;
    ensure!(fs::read_dir(&tmp)?.next().is_none(), "a file is left in TMPDIR");
    let expected = match victim {
        Victim::Chrootvm => (137, &[][..]),
        Victim::Qemu => (125, &["error: QEMU failed: signal 9"][..]),
        Victim::Virtiofsd => (125, &["error: virtiofsd for tag \"rootfs\" ended", "signal 9"][..]),
    };
    let (status, words) = expected;
    finished.says(status, "", words).map(drop)
}

/// What chrootvm is sent is the command's, and so is the status. All of its
/// process group hears it, as on a terminal.
fn signals_reach_the_command(bed: &Bed) -> Result<()> {
    // `/init` sends SIGTERM to the group, and again once the command has ended. A shell
    // that runs its trap may get both, so the trap ignores the second.
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
    let is_it = lines == expected && finished.status == 7;
    finished.check(is_it, || format!("expected: exit status 7, {expected:?}"))?;

    let mut live = bed.sh("echo is up; exec sleep 3600")?.start()?;
    live.wait_for("is up")?;
    live.signal(Signal::SIGHUP)?;
    live.finish()?.is(129, "is up\n", "").map(drop)
}

/// A command that ignores the first.
fn a_second_signal_ends_it(bed: &Bed) -> Result<()> {
    let script = "trap '' TERM INT; trap 'echo go on' USR1; echo is up; while :; do sleep 1; done";
    let mut live = bed.sh(script)?.start()?;
    live.wait_for("is up")?;
    let family = family(live.pid())?;
    live.signal(Signal::SIGTERM)?;
    live.signal(Signal::SIGINT)?;
    // One of two signals that wait is delivered first: which is not ours to say.
    let finished = live.finish()?;
    all_gone(&family)?;
    let is_it = matches!(finished.status, 130 | 143) && finished.stdout() == b"is up\n";
    finished.check(is_it, || "expected: exit status 130 or 143".into()).map(drop)
}

fn a_signal_ends_a_boot(bed: &Bed) -> Result<()> {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let run = bed.sh("echo not reached")?.options(&["--qemu-arg", "-S"]);
        let root = run.guest.root();
        let live = run.start()?;
        Victim::Qemu.find(&live, "")?;
        live.signal(signal)?;
        live.finish()?.is(status, "", "")?;
        no_process_mentions(&root)?;
    }
    Ok(())
}

/// As under nohup(1), or as a script's background job. The command does not get the
/// ignored signals, but it gets others.
fn an_ignored_signal_stays_so(bed: &Bed) -> Result<()> {
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

/// Programs inherit an ignored SIGCHLD, and the kernel then keeps no status of a child.
/// Shells may reset it, so env(1) of coreutils sets it if it can.
fn ends_are_seen_all_the_same(bed: &Bed) -> Result<()> {
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
