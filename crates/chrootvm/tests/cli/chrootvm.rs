//! The command line of chrootvm from outside: exit statuses, messages, closed streams.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use machine::kernel::vmlinux::samples::vmlinux;

use crate::script;

#[test]
fn bad_arguments_exit_with_125() {
    for (arguments, status) in [
        (&["--help"][..], 0),
        (&["-h"], 0),
        (&["--version"], 0),
        (&[], 125),
        (&["--no-such-option"], 125),
        (&["--memory", "much", "/"], 125),
        (&["--rw", "--overlay", "/", "--", "true"], 125),
        (&["/no/such/directory", "--", "true"], 125),
    ] {
        let mut chrootvm = Command::new(CHROOTVM);
        let output = chrootvm.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        // Help goes to standard output, an error to standard error.
        assert_eq!(output.stderr.is_empty(), status == 0, "{arguments:?}");
        assert_eq!(output.stdout.is_empty(), status != 0, "{arguments:?}");
    }
}

const CHROOTVM: &str = env!("CARGO_BIN_EXE_chrootvm");
const MKVIRTINITRD: &str = env!("CARGO_BIN_EXE_mkvirtinitrd");

/// Runs `script` in a shell, with `PROGRAM ARGUMENTS` as `"$@"`.
fn through(script: &str, program: &str, arguments: &[&str]) -> Output {
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", script, "sh", program]).args(arguments).output().unwrap()
}

/// The usage line is a command that a user can type.
#[test]
fn usage_names_program_and_subcommand() {
    for words in [
        &["exec"][..],
        &["ps"],
        &["logs"],
        &["stop"],
        &["image"],
        &["image", "build"],
        &["kernel"],
        &["kernel", "ls"],
    ] {
        let output = Command::new(CHROOTVM).args(words).arg("--help").output().unwrap();
        let usage = format!("Usage: chrootvm {}", words.join(" "));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains(&usage), "{help}");
    }
}

#[test]
fn closed_standard_error_changes_no_status() {
    for (program, arguments, status) in [
        (CHROOTVM, &["--no-such-option"][..], 125),
        (CHROOTVM, &["/nonexistent", "--", "x"], 125),
        (CHROOTVM, &["exec", "no-such-machine", "--", "x"], 125),
        (CHROOTVM, &["exec", "--no-such-option"], 125),
        (CHROOTVM, &["image", "ls", "/nonexistent"], 125),
        (CHROOTVM, &["kernel", "build", "--source", "/nonexistent"], 125),
        (MKVIRTINITRD, &["/nonexistent", "/nonexistent", "/nonexistent"], 1),
        (MKVIRTINITRD, &[], 2),
    ] {
        for script in [
            "exec \"$@\" 2>/dev/full",
            "exec \"$@\" 2>&-",
            "exec \"$@\" >&- 2>&-",
            "exec \"$@\" <&- >&- 2>&-",
        ] {
            let output = through(script, program, arguments);
            assert_eq!(output.status.code(), Some(status), "{arguments:?} {script}: {output:?}");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program);
        let ended = command.args(arguments).stderr(writer).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}: a pipe without a reader");
    }
}

