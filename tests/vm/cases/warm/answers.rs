//! A warm run answers as a cold one does: its status, streams, options, devices, signals.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::site::{Answer, Site, Start};
use crate::harness::command_run::CommandRun;
use crate::harness::make::image::build;
use crate::harness::processes::{all_gone, family, is_empty};
use crate::harness::terminal::Terminal;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("commands_end_the_same",   commands_end_the_same),
    ("streams_are_apart",       streams_are_apart),
    ("roots_can_be_changed",    roots_can_be_changed),
    ("volumes_are_there",       volumes_are_there),
    ("an_image_is_the_root",    an_image_is_the_root),
    ("disks_keep_their_order",  disks_keep_their_order),
    ("debian_is_the_root",      debian_is_the_root),
    ("the_network_works",       the_network_works),
    ("a_terminal_works",        a_terminal_works),
    ("exec_enters",             exec_enters),
    ("signals_arrive",          signals_arrive),
];

/// One row: options, a script, its status, its output, and parts of standard error.
type Row = (&'static [&'static str], &'static str, i32, &'static str, &'static [&'static str]);

/// Rows with one template, because no option asks for another machine.
#[rustfmt::skip]
const ENDS: &[Row] = &[
    (&[], "echo out",                   0,   "out\n", &[]),
    (&[], "echo out; exit 42",          42,  "out\n", &[]),
    (&[], "echo out; kill -9 $$",       137, "out\n", &[]),
    (&[], "echo out; kill -15 $$",      143, "out\n", &[]),
    (&["-e", "A=b c", "-w", "/tmp", "-u", "7:8"], "echo $A; pwd; id -u; id -g", 0, "b c\n/tmp\n7\n8\n", &[]),
    (&["-w", "/gone"], "echo out",      125, "", &["error: enter the working directory /gone: ENOENT"]),
    (&["--hostname", "warmer"], "hostname; cat /proc/sys/kernel/hostname", 0, "warmer\nwarmer\n", &[]),
    (&["--timeout", "6s"], "sleep 600", 124, "", &["error: --timeout: sh -c 'sleep 600' has not ended within 6s"]),
    (&[], "echo x 2>/dev/null > /one",  1,   "", &[]),
];

fn commands_end_the_same(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let row = |&(options, script, status, stdout, says): &Row| {
        let answer = Answer { status, stdout: stdout.as_bytes(), says };
        let start = answer.check(site.sh(options, script)?.finish()?)?;
        Ok::<_, anyhow::Error>((start, script))
    };
    let starts = ENDS.iter().map(row).collect::<Result<Vec<_>>>()?;
    let (first, later) = starts.split_first().context("no rows")?;
    ensure!(first.0 == Start::Cold, "the first run is {:?}", first.0);
    for (start, script) in later {
        ensure!(*start != Start::Cold, "{script:?} ran in a cold machine");
    }
    for (word, status, says) in [
        ("no-such-command", 127, "error: execute no-such-command: not found"),
        ("/bin/plain", 126, "error: execute /bin/plain: EACCES"),
    ] {
        let answer = Answer { status, stdout: b"", says: &[says] };
        answer.check(site.run(&["--warm=always"], &[word])?.finish()?)?;
    }
    let templates = site.templates()?;
    ensure!(templates.len() == 1, "{templates:?}");
    ensure!(site.unfinished()?.is_empty(), "a file is not finished");
    is_empty(&site.path("tmp"))
}

/// 1 MiB goes through, and standard error is another stream.
fn streams_are_apart(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let input = b"\x00\xff\r\n".repeat(1 << 18);
    let answer = Answer { status: 0, stdout: &input, says: &[] };
    site.answers_to(|| Ok(site.sh(&[], "exec cat")?.input(&input)), answer)?;
    for _ in 0..2 {
        let mut finished = site.sh(&[], "echo out; echo err >&2; exit 5")?.finish()?;
        finished.take_timing().context("no timing")?;
        finished.is(5, "out\n", "err\n")?;
    }
    Ok(())
}

fn roots_can_be_changed(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let says = |stdout| Answer { status: 0, stdout, says: &[] };
    site.answers(&["--overlay"], "echo kept > /new; cat /new; ls /new", says(b"kept\n/new\n"))?;
    ensure!(!site.path("root/new").exists(), "the overlay has changed the root");
    site.answers(&["--rw"], "echo kept >> /new; sed -n 1p /new", says(b"kept\n"))?;
    let lines = fs::read_to_string(site.path("root/new"))?;
    ensure!(!lines.is_empty() && lines.lines().all(|line| line == "kept"), "{lines:?}");
    Ok(())
}

/// A directory that can be written to, one that cannot, and a file.
fn volumes_are_there(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let says = |stdout| Answer { status: 0, stdout, says: &[] };
    let one = ["-v", "@/share:/vol"];
    let script = "cat /vol/word && echo more >> /vol/more && sed -n 1p /vol/more";
    site.answers(&one, script, says(b"shared\nmore\n"))?;
    ensure!(fs::read_to_string(site.path("share/more"))?.starts_with("more\n"));
    let two = ["-v", "@/share:/vol:ro", "-v", "@/file:/one"];
    let script =
        "cat /vol/word /one; test -w /vol/word && echo x 2>/dev/null > /vol/word; cat /vol/word";
    site.answers(&two, script, says(b"shared\none file\nshared\n"))?;
    // Another directory of the same shape needs no other template.
    fs::create_dir(site.path("other"))?;
    fs::write(site.path("other/word"), "other\n")?;
    let other = site.sh(&["-v", "@/other:/vol"], "cat /vol/word")?.finish()?;
    let start = says(b"other\n").check(other)?;
    ensure!(start == Start::Warm, "another volume makes the run {start:?}");
    Ok(())
}

