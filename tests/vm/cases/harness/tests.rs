//! Tests of the harness: tests that hang, fail or lack a tool, and boots that hang.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Completion;

use crate::harness::processes::{Family, all_gone, eventually, family};
use crate::harness::progress::{BootProgress, SILENCE_LIMIT, progress};
use crate::harness::trial::{self, DEADLINE, TestProcess, VARIABLE, needs};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("hung_test_is_ended",               hung_test_is_ended),
    ("abandoned_test_is_ended",          abandoned_test_is_ended),
    ("failure_is_passed_on",             failure_is_passed_on),
    ("missing_tool_skips_a_test",        missing_tool_skips_a_test),
    ("only_a_boot_before_init_hangs",    only_a_boot_before_init_hangs),
    ("stuck_boot_is_started_again",      |bed| hung_boot_is_started_again(bed, &lockup())),
    ("silent_boot_is_started_again",     |bed| hung_boot_is_started_again(bed, "true")),
    ("late_lockup_is_not_repeated",         late_lockup_is_not_repeated),
    ("ignored_signals_get_their_defaults", ignored_signals_get_their_defaults),
];

/// Tests that [`CASES`] start in processes of their own. No list shows them.
pub(crate) const HIDDEN: &[Case] = &[
    ("trial::hangs", |_| hangs()),
    ("trial::fails", |_| bail!("a reason")),
    ("trial::lacks", |_| needs(&["sh", "no-such-tool"])),
    ("trial::dispositions", |_| dispositions()),
];

/// A test that never ends, and whose programs are in two sessions.
fn hangs() -> Result<()> {
    let script = "setsid sleep 3600 & exec sleep 3601";
    Command::new("sh").args(["-c", script]).output().context("run sh")?;
    Ok(())
}

/// A new process of this program for the test `name`.
fn test_command(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(VARIABLE, name);
    Ok(command)
}

/// Starts `trial::hangs`, and waits until both of its programs run.
fn start_hanging() -> Result<(TestProcess, Family)> {
    let test = TestProcess::start(test_command("trial::hangs")?)?;
    let family = eventually("both programs run", || {
        let family = family(test.pid())?;
        let runs = |line| family.iter().any(|(_, known)| known.trim_end() == line);
        Ok((runs("sleep 3600") && runs("sleep 3601")).then_some(family))
    })?;
    Ok((test, family))
}

fn hung_test_is_ended(_: &Bed) -> Result<()> {
    let (test, family) = start_hanging()?;
    let error = test.finish(Duration::ZERO).err().context("it passed")?.to_string();
    for words in ["the test has not ended in 0 s", "sleep 3600", "sleep 3601"] {
        ensure!(error.contains(words), "no {words:?} in {error}");
    }
    all_gone(&family)
}

fn abandoned_test_is_ended(_: &Bed) -> Result<()> {
    let (mut test, family) = start_hanging()?;
    drop(test.lifeline);
    test.process.wait()?;
    all_gone(&family)
}

fn failure_is_passed_on(_: &Bed) -> Result<()> {
    let error = trial::run("trial::fails").err().context("it passed")?.to_string();
    ensure!(error == "a reason", "{error}");
    let error = trial::run("trial::no_such").err().context("it passed")?.to_string();
    ensure!(error.contains("no test is called trial::no_such"), "{error}");
    Ok(())
}

fn missing_tool_skips_a_test(_: &Bed) -> Result<()> {
    let run = |required| {
        let mut command = test_command("trial::lacks")?;
        command.env("REQUIRE_VM", required);
        TestProcess::start(command)?.finish(DEADLINE)
    };
    let words = "no-such-tool: not installed";
    match run("0")? {
        Completion::Ignored { reason: Some(reason) } if reason.contains(words) => {}
        _ => bail!("it was not skipped for that reason"),
    }
    let error = run("1").err().context("it passed")?.to_string();
    ensure!(error.contains(words), "{error}");
    Ok(())
}

/// Kernel message about a processor that is stuck in the kernel.
const LOCKUP: &str = "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:1]";

