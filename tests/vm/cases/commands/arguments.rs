//! Arguments of a command: its words, environment, directory, user and host name.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use anyhow::Result;

use crate::harness::command_run::CommandRun;
use crate::harness::make::random::Random;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("words_arrive_unchanged",          words_arrive_unchanged),
    ("two_words_are_a_command",         two_words_are_a_command),
    ("run_takes_one_word",              run_takes_one_word),
    ("no_stdin_leaves_the_input_alone", no_stdin_leaves_the_input_alone),
    ("only_given_variables_arrive",     only_given_variables_arrive),
    ("user_names_are_the_roots",        user_names_are_the_roots),
    ("hostname_workdir_and_loopback",   hostname_workdir_and_loopback),
];

/// The command prints its own words as the kernel has them (proc_pid_cmdline(5)).
fn words_arrive_unchanged(bed: &Bed) -> Result<()> {
    let mut run = bed.run(&["sh", "-c", "cat /proc/$$/cmdline; exit 9"])?;
    let mut words: Vec<Vec<u8>> = [
        "",
        " ",
        "\n",
        "'",
        "\"",
        "\\",
        "$HOME",
        "`id`",
        "--",
        "-e",
        "=",
        "a=b",
        "%s",
        "~",
        "*",
        "\u{e9}\u{1f980}",
        "trailing ",
        "virtinit.debug",
        "\x1b[0m\r\x04",
    ]
    .map(|word| word.as_bytes().to_vec())
    .into();
    words.push(vec![b'x'; 100_000]);
    words.push((1..=255).collect());
    let mut random = Random::new(2);
    for _ in 0..200 {
        let length = random.below(60);
        let mut word = random.bytes(usize::try_from(length)?);
        word.retain(|&byte| byte != 0);
        words.push(word);
    }
    let mut expected = b"sh\0-c\0cat /proc/$$/cmdline; exit 9\0".to_vec();
    for word in words {
        expected.extend([&word[..], b"\0"].concat());
        run.word(OsString::from_vec(word));
    }
    run.finish()?.is(9, expected, "").map(drop)
}

/// Options of chrootvm may stand on both sides of ROOTFS; after the first word of the command,
/// they are the command's.
fn two_words_are_a_command(bed: &Bed) -> Result<()> {
    let mut run =
        bed.run(&["--quiet", "busybox", "echo", "--quiet", "--", "-n"])?.without_separator();
    run.machine.option("--hostname", "box");
    run.finish()?.is(0, "--quiet -- -n\n", "").map(drop)
}

/// `chrootvm run` takes a single word as the command, not as INIT.
fn run_takes_one_word(bed: &Bed) -> Result<()> {
    let run = bed.run(&["sh"])?.without_separator().input(b"hostname; exit 3\n");
    let run = run.options(&["-i", "--rm", "--hostname", "box"]);
    let run = run.through("program=$1; shift; exec \"$program\" run \"$@\"");
    run.finish()?.is(3, "box\n", "").map(drop)
}

/// A loop over the lines of its standard input runs once for each line. The command reads an
/// empty input, and is given no terminal.
fn no_stdin_leaves_the_input_alone(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("cat; echo in the guest")?.input(b"a\nb\n");
    run.machine.option("--hostname", "box");
    let run = run.options(&["--no-stdin"]);
    let run = run.through("read line; \"$@\"; read line; echo $line");
    run.finish()?.is(0, "in the guest\nb\n", "").map(drop)
}

/// The environment consists of TERM, the variables of `--env`, and the defaults.
fn only_given_variables_arrive(bed: &Bed) -> Result<()> {
    let run = bed.run(&["busybox", "cat", "/proc/self/environ"])?;
    let odd = "a b\"'\n$X=\u{e9}";
    let mut run = run
        .variable("SECRET", "x")
        .variable("TERM", "vt220")
        .variable("PASSED", "from here")
        .options(&["-e", "PASSED", "-e", "UNSET_AS_NOBODY_USES_IT", "-e", "A=1", "-e", "A=2"]);
    run.machine.option("--env", format!("ODD={odd}"));
    let finished = run.finish()?;
    let mut variables: Vec<_> = finished.stdout().split(|&byte| byte == 0).collect();
    variables.sort_unstable();
    let odd = format!("ODD={odd}");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = ["", "A=2", "HOME=/", &odd, "PASSED=from here", path, "TERM=vt220"];
    let is_expected = variables == expected.map(str::as_bytes) && finished.stderr().is_empty();
    finished.check(is_expected, || format!("expected: {expected:?}")).map(drop)
}

/// Adds users and groups to the root.
fn with_users(run: CommandRun) -> Result<CommandRun> {
    let etc = run.machine.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n",
    )?;
    fs::write(etc.join("group"), "root:x:0:\nusers:x:100:\nkvm:x:36:ann,root\n")?;
    Ok(run)
}

/// `chrootvm` looks names up in the root. The user owns the standard streams, and can open
/// them again.
fn user_names_are_the_roots(bed: &Bed) -> Result<()> {
    let script = "echo $(id -u):$(id -g):$(id -G) $HOME > /dev/stdout; echo err > /dev/stderr
                  cat /dev/stdin";
    for (user, expected) in [
        (None, "0:0:0 36 /root\n"),
        (Some("ann"), "1000:100:100 36 /home/ann\n"),
        (Some("1234:5678"), "1234:5678:5678 /\n"),
    ] {
        let mut run = with_users(bed.sh(script)?)?.input(b"in\n");
        if let Some(user) = user {
            run.machine.option("--user", user);
        }
        run.finish()?.is(0, format!("{expected}in\n"), "err\n")?;
    }
    let run = with_users(bed.sh("echo out")?)?.options(&["-u", "ann:gone"]);
    run.finish()?.says(125, "", &["find user ann:gone: no such group"]).map(drop)
}

fn hostname_workdir_and_loopback(bed: &Bed) -> Result<()> {
    let script = "hostname; pwd; ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'
                  ls /sys/class/net; nproc; ulimit -n; umask; grep -c . /proc/1/cmdline";
    let run =
        bed.sh(script)?.options(&["--hostname", "box-1", "--workdir", "/tmp/../tmp", "-c", "1"]);
    run.finish()?.is(0, "box-1\n/tmp\n1\nlo\n1\n1024\n0022\n1\n", "").map(drop)
}
