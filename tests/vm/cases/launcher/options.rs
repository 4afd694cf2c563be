//! Options and kernel parameters that no other group of tests uses. So each row of README's
//! tables has a test; `coverage.rs` compares the two.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use machine::plan::architecture;
use machine::plan::virtiofsd::Flavour;
use machine::process::{qemu, virtiofsd};

use crate::harness::command_run::CommandRun;
use crate::harness::programs::stdout_of;
use crate::harness::terminal::Terminal;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("given_programs_are_run",         given_programs_are_run),
    ("cache_mode_reaches_virtiofsd",   cache_mode_reaches_virtiofsd),
    ("machine_options_reach_the_guest", machine_options_reach_the_guest),
    ("short_forms",                    short_forms),
    ("configuration_gives_options",    configuration_gives_options),
    ("debug_shows_init",               debug_shows_init),
    ("udp_is_forwarded",               udp_is_forwarded),
    ("timeout_without_a_command",      timeout_without_a_command),
    ("ctrl_a_x_ends_the_machine",      ctrl_a_x_ends_the_machine),
    ("etc_tmpfs_hides_etc",            etc_tmpfs_hides_etc),
];

/// A script that writes its arguments to a file, one call a line, and executes a program.
struct RecordingScript {
    script: PathBuf,
    calls: PathBuf,
}

