//! A plan as commands for a POSIX shell (`--dry-run`).
//!
//! The commands start the same programs with the same arguments as chrootvm. Sockets and the
//! initrd have paths in a directory that the commands make and remove. The commands do not
//! confine the programs with namespaces and mounts, as chrootvm does; only the daemon of a single
//! file has them, because it would export a directory otherwise.
//!
//! QEMU can write to a file that it opens, but not to a descriptor that it inherits. If it
//! opened `/dev/stdout`, it would write at a position of its own, and overwrite what other
//! writers of the same file have written. So QEMU opens pipes, which have no position, and
//! cat(1) copies them to the standard streams of the shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, Result};
use proto::settings::Record;
use proto::volume::VOLUME_FILE;

use crate::isolation::single_file::OPTIONS;
use crate::kernel::initrd::Initrd;
use crate::kernel::located::CommandPath;
use crate::plan::machine_plan::{MachinePlan, RunMode};
use crate::plan::ports::{self, ChardevBackend};
use crate::plan::qemu_arguments::{AttachedDisk, Contents, ExportedShare, Wiring};
use crate::plan::shares::FILE_DIR;
use crate::plan::virtiofsd::{DaemonSocket, Guard};

/// Placeholder for the directory, replaced after the words are quoted.
const DIR: &str = "@virtinitrd-directory@";

/// First lines: make the directory, and remove everything at the end.
const HEAD: &str = "(
set -e
dir=$(mktemp -d)
daemons=
trap 'kill $daemons 2>/dev/null || true; rm -rf \"$dir\"' EXIT
trap 'exit 1' INT TERM HUP";

/// Raises the limit on open files, as far as a shell can, like
/// [`open_files::raise`](crate::process::open_files::raise).
const LIMIT: &str = "ulimit -S -n \"$(ulimit -H -n)\"";

