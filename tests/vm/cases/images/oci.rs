//! OCI images as ROOTFS: what their config says, owners of files, the cache, published ports.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::command_run::CommandRun;
use crate::harness::make::layout::Member::{Directory, File};
use crate::harness::make::user::{RANGES, UID, UserBed, give, open_to_all};
use crate::harness::processes::{PATIENCE, eventually};
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("image_runs_what_its_config_says", image_runs_what_its_config_says),
    ("words_and_options_win_over_the_config", words_and_options_win_over_the_config),
    ("image_keeps_owners_for_a_user", image_keeps_owners_for_a_user),
    ("image_starts_from_the_cache", image_starts_from_the_cache),
    ("image_with_a_system_boots_it", image_with_a_system_boots_it),
    ("exposed_ports_are_published", exposed_ports_are_published),
    ("command_gets_the_stop_signal", command_gets_the_stop_signal),
    ("image_without_hosts_knows_its_names", image_without_hosts_knows_its_names),
];

const CONFIG: &str = r#"{
    "Entrypoint": ["/bin/sh", "-c", "echo \"$0|$1|$2\"; id; env; pwd; stat -c '%n %a %u:%g' . /data"],
    "Cmd": ["a *", "", "c\nd"],
    "Env": ["A=of the image", "PATH=/bin", "B=1"],
    "User": "www",
    "WorkingDir": "/srv/new",
    "StopSignal": "SIGQUIT",
    "Volumes": {"/data": {}}
}"#;

/// The command, with the cache beside the machine, so that it is empty.
fn run(machine: Machine, words: &[&str]) -> CommandRun {
    let cache = machine.path("cache");
    let run = CommandRun::new(machine, words).variable("XDG_CACHE_HOME", cache);
    if words.is_empty() { run.without_separator() } else { run }
}

fn image_runs_what_its_config_says(bed: &Bed) -> Result<()> {
    let machine = bed.layout_machine(&[Directory("data", 0o750, 101)], CONFIG)?;
    let finished = run(machine, &[]).finish()?;
    let text = String::from_utf8_lossy(finished.stdout()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "a *||c",
        "d",
        "uid=101(www) gid=102(www) groups=7(log)",
        "A=of the image",
        "PATH=/bin",
        "B=1",
        "HOME=/srv",
        "/srv/new",
        ". 755 0:0",
        "/data 750 101:101",
    ];
    let missing = expected.iter().find(|line| !lines.contains(line));
    let is_expected = finished.status == 0 && missing.is_none();
    finished.check(is_expected, || format!("missing: {missing:?}")).map(drop)
}

fn words_and_options_win_over_the_config(bed: &Bed) -> Result<()> {
    let machine = bed.layout_machine(&[], CONFIG)?;
    let script = "echo $A $B; id -u; pwd; echo > /new && echo written";
    let run = run(machine, &["-c", script]).options(&[
        "--entrypoint",
        "/bin/sh",
        "-e",
        "A=of the user",
        "-u",
        "0",
        "-w",
        "/etc",
    ]);
    run.finish()?.is(0, "of the user 1\n0\n/etc\nwritten\n", "").map(drop)
}

/// No root is needed to unpack owners, and no id of the user appears in the guest.
fn image_keeps_owners_for_a_user(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, RANGES)?;
    let members = [
        Directory("home/u", 0o700, 1000),
        File("home/u/key", 0o600, 1000, "secret"),
        File("bin/suid", 0o4755, 0, "text"),
        Directory("var/cache", 0o755, 101),
    ];
    let config = r#"{"Cmd": ["stat", "-c", "%n %a %u:%g", "/home/u", "/home/u/key", "/bin/suid", "/var/cache"]}"#;
    let machine = user.bed.layout_machine(&members, config)?;
    let directory = machine.path("");
    open_to_all(&directory)?;
    give(&directory, UID)?;
    let expected = "/home/u 700 1000:1000\n/home/u/key 600 1000:1000\n/bin/suid 4755 0:0\n\
                    /var/cache 755 101:101\n";
    run(machine, &[]).finish()?.is(0, expected, "").map(drop)
}

