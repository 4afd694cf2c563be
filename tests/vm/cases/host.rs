//! The host's side: nothing outlives chrootvm, nothing is left, and bad
//! arguments are explained.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::harness::{Bed, Guest};
use crate::processes::{all_gone, family, named, no_process_mentions};
use crate::trial::needs;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("sigterm_ends_it",         |bed| killed(bed, Victim::Chrootvm, Signal::SIGTERM, 143)),
    ("sigint_ends_it",          |bed| killed(bed, Victim::Chrootvm, Signal::SIGINT, 130)),
    ("sigkill_ends_it",         |bed| killed(bed, Victim::Chrootvm, Signal::SIGKILL, 137)),
    ("killed_while_starting",   killed_while_starting),
    ("dead_qemu_is_noticed",    |bed| killed(bed, Victim::Qemu, Signal::SIGKILL, 125)),
    ("dead_virtiofsd_is_noticed", |bed| killed(bed, Victim::Virtiofsd, Signal::SIGKILL, 125)),
    ("nothing_is_left_in_tmp",  nothing_is_left_in_tmp),
    ("dry_run_can_be_pasted",   dry_run_can_be_pasted),
    ("a_terminal_is_restored",  a_terminal_is_restored),
    ("a_halt_is_an_end",        a_halt_is_an_end),
    ("a_command_as_init",       a_command_as_init),
    ("arguments_are_checked",   arguments_are_checked),
    ("init_refuses_a_host",     init_refuses_a_host),
    ("installed_tools_need_no_tree", installed_tools_need_no_tree),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Chrootvm,
    Qemu,
    Virtiofsd,
}

/// A machine that waits for ever.
fn waiting(bed: &Bed) -> Result<Guest> {
    bed.guest("echo is up; sleep 3600")
}

fn killed(bed: &Bed, victim: Victim, signal: Signal, status: i32) -> Result<()> {
    let guest = waiting(bed)?;
    let mut running = guest.start()?;
    running.wait_for("is up")?;
    let family = family(running.pid())?;
    ensure!(family.len() >= 3, "chrootvm, QEMU and virtiofsd expected: {family:?}");
    let target = match victim {
        Victim::Chrootvm => running.pid(),
        Victim::Qemu => named(&family, "qemu-system").next().context("no QEMU")?,
        Victim::Virtiofsd => named(&family, "virtiofsd").next().context("no virtiofsd")?,
    };
    kill(target, signal)?;
    let ended = running.finish()?;
    ensure!(ended == status, "exit status {ended}, not {status}");
    all_gone(&family)
}

/// Killed at moments spread over its start-up, chrootvm leaves no process.
fn killed_while_starting(bed: &Bed) -> Result<()> {
    let guest = waiting(bed)?;
    for round in 0..24 {
        let mut running = guest.start()?;
        // Not for readiness: the moments are arbitrary on purpose.
        std::thread::sleep(Duration::from_millis(round * 5));
        let family = family(running.pid())?;
        kill(running.pid(), Signal::SIGKILL)?;
        running.finish()?;
        all_gone(&family).with_context(|| format!("killed after {} ms", round * 5))?;
    }
    no_process_mentions(&guest.root())
}

/// chrootvm makes no file at all, however it ends.
fn nothing_is_left_in_tmp(bed: &Bed) -> Result<()> {
    let guest = waiting(bed)?;
    let tmp = guest.directory("private-tmp")?;
    let mut command = guest.command();
    command.env("TMPDIR", &tmp).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, to be ended as a terminal ends one.
    let mut child = command.process_group(0).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    std::thread::sleep(Duration::from_millis(300));
    let during = names(&tmp)?;
    kill(Pid::from_raw(-pid.as_raw()), Signal::SIGINT)?;
    child.wait()?;
    ensure!(during.is_empty() && names(&tmp)?.is_empty(), "in TMPDIR: {during:?}");
    no_process_mentions(&guest.root())
}

fn names(dir: &Path) -> Result<BTreeSet<std::ffi::OsString>> {
    Ok(fs::read_dir(dir)?.flatten().map(|entry| entry.file_name()).collect())
}

