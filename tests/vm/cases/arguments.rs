//! What a command is given: its words, environment, directory, user, host name.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use anyhow::Result;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;
use crate::random::Random;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("any_words_arrive",           any_words_arrive),
    ("nothing_else_is_passed_on",  nothing_else_is_passed_on),
    ("users_of_the_guest",         users_of_the_guest),
    ("name_directory_loopback",    name_directory_loopback),
];

/// The guest's kernel tells what words it was given (proc_pid_cmdline(5)).
fn any_words_arrive(bed: &Bed) -> Result<()> {
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

/// Of the host's environment the command has TERM, and what it is to have.
fn nothing_else_is_passed_on(bed: &Bed) -> Result<()> {
    let run = bed.run(&["busybox", "cat", "/proc/self/environ"])?;
    let odd = "a b\"'\n$X=\u{e9}";
    let mut run = run
        .variable("SECRET", "x")
        .variable("TERM", "vt220")
        .variable("PASSED", "from here")
        .options(&["-e", "PASSED", "-e", "UNSET_AS_NOBODY_USES_IT", "-e", "A=1", "-e", "A=2"]);
    run.guest.option("--env", format!("ODD={odd}"));
    let finished = run.finish()?;
    let mut variables: Vec<_> = finished.stdout().split(|&byte| byte == 0).collect();
    variables.sort_unstable();
    let odd = format!("ODD={odd}");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = ["", "A=2", "HOME=/", &odd, "PASSED=from here", path, "TERM=vt220"];
    let is_it = variables == expected.map(str::as_bytes) && finished.stderr().is_empty();
    finished.check(is_it, || format!("expected: {expected:?}")).map(drop)
}

fn with_users(run: CommandRun) -> Result<CommandRun> {
    let etc = run.guest.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n",
    )?;
    fs::write(etc.join("group"), "root:x:0:\nusers:x:100:\nkvm:x:36:ann,root\n")?;
    Ok(run)
}

/// Names are the root's. The standard streams are the user's own, and can be
/// opened again.
fn users_of_the_guest(bed: &Bed) -> Result<()> {
    let script = "echo $(id -u):$(id -g):$(id -G) $HOME > /dev/stdout; echo err > /dev/stderr
                  cat /dev/stdin";
    for (user, expected) in [
        (None, "0:0:0 36 /root\n"),
        (Some("ann"), "1000:100:100 36 /home/ann\n"),
        (Some("1234:5678"), "1234:5678:5678 /\n"),
    ] {
        let mut run = with_users(bed.sh(script)?)?.input(b"in\n");
        if let Some(user) = user {
            run.guest.option("--user", user);
        }
        run.finish()?.is(0, format!("{expected}in\n"), "err\n")?;
    }
    let run = with_users(bed.sh("echo out")?)?.options(&["-u", "ann:gone"]);
    run.finish()?.says(125, "", &["find user ann:gone: no such group"]).map(drop)
}

fn name_directory_loopback(bed: &Bed) -> Result<()> {
    let script = "hostname; pwd; ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'
                  ls /sys/class/net; nproc; ulimit -n; umask; grep -c . /proc/1/cmdline";
    let run =
        bed.sh(script)?.options(&["--hostname", "box-1", "--workdir", "/tmp/../tmp", "-c", "1"]);
    run.finish()?.is(0, "box-1\n/tmp\n1\nlo\n1\n1024\n0022\n1\n", "").map(drop)
}
