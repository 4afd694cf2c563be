//! Options and kernel parameters that no other group of tests runs, so that each
//! row of README's tables is run by some test (see `xtask/tests/coverage.rs`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use machine::plan::architecture;
use machine::process::{qemu, virtiofsd};

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;
use crate::terminal::Terminal;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("programs_are_the_given_ones", programs_are_the_given_ones),
    ("cache_is_as_said",            cache_is_as_said),
    ("machine_is_as_said",          machine_is_as_said),
    ("short_forms",                 short_forms),
    ("debug_shows_init",            debug_shows_init),
    ("udp_is_forwarded",            udp_is_forwarded),
    ("init_runs_out_of_time",       init_runs_out_of_time),
    ("keys_end_a_console",          keys_end_a_console),
    ("etc_is_empty",                etc_is_empty),
];

/// A script that notes its arguments, one line a call, and becomes `program`.
struct Noted {
    script: PathBuf,
    notes: PathBuf,
}

impl Noted {
    fn new(run: &CommandRun, name: &str, program: &Path) -> Result<Self> {
        let (script, notes) = (run.guest.path(name), run.guest.path(&format!("{name}.notes")));
        let text = format!(
            "#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n",
            notes.display(),
            program.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(Self { script, notes })
    }

    /// Whether the program was called with these words among its arguments.
    fn was_given(&self, words: &str) -> Result<bool> {
        let notes = fs::read_to_string(&self.notes).context("the program was not called")?;
        Ok(notes.lines().any(|line| line.contains(words)))
    }
}

/// `--qemu` and `--virtiofsd`.
fn programs_are_the_given_ones(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo out; exit 3")?;
    let installed = qemu::find(architecture::of_host()?, None)?;
    let qemu = Noted::new(&run, "qemu", &installed)?;
    let daemon = Noted::new(&run, "virtiofsd", &virtiofsd::find(None)?.program)?;
    run.guest.option("--qemu", &qemu.script);
    run.guest.option("--virtiofsd", &daemon.script);
    let root = run.guest.root().display().to_string();
    let _guest = run.finish()?.is(3, "out\n", "")?;
    ensure!(qemu.was_given("-kernel ")?, "QEMU was another");
    ensure!(daemon.was_given(&root)?, "virtiofsd was another");
    Ok(())
}

/// The guest sees what the host has, and the daemon is told the mode in its own
/// word: QEMU's says `none` for `never`, and knows no `metadata`.
fn cache_is_as_said(bed: &Bed) -> Result<()> {
    let installed = virtiofsd::find(None)?;
    let has_metadata = installed.flavour != virtiofsd::Flavour::C;
    let modes = [
        ("auto", &["cache=auto"][..]),
        ("always", &["cache=always"]),
        ("never", &["cache=never", "cache=none"]),
        ("metadata", &["cache=metadata"]),
    ];
    for (mode, words) in modes {
        let mut run = bed.sh("cat /text")?.options(&["--cache", mode]);
        fs::write(run.guest.root().join("text"), "of the host\n")?;
        if mode == "metadata" && !has_metadata {
            run.finish()?.says(125, "", &["--cache metadata: ", "knows only auto, always and"])?;
            continue;
        }
        let daemon = Noted::new(&run, "virtiofsd", &installed.program)?;
        run.guest.option("--virtiofsd", &daemon.script);
        let _guest = run.finish()?.is(0, "of the host\n", "")?;
        let given = words.iter().map(|word| daemon.was_given(word)).collect::<Result<Vec<_>>>()?;
        ensure!(given.contains(&true), "{mode}: virtiofsd was not told");
    }
    Ok(())
}

/// A q35 as QEMU makes it has a disk controller, which nothing uses (class 01.06,
/// PCI Code and ID Assignment Specification); the default machine has none.
fn machine_is_as_said(bed: &Bed) -> Result<()> {
    let script = "cat /sys/bus/pci/devices/*/class | grep -c ^0x0106; nproc
                  grep -c ' erms' /proc/cpuinfo; ls /sys/class/net";
    let all = ["--machine", "q35", "--cpu", "max", "--accel", "auto", "--cpus", "3"];
    let run = bed.sh(script)?.options(&all).options(&["--net", "none"]);
    run.finish()?.is(0, "1\n3\n3\nlo\n", "")?;
    let run = bed.sh(script)?.options(&["--machine", "no-such"]);
    run.finish()?.says(125, "", &["error: QEMU failed", "unsupported machine type"]).map(drop)
}

/// `-m`, `-q`, `-T`, `-t`, `-e`, `-w`, `-u`, `-c`, and a part of the memory for an overlay.
fn short_forms(bed: &Bed) -> Result<()> {
    let script =
        "tty; pwd; id -u; echo $A; nproc; awk '/MemTotal/ { print ($2 < 262144) }' /proc/meminfo
                  test $(stat -f -c %b /) -lt 32768 && echo half; echo > /tmp/x && echo done";
    let words = ["-q", "-T", "-m", "256", "-c", "2", "-e", "A=b", "-w", "/tmp", "-u", "7:8"];
    let run = bed.sh(script)?.options(&words).options(&["--overlay=50%"]);
    run.finish()?.is(0, "not a tty\n/tmp\n7\nb\n2\n1\nhalf\ndone\n", "").map(drop)
}

/// `--debug` says what `/init` does; a success is silent otherwise.
fn debug_shows_init(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out")?.options(&["--debug"]);
    let line = "virtinit: mounted the root, virtiofs tag \"rootfs\"";
    run.finish()?.says(0, "out\n", &[line]).map(drop)
}

/// By the address that is given, as QEMU is told; busybox has no server for it.
fn udp_is_forwarded(bed: &Bed) -> Result<()> {
    let run = bed.sh("true")?.options(&["--publish", "127.0.0.2:8053:53/udp", "--dry-run"]);
    let output = run.command().stdin(Stdio::null()).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("hostfwd=udp:127.0.0.2:8053-:53"), "{text}");
    Ok(())
}

/// A machine without a command has a time limit, too.
fn init_runs_out_of_time(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("sleep 3600")?;
    guest.option("--timeout", "4s");
    let boot = guest.boot()?;
    let words = "error: --timeout: it has not ended within 4s";
    boot.ends_with(124, &[words])?.lacks("Kernel panic")
}

/// Ctrl-A X ends QEMU, and that counts as a success.
fn keys_end_a_console(bed: &Bed) -> Result<()> {
    let guest = bed.guest("echo is up; exec sleep 3600")?;
    let chrootvm = format!("exec {:?}", guest.command());
    let mut terminal = Terminal::start(CommandRun::new(guest, &[]).through(&chrootvm))?;
    terminal.wait_for("is up\n")?;
    terminal.keys("\x01x")?;
    terminal.ends_with(0)
}

/// `virtinit.etc=tmpfs`, over a root that has files there.
fn etc_is_empty(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("ls -A /etc | wc -l; echo x > /etc/new && echo written")?;
    let etc = guest.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(etc.join("hostname"), "of the root\n")?;
    guest.append("virtinit.etc=tmpfs");
    guest.boot()?.shows(&["0", "written"])?;
    ensure!(!etc.join("new").exists(), "the host's /etc has changed");
    Ok(())
}
