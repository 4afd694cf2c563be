//! `chrootvm` without a command: no process outlives it, no file is left, and it explains bad
//! arguments.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::processes::{Victim, all_gone, family, is_empty, no_process_mentions, pid_of};
use crate::harness::programs::{stdout_of, text};
use crate::harness::trial::needs;
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("sigterm_ends_chrootvm",   |bed| signal_ends_all(bed, Victim::Chrootvm, Signal::SIGTERM, 143)),
    ("sigint_ends_chrootvm",    |bed| signal_ends_all(bed, Victim::Chrootvm, Signal::SIGINT, 130)),
    ("sigkill_ends_chrootvm",   |bed| signal_ends_all(bed, Victim::Chrootvm, Signal::SIGKILL, 137)),
    ("sigkill_ends_a_start",    sigkill_ends_a_start),
    ("dead_qemu_is_noticed",    |bed| signal_ends_all(bed, Victim::Qemu, Signal::SIGKILL, 125)),
    ("dead_virtiofsd_is_noticed", |bed| signal_ends_all(bed, Victim::Virtiofsd, Signal::SIGKILL, 125)),
    ("nothing_is_left_in_tmp",  nothing_is_left_in_tmp),
    ("dry_run_can_be_pasted",   dry_run_can_be_pasted),
    ("terminal_is_restored",    terminal_is_restored),
    ("halted_machine_is_ended", halted_machine_is_ended),
    ("missing_dashes_are_explained", missing_dashes_are_explained),
    ("arguments_are_checked",   arguments_are_checked),
    ("init_refuses_to_run_on_a_host", init_refuses_to_run_on_a_host),
    ("installed_tools_need_no_tree", installed_tools_need_no_tree),
];

/// A machine that runs until it is ended.
fn waiting(bed: &Bed) -> Result<Machine> {
    bed.machine("echo is up; sleep 3600")
}

fn signal_ends_all(bed: &Bed, victim: Victim, signal: Signal, status: i32) -> Result<()> {
    let machine = waiting(bed)?;
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    let family = family(running.pid())?;
    ensure!(family.len() >= 3, "chrootvm, QEMU and virtiofsd expected: {family:?}");
    kill(victim.find(&family).context("no process to kill")?, signal)?;
    running.ends_with(status)?;
    all_gone(&family)
}

/// If `chrootvm` is killed at any moment of its start, no process is left.
fn sigkill_ends_a_start(bed: &Bed) -> Result<()> {
    let machine = waiting(bed)?;
    for round in 0..24 {
        let mut running = machine.start()?;
        // This sleep does not wait for anything: the moments are arbitrary on purpose.
        std::thread::sleep(Duration::from_millis(round * 5));
        let family = family(running.pid())?;
        kill(running.pid(), Signal::SIGKILL)?;
        running.finish()?;
        all_gone(&family).with_context(|| format!("killed after {} ms", round * 5))?;
    }
    no_process_mentions(&machine.root())
}

/// `chrootvm` makes no temporary file.
fn nothing_is_left_in_tmp(bed: &Bed) -> Result<()> {
    let machine = waiting(bed)?;
    let tmp = machine.directory("private-tmp")?;
    let mut command = machine.command();
    command.env("TMPDIR", &tmp).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SIGINT goes to a whole process group, as from a terminal.
    let mut child = command.process_group(0).spawn()?;
    // This sleep does not wait for anything: there must be no file at any moment.
    std::thread::sleep(Duration::from_millis(300));
    let during = is_empty(&tmp);
    kill(Pid::from_raw(-pid_of(&child).as_raw()), Signal::SIGINT)?;
    child.wait()?;
    during?;
    is_empty(&tmp)?;
    no_process_mentions(&machine.root())
}

fn dry_run_can_be_pasted(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("cat \"/run/mnt/a b/text\"")?;
    let share = machine.mount("--mount-ro", "a b")?;
    fs::write(share.join("text"), "pasted and run\n")?;
    let tmp = machine.directory("private-tmp")?;
    let script = stdout_of(machine.dry_run().stdin(Stdio::null()))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("TMPDIR", &tmp).stdin(Stdio::null());
    let run = shell.output()?;
    let (console, messages) = (text(&run.stdout), text(&run.stderr));
    ensure!(console.contains("pasted and run\n"), "{console}{messages}");
    is_empty(&tmp)?;
    no_process_mentions(&machine.root())
}

/// script(1) makes a terminal. QEMU is killed while that terminal is raw, and stty(1) then
/// finds its former settings.
fn terminal_is_restored(bed: &Bed) -> Result<()> {
    needs(&["script"])?;
    let machine = waiting(bed)?;
    let chrootvm = format!("{:?}", machine.command()).replace('\'', "'\\''");
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
    no_process_mentions(&machine.root())
}