/// The second start needs no layer: the layout is gone.
fn image_starts_from_the_cache(bed: &Bed) -> Result<()> {
    let machine = bed.layout_machine(&[], r#"{"Cmd": ["sh", "-c", "echo > /mark; ls /mark"]}"#)?;
    let machine = run(machine, &[]).finish()?.is(0, "/mark\n", "")?;
    fs::remove_dir_all(machine.path("layout"))?;
    let again = run(machine, &["sh", "-c", "ls /mark 2>&1 || echo forgotten"]);
    let expected = "ls: /mark: No such file or directory\nforgotten\n";
    again.finish()?.says(0, expected, &["does not exist any more"]).map(drop)
}

fn image_with_a_system_boots_it(bed: &Bed) -> Result<()> {
    let init = "#!/bin/sh\necho PID $$ says ready\n/bin/busybox poweroff -f\n";
    let members = [Directory("sbin", 0o755, 0), File("sbin/init", 0o755, 0, init)];
    let machine = bed.layout_machine(&members, r#"{"Cmd": ["/sbin/init"]}"#)?;
    let command = run(machine, &[]);
    let finished = command.finish()?;
    let text = String::from_utf8_lossy(finished.stdout()).into_owned();
    let is_expected = finished.status == 0 && text.contains("PID 1 says ready");
    finished.check(is_expected, || "the system has not booted".into())?;

    let machine = bed.layout_machine(&[], r#"{"Cmd": ["/sbin/init"]}"#)?;
    let expected = "its command /sbin/init is missing in it; give a command";
    run(machine, &[]).finish()?.says(125, "", &[expected]).map(drop)
}

/// SIGTERM to chrootvm becomes the signal that the image names; the status is the command's.
fn command_gets_the_stop_signal(bed: &Bed) -> Result<()> {
    for (name, number) in [("QUIT", 3), ("SIGRTMIN+3", 37)] {
        let script = format!(
            "trap 'echo got {number}; exit 7' {number}; trap 'echo got TERM; exit 8' TERM
             echo is up; exec 2> /dev/null; while :; do busybox sleep 0.1; done"
        );
        let words = script.replace('\n', "\\n");
        let config = format!(r#"{{"Cmd": ["sh", "-c", "{words}"], "StopSignal": "{name}"}}"#);
        let mut live = run(bed.layout_machine(&[], &config)?, &[]).start()?;
        live.wait_for("is up\n")?;
        live.signal(Signal::SIGTERM)?;
        live.finish()?.is(7, format!("is up\ngot {number}\n"), "")?;
    }
    Ok(())
}

fn image_without_hosts_knows_its_names(bed: &Bed) -> Result<()> {
    let config = r#"{"Cmd": ["cat", "/etc/hosts", "/etc/resolv.conf"]}"#;
    let run = run(bed.layout_machine(&[], config)?, &[]);
    let run = run.options(&["--hostname", "box", "--net", "user"]);
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.2.15\tbox\n";
    run.finish()?.is(0, format!("{hosts}nameserver 10.0.2.3\n"), "").map(drop)
}

fn exposed_ports_are_published(bed: &Bed) -> Result<()> {
    let config = r#"{"Cmd": ["sh", "-c", "echo from the guest | nc -l -p 7"],
                     "ExposedPorts": {"7/tcp": {}}}"#;
    let machine = bed.layout_machine(&[], config)?;
    let run = run(machine, &[]).options(&["--publish-all"]);
    let mut command = run.command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start chrootvm")?;
    let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
    let port = lines.find_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("127.0.0.1:")?.strip_suffix(" is port 7/tcp")?.parse::<u16>().ok()
    });
    let port = port.context("no line about the port")?;
    // QEMU accepts a connection at once, and closes it if no program listens in the guest.
    let heard =
        eventually("the guest answers", || Ok(talk(port).ok().filter(|heard| !heard.is_empty())))?;
    ensure!(heard == "from the guest\n", "{heard}");
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Connects to a port of the host, and returns the answer.
fn talk(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}
