//! `/init` as the supervisor of a workload: cause, what it does, what the host shows. Each row
//! runs twice: with the console alone, without a channel to the host; and with the streams and the
//! status of the workload.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use proto::settings::health::{Schedule, Unhealthy};
use proto::settings::restart::{Backoff, Restart};
use proto::settings::{Record, encode};

use crate::harness::command_run::CommandRun;
use crate::harness::{Bed, Case, Machine, RunningMachine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("an_order_ends_a_pause", an_order_ends_a_pause),
];

/// A workload of a shell, and what happens to it.
pub(crate) struct Supervision {
    /// Name of the test.
    pub(crate) name: &'static str,
    /// Lines of `sh -c`. The shell function `count` prints the number of the start.
    script: &'static str,
    /// What else the run file says.
    records: &'static [Record<'static>],
    /// What the workload prints.
    prints: &'static [&'static str],
    /// What `/init` says on the console.
    says: &'static [&'static str],
    /// What nobody ever prints.
    lacks: &'static str,
    /// Exit status of a chrootvm that has its streams.
    status: u8,
    /// Whether `/init` gives up, because the workload cannot be started.
    gives_up: bool,
}

/// Text that no console shows.
const NOTHING: &str = "\0";
const POWER_DOWN: &str = "reboot: Power down";
/// Exit status of a chrootvm that shows the console if `/init` gives up.
const GIVEN_UP: i32 = 125;

const ALWAYS: Record<'_> = Record::Restart(Restart::Always);
const ON_FAILURE: Record<'_> = Record::Restart(Restart::OnFailure);
const NO_PAUSE: Record<'_> =
    Record::RestartBackoff(Backoff { first: millis(1), longest: millis(1) });
const LONG_PAUSE: Record<'_> =
    Record::RestartBackoff(Backoff { first: Duration::from_secs(3600), longest: Duration::MAX });

/// Checks that follow each other fast, and have time.
const OFTEN: Schedule = Schedule {
    interval: millis(400),
    timeout: Duration::from_secs(600),
    start_period: Duration::ZERO,
    start_interval: millis(100),
    retries: 2,
};
const CHECK_OFTEN: Record<'_> = Record::Health(OFTEN);
const CHECK_IN_TIME: Record<'_> = Record::Health(Schedule { timeout: millis(2500), ..OFTEN });
const CHECK_LATER: Record<'_> =
    Record::Health(Schedule { start_period: Duration::from_secs(3600), ..OFTEN });

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A word of the health check.
const fn check(word: &str) -> Record<'_> {
    Record::HealthArg(word.as_bytes())
}

