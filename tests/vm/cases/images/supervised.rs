//! What the host sees of a workload and does with it: signals, restarts, states, health, logs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use proto::settings::Record;
use proto::settings::health::{Schedule, Unhealthy};
use proto::settings::restart::{Backoff, Restart};

use super::supervision::machine;
use crate::commands::command_kills::killed_at_any_moment;
use crate::harness::command_run::{CommandRun, RunningCommand};
use crate::harness::processes::{Victim, eventually};
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case};
use crate::recipes::examples::get;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("signals_end_it_for_good",            signals_end_it_for_good),
    ("its_own_signal_replaces_sigterm",    its_own_signal_replaces_sigterm),
    ("deaf_one_is_killed_in_its_time",     deaf_one_is_killed_in_its_time),
    ("long_time_to_end_is_granted",        long_time_to_end_is_granted),
    ("second_signal_ends_it_at_once",      second_signal_ends_it_at_once),
    ("signal_ends_a_pause",                signal_ends_a_pause),
    ("signal_ends_what_comes_before",      signal_ends_what_comes_before),
    ("restart_starts_it_again",            restart_starts_it_again),
    ("states_are_listed",                  states_are_listed),
    ("exec_powers_it_off",                 exec_powers_it_off),
    ("wait_ends_when_it_is_healthy",       wait_ends_when_it_is_healthy),
    ("wait_fails_if_it_is_unhealthy",      wait_fails_if_it_is_unhealthy),
    ("wait_needs_a_check",                 wait_needs_a_check),
    ("options_win_over_the_image",         options_win_over_the_image),
    ("health_and_its_end_are_options",     health_and_its_end_are_options),
    ("command_is_supervised_by_options",   command_is_supervised_by_options),
    ("streams_survive_restarts",           streams_survive_restarts),
    ("closed_streams_are_no_end",          closed_streams_are_no_end),
    ("slow_reader_holds_it_back",          slow_reader_holds_it_back),
    ("clock_may_jump",                     clock_may_jump),
    ("full_run_is_no_end",                 full_run_is_no_end),
    ("its_image_may_have_no_workload",     its_image_may_have_no_workload),
    ("its_processes_are_killed_at_random", its_processes_are_killed_at_random),
    ("its_chrootvm_is_killed",             |bed| killed_at_any_moment(bed, Victim::Chrootvm, restless)),
    ("its_qemu_is_killed",                 |bed| killed_at_any_moment(bed, Victim::Qemu, restless)),
    ("its_virtiofsd_is_killed",            |bed| killed_at_any_moment(bed, Victim::Virtiofsd, restless)),
];

const ALWAYS: Record<'_> = Record::Restart(Restart::Always);
const NO_PAUSE: Record<'_> = Record::RestartBackoff(Backoff {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(1),
});
const LONG_PAUSE: Record<'_> = Record::RestartBackoff(Backoff {
    first: Duration::from_secs(3600),
    longest: Duration::from_secs(3600),
});
const CHECK_OFTEN: Record<'_> = Record::Health(Schedule {
    interval: Duration::from_millis(300),
    timeout: Duration::from_secs(600),
    start_period: Duration::ZERO,
    start_interval: Duration::from_millis(100),
    retries: 2,
});

const CHECK_ALWAYS: Record<'_> = Record::Health(Schedule {
    interval: Duration::from_millis(1),
    timeout: Duration::from_secs(600),
    start_period: Duration::from_secs(3600),
    start_interval: Duration::from_millis(1),
    retries: 2,
});

/// Waits, and hears signals meanwhile. The shell would report that a signal has ended its sleep.
const WAIT: &str = "echo up; exec 2> /dev/null; while :; do sleep 0.1; done";