/// The image is a disk that is plugged in.
fn an_image_is_the_root(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let image = site.path("root.erofs");
    build(bed, &site.path("root"), &image, &[])?;
    let run = || {
        let mut run = site.sh(&[], "awk '$2 == \"/\" {print $1, $3}' /proc/mounts; exit 4")?;
        run.machine.root_is(&image);
        Ok(run)
    };
    site.answers_to(run, Answer { status: 4, stdout: b"/dev/vda erofs\n", says: &[] })?;
    let run = || {
        let mut run = site.sh(&["--overlay", "-v", "@/share:/vol"], "cp /vol/word /x; cat /x")?;
        run.machine.root_is(&image);
        Ok(run)
    };
    site.answers_to(run, Answer { status: 0, stdout: b"shared\n", says: &[] })
}

/// The kernel names disks in the order in which it finds them.
fn disks_keep_their_order(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let mut options = Vec::new();
    for name in ["b", "c", "d"] {
        let mut disk = [b' '; 4096];
        disk[..2].copy_from_slice(format!("{name}\n").as_bytes());
        fs::write(site.path(name), disk)?;
        options.extend(["--data".to_owned(), format!("@/{name}:ro")]);
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let image = site.path("root.erofs");
    build(bed, &site.path("root"), &image, &[])?;
    for _ in 0..4 {
        let mut run = site.sh(&options, "for n in b c d; do head -n 1 /dev/vd$n; done")?;
        run.machine.root_is(&image);
        Answer { status: 0, stdout: b"b\nc\nd\n", says: &[] }.check(run.finish()?)?;
    }
    Ok(())
}

/// Debian's own kernel and modules.
fn debian_is_the_root(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let debian = bed.debian_root()?;
    let run = || {
        let mut machine = bed.machine_on(&debian)?;
        machine.options(&["--timing", "--warm=always"]);
        let run = CommandRun::new(machine, &["sh", "-c", ". /etc/os-release; echo $ID; exit 6"]);
        Ok(run.variable("XDG_CACHE_HOME", site.path("cache")))
    };
    site.answers_to(run, Answer { status: 6, stdout: b"debian\n", says: &[] })
}

/// The card is plugged in, has its address, and reaches a server of the test.
fn the_network_works(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"from the host\n"); // the output of the command shows it
        }
    });
    let script = format!(
        "ip -4 addr show | grep -c 10.0.2.15; cat /etc/resolv.conf; nc 10.0.2.2 {port} < /dev/null"
    );
    let stdout = b"1\nnameserver 10.0.2.3\nfrom the host\n";
    site.answers(&["--net", "user"], &script, Answer { status: 0, stdout, says: &[] })
}

fn a_terminal_works(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    let script = "test -t 0 && test -t 1 && test -t 2 && echo three on $(tty); stty size
                  read line; echo read $line; exit 7";
    let mut terminal = Terminal::start(site.sh(&["-t"], script)?)?;
    terminal.wait_for("three on /dev/pts/0\n30 100\n")?;
    terminal.line("words", "read words\n")?;
    terminal.wait_for("(warm)\n")?;
    terminal.ends_with(7)
}

/// `chrootvm exec` finds a warm machine as it finds any other.
fn exec_enters(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    let name = format!("test-warm-{}", std::process::id());
    let mut live = site.sh(&["--name", &name], "echo up; exec sleep 600")?.start()?;
    live.wait_for("up\n")?;
    for status in [0, 9] {
        let mut exec = Command::new(bed.chrootvm());
        exec.args(["exec", "-e", "A=b", &name, "--", "sh", "-c"]);
        exec.arg(format!("echo $A; echo err >&2; exit {status}")).stdin(Stdio::null());
        let output = exec.output()?;
        let is_expected = output.status.code() == Some(status)
            && output.stdout == b"b\n"
            && output.stderr == b"err\n";
        ensure!(is_expected, "{output:?}");
    }
    let stopped = Command::new(bed.chrootvm()).args(["stop", &name]).output()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    let mut finished = live.finish()?;
    let timing = finished.take_timing().unwrap_or_default();
    let is_warm = timing.ends_with("(warm)");
    finished.check(is_warm, || format!("not warm: {timing}")).map(drop)
}

fn signals_arrive(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut live = site.sh(&[], "echo up; exec sleep 600")?.start()?;
        live.wait_for("up\n")?;
        let family = family(live.pid())?;
        live.signal(signal)?;
        let start = Answer { status, stdout: b"up\n", says: &[] }.check(live.finish()?)?;
        ensure!(start == Start::Warm, "{signal}: {start:?}");
        all_gone(&family)?;
    }
    is_empty(&site.path("tmp"))
}