impl RecordingScript {
    fn new(run: &CommandRun, name: &str, program: &Path) -> Result<Self> {
        let (script, calls) = (run.machine.path(name), run.machine.path(&format!("{name}.calls")));
        let text = format!(
            "#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n",
            calls.display(),
            program.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(Self { script, calls })
    }

    /// Whether the program was called with these words among its arguments.
    fn was_given(&self, words: &str) -> Result<bool> {
        let calls = fs::read_to_string(&self.calls).context("the program was not called")?;
        Ok(calls.lines().any(|line| line.contains(words)))
    }
}

/// `--qemu` and `--virtiofsd`.
fn given_programs_are_run(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo out; exit 3")?;
    let installed = qemu::find(architecture::of_host()?, None)?;
    let qemu = RecordingScript::new(&run, "qemu", &installed)?;
    let daemon = RecordingScript::new(&run, "virtiofsd", &virtiofsd::find(None)?.program)?;
    run.machine.option("--qemu", &qemu.script);
    run.machine.option("--virtiofsd", &daemon.script);
    let root = run.machine.root().display().to_string();
    let _machine = run.finish()?.is(3, "out\n", "")?;
    ensure!(qemu.was_given("-kernel ")?, "another QEMU was run");
    ensure!(daemon.was_given(&root)?, "another virtiofsd was run");
    Ok(())
}

/// virtiofsd gets the cache mode in its own words, and the guest reads the file of the host.
/// QEMU's virtiofsd says `none` for `never`, and has no `metadata`.
fn cache_mode_reaches_virtiofsd(bed: &Bed) -> Result<()> {
    let installed = virtiofsd::find(None)?;
    let has_metadata = installed.flavour != Flavour::C;
    let modes = [
        ("auto", &["cache=auto"][..]),
        ("always", &["cache=always"]),
        ("never", &["cache=never", "cache=none"]),
        ("metadata", &["cache=metadata"]),
    ];
    for (mode, words) in modes {
        let mut run = bed.sh("cat /text")?.options(&["--cache", mode]);
        fs::write(run.machine.root().join("text"), "of the host\n")?;
        if mode == "metadata" && !has_metadata {
            run.finish()?.says(125, "", &["--cache metadata: ", "knows only auto, always and"])?;
            continue;
        }
        let daemon = RecordingScript::new(&run, "virtiofsd", &installed.program)?;
        run.machine.option("--virtiofsd", &daemon.script);
        let _machine = run.finish()?.is(0, "of the host\n", "")?;
        let given = words.iter().map(|word| daemon.was_given(word)).collect::<Result<Vec<_>>>()?;
        ensure!(given.contains(&true), "{mode}: virtiofsd did not get it");
    }
    Ok(())
}

/// A q35 of QEMU has a disk controller that nothing uses (class 01.06, PCI Code and ID
/// Assignment Specification); the default machine has no such controller.
fn machine_options_reach_the_guest(bed: &Bed) -> Result<()> {
    let script = "cat /sys/bus/pci/devices/*/class | grep -c ^0x0106; nproc
                  grep -c ' erms' /proc/cpuinfo; ls /sys/class/net";
    let all = ["--machine", "q35", "--cpu", "max", "--accel", "auto", "--cpus", "3"];
    let run = bed.sh(script)?.options(&all).options(&["--net", "none"]);
    run.finish()?.is(0, "1\n3\n3\nlo\n", "")?;
    let run = bed.sh(script)?.options(&["--machine", "no-such"]);
    run.finish()?.says(125, "", &["error: QEMU failed", "unsupported machine type"]).map(drop)
}

/// A file of the working directory gives the kernel, its modules and a volume.
fn configuration_gives_options(bed: &Bed) -> Result<()> {
    let root = bed.busybox_machine()?;
    let machine = bed.machine_on(&root.root())?;
    let source = machine.directory("source")?;
    fs::write(source.join("text"), "of the host\n")?;
    let config = format!(
        "kernel = '{}'\nmodules = '{}'\nmemory = '300M'\nvolumes = ['source:/tmp/source:ro']\n",
        bed.kernel.image.display(),
        bed.kernel.modules.display()
    );
    fs::write(machine.path(".chrootvm.toml"), config)?;
    let script = format!("cd '{}'; exec \"$@\"", machine.path("").display());
    let words = "cat /tmp/source/text; awk '/MemTotal/ { print ($2 < 307200) }' /proc/meminfo";
    let run = CommandRun::new(machine, &["sh", "-c", words]).through(&script);
    // The tests' own environment switches configuration files off.
    let run = run.variable("CHROOTVM_NO_CONFIG", "");
    run.finish()?.is(0, "of the host\n1\n", "").map(drop)
}

/// `-m`, `-q`, `-T`, `-e`, `-w`, `-u`, `-c`, and an overlay that takes a part of the memory.
fn short_forms(bed: &Bed) -> Result<()> {
    let script =
        "tty; pwd; id -u; echo $A; nproc; awk '/MemTotal/ { print ($2 < 262144) }' /proc/meminfo
                  test $(stat -f -c %b /) -lt 32768 && echo half; echo > /tmp/x && echo done";
    let words = ["-q", "-T", "-m", "256", "-c", "2", "-e", "A=b", "-w", "/tmp", "-u", "7:8"];
    let run = bed.sh(script)?.options(&words).options(&["--overlay=50%"]);
    run.finish()?.is(0, "not a tty\n/tmp\n7\nb\n2\n1\nhalf\ndone\n", "").map(drop)
}

/// `--debug` shows the steps of `/init`, which are silent otherwise.
fn debug_shows_init(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out")?.options(&["--debug"]);
    let line = "virtinit: mounted the root, virtiofs tag \"rootfs\"";
    run.finish()?.says(0, "out\n", &[line]).map(drop)
}

/// QEMU gets the address and the ports. Nothing is sent, for busybox has no server for UDP.
fn udp_is_forwarded(bed: &Bed) -> Result<()> {
    let run = bed.sh("true")?.options(&["--publish", "127.0.0.2:8053:53/udp", "--dry-run"]);
    let text = stdout_of(run.command().stdin(Stdio::null()))?;
    ensure!(text.contains("hostfwd=udp:127.0.0.2:8053-:53"), "{text}");
    Ok(())
}

/// `--timeout` also ends a machine without a command.
fn timeout_without_a_command(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("sleep 3600")?;
    machine.option("--timeout", "4s");
    let boot = machine.boot()?;
    let words = "error: --timeout: the machine has not ended within 4s";
    boot.ends_with(124, &[words])?.lacks("Kernel panic")
}

/// Ctrl-A X ends QEMU, and `chrootvm` succeeds.
fn ctrl_a_x_ends_the_machine(bed: &Bed) -> Result<()> {
    let machine = bed.machine("echo is up; exec sleep 3600")?;
    let mut terminal = Terminal::boot(machine)?;
    terminal.wait_for("is up\n")?;
    terminal.keys("\x01x")?;
    terminal.ends_with(0)
}

/// `virtinit.etc=tmpfs` mounts an empty directory on the root's /etc.
fn etc_tmpfs_hides_etc(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo $(ls -A /etc); echo x > /etc/new && echo written")?;
    let etc = machine.root().join("etc");
    fs::create_dir(&etc)?;
    fs::write(etc.join("hostname"), "of the root\n")?;
    machine.append("virtinit.etc=tmpfs");
    // `/init` adds the names that every program may rely on.
    machine.boot()?.shows(&["hosts", "written"])?;
    ensure!(!etc.join("new").exists(), "the host's /etc has changed");
    Ok(())
}
