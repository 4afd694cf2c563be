//! Standard input, output and error: every byte arrives, on its own stream, for each kind of
//! file on the host.

use std::fs;

use anyhow::{Result, ensure};

use crate::harness::make::random::Random;
use crate::harness::programs::numbers;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("eight_mebibytes_go_through",          eight_mebibytes_go_through),
    ("closed_input_ends",                   closed_input_ends),
    ("files_are_appended_to",               files_are_appended_to),
    ("closed_pipe_ends_the_command",        closed_pipe_ends_the_command),
    ("full_disk_is_an_error",               full_disk_is_an_error),
    ("closed_stderr_keeps_the_status",      closed_stderr_keeps_the_status),
    ("full_pipe_does_not_delay_the_end",    full_pipe_does_not_delay_the_end),
    ("output_arrives_before_the_status",    output_arrives_before_the_status),
    ("kernel_messages_stay_out",            kernel_messages_stay_out),
    ("background_processes_are_ended",      background_processes_are_ended),
];

/// A terminal, a line buffer or an encoding would change some of these bytes.
fn eight_mebibytes_go_through(bed: &Bed) -> Result<()> {
    let bytes = Random::new(1).bytes(8 << 20);
    let run = bed.sh("tee /tmp/copy; wc -c < /tmp/copy >&2; exit 3")?.input(&bytes);
    run.finish()?.is(3, &bytes, &format!("{}\n", bytes.len())).map(drop)
}

/// Standard input is closed without a terminal, or it is /dev/null.
fn closed_input_ends(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat; echo end; test -t 0 || echo no terminal")?;
    run.through("exec setsid -w \"$@\" <&-").finish()?.is(0, "end\nno terminal\n", "")?;
    let run = bed.sh("cat; echo end")?.through("exec \"$@\" </dev/null");
    run.finish()?.is(0, "end\n", "").map(drop)
}

fn files_are_appended_to(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo err >&2; echo more")?;
    let (out, err) = (run.machine.path("out"), run.machine.path("err"));
    for file in [&out, &err] {
        fs::write(file, "before\n")?;
    }
    let script = format!("\"$@\" >> '{}' 2>> '{}'", out.display(), err.display());
    // The directory is removed with the machine.
    let _machine = run.through(&script).finish()?.is(0, "", "")?;
    let texts = (fs::read_to_string(&out)?, fs::read_to_string(&err)?);
    ensure!(texts == ("before\nout\nmore\n".into(), "before\nerr\n".into()), "{texts:?}");
    Ok(())
}

/// SIGPIPE ends the command, as it would without a machine.
fn closed_pipe_ends_the_command(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo first; exec yes")?;
    let run = run.through("{ \"$@\"; echo $? >&2; } | head -n 1");
    run.finish()?.is(0, "first\n", "141\n").map(drop)
}

fn full_disk_is_an_error(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo lost; sleep 3600")?.through("exec \"$@\" > /dev/full");
    run.finish()?.says(125, "", &["write the command's output: No space left"]).map(drop)
}

/// The status is the same if nobody can read the messages.
fn closed_stderr_keeps_the_status(bed: &Bed) -> Result<()> {
    for redirection in ["2>/dev/full", "2>&-"] {
        let script = format!("exec \"$@\" {redirection}");
        bed.sh("exit 3")?.options(&["--timing"]).through(&script).finish()?.is(3, "", "")?;
        bed.run(&["no-such-program"])?.through(&script).finish()?.is(127, "", "")?;
        let run = bed.sh("sleep 3600")?.options(&["--timeout", "4s"]);
        run.through(&script).finish()?.is(124, "", "")?;
    }
    let run = bed.sh("echo lost; exit 3")?.through("exec \"$@\" >&- 2>&-");
    run.finish()?.is(3, "", "").map(drop)
}

/// Output and error go into one full pipe. Neither `--timeout` nor a signal waits for a reader.
fn full_pipe_does_not_delay_the_end(bed: &Bed) -> Result<()> {
    let full = "mkfifo \"$FIFO\" && exec 3<>\"$FIFO\"";
    for (end, options, status) in [
        ("\"$@\" >&3 2>&3 3>&-", &["--timeout", "8s"][..], 124),
        (
            "\"$@\" >&3 2>&3 3>&- & sleep 6; kill $!; sleep 1; kill $! 2>/dev/null; wait $!",
            &["--verbose"],
            143,
        ),
    ] {
        let run = bed.sh("yes & yes >&2")?.options(options).through(&format!("{full}; {end}"));
        let fifo = run.machine.path("fifo");
        run.variable("FIFO", fifo).finish()?.is(status, "", "")?;
    }
    Ok(())
}

/// The status comes behind all bytes of both streams, and waits for nothing else.
fn output_arrives_before_the_status(bed: &Bed) -> Result<()> {
    let (out, err) = ("o".repeat(200_000), "e".repeat(150_000));
    let script = "head -c 150000 /dev/zero | tr '\\0' e >&2 &
                  head -c 200000 /dev/zero | tr '\\0' o; wait; exit 3";
    for _ in 0..3 {
        bed.sh(script)?.finish()?.is(3, &out, &err)?;
    }
    // Input that the command does not read does not delay the end.
    let run = bed.sh("echo done; exit 3")?.input(&vec![0; 4 << 20]);
    run.finish()?.is(3, "done\n", "").map(drop)
}

/// Messages of the kernel, and text that a program writes to the console, do not appear on
/// the streams of the command.
fn kernel_messages_stay_out(bed: &Bed) -> Result<()> {
    let script =
        "echo '<0>noise-1' > /dev/kmsg; echo words > /dev/console; echo 8 > /proc/sysrq-trigger
                  echo h > /proc/sysrq-trigger; dmesg | grep -o noise-1; echo end >&2";
    bed.sh(script)?.finish()?.is(0, "noise-1\n", "end\n").map(drop)
}

/// Processes in the background get SIGTERM when the command ends, and their output arrives. A
/// process that ignores SIGTERM is killed, and does not delay the end.
fn background_processes_are_ended(bed: &Bed) -> Result<()> {
    let script = "exec 3>&2 2>/dev/null
         (trap 'seq 20000; exit' TERM; touch /tmp/1; while :; do sleep 0.1; done) &
         (trap '' TERM; touch /tmp/2; while :; do sleep 0.1; done) &
         setsid sh -c 'trap \"echo a session >&3; exit\" TERM; touch /tmp/3; while :; do sleep 0.1; done' &
         until [ -e /tmp/1 ] && [ -e /tmp/2 ] && [ -e /tmp/3 ]; do sleep 0.1; done; echo end; exit 5";
    bed.sh(script)?.finish()?.is(5, format!("end\n{}", numbers(20_000)), "a session\n").map(drop)
}