/// A workload that is this script.
fn workload(bed: &Bed, script: &str, records: &[Record<'_>]) -> Result<CommandRun> {
    Ok(CommandRun::new(machine(bed, script, records)?, &[]).without_separator())
}

/// A workload with a name, once it has printed `up`.
fn named(
    bed: &Bed,
    name: &str,
    script: &str,
    records: &[Record<'_>],
) -> Result<(String, RunningCommand)> {
    let name = format!("test-{name}-{}", std::process::id());
    let mut running = workload(bed, script, records)?.options(&["--name", &name]).start()?;
    running.wait_for("up")?;
    Ok((name, running))
}

/// Output of `chrootvm WORDS`.
fn chrootvm(bed: &Bed, words: &[&str]) -> Result<String> {
    stdout_of(Command::new(bed.chrootvm()).args(words))
}

/// Waits until `chrootvm ps` lists the machine `name` with all of `texts`.
fn is_listed(bed: &Bed, name: &str, texts: &[&str]) -> Result<String> {
    eventually(&format!("{name} is {texts:?}"), || {
        let list = chrootvm(bed, &["ps"])?;
        let row = list.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        Ok(texts.iter().all(|text| row.contains(text)).then(|| row.to_owned()))
    })
}

/// Sends `signal` to the chrootvm of a workload that is up. It ends with this status and output.
fn ends_by(
    bed: &Bed,
    signal: Signal,
    script: &str,
    records: &[Record<'_>],
    (status, output): (i32, &str),
) -> Result<()> {
    let mut running = workload(bed, script, records)?.start()?;
    running.wait_for("up")?;
    running.signal(signal)?;
    running.finish()?.is(status, output, "").map(drop)
}

/// Each signal that ends chrootvm ends the workload, and nothing starts it again.
fn signals_end_it_for_good(bed: &Bed) -> Result<()> {
    for (signal, trap) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT")] {
        let script = format!("trap 'echo got {trap}; exit 7' {trap}; {WAIT}");
        let output = format!("up\ngot {trap}\n");
        ends_by(bed, signal, &script, &[ALWAYS, NO_PAUSE], (7, &output))?;
    }
    Ok(())
}

fn its_own_signal_replaces_sigterm(bed: &Bed) -> Result<()> {
    let script = format!("trap 'echo got QUIT; exit 0' QUIT; trap 'echo got TERM' TERM; {WAIT}");
    let records = [Record::StopSignal(3), ALWAYS];
    ends_by(bed, Signal::SIGTERM, &script, &records, (0, "up\ngot QUIT\n"))
}

fn deaf_one_is_killed_in_its_time(bed: &Bed) -> Result<()> {
    let script = format!("trap '' TERM; {WAIT}");
    let records = [Record::StopTimeout(Duration::from_millis(300)), ALWAYS];
    ends_by(bed, Signal::SIGTERM, &script, &records, (137, "up\n"))
}

/// A command of the host would be ended after ten seconds.
fn long_time_to_end_is_granted(bed: &Bed) -> Result<()> {
    let script = format!("trap 'sleep 14; echo saved; exit 5' TERM; {WAIT}");
    let records = [Record::StopTimeout(Duration::from_secs(60))];
    ends_by(bed, Signal::SIGTERM, &script, &records, (5, "up\nsaved\n"))
}

fn second_signal_ends_it_at_once(bed: &Bed) -> Result<()> {
    let script = format!("trap 'echo deaf' TERM; {WAIT}");
    let records = [Record::StopTimeout(Duration::from_secs(3600))];
    let mut running = workload(bed, &script, &records)?.start()?;
    running.wait_for("up")?;
    running.signal(Signal::SIGTERM)?;
    running.wait_for("deaf")?;
    running.signal(Signal::SIGTERM)?;
    running.finish()?.is(143, "up\ndeaf\n", "").map(drop)
}

/// The pause would last an hour.
fn signal_ends_a_pause(bed: &Bed) -> Result<()> {
    let script = "[ -e /run/again ] && echo again; touch /run/again; echo up; exit 3";
    let (name, running) = named(bed, "pause", script, &[ALWAYS, LONG_PAUSE])?;
    is_listed(bed, &name, &["restarting (3)", "1"])?;
    running.signal(Signal::SIGTERM)?;
    running.finish()?.is(3, "up\n", "").map(drop)
}

fn signal_ends_what_comes_before(bed: &Bed) -> Result<()> {
    let first = format!("trap 'echo ended; exit 0' TERM; {WAIT}");
    let records =
        [Record::Before(b"sh"), Record::BeforeArg(b"-c"), Record::BeforeArg(first.as_bytes())];
    let (name, running) = named(bed, "before", "echo started", &records)?;
    is_listed(bed, &name, &["before"])?;
    running.signal(Signal::SIGTERM)?;
    running.finish()?.is(0, "up\nended\n", "").map(drop)
}

/// It gets its stop signal, and a restart by hand does not count. What `exec` has started ends, too.
fn restart_starts_it_again(bed: &Bed) -> Result<()> {
    let script = format!("trap 'echo got QUIT; exit 0' QUIT; count; {WAIT}");
    let (name, mut running) = named(bed, "restart", &script, &[Record::StopSignal(3)])?;
    let mut exec = Command::new(bed.chrootvm());
    let other = "echo > /run/other; exec busybox sleep 600";
    let exec = exec.args(["exec", "-n", &name, "--", "sh", "-c", other]).spawn()?;
    eventually("exec runs", || {
        Ok(chrootvm(bed, &["exec", "-n", &name, "--", "busybox", "cat", "/run/other"]).ok())
    })?;
    chrootvm(bed, &["restart", &name])?;
    running.wait_for("start 2")?;
    let ended = exec.wait_with_output()?;
    ensure!(ended.status.code() == Some(125), "{ended:?}");
    is_listed(bed, &name, &["running", " 0 "])?;
    chrootvm(bed, &["stop", &name])?;
    running.finish()?.is(0, "start 1\nup\ngot QUIT\nstart 2\nup\ngot QUIT\n", "").map(drop)
}

fn states_are_listed(bed: &Bed) -> Result<()> {
    let script = "count; echo up; while [ ! -e /run/end ]; do sleep 0.1; done; rm /run/end; exit 4";
    let check = [Record::HealthArg(b"sh"), Record::HealthArg(b"-c")];
    let check = [&check[..], &[Record::HealthArg(b"test -e /run/fine"), CHECK_OFTEN]].concat();
    let records = [&check[..], &[ALWAYS, NO_PAUSE]].concat();
    let (name, running) = named(bed, "states", script, &records)?;
    let touch = |path| chrootvm(bed, &["exec", "-n", &name, "--", "busybox", "touch", path]);
    is_listed(bed, &name, &["running (unhealthy)", " 0 "])?;
    touch("/run/fine")?;
    is_listed(bed, &name, &["running (healthy)", " 0 "])?;
    touch("/run/end")?;
    is_listed(bed, &name, &["running (healthy)", " 1 "])?;
    running.signal(Signal::SIGTERM)?;
    running.finish()?.prints(143, &["start 2"], "start 3").map(drop)
}

/// A program of the guest ends the machine; the status is that of the workload.
fn exec_powers_it_off(bed: &Bed) -> Result<()> {
    let script = format!("trap 'echo got TERM; exit 6' TERM; {WAIT}");
    let (name, running) = named(bed, "poweroff", &script, &[ALWAYS, NO_PAUSE])?;
    // The machine may end before the command does.
    let _ = chrootvm(bed, &["exec", "-n", &name, "--", "busybox", "poweroff"]);
    running.finish()?.is(6, "up\ngot TERM\n", "").map(drop)
}

/// A web server answers as soon as `--wait healthy` has returned.
fn wait_ends_when_it_is_healthy(bed: &Bed) -> Result<()> {
    let name = format!("test-healthy-{}", std::process::id());
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let script = "sleep 2; exec busybox httpd -f -p 80 -h /srv";
    let check = "busybox wget -q -O /dev/null http://127.0.0.1/";
    let records = [b"sh", &b"-c"[..], check.as_bytes()].map(Record::HealthArg);
    let patient = Schedule { start_period: Duration::from_secs(300), ..Schedule::default() };
    let patient = Schedule { start_interval: Duration::from_millis(300), ..patient };
    let run = workload(bed, script, &[&records[..], &[Record::Health(patient)]].concat())?;
    fs::create_dir_all(run.machine.root().join("srv"))?;
    fs::write(run.machine.root().join("srv/index.html"), "It works\n")?;
    let publish = format!("{port}:80");
    let options = ["--detach", "--wait", "healthy", "--name", &name, "-p", &publish];
    let started = run.options(&["--net", "user", "--timeout", "5m"]).options(&options).finish()?;
    let _machine = started.is(0, format!("{name}\n"), "")?;
    let page = get(port, "/")?;
    ensure!(page.contains("It works"), "{page}");
    is_listed(bed, &name, &["running (healthy)"])?;
    chrootvm(bed, &["stop", &name]).map(drop)
}

fn wait_fails_if_it_is_unhealthy(bed: &Bed) -> Result<()> {
    let check = [Record::HealthArg(b"busybox"), Record::HealthArg(b"false"), CHECK_OFTEN];
    let run = workload(bed, WAIT, &check)?.options(&["--detach", "--wait", "healthy"]);
    run.finish()?.says(125, "", &["--wait healthy: the workload is unhealthy"]).map(drop)
}

fn wait_needs_a_check(bed: &Bed) -> Result<()> {
    let run = workload(bed, WAIT, &[])?.options(&["--detach", "--wait", "healthy"]);
    run.finish()?.says(125, "", &["the workload has no health check"]).map(drop)
}

fn options_win_over_the_image(bed: &Bed) -> Result<()> {
    let records = [
        Record::Env(b"A=image"),
        Record::User(b"12"),
        ALWAYS,
        LONG_PAUSE,
        Record::HealthArg(b"busybox"),
        Record::HealthArg(b"false"),
        CHECK_OFTEN,
        Record::Unhealthy(Unhealthy::PowerOff),
    ];
    let script =
        "busybox [ -e /run/starts ] || busybox sleep 2; count; echo $A as $(id -u); exit 9";
    let options = ["-e", "A=host", "-u", "0", "--restart", "on-failure:1", "--no-healthcheck"];
    let options = [&options[..], &["--restart-backoff", "1ms..1ms", "--before", "echo first"]];
    let run = workload(bed, script, &records)?.options(&options.concat());
    run.finish()?.is(9, "first\nstart 1\nhost as 0\nstart 2\nhost as 0\n", "").map(drop)
}

/// It is healthy once, and then not any more.
fn health_and_its_end_are_options(bed: &Bed) -> Result<()> {
    let script = "trap 'echo got QUIT; exit 3' QUIT; echo > /run/fine
                  while [ ! -e /run/seen ]; do sleep 0.1; done; busybox rm /run/fine";
    let check = "test -e /run/fine && echo > /run/seen";
    let times = ["--health-interval", "300ms", "--health-start-interval", "200ms"];
    let limits =
        ["--health-timeout", "10m", "--health-start-period", "1h", "--health-retries", "2"];
    let end = ["--health-on-failure", "poweroff", "--stop-signal", "QUIT", "--stop-timeout", "5m"];
    let run = workload(bed, &format!("{script}; {WAIT}"), &[ALWAYS])?;
    let run = run.options(&["--health-cmd", check]).options(&times).options(&limits);
    run.options(&end).finish()?.is(3, "up\ngot QUIT\n", "").map(drop)
}

fn command_is_supervised_by_options(bed: &Bed) -> Result<()> {
    let script = "echo x >> /run/starts; n=$(cat /run/starts | wc -l); echo start $n; [ $n = 3 ]";
    let options = ["--restart", "on-failure", "--restart-backoff", "1ms..1ms"];
    let run = bed.sh(script)?.options(&options);
    run.finish()?.is(0, "start 1\nstart 2\nstart 3\n", "").map(drop)
}

/// What one run leaves of the input, the next one reads; both outputs stay apart.
fn streams_survive_restarts(bed: &Bed) -> Result<()> {
    let script = "read line; echo got $line; echo and $line >&2; [ \"$line\" = c ]";
    let records = [Record::Restart(Restart::OnFailure), NO_PAUSE];
    let run = workload(bed, script, &records)?.input(b"a\nb\nc\n");
    run.finish()?.is(0, "got a\ngot b\ngot c\n", "and a\nand b\nand c\n").map(drop)
}

fn closed_streams_are_no_end(bed: &Bed) -> Result<()> {
    let script = "count; exec < /dev/null > /dev/null 2>&1; sleep 1; [ $n = 2 ]";
    let records = [Record::Restart(Restart::OnFailure), NO_PAUSE];
    workload(bed, script, &records)?.finish()?.is(0, "start 1\nstart 2\n", "").map(drop)
}

/// All output arrives: a reader that is slow makes the workload wait.
fn slow_reader_holds_it_back(bed: &Bed) -> Result<()> {
    let script = "busybox yes 0123456789 | busybox head -n 400000; echo end >&2";
    let run = workload(bed, script, &[])?;
    run.through("\"$@\" | { sleep 2; wc -c; }").finish()?.is(0, "4400000\n", "end\n").map(drop)
}

/// Times of checks and pauses do not count by the clock that people set.
fn clock_may_jump(bed: &Bed) -> Result<()> {
    let script = "count; busybox date -s @$((1000000000 * n)) > /dev/null; [ $n = 4 ]";
    let records = [Record::Restart(Restart::OnFailure), NO_PAUSE, CHECK_OFTEN];
    let check = [Record::HealthArg(b"busybox"), Record::HealthArg(b"true")];
    let run = workload(bed, script, &[&records[..], &check].concat())?;
    run.finish()?.prints(0, &["start 4"], "start 5").map(drop)
}

fn full_run_is_no_end(bed: &Bed) -> Result<()> {
    let script = "count; busybox dd if=/dev/zero of=/run/full bs=1M 2> /dev/null; [ $n = 2 ]";
    let records = [Record::Restart(Restart::OnFailure), NO_PAUSE, Record::RestartMax(3)];
    let run = workload(bed, script, &records)?.options(&["-m", "512M"]);
    run.finish()?.prints(0, &["start 1", "start 2"], "start 3").map(drop)
}

/// The guest alone knows that an archive has no run file.
fn its_image_may_have_no_workload(bed: &Bed) -> Result<()> {
    let machine = bed.busybox_machine()?;
    let run = CommandRun::new(machine, &[]).without_separator().options(&["--restart", "always"]);
    run.finish()?.says(125, "", &["--restart is for a COMMAND or the workload"]).map(drop)
}

/// A workload that always starts again, is checked all the time, and prints nothing.
fn restless(bed: &Bed) -> Result<CommandRun> {
    let check = [Record::HealthArg(b"busybox"), Record::HealthArg(b"true"), CHECK_ALWAYS];
    workload(bed, "sleep 0.1; exit 3", &[&check[..], &[ALWAYS, NO_PAUSE]].concat())
}

/// Each run of the workload kills arbitrary processes until it meets itself: its children, checks,
/// and those who serve `exec`.
fn its_processes_are_killed_at_random(bed: &Bed) -> Result<()> {
    let script = "count; fds() { busybox ls /proc/1/fd | busybox wc -l; }
                  [ $n = 5 ] && { fds > /run/fds; echo up; }
                  [ $n = 12 ] && { [ $(fds) -lt $(($(cat /run/fds) + 8)) ] && echo as before; exit 0; }
                  sleep 3600 & busybox setsid sleep 3600 & (sleep 3600 &)
                  while :; do kill -9 $(($$ - 8 + RANDOM % 1024)); done 2> /dev/null";
    let check = [Record::HealthArg(b"busybox"), Record::HealthArg(b"true"), CHECK_ALWAYS];
    let records = [Record::Restart(Restart::OnFailure), NO_PAUSE];
    let (name, running) = named(bed, "random", script, &[&check[..], &records].concat())?;
    for _ in 0..5 {
        let mut exec = Command::new(bed.chrootvm());
        let ended = exec.args(["exec", "-n", &name, "--", "busybox", "sleep", "600"]).output()?;
        let is_expected = matches!(ended.status.code(), Some(125 | 137));
        ensure!(is_expected, "{ended:?}");
    }
    running.finish()?.prints(0, &["start 12\nas before"], "start 13").map(drop)
}
