//! A plan as commands for a POSIX shell, for `--dry-run`.
//!
//! Wired by paths: sockets and the initrd lie in a directory that the commands
//! make and remove. They run the same programs with the same arguments, but
//! without the guards that chrootvm itself puts around them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};
use virtinitrd_proto::port::port_name;
use virtinitrd_proto::settings::Record;

use crate::kernel::initrd::Initrd;
use crate::kernel::located::CommandPath;
use crate::plan::{End, Mode, Plan, Wiring};
use crate::process::virtiofsd::{Guard, Socket};
use crate::session::channels::STREAMS;

/// Stands for the directory until the words are quoted.
const DIR: &str = "@virtinitrd-directory@";

/// Makes the directory, and sees to it that the commands leave nothing behind.
const HEAD: &str = "(
set -e
dir=$(mktemp -d)
daemons=
trap 'kill $daemons 2>/dev/null || true; rm -rf \"$dir\"' EXIT
trap 'exit 1' INT TERM HUP";

/// Raises the limit on open files as [`open_files::raise`](crate::process::open_files::raise)
/// does, as far as a shell can.
const LIMIT: &str = "ulimit -S -n \"$(ulimit -H -n)\"";

/// Exits as the command did.
const STATUS: &str = "sed -n 's/^failed [0-9]* /error: /p' \"$dir\"/control >&2
status=$(sed -nE 's/^(exited|failed) ([0-9]+) .*/\\2/p' \"$dir\"/control)
[ -n \"$status\" ] || tail -n 25 \"$dir\"/console >&2
exit \"${status:-125}\"";

/// The commands that run `plan`, ready to paste.
pub fn script(
    plan: &Plan,
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
    let is_command = matches!(plan.mode, Mode::Command { .. });
    let mut records = plan.records.clone();
    if is_command {
        // Nobody is there to end the machine.
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
        let mut words = vec![virtiofsd.program.clone().into_os_string()];
        words.extend(virtiofsd.arguments(share, &Socket::Path(socket.into())));
        lines.push([&shell_line(&words), OsStr::new(" &")].into_iter().collect());
        lines.push("daemons=\"$daemons $!\"".into());
        // `set -e` ends the wait for a daemon that has ended.
        lines.push(format!("until [ -S {socket} ]; do kill -0 $!; sleep 0.1; done").into());
    }
    let wiring = Wiring {
        kernel,
        initrd: output.into(),
        qmp: None,
        shares: sockets.iter().map(|socket| Socket::Path(socket.into())).collect(),
        disks: plan.disks.iter().map(|disk| disk.path.clone().into()).collect(),
        console: if is_command { file("console") } else { End::Stdio },
        ports: if is_command { ports() } else { Vec::new() },
        sandbox,
    };
    let mut words = vec![plan.qemu.clone().into_os_string()];
    words.extend(plan.qemu_arguments(&wiring));
    lines.push(shell_line(&words));
    if is_command {
        lines.push(STATUS.into());
    }
    lines.push(")\n".into());
    let text = lines.join(OsStr::new("\n")).into_vec();
    Ok(OsString::from_vec(replace(&text, DIR.as_bytes(), b"\"$dir\"")))
}

/// A file in the commands' directory.
fn file(name: &str) -> End {
    End::File(format!("{DIR}/{name}").into())
}

/// The command's streams are those of QEMU.
fn ports() -> Vec<(String, End)> {
    let end = |stream| match stream {
        "stdin" => End::Stdio,
        "control" => file("control"),
        stream => End::File(format!("/dev/{stream}").into()),
    };
    STREAMS.iter().map(|stream| (port_name(0, stream), end(stream))).collect()
}

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

/// `words` as a line for a POSIX shell.
#[must_use]
pub fn shell_line(words: &[OsString]) -> OsString {
    let quoted: Vec<_> = words.iter().map(|word| shell_quote(word)).collect();
    quoted.join(OsStr::new(" "))
}

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

    /// The printed line against the reader it is meant for.
    #[test]
    fn a_shell_reads_back_every_word() {
        let words = ["plain", "", "a b", "it's", "$(x)`\\\"", "\n"].map(OsString::from);
        let script: OsString =
            [OsStr::new("printf '%s\\0' "), &shell_line(&words)].into_iter().collect();
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let expected = words.map(OsString::into_encoded_bytes).join(&0);
        assert_eq!(output.stdout, [&expected[..], b"\0"].concat());
    }
}
