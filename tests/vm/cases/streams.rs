//! Standard input, output and error: every byte, each stream apart, whatever
//! they are on the host.

use std::fs;

use anyhow::{Result, ensure};

use crate::Case;
use crate::harness::Bed;
use crate::random::Random;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("eight_mebibytes_go_through",   eight_mebibytes_go_through),
    ("input_has_an_end",             input_has_an_end),
    ("files_are_appended_to",        files_are_appended_to),
    ("a_reader_that_leaves",         a_reader_that_leaves),
    ("a_full_disk",                  a_full_disk),
    ("nobody_to_tell",               nobody_to_tell),
    ("a_pipe_that_nobody_reads",     a_pipe_that_nobody_reads),
    ("output_before_an_exit",        output_before_an_exit),
    ("kernel_messages_stay_out",     kernel_messages_stay_out),
    ("what_is_left_behind_ends",     what_is_left_behind_ends),
];

/// Bytes that no terminal, no line buffer and no encoding would let through.
fn eight_mebibytes_go_through(bed: &Bed) -> Result<()> {
    let bytes = Random::new(1).bytes(8 << 20);
    let run = bed.sh("tee /tmp/copy; wc -c < /tmp/copy >&2; exit 3")?.input(&bytes);
    run.finish()?.is(3, &bytes, &format!("{}\n", bytes.len())).map(drop)
}

/// Nothing is typed where there is no terminal at all, and input is closed.
fn input_has_an_end(bed: &Bed) -> Result<()> {
    let run = bed.sh("cat; echo end; test -t 0 || echo no terminal")?;
    run.through("exec setsid -w \"$@\" <&-").finish()?.is(0, "end\nno terminal\n", "")?;
    let run = bed.sh("cat; echo end")?.through("exec \"$@\" </dev/null");
    run.finish()?.is(0, "end\n", "").map(drop)
}

fn files_are_appended_to(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo err >&2; echo more")?;
    let (out, err) = (run.guest.path("out"), run.guest.path("err"));
    for file in [&out, &err] {
        fs::write(file, "before\n")?;
    }
    let script = format!("\"$@\" >> '{}' 2>> '{}'", out.display(), err.display());
    // The directory goes with the guest.
    let _guest = run.through(&script).finish()?.is(0, "", "")?;
    let texts = (fs::read_to_string(&out)?, fs::read_to_string(&err)?);
    ensure!(texts == ("before\nout\nmore\n".into(), "before\nerr\n".into()), "{texts:?}");
    Ok(())
}

/// The command ends by SIGPIPE, as it would without a machine around it.
fn a_reader_that_leaves(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo first; exec yes")?;
    let run = run.through("{ \"$@\"; echo $? >&2; } | head -n 1");
    run.finish()?.is(0, "first\n", "141\n").map(drop)
}

fn a_full_disk(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo lost; sleep 3600")?.through("exec \"$@\" > /dev/full");
    run.finish()?.says(125, "", &["write the command's output: No space left"]).map(drop)
}

/// Statuses do not depend on who reads the messages.
fn nobody_to_tell(bed: &Bed) -> Result<()> {
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

/// Output and error go into one pipe, which is full: neither `--timeout` nor a signal
/// waits for its reader.
fn a_pipe_that_nobody_reads(bed: &Bed) -> Result<()> {
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
        let fifo = run.guest.path("fifo");
        run.variable("FIFO", fifo).finish()?.is(status, "", "")?;
    }
    Ok(())
}

/// A status never overtakes the bytes before it, on either stream, and nothing
/// is waited for that is not there.
fn output_before_an_exit(bed: &Bed) -> Result<()> {
    let (out, err) = ("o".repeat(200_000), "e".repeat(150_000));
    let script = "head -c 150000 /dev/zero | tr '\\0' e >&2 &
                  head -c 200000 /dev/zero | tr '\\0' o; wait; exit 3";
    for _ in 0..3 {
        bed.sh(script)?.finish()?.is(3, &out, &err)?;
    }
    // Input that nobody reads keeps nobody.
    let run = bed.sh("echo done; exit 3")?.input(&vec![0; 4 << 20]);
    run.finish()?.is(3, "done\n", "").map(drop)
}

/// Neither the kernel nor a program that writes to the console reaches the
/// command's streams.
fn kernel_messages_stay_out(bed: &Bed) -> Result<()> {
    let script =
        "echo '<0>noise-1' > /dev/kmsg; echo words > /dev/console; echo 8 > /proc/sysrq-trigger
                  echo h > /proc/sysrq-trigger; dmesg | grep -o noise-1; echo end >&2";
    bed.sh(script)?.finish()?.is(0, "noise-1\n", "end\n").map(drop)
}

/// Processes in the background get SIGTERM at the command's end, and their last
/// words arrive; one that ignores it is killed, and keeps nobody waiting.
fn what_is_left_behind_ends(bed: &Bed) -> Result<()> {
    let script = "exec 3>&2 2>/dev/null
         (trap 'seq 20000; exit' TERM; touch /tmp/1; while :; do sleep 0.1; done) &
         (trap '' TERM; touch /tmp/2; while :; do sleep 0.1; done) &
         setsid sh -c 'trap \"echo a session >&3; exit\" TERM; touch /tmp/3; while :; do sleep 0.1; done' &
         until [ -e /tmp/1 ] && [ -e /tmp/2 ] && [ -e /tmp/3 ]; do sleep 0.1; done; echo end; exit 5";
    bed.sh(script)?.finish()?.is(5, format!("end\n{}", numbers(20_000)), "a session\n").map(drop)
}

/// What seq(1) prints.
pub(crate) fn numbers(last: u32) -> String {
    let numbers: Vec<_> = (1..=last).map(|number| number.to_string()).collect();
    numbers.join("\n") + "\n"
}