/// Lines before QEMU starts to run a command: the files to which it appends, and the relay of
/// an output. If the output cannot be written, the relay reads on, because the command in the
/// guest would wait for ever. Only the end of the reader of a pipe (SIGPIPE) is no error.
const RELAY: &str = "true > \"$dir\"/control > \"$dir\"/console
relay() { cat || { [ $? -gt 128 ] || true > \"$dir\"/lost; cat > /dev/null; }; }";

/// Last lines: exit with the status of the command, unless some of its output is lost.
const STATUS: &str = "sed -n 's/^failed [0-9]* /error: /p' \"$dir\"/control >&2
status=$(sed -nE 's/^(exited|failed) ([0-9]+) .*/\\2/p' \"$dir\"/control)
[ -n \"$status\" ] || tail -n 25 \"$dir\"/console >&2
[ ! -e \"$dir\"/lost ] || exit 125
exit \"${status:-125}\"";

/// The commands that run `plan`; `sandbox` tells whether QEMU has `-sandbox`.
///
/// # Errors
/// A file has no path, because it exists only in memory.
pub fn script(
    plan: &MachinePlan,
    kernel: CommandPath,
    initrd: &Initrd,
    sandbox: bool,
) -> Result<OsString> {
    let sockets: Vec<_> = (0..plan.shares.len()).map(|n| format!("{DIR}/fs{n}.sock")).collect();
    let mut lines: Vec<OsString> = vec![HEAD.into()];
    let virtiofsd = plan.virtiofsd.as_ref();
    let is_guarded = |share| virtiofsd.is_some_and(|one| one.guard(share) == Guard::Mount);
    if plan.shares.iter().any(is_guarded) {
        lines.push("# chrootvm would also mount read-only shares read-only for virtiofsd.".into());
    }
    if virtiofsd.is_some_and(|one| !one.is_root) {
        let words = "# chrootvm would also run virtiofsd in a user namespace with subordinate ids.";
        lines.push(words.into());
    }
    let program = std::env::current_exe().context("find this program")?;
    let output = format!("{DIR}/initrd");
    let is_command = matches!(plan.mode, RunMode::Command { .. });
    let mut records = plan.records.clone();
    if is_command {
        // No chrootvm ends the machine after the command, so the guest has to power off.
        records.push(Record::Alone.to_bytes());
    }
    lines.push(shell_line(&initrd.command(&program, &records, &output)?));
    let kernel: OsString = match kernel.image {
        None => kernel.path.into(),
        Some(image) => {
            let copy = format!("{DIR}/kernel");
            let words = [
                (&*program).into(),
                "image".into(),
                "cat".into(),
                image.into(),
                kernel.path.into(),
            ];
            let redirect: OsString = format!(" > {copy}").into();
            lines.push([shell_line(&words), redirect].into_iter().collect());
            copy.into()
        }
    };
    if !plan.shares.is_empty() {
        lines.push(LIMIT.into());
    }
    for (share, socket) in plan.shares.iter().zip(&sockets) {
        let virtiofsd = virtiofsd.context("no virtiofsd for the shares")?;
        virtiofsd.check_file(share)?;
        let mut words =
            share.file().map_or_else(Vec::new, |file| with_file(file, virtiofsd.is_root));
        words.push(virtiofsd.program.clone().into());
        words.extend(virtiofsd.arguments(share, &DaemonSocket::Path(socket.into())));
        lines.push([&shell_line(&words), OsStr::new(" &")].into_iter().collect());
        lines.push("daemons=\"$daemons $!\"".into());
        // If the daemon has ended, `kill` fails and `set -e` ends the commands.
        lines.push(format!("until [ -S {socket} ]; do kill -0 $!; sleep 0.1; done").into());
    }
    let shares = plan
        .shares
        .iter()
        .zip(&sockets)
        .map(|(share, socket)| ExportedShare { share, socket: DaemonSocket::Path(socket.into()) });
    let disks = plan.disks.iter().map(|disk| AttachedDisk { disk, file: disk.path.clone().into() });
    let wiring = Wiring {
        contents: Contents::Boot { kernel, initrd: output.into() },
        memory: None,
        qmp: None,
        shares: shares.collect(),
        disks: disks.collect(),
        console: match is_command {
            true => ChardevBackend::File(file("console")),
            false => ChardevBackend::Stdio,
        },
        ports: match is_command {
            true => ports::unrelayed(&file("control")),
            false => Vec::new(),
        },
        sandbox,
    };
    let mut words = vec![plan.qemu.clone().into_os_string()];
    words.extend(plan.qemu_arguments(&wiring));
    let qemu = shell_line(&words);
    match is_command {
        true => lines.extend(command_lines(&qemu)),
        false => lines.push(qemu),
    }
    lines.push(")\n".into());
    let text = lines.join(OsStr::new("\n")).into_vec();
    Ok(OsString::from_vec(replace(&text, DIR.as_bytes(), b"\"$dir\"")))
}

/// Words before the words of a daemon that exports `file` alone: what
/// [`single_file::mount`](crate::isolation::single_file::mount) does, with unshare(1). The shell
/// executes the daemon, so the daemon has the process id that the script knows.
fn with_file(file: &Path, is_root: bool) -> Vec<OsString> {
    let name = VOLUME_FILE.to_string_lossy();
    let mounts = format!(
        "set -e; mount -t tmpfs -o {OPTIONS},nosuid,nodev,noexec none {FILE_DIR}
: > {FILE_DIR}/{name}; mount --bind \"$0\" {FILE_DIR}/{name}
mount -o remount,bind,ro,nosuid,nodev,noexec {FILE_DIR}; exec \"$@\""
    );
    let user: &[&str] = if is_root { &[] } else { &["--user", "--map-root-user"] };
    let words = [&["unshare", "--mount"], user, &["sh", "-c", &mounts]].concat();
    words.into_iter().map(OsString::from).chain([file.into()]).collect()
}

/// The lines that run the command of the guest with `qemu`, and end with its status.
fn command_lines(qemu: &OsStr) -> [OsString; 3] {
    [RELAY.into(), relayed(qemu), STATUS.into()]
}

/// The command `qemu` with relays for the outputs of [`ports::unrelayed`]. QEMU's own standard
/// output carries nothing; QEMU would set the file that it refers to non-blocking.
fn relayed(qemu: &OsStr) -> OsString {
    let (output, error) = (ports::OUTPUT_FD, ports::ERROR_FD);
    let tail = format!(" {error}>&1 > /dev/null; }} | relay >&2; }} {output}>&1 | relay");
    [OsStr::new("{ { "), qemu, OsStr::new(&tail)].into_iter().collect()
}

/// Path of a file in the directory of the commands.
fn file(name: &str) -> OsString {
    format!("{DIR}/{name}").into()
}

/// `text` with every `from` replaced by `to`.
fn replace(mut text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    while let Some(at) = text.windows(from.len()).position(|part| part == from) {
        result.extend_from_slice(&text[..at]);
        result.extend_from_slice(to);
        text = &text[at + from.len()..];
    }
    result.extend_from_slice(text);
    result
}

/// One line for a POSIX shell that consists of `words`, quoted if necessary.
#[must_use]
pub fn shell_line(words: &[OsString]) -> OsString {
    let quoted: Vec<_> = words.iter().map(|word| shell_quote(word)).collect();
    quoted.join(OsStr::new(" "))
}

/// `word`, quoted for a POSIX shell if necessary.
fn shell_quote(word: &OsStr) -> OsString {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/.,:=_-+@%".contains(byte);
    if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
        return word.to_owned();
    }
    let parts: Vec<&[u8]> = word.as_bytes().split(|&byte| byte == b'\'').collect();
    let inner = parts.join(&b"'\\''"[..]);
    OsString::from_vec([b"'", &inner[..], b"'"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    /// Runs `script` in a shell, in which `$commands` are those of a script whose QEMU writes to
    /// both outputs and reports a status. Returns its output and the contents of the file `log`
    /// in its directory.
    fn shell(script: &str) -> (Output, String) {
        let qemu = "sh -c 'printf out >> /dev/fd/3; printf err >> /dev/fd/4
            echo exited 7 3 3 >> \"$0\"/control' \"$dir\"";
        let lines = [&[HEAD.into()], &command_lines(OsStr::new(qemu))[..], &[")".into()]].concat();
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("commands", lines.join(OsStr::new("\n")));
        let output = command.env("TMPDIR", dir.path()).current_dir(dir.path()).output().unwrap();
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        (output, log)
    }

    #[test]
    fn commands_use_the_streams_that_they_were_given() {
        for (name, script, status, stdout, log) in [
            ("pipes", "eval \"$commands\"", 7, "out", ""),
            (
                "a file with other writers",
                "{ echo first; (eval \"$commands\"); s=$?; echo last; } > log; exit $s",
                7,
                "",
                "first\noutlast\n",
            ),
            (
                "both streams into one file",
                "{ printf 1; (eval \"$commands\" 2>&1); s=$?; printf 2; } > log; wc -c < log; exit $s",
                7,
                "8\n",
                "",
            ),
            ("a file to append to", "echo 1 > log; eval \"$commands\" >> log", 7, "", "1\nout"),
            (
                "a reader that has ended",
                "{ (eval \"$commands\"); echo $? > log; } | true",
                0,
                "",
                "7\n",
            ),
            ("closed", "eval \"$commands\" >&-", 125, "", ""),
            ("a full disk", "eval \"$commands\" > /dev/full", 125, "", ""),
        ] {
            let (output, written) = shell(script);
            assert_eq!(output.status.code(), Some(status), "{name}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{name}: {output:?}");
            assert!(log.is_empty() || written == log, "{name}: {written}");
        }
    }

    /// A real shell reads the line back.
    #[test]
    fn a_shell_reads_back_every_word() {
        let words = ["plain", "", "a b", "it's", "$(x)`\\\"", "\n"].map(OsString::from);
        let script: OsString =
            [OsStr::new("printf '%s\\0' "), &shell_line(&words)].into_iter().collect();
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        let expected = words.map(OsString::into_encoded_bytes).join(&0);
        assert_eq!(output.stdout, [&expected[..], b"\0"].concat());
    }
}