fn dry_run_can_be_pasted(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("cat \"/run/mnt/a b/text\"")?;
    let share = guest.mount("--mount-ro", "a b")?;
    fs::write(share.join("text"), "pasted and run\n")?;
    let tmp = guest.directory("private-tmp")?;
    let printed = guest.command().arg("--dry-run").stdin(Stdio::null()).output()?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let run = Command::new("sh")
        .arg("-c")
        .arg(String::from_utf8(printed.stdout)?)
        .env("TMPDIR", &tmp)
        .stdin(Stdio::null())
        .output()?;
    let console = String::from_utf8_lossy(&run.stdout).replace('\r', "");
    ensure!(
        console.contains("pasted and run\n"),
        "{console}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    ensure!(names(&tmp)?.is_empty(), "left: {:?}", names(&tmp)?);
    no_process_mentions(&guest.root())
}

/// On a terminal of its own, made by script(1): QEMU is killed while the
/// terminal is raw, and stty(1) then finds it as it was.
fn a_terminal_is_restored(bed: &Bed) -> Result<()> {
    needs(&["script"])?;
    let guest = waiting(bed)?;
    let chrootvm = format!("{:?}", guest.command()).replace('\'', "'\\''");
    let shell = format!(
        "before=$(stty -g); {chrootvm} < /dev/tty & vm=$!
         until stty -a | grep -q -- -icanon; do sleep 0.05; done; echo is raw
         pkill -KILL -P $vm qemu; wait $vm; echo status $?
         [ \"$before\" = \"$(stty -g)\" ] && echo restored"
    );
    let script = Command::new("timeout")
        .args(["300", "script", "-qec", &shell, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .context("run script(1)")?;
    let text = String::from_utf8_lossy(&script.stdout).into_owned();
    for line in ["is raw", "status 125", "restored"] {
        ensure!(text.contains(line), "no \"{line}\" in:\n{text}");
    }
    no_process_mentions(&guest.root())
}

/// A kernel that halts leaves its machine running.
fn a_halt_is_an_end(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo before; halt -f")?;
    run.finish()?.says(125, "before\n", &["halted before the command had ended"])?;
    let guest = bed.guest("echo before; /bin/busybox halt -f")?;
    let output = guest.command().stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0) && stderr.contains("has halted"), "{output:?}");
    Ok(())
}

/// Whoever forgets the `--` learns of it in the last line.
fn a_command_as_init(bed: &Bed) -> Result<()> {
    let guest = bed.guest("exit 0")?;
    let output = guest.command().stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    let hint = format!("chrootvm {} -- test-init", guest.root().display());
    ensure!(output.status.code() == Some(125) && last.ends_with(&hint), "{stderr}");
    Ok(())
}

fn arguments_are_checked(bed: &Bed) -> Result<()> {
    let guest = waiting(bed)?;
    let root = guest.root().to_string_lossy().into_owned();
    let empty = guest.directory("empty")?.to_string_lossy().into_owned();
    let program = bed.workspace.join("scripts/chrootvm");
    let kernel = bed.kernel.image.to_string_lossy().into_owned();
    let long = "x".repeat(2048);
    for (arguments, status, expected) in [
        (vec![], 125, "<ROOTFS>"),
        (vec!["/nonexistent"], 125, "find /nonexistent"),
        (vec!["/etc/passwd"], 125, "neither an archive nor a file system"),
        (vec![&*empty], 125, "has no kernel"),
        (vec!["--kernel", "/nonexistent", &root], 125, "find /nonexistent"),
        (vec!["--kernel", &kernel, &root, "no-such-program"], 125, "searched /usr/bin"),
        (vec!["--kernel", &kernel, &root, "./test-init"], 125, "absolute path in the guest"),
        (vec!["--kernel", &kernel, "--mount", "rootfs", "/tmp", &root], 125, "is taken"),
        (vec!["--kernel", &kernel, "--mount", "a/b", "/tmp", &root], 125, "contains '/'"),
        (vec!["--kernel", &kernel, "--mount", "a", "/nonexistent", &root], 125, "/nonexistent"),
        (vec!["--kernel", &kernel, "--append", &long, &root], 125, "kernels read 2047"),
        (vec!["--memory", "lots", &root], 125, "suffix M or G"),
        (vec!["--mount", "a"], 125, "--mount"),
    ] {
        let output = Command::new(&program).args(&arguments).stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status), "{arguments:?}: {} {stderr}", output.status);
        ensure!(stderr.contains(expected), "{arguments:?}: no \"{expected}\" in {stderr}");
    }
    Ok(())
}

/// Run by mistake it must not mount over the host's /proc.
fn init_refuses_a_host(bed: &Bed) -> Result<()> {
    let mounts = || fs::read_to_string("/proc/self/mounts");
    let before = mounts()?;
    let output = Command::new(bed.init()).output()?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    let expected =
        "virtinit: refusing to run: not PID 1; this program is the /init of an initramfs\n";
    ensure!(output.stderr == expected.as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(mounts()? == before);
    Ok(())
}

/// `make install` into a scratch directory, and a boot with what is there alone.
fn installed_tools_need_no_tree(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo booted by installed tools")?;
    let stage = guest.directory("stage")?;
    let make = Command::new("make")
        .current_dir(&bed.workspace)
        .args(["--no-print-directory", "install"])
        .arg(format!("PREFIX={}/usr", stage.display()))
        .arg(format!("LIBDIR={}/usr/lib", stage.display()))
        .output()?;
    ensure!(make.status.success(), "{}", String::from_utf8_lossy(&make.stderr));
    let tree = bed.workspace.to_string_lossy().into_owned();
    for tool in ["chrootvm", "mkvirtinitrd"] {
        let text = fs::read_to_string(stage.join("usr/bin").join(tool))?;
        ensure!(!text.contains(&tree) && !text.contains("../target"), "{tool}: {text}");
    }
    let initrd = guest.directory("out")?.join("initrd");
    let packed = Command::new(stage.join("usr/bin/mkvirtinitrd"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .arg(stage.join("usr/lib/osbuild/initrd/initrd"))
        .args([&bed.kernel.modules, &initrd])
        .output()?;
    ensure!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    guest.program(stage.join("usr/bin/chrootvm"));
    guest.boot()?.shows(&["booted by installed tools"])
}