/// A kernel that halts leaves its machine running, so `chrootvm` ends that machine.
fn halted_machine_is_ended(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo before; halt -f")?;
    run.finish()?.says(125, "before\n", &["halted before the command had ended"])?;
    let machine = bed.machine("echo before; /bin/busybox halt -f")?;
    let output = machine.command().stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0) && stderr.contains("has halted"), "{output:?}");
    Ok(())
}

/// If somebody forgets the `--` of a command, the message about the end of PID 1 shows it.
fn missing_dashes_are_explained(bed: &Bed) -> Result<()> {
    let machine = bed.machine("exit 0")?;
    let output = machine.command().stdin(Stdio::null()).output()?;
    let expected = format!(
        "chrootvm: test-init (PID 1) has ended with status 0, and with it the machine; to run a \
         command: chrootvm {} -- test-init\n",
        machine.root().display()
    );
    let (console, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.code() == Some(0) && stderr.ends_with(&expected), "{stderr}");
    // No terminal shows the console, so it is unchanged.
    ensure!(console.contains("Attempted to kill init! exitcode=0x00000000"), "{console}");
    Ok(())
}

fn arguments_are_checked(bed: &Bed) -> Result<()> {
    let machine = waiting(bed)?;
    let root = machine.root().to_string_lossy().into_owned();
    let empty = machine.directory("empty")?.to_string_lossy().into_owned();
    let program = bed.chrootvm();
    let kernel = bed.kernel.image.to_string_lossy().into_owned();
    let long = "x".repeat(2048);
    for (arguments, status, expected) in [
        (vec![], 125, "<ROOTFS>"),
        (vec!["/nonexistent"], 125, "find /nonexistent"),
        (vec!["/etc/passwd"], 125, "neither an archive nor a file system"),
        (vec!["--modules", "/usr", &empty], 125, "has no kernel"),
        (vec!["--kernel", "/nonexistent", &root], 125, "find /nonexistent"),
        (vec!["--kernel", &kernel, &root, "no-such-program"], 125, "searched /usr/bin"),
        (vec!["--kernel", &kernel, &root, "./test-init"], 125, "absolute path in the guest"),
        (vec!["--kernel", &kernel, "--mount", "rootfs", "/tmp", &root], 125, "is taken"),
        (vec!["--kernel", &kernel, "--mount", "a/b", "/tmp", &root], 125, "contains '/'"),
        (vec!["--kernel", &kernel, "--mount", "a", "/nonexistent", &root], 125, "/nonexistent"),
        (vec!["--kernel", &kernel, "--append", &long, &root], 125, "kernels read 2047"),
        (vec!["--memory", "lots", &root], 125, "a size such as 512M"),
        (vec!["--mount", "a"], 125, "--mount"),
    ] {
        let output = Command::new(&program).args(&arguments).stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status), "{arguments:?}: {} {stderr}", output.status);
        ensure!(stderr.contains(expected), "{arguments:?}: no \"{expected}\" in {stderr}");
    }
    Ok(())
}

/// A user may run `/init` by mistake; it must not mount anything on the host's /proc then.
fn init_refuses_to_run_on_a_host(bed: &Bed) -> Result<()> {
    let mounts = || fs::read_to_string("/proc/self/mounts");
    let before = mounts()?;
    let output = Command::new(bed.init()).output()?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    let expected =
        "virtinit: refusing to run: not PID 1; this program is the /init of an initramfs\n";
    ensure!(output.stderr == expected.as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(mounts()? == before, "the mounts have changed");
    Ok(())
}

/// A boot with the programs that `make install` puts into an empty directory.
fn installed_tools_need_no_tree(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo booted by installed tools")?;
    let stage = machine.directory("stage")?;
    let mut make = Command::new("make");
    make.current_dir(&bed.workspace).args(["--no-print-directory", "install"]);
    make.arg(format!("PREFIX={}/usr", stage.display()));
    make.arg(format!("LIBDIR={}/usr/lib", stage.display()));
    stdout_of(&mut make)?;
    for tool in ["chrootvm", "mkvirtinitrd"] {
        let program = fs::read(stage.join("usr/bin").join(tool))?;
        ensure!(program.starts_with(b"\x7fELF"), "{tool} is no program but a script");
    }
    let initrd = machine.directory("out")?.join("initrd");
    let mut pack = Command::new(stage.join("usr/bin/mkvirtinitrd"));
    pack.env_clear().env("PATH", "/usr/bin:/bin");
    pack.arg(stage.join("usr/lib/osbuild/initrd/initrd")).args([&bed.kernel.modules, &initrd]);
    stdout_of(&mut pack)?;
    machine.program(stage.join("usr/bin/chrootvm"));
    machine.boot()?.shows(&["booted by installed tools"])
}