#[rustfmt::skip]
pub(crate) const SUPERVISIONS: &[Supervision] = &[
    // Restarts.
    Supervision { name: "failures_are_counted", script: "count; exit 3",
        records: &[ON_FAILURE, Record::RestartMax(2), NO_PAUSE],
        prints: &["start 1", "start 3"], says: &["the command has ended with status 3"], lacks: "start 4", status: 3, gives_up: false },
    Supervision { name: "a_success_ends_restarts", script: "count; [ $n = 2 ]",
        records: &[ON_FAILURE, NO_PAUSE],
        prints: &["start 2"], says: &[], lacks: "start 3", status: 0, gives_up: false },
    Supervision { name: "a_missing_program_gives_up", script: "count; rm /run/bin/sh; exit 1",
        records: &[Record::Cwd(b"/gone")],
        prints: &[], says: &["enter the working directory /gone: ENOENT"], lacks: "start 1", status: 125, gives_up: true },
    Supervision { name: "a_later_start_that_fails_is_a_failure", script: "count; busybox mount -t tmpfs none /bin; exit 0",
        records: &[ALWAYS, Record::RestartMax(1), NO_PAUSE],
        prints: &["start 1"], says: &["virtinit: execute sh: not found", "the command has ended with status 127"], lacks: "start 2", status: 127, gives_up: false },
    Supervision { name: "what_is_left_ends_before_a_restart", script: "count; echo left $(pidof sleep | wc -w); sleep 3600 & sleep 3601 & exit 1",
        records: &[ON_FAILURE, Record::RestartMax(5), NO_PAUSE],
        prints: &["start 6\nleft 0"], says: &[], lacks: "left 2", status: 1, gives_up: false },
    Supervision { name: "children_of_others_are_reaped", script: "count; for i in 1 2 3 4; do (sleep 0.1 & ) ; done; sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status; echo zombies $(grep -l '^State:.Z' /proc/[0-9]*/status | wc -l)",
        records: &[], prints: &["zombies 0"], says: &[], lacks: NOTHING, status: 0, gives_up: false },
    Supervision { name: "only_pid_1_is_not_killed_for_memory", script: "echo scores $(cat /proc/1/oom_score_adj /proc/self/oom_score_adj)",
        records: &[check("sh"), check("-c"), check("true")],
        prints: &["scores -1000 0"], says: &[], lacks: NOTHING, status: 0, gives_up: false },
    // The memory of PID 1, and its descriptors.
    // The end.
    Supervision { name: "a_deaf_workload_is_killed_in_its_time", script: "trap '' TERM; count; busybox poweroff; for i in 1 2 3 4 5 6 7 8; do sleep 1; done; echo too late; sleep 3600",
        records: &[Record::StopTimeout(millis(200))],
        prints: &["start 1"], says: &[], lacks: "too late", status: 137, gives_up: false },
    // Commands before the workload.
    Supervision { name: "before_comes_first_and_once", script: "count; cat /run/order; exit 1",
        records: &[Record::Before(b"sh"), Record::BeforeArg(b"-c"), Record::BeforeArg(b"echo one $A as $(id -u) >> /run/order"),
            Record::Before(b"sh"), Record::BeforeArg(b"-c"), Record::BeforeArg(b"echo two in $PWD >> /run/order"),
            Record::Env(b"A=a b"), Record::Cwd(b"/tmp"), ON_FAILURE, Record::RestartMax(1), NO_PAUSE],
        prints: &["start 1\none a b as 0\ntwo in /tmp\n", "start 2\none a b as 0\ntwo in /tmp\n"], says: &[], lacks: "start 3", status: 1, gives_up: false },
    Supervision { name: "before_that_fails_gives_up", script: "count",
        records: &[Record::Before(b"sh"), Record::BeforeArg(b"-c"), Record::BeforeArg(b"echo tried; exit 7"), ALWAYS],
        prints: &["tried"], says: &["virtinit: run sh before the command: status 7"], lacks: "start 1", status: 125, gives_up: true },
    Supervision { name: "an_order_ends_before", script: "count",
        records: &[Record::Before(b"sh"), Record::BeforeArg(b"-c"), Record::BeforeArg(b"trap 'echo ended; exit 0' TERM; busybox poweroff; sleep 3600 & wait")],
        prints: &["ended"], says: &[], lacks: "start 1", status: 0, gives_up: false },
    // Health.
    Supervision { name: "healthy", script: "count; sleep 1; touch /run/fine; sleep 1; while [ ! -e /run/seen ]; do sleep 0.1; done",
        records: &[CHECK_LATER, check("sh"), check("-c"), check("test -e /run/fine && touch /run/seen")],
        prints: &[], says: &["virtinit: the command is healthy"], lacks: "unhealthy", status: 0, gives_up: false },
    Supervision { name: "unhealthy_and_back", script: "count; while [ ! -e /run/good ]; do [ $(cat /run/checks | wc -l) -ge 5 ] && touch /run/fine; sleep 0.1; done; sleep 1",
        records: &[CHECK_OFTEN, check("sh"), check("-c"), check("echo >> /run/checks; echo no luck; echo more; test -e /run/fine && touch /run/good")],
        prints: &[], says: &["virtinit: the command is unhealthy: 2 failed checks: status 1: no luck\n", "virtinit: the command is healthy"], lacks: "more", status: 0, gives_up: false },
    Supervision { name: "failures_do_not_count_in_the_start_period", script: "count; while [ ! -e /run/checks ] || [ $(cat /run/checks | wc -l) -lt 6 ]; do sleep 0.1; done",
        records: &[CHECK_LATER, check("sh"), check("-c"), check("echo >> /run/checks; false")],
        prints: &["start 1"], says: &[], lacks: "healthy", status: 0, gives_up: false },
    Supervision { name: "unhealthy_is_started_again", script: "trap 'echo got TERM; exit 0' TERM; count; [ $n = 3 ] && exit 0; while :; do sleep 0.1; done",
        records: &[CHECK_OFTEN, check("busybox"), check("false"), Record::Unhealthy(Unhealthy::Restart), NO_PAUSE],
        prints: &["start 1", "got TERM", "start 3"], says: &["virtinit: the command is unhealthy: 2 failed checks: status 1"], lacks: "start 4", status: 0, gives_up: false },
    Supervision { name: "unhealthy_too_often", script: "count; while :; do sleep 0.1; done",
        records: &[CHECK_OFTEN, check("busybox"), check("false"), Record::Unhealthy(Unhealthy::Restart), Record::StopSignal(9), Record::RestartMax(1), NO_PAUSE],
        prints: &["start 2"], says: &[], lacks: "start 3", status: 137, gives_up: false },
    Supervision { name: "an_order_while_an_unhealthy_one_ends", script: "trap 'busybox poweroff; sleep 0.5; exit 0' TERM; count; while :; do sleep 0.1; done",
        records: &[CHECK_OFTEN, check("busybox"), check("false"), Record::Unhealthy(Unhealthy::Restart), LONG_PAUSE],
        prints: &["start 1"], says: &["the command is unhealthy"], lacks: "start 2", status: 0, gives_up: false },
    Supervision { name: "a_check_that_hangs", script: "count; while :; do sleep 0.1; done",
        records: &[CHECK_IN_TIME, check("sh"), check("-c"), check("trap '' TERM; echo waiting; sleep 3600"), Record::Unhealthy(Unhealthy::PowerOff)],
        prints: &[], says: &["the command is unhealthy: 2 failed checks: the time limit has passed: waiting"], lacks: NOTHING, status: 143, gives_up: false },
    Supervision { name: "a_check_is_like_the_workload", script: "while [ ! -e /tmp/seen ]; do sleep 0.1; done; cat /tmp/seen",
        records: &[CHECK_OFTEN, Record::User(b"12:34"), Record::Env(b"A=a b"), Record::Cwd(b"/tmp"),
            check("sh"), check("-c"), check("echo $A as $(id -u) in $PWD, input $(cat | wc -c), $(echo fine > /dev/stdout && echo opened) > seen.new; mv seen.new seen")],
        prints: &["a b as 12 in /tmp, input 0, fine opened"], says: &[], lacks: NOTHING, status: 0, gives_up: false },
    Supervision { name: "a_check_ends_with_the_workload", script: "count; while [ ! -e /run/checks ]; do sleep 0.1; done; [ $n = 2 ] && echo left $(pidof sleep | wc -w); [ $n = 2 ]",
        records: &[CHECK_OFTEN, check("sh"), check("-c"), check("touch /run/checks; exec sleep 3600"), ON_FAILURE, Record::RestartMax(2), NO_PAUSE],
        prints: &["start 2", "left"], says: &[], lacks: "left 2", status: 0, gives_up: false },
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[Supervision] = &[
    Supervision { name: "successes_are_counted", script: "count; exit 0",
        records: &[ALWAYS, Record::RestartMax(3), NO_PAUSE],
        prints: &["start 4"], says: &[], lacks: "has ended with status", status: 0, gives_up: false },
    Supervision { name: "no_restart_at_all", script: "count; exit 3",
        records: &[ON_FAILURE, Record::RestartMax(0)],
        prints: &["start 1"], says: &["the command has ended with status 3"], lacks: "start 2", status: 3, gives_up: false },
    Supervision { name: "a_signal_is_a_failure", script: "count; kill -9 $$",
        records: &[ON_FAILURE, Record::RestartMax(1), NO_PAUSE],
        prints: &["start 2"], says: &["the command has ended with status 137"], lacks: "start 3", status: 137, gives_up: false },
    Supervision { name: "restarts_cost_no_memory", script: "count > /dev/null; memory() { set -- $(grep RssAnon /proc/1/status); echo $2; }
            [ $n = 20 ] && memory > /run/memory && ls /proc/1/fd | wc -l > /run/fds
            [ $n = 60 ] && ls /proc/1/fd | wc -l | cmp - /run/fds && [ $(memory) -le $(($(cat /run/memory) + 64)) ] && echo the same; [ $n = 60 ]",
        records: &[ON_FAILURE, NO_PAUSE],
        prints: &["the same"], says: &[], lacks: "differ", status: 0, gives_up: false },
    Supervision { name: "a_deaf_workload_with_a_signal_of_its_own", script: "trap '' QUIT TERM; count; busybox poweroff; for i in 1 2 3 4 5 6 7 8; do sleep 1; done; echo too late; sleep 3600",
        records: &[Record::StopSignal(3), Record::StopTimeout(millis(200))],
        prints: &["start 1"], says: &[], lacks: "too late", status: 137, gives_up: false },
    Supervision { name: "before_that_is_missing_gives_up", script: "count",
        records: &[Record::Before(b"/gone")],
        prints: &[], says: &["virtinit: execute /gone: not found"], lacks: "start 1", status: 127, gives_up: true },
    Supervision { name: "unhealthy_powers_off", script: "trap 'echo got QUIT; exit 0' QUIT; count; while :; do sleep 0.1; done",
        records: &[CHECK_OFTEN, check("busybox"), check("false"), Record::Unhealthy(Unhealthy::PowerOff), Record::StopSignal(3), ALWAYS],
        prints: &["start 1", "got QUIT"], says: &["the command is unhealthy"], lacks: "start 2", status: 0, gives_up: false },
    Supervision { name: "a_check_that_prints_without_end", script: "count; while :; do sleep 0.1; done",
        records: &[CHECK_IN_TIME, check("busybox"), check("yes"), Record::Unhealthy(Unhealthy::PowerOff)],
        prints: &[], says: &["the command is unhealthy: 2 failed checks: the time limit has passed: y\n"], lacks: NOTHING, status: 143, gives_up: false },
    Supervision { name: "a_check_that_is_missing", script: "count; while :; do sleep 0.1; done",
        records: &[CHECK_OFTEN, check("/gone"), Record::Unhealthy(Unhealthy::PowerOff)],
        prints: &[], says: &["the command is unhealthy: 2 failed checks: status 127: execute /gone: not found"], lacks: NOTHING, status: 143, gives_up: false },
];

impl Supervision {
    /// Boots the machine with its console on the terminal, and compares.
    pub(crate) fn on_the_console(&self, bed: &Bed) -> Result<()> {
        let (_machine, mut running) = start(bed, self.script, self.records)?;
        running.ends_with(if self.gives_up { GIVEN_UP } else { 0 })?;
        running.shows(self.prints)?;
        running.shows(self.says)?;
        running.lacks(self.lacks)?;
        running.shows(if self.gives_up { &[] } else { &[POWER_DOWN] })
    }

    /// Runs the machine with the streams of the workload, and compares.
    pub(crate) fn with_its_streams(&self, bed: &Bed) -> Result<()> {
        let run = CommandRun::new(machine(bed, self.script, self.records)?, &[]);
        let finished = run.without_separator().finish()?;
        finished.prints(self.status.into(), self.prints, self.lacks).map(drop)
    }
}

/// A machine whose workload is this script, as these records say.
pub(super) fn machine(bed: &Bed, script: &str, records: &[Record<'_>]) -> Result<Machine> {
    /// The function `count` of the scripts.
    const COUNT: &str =
        "count() { echo >> /run/starts; n=$(cat /run/starts | wc -l); echo start $n; }\n";
    let machine = bed.busybox_machine()?;
    let file = machine.root().join("etc/virtinit/run");
    fs::create_dir_all(file.parent().context("a path in the root")?)?;
    let script = [COUNT, script].concat();
    let shell = [b"sh", b"-c", script.as_bytes()].map(Record::Arg);
    fs::write(&file, encode(&[&shell, records].concat()))?;
    Ok(machine)
}

/// Boots such a machine with its console on the terminal.
fn start(bed: &Bed, script: &str, records: &[Record<'_>]) -> Result<(Machine, RunningMachine)> {
    let mut machine = machine(bed, script, records)?;
    machine.options(&["--console"]);
    let running = machine.start()?;
    Ok((machine, running))
}

/// The pause would last an hour.
fn an_order_ends_a_pause(bed: &Bed) -> Result<()> {
    let (_machine, mut running) = start(bed, "count; exit 1", &[ON_FAILURE, LONG_PAUSE])?;
    running.wait_for("virtinit: the command has ended with status 1")?;
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(0)?;
    running.shows(&["start 1", POWER_DOWN])?;
    running.lacks("start 2")
}