/// The decision, by console and seconds of silence.
fn only_a_boot_before_init_hangs(_: &Bed) -> Result<()> {
    use BootProgress::{Hung, InitRuns, Kernel};
    let lockup = format!("[   28.012345] {LOCKUP}\n");
    let kernel = "[    0.000000] Linux version 6.1.0\n[    0.04] x86/cpu: a warning\n";
    let late_lockup = format!("hello\n{lockup}");
    let early_lockup = format!("{kernel}{lockup}hello\n");
    #[rustfmt::skip]
    let rows: &[(&str, &str, u64, BootProgress)] = &[
        ("nothing yet",            "",                                      89, Kernel),
        ("silence",                "",                                      90, Hung),
        ("kernel messages",        kernel,                                  89, Kernel),
        ("silent kernel",          kernel,                                  90, Hung),
        ("blank lines",            "\n\n",                                  90, Hung),
        ("empty message",          "[    3.069246] \n",                    90, Hung),
        ("cut message",            "[    1.0",                              90, Hung),
        ("cut message of /init",   "[    1.0] virt",                        90, Hung),
        ("lockup",                 &lockup,                                  0, Hung),
        ("early lockup",           &early_lockup,                            0, Hung),
        ("late lockup",            &late_lockup,                             0, InitRuns),
        ("without quiet",          "[    1.4] Run /init as init process\n", 90, InitRuns),
        ("/init on its console",   "virtinit: mounted /sys\n",              90, InitRuns),
        ("/init in the log",       "[    1.5] virtinit: loaded fuse.ko\n",  90, InitRuns),
        ("payload",                "hello\n",                               90, InitRuns),
        ("payload without an end", "/ # ",                                  90, InitRuns),
        ("payload with brackets",  "[1] done\n",                            90, InitRuns),
        ("silent payload",         "[    2.0] reboot: Power down\n",        90, InitRuns),
        ("panic",                  "[    2.0] Kernel panic - not syncing\n", 90, InitRuns),
    ];
    for &(name, console, silence, expected) in rows {
        let found = progress(console, Duration::from_secs(silence), SILENCE_LIMIT);
        ensure!(found == expected, "{name}: {found:?}, not {expected:?}");
    }
    Ok(())
}

/// Shell command that logs the message about a lockup as the kernel does.
fn lockup() -> String {
    format!("echo '<0>{LOCKUP}' > /dev/kmsg")
}

/// The first boot runs `command` and hangs; the second one says something.
fn hung_boot_is_started_again(bed: &Bed, command: &str) -> Result<()> {
    let mut machine = bed.machine(&format!(
        "[ -e /run/mnt/state/hung ] && echo a second time && poweroff -f
        echo > /run/mnt/state/hung
        {command}; sleep 3600"
    ))?;
    machine.mount("--mount", "state")?;
    machine.silence_limit(Duration::from_secs(30));
    machine.boot()?.shows(&["a second time"])
}

fn late_lockup_is_not_repeated(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(&format!(
        "[ -e /run/mnt/state/began ] && echo a second time && poweroff -f
        echo > /run/mnt/state/began; echo it runs
        # The kernel writes its message at once, even in the middle of a line.
        sleep 1; {}; sleep 2; echo it still runs",
        lockup()
    ))?;
    machine.mount("--mount", "state")?;
    machine.boot()?.ends_with(0, &["it runs", "it still runs"])?.lacks("a second time")
}

/// Standard signals in a mask of proc_pid_status(5). They are those below 32, where the
/// real-time signals begin (signal(7)).
const STANDARD: u64 = 0x7fff_ffff;

/// No signal of a program that a test starts is ignored or blocked.
fn dispositions() -> Result<()> {
    let status = Command::new("cat").arg("/proc/self/status").output()?.stdout;
    let status = String::from_utf8(status)?;
    for mask in ["SigBlk:", "SigIgn:"] {
        let value = status.lines().find_map(|line| line.strip_prefix(mask)).context(mask)?;
        let value = u64::from_str_radix(value.trim(), 16)?;
        ensure!(value & STANDARD == 0, "{mask} {value:x}");
    }
    Ok(())
}

/// A background job of a script, or nohup(1), starts the tests with signals ignored.
fn ignored_signals_get_their_defaults(_: &Bed) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT QUIT PIPE TERM TSTP TTOU USR1; exec \"$0\""]);
    command.arg(std::env::current_exe()?).env(VARIABLE, "trial::dispositions");
    TestProcess::start(command)?.finish(DEADLINE).map(drop)
}