/// A full pipe that nobody reads does not block chrootvm.
#[test]
fn a_full_pipe_on_standard_error_changes_no_status() {
    let script = "mkfifo \"$FIFO\" && exec 3<>\"$FIFO\"
                  dd if=/dev/zero bs=4096 count=100 oflag=nonblock >&3 2>/dev/null
                  \"$@\" 2>&3";
    for (arguments, status) in [
        (&["/nonexistent", "--", "x"][..], 125),
        (&["--no-such-option"], 125),
        (&["image", "verify", "/nonexistent"], 125),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", script, "sh", CHROOTVM]).args(arguments);
        let output = shell.env("FIFO", dir.path().join("fifo")).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "text").unwrap();
    let path = dir.path().to_str().unwrap();
    for (program, arguments, status) in [
        (CHROOTVM, &["--help"][..], 125),
        (CHROOTVM, &["--version"], 125),
        (CHROOTVM, &["--doctor"], 125),
        (CHROOTVM, &["ps"], 125),
        (CHROOTVM, &["image", "ls", path], 125),
        (CHROOTVM, &["image", "inspect", path], 125),
        (CHROOTVM, &["image", "verify", path], 125),
        (CHROOTVM, &["image", "diff", path, "src"], 125),
        (CHROOTVM, &["image", "cat", path, "f"], 125),
        (MKVIRTINITRD, &["--help"], 2),
    ] {
        let output = through("exec \"$@\" >/dev/full", program, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains("No space left on device"), "{arguments:?}: {error}");
    }
    // It is not an error if the reader closes the pipe early.
    for (program, arguments) in
        [(CHROOTVM, &["--help"][..]), (CHROOTVM, &["ps"]), (MKVIRTINITRD, &["--help"])]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program);
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// If standard output is closed, the standard library opens /dev/null instead. Without a
/// check, an image would be lost there.
#[test]
fn a_closed_standard_output_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (scripts, programs) = (dir.path().join("scripts"), dir.path().join("target/release"));
    fs::create_dir_all(&scripts).unwrap();
    fs::create_dir_all(&programs).unwrap();
    symlink(CHROOTVM, programs.join("chrootvm")).unwrap();
    script::write(&scripts.join("chrootvm"), include_str!("../../../../scripts/chrootvm"));
    fs::write(dir.path().join("f"), "text").unwrap();
    let run = |end: &str, arguments: &str| {
        let line = format!("exec scripts/chrootvm image {arguments} {end}");
        let output = Command::new("sh").args(["-c", &line]).current_dir(&dir).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in ["build scripts -o - --format tar", "ls .", "cat . f", "inspect .", "verify ."]
    {
        let (status, error) = run(">&-", arguments);
        assert_eq!(status, Some(125), "{arguments}: {error}");
        assert!(error.contains("standard output is not open"), "{arguments}: {error}");
        for end in [">/dev/null", ">/dev/null <&- 2>&-"] {
            assert_eq!(run(end, arguments).0, Some(0), "{arguments} {end}");
        }
    }
    // Subcommands that print nothing there do not need it.
    for arguments in ["build --quiet scripts -o scripts.tar", "diff scripts scripts.tar"] {
        assert_eq!(run(">&-", arguments), (Some(0), run(">/dev/null", arguments).1));
    }
}

#[test]
fn names_in_a_root_cannot_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["6.1\u{1b}]0;x\u{7}", "6.1\u{9b}2J", "6.2\nerror: forged", "6.3\r\u{202e}x"] {
        fs::create_dir_all(dir.path().join("usr/lib/modules").join(name)).unwrap();
    }
    let mut chrootvm = Command::new(CHROOTVM);
    let output =
        chrootvm.args(["--modules", "/"]).arg(dir.path()).args(["--", "true"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    let is_fine = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(error.contains("modules of 6.") && error.chars().all(is_fine), "{error:?}");
    assert!(!error.lines().skip(1).any(|line| line.starts_with("error:")), "{error:?}");
    let bad = "--\u{1b}[2Jx";
    let mut chrootvm = Command::new(CHROOTVM);
    let output = chrootvm.arg(bad).output().unwrap();
    assert!(!output.stderr.contains(&0x1b), "{output:?}");
}

#[test]
fn verify_escapes_the_name_of_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image\u{1b}[2J");
    fs::create_dir(&image).unwrap();
    let mut verify = Command::new(CHROOTVM);
    let output = verify.args(["image", "verify"]).arg(&image).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("image\\u{1b}[2J: "), "{output:?}");
}

#[test]
fn an_unusable_tmpdir_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("x.tar.gz");
    let mut image = Command::new(CHROOTVM);
    image.args(["image", "build", "src", "-o"]).arg(&archive);
    assert!(image.output().unwrap().status.success());
    let mut ls = Command::new(CHROOTVM);
    let output = ls.args(["image", "ls"]).arg(&archive).env("TMPDIR", "/no/such").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("in /no/such ($TMPDIR"), "{error}");
}

#[test]
fn a_fifo_is_no_root() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let arguments = [fifo.to_str().unwrap(), "--", "true"];
    let output = through("exec \"$@\"", CHROOTVM, &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("is a FIFO"), "{error}");
}

