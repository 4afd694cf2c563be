//! The end of a command: the exit status and the messages of `chrootvm`, on three kinds of
//! root.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::harness::command_run::CommandRun;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("success_is_silent",         success_is_silent),
    ("kernel_panic_is_shown",     kernel_panic_is_shown),
    ("bad_options_exit_with_125", bad_options_exit_with_125),
];

/// A kind of root.
#[derive(Clone, Copy, Debug)]
enum RootKind {
    Busybox,
    /// A root with one static program, and nothing else.
    Scratch,
    /// A root with a kernel of its own.
    Debian,
}

/// A command of the table.
#[derive(Clone, Copy, Debug)]
enum TestCommand {
    /// A script for the shell of the root.
    Script(&'static str),
    /// The words of the command.
    Words(&'static [&'static str]),
}

/// One row: a command, its status, its output, the messages of `chrootvm`.
#[derive(Debug)]
pub(crate) struct CommandEnd {
    pub(crate) name: &'static str,
    root: RootKind,
    options: &'static [&'static str],
    command: TestCommand,
    status: i32,
    stdout: &'static str,
    /// Parts of standard error. If the list is empty, standard error is empty.
    says: &'static [&'static str],
}

use RootKind::{Busybox, Debian, Scratch};
use TestCommand::{Script, Words};

macro_rules! end {
    ($name:literal, $root:ident, $options:expr, $command:expr, $status:literal, $stdout:literal, $says:expr) => {
        CommandEnd {
            name: $name,
            root: $root,
            options: &$options,
            command: $command,
            status: $status,
            stdout: $stdout,
            says: &$says,
        }
    };
}

#[rustfmt::skip]
pub(crate) const ENDS: &[CommandEnd] = &[
    // Statuses of the command.
    end!("exit_1",   Busybox, [], Script("echo out; exit 1"),   1,   "out\n", []),
    end!("exit_255", Busybox, [], Script("echo out; exit 255"), 255, "out\n", []),
    end!("scratch_exit_42",  Scratch, [], Script("echo out; exit 42"), 42, "out\n", []),
    // Signals.
    end!("signal_9",   Busybox, [], Script("echo out; kill -9 $$"),  137, "out\n", []),
    end!("signal_11",  Busybox, [], Script("echo out; kill -11 $$"), 139, "out\n", []),
    end!("debian_signal_15",  Debian,  [], Script(". /etc/os-release; echo $ID; kill -15 $$"), 143, "debian\n", []),
    // Commands that do not run.
    end!("not_found",          Busybox, [], Words(&["no-such-command"]), 127, "", ["error: execute no-such-command: not found"]),
    end!("no_such_path",       Busybox, [], Words(&["/no/such"]),        127, "", ["error: execute /no/such: not found"]),
    end!("not_executable",     Busybox, [], Words(&["/bin/plain"]),      126, "", ["error: execute /bin/plain: EACCES"]),
    end!("a_directory",        Busybox, [], Words(&["/bin"]),            126, "", ["error: execute /bin: EACCES"]),
    end!("no_interpreter",     Busybox, [], Words(&["script"]),          126, "", ["error: execute script: ENOENT: its interpreter /no/such is missing"]),
    // Trouble of chrootvm or of the machine.
    end!("no_user",            Busybox, ["-u", "nobody"], Script("echo out"), 125, "", ["error: find user nobody: no such user"]),
    end!("no_workdir",         Busybox, ["-w", "/gone"],  Script("echo out"), 125, "", ["error: enter the working directory /gone: ENOENT"]),
    end!("power_off",          Busybox, [], Script("echo out; busybox poweroff -f; sleep 60"), 125, "out\n", ["reboot: Power down", "error: the machine was powered off before the command had ended"]),
    // Time limits.
    end!("timeout",            Busybox, ["--timeout", "6s"], Script("sleep 3600"), 124, "", ["error: --timeout: sh -c 'sleep 3600' has not ended within 6s"]),
    // With -S the machine does not run one instruction.
    end!("timeout_of_a_boot",  Busybox, ["--timeout", "5s", "--qemu-arg", "-S"], Script("echo out"), 124, "", ["error: --timeout: sh -c 'echo out' has not ended within 5s; the guest was still booting"]),
    // The machine. The kernel does not test its ciphers unless a parameter asks for that. An
    // emulated processor has all features of x86-64-v3, but not erms, which is slow.
    end!("no_self_tests",      Busybox, [], Script("cat /sys/module/cryptomgr/parameters/notests"), 0, "Y\n", []),
    end!("self_tests",         Busybox, ["--append", "cryptomgr.notests=0"], Script("cat /sys/module/cryptomgr/parameters/notests"), 0, "N\n", []),
    end!("emulated_processor", Busybox, ["--accel", "tcg"], Script("for flag in cx16 lahf_lm popcnt ssse3 sse4_1 sse4_2 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave erms; do grep -q \" $flag \" /proc/cpuinfo || echo $flag; done"), 0, "erms\n", []),
    // Memory. PID 1 survives, and reports the status.
    end!("out_of_memory",      Busybox, ["-m", "128"], Script("tail /dev/zero; echo $?; exec tail /dev/zero"), 137, "137\n", ["Killed", "warning: the guest ran out of memory, and its kernel killed 2 processes; give it more memory: --memory 256M (now 128M)"]),
    end!("panic_without_memory", Busybox, ["-m", "128"], Script("echo 2 > /proc/sys/vm/panic_on_oom; tail /dev/zero; echo not reached"), 125, "", ["error: the guest gave up: Out of memory: compulsory panic_on_oom is enabled; give it more memory: --memory 256M (now 128M)"]),
];

impl CommandEnd {
    /// Runs the command, and checks its end.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        self.run(bed)?.options(self.options).finish()?.says(self.status, self.stdout, self.says)?;
        Ok(())
    }

    fn run(&self, bed: &Bed) -> Result<CommandRun> {
        let run = match (self.command, self.root) {
            (Words(words), _) => bed.run(words)?,
            (Script(script), Busybox) => bed.sh(script)?,
            (Script(script), Scratch) => bed.scratch(script)?,
            (Script(script), Debian) => return bed.debian(script),
        };
        let bin = run.machine.root().join("bin");
        if bin.exists() {
            for (name, mode, text) in [
                ("plain", 0o644, ""),
                ("script", 0o755, "#!/no/such\n"),
                ("text", 0o755, "hello\n"),
            ] {
                fs::write(bin.join(name), text)?;
                fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(run)
    }
}

/// Neither virtinitrd nor the kernel, QEMU or virtiofsd prints anything. (QEMU warns about
/// processor features that it cannot translate.)
fn success_is_silent(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo err >&2")?;
    let run = run.options(&["--accel", "tcg", "--cpu", "Skylake-Server", "--append", "debug"]);
    run.finish()?.is(0, "out\n", "err\n").map(drop)
}

/// Standard error shows the line with the cause, even if many lines follow it.
fn kernel_panic_is_shown(bed: &Bed) -> Result<()> {
    let run = bed.sh("echo out; echo c > /proc/sysrq-trigger; sleep 60")?;
    let lines = [
        "Kernel panic - not syncing: sysrq triggered crash",
        "error: the guest gave up: sysrq triggered crash",
    ];
    run.finish()?.says(125, "out\n", &lines).map(drop)
}

/// Bad options exit with 125, for a command may exit with any other status.
fn bad_options_exit_with_125(bed: &Bed) -> Result<()> {
    for (options, words) in [
        (&["--memory", "lots"][..], "a number without a suffix is in MiB"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--rw", "--overlay"], "cannot be used with"),
        (&["--qemu", "no-such-qemu"], "--qemu no-such-qemu: no such program"),
        (&["-w", "relative"], "--workdir is an absolute path"),
        (&["-v", "/tmp:relative"], "GUEST is an absolute path"),
        (&["-v", "/no/such:/tmp"], "/no/such"),
        (&["-e", "=x"], "a variable has a name"),
        (&["-p", "80"], "HOST:GUEST"),
        (&["--timeout", "soon"], "--timeout"),
    ] {
        let finished = bed.sh("echo out")?.options(options).finish()?;
        let stderr = finished.stderr();
        ensure!(stderr.contains(words), "{options:?}: no {words:?} in {stderr}");
        ensure!(finished.status == 125, "{options:?}: exit status {}", finished.status);
        finished.says(125, "", &[words])?;
    }
    Ok(())
}