/// Every program that chrootvm runs before the boot hangs.
#[test]
fn a_time_limit_counts_before_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (program, root) = (dir.path().join("program"), dir.path().join("root"));
    let pid = dir.path().join("pid");
    let text = format!("#!/bin/sh\nsleep 3600 &\necho $! > {}\nwait\n", pid.display());
    script::write(&program, &text);
    for part in ["usr/lib/modules/6.9.1", "boot"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    fs::write(root.join("boot/vmlinuz-6.9.1"), "").unwrap();
    let program = program.to_str().unwrap();
    let mut arguments = vec!["--timeout", "2s"];
    for option in ["--qemu", "--virtiofsd", "--init"] {
        arguments.extend([option, program]);
    }
    arguments.extend([root.to_str().unwrap(), "--", "true"]);
    let output = through("exec \"$@\"", CHROOTVM, &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{error}");
    assert!(
        error.contains("--timeout: true has not ended within 2s; the machine was not"),
        "{error}"
    );
    // The programs that chrootvm started have ended, or end soon.
    let sleep = fs::read_to_string(pid).unwrap();
    let command = || fs::read(format!("/proc/{}/cmdline", sleep.trim())).unwrap_or_default();
    let mut tries = 0..500;
    while !command().is_empty() && tries.next().is_some() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(command().is_empty(), "process {sleep} is left");
}

/// The machine never answers, as if its chrootvm were stopped or still preparing.
#[test]
fn a_time_limit_of_exec_counts_before_the_answer() {
    let name = format!("test-mute-{}", std::process::id());
    let _mute = machine::running::registry::listen(&name).unwrap();
    let arguments = ["exec", "--timeout", "1s", &name, "--", "true"];
    let output = through("exec \"$@\"", CHROOTVM, &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{error}");
    assert!(error.contains("--timeout: true has not ended within 1s"), "{error}");
}

#[test]
fn a_closed_pipe_on_standard_output_changes_no_status() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    for (arguments, status) in [
        (&["inspect", path][..], 0),
        (&["ls", path], 0),
        (&["verify", path], 0),
        (&["diff", path, "src"], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut image = Command::new(CHROOTVM);
        let output = image.arg("image").args(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// Runs `chrootvm ARGUMENTS --kernel-builtin DIR/root -- true` with the cache `DIR/cache`.
/// A script with the options of virtiofsd stands for QEMU, virtiofsd and `/init`.
fn builtin(dir: &Path, arguments: &[&str]) -> Output {
    let program = dir.join("program");
    script::write(&program, script::VIRTIOFSD);
    fs::create_dir_all(dir.join("root")).unwrap();
    let mut chrootvm = Command::new(CHROOTVM);
    chrootvm.args(arguments).arg("--kernel-builtin");
    for option in ["--qemu", "--virtiofsd", "--init"] {
        chrootvm.arg(option).arg(&program);
    }
    chrootvm.env("XDG_CACHE_HOME", dir.join("cache"));
    chrootvm.arg(dir.join("root")).args(["--", "true"]).output().unwrap()
}

#[test]
fn a_kernel_that_was_not_built_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let output = builtin(dir.path(), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    let image = dir.path().join("cache/virtinitrd/kernel/current/vmlinux");
    for part in ["--kernel-builtin", "chrootvm kernel build", image.to_str().unwrap()] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn kernel_builtin_excludes_other_kernels_and_modules() {
    for other in [["--kernel", "/x"], ["--modules", "/x"], ["--module", "x"]] {
        let dir = tempfile::tempdir().unwrap();
        let output = builtin(dir.path(), &other);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(error.contains("cannot be used with") && error.contains(other[0]), "{error}");
    }
}

#[test]
fn the_built_kernel_is_booted_without_modules() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache/virtinitrd/kernel");
    fs::create_dir_all(cache.join("6.1.1-x")).unwrap();
    fs::write(cache.join("6.1.1-x/vmlinux"), vmlinux(Some(0x100_0010))).unwrap();
    symlink("6.1.1-x", cache.join("current")).unwrap();
    let output = builtin(dir.path(), &["--overlay", "--net", "user", "--dry-run"]);
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kernel = format!(" -kernel {} ", cache.join("6.1.1-x/vmlinux").display());
    assert!(script.contains(&kernel), "{script}");
    assert!(script.contains(" pack-initrd ") && !script.contains("--module"), "{script}");
}
