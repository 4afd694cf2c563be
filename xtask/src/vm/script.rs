//! A plan as commands for a POSIX shell, for `--dry-run`.
//!
//! Wired by paths: sockets and the initrd lie in a directory that the commands
//! make and remove.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Context, Result};

use super::Initrd;
use super::plan::{Plan, Wiring};
use super::virtiofsd::Socket;
use crate::pack;

/// The commands that run `plan`, ready to paste.
pub(super) fn script(plan: &Plan, kernel: &Path, initrd: &Initrd) -> Result<OsString> {
    let sockets: Vec<_> = (0..plan.shares.len()).map(|n| format!("fs{n}.sock")).collect();
    let mut lines: Vec<OsString> = vec!["(".into(), "cd \"$(mktemp -d)\"".into()];
    lines.push("trap 'rm -rf \"$PWD\"' EXIT".into());
    let initrd_path = match initrd {
        Initrd::File(file) => file.clone().into_os_string(),
        Initrd::Packed { init, modules } => {
            let xtask = std::env::current_exe().context("find this program")?;
            lines.push(shell_line(&pack::command(&xtask, init, modules.as_ref(), "initrd")));
            "initrd".into()
        }
    };
    for (share, socket) in plan.shares.iter().zip(&sockets) {
        let mut words = vec![plan.virtiofsd.program.clone().into_os_string()];
        words.extend(plan.virtiofsd.arguments(share, &Socket::Path(socket.into())));
        lines.push([&shell_line(&words), OsStr::new(" &")].into_iter().collect());
    }
    for socket in &sockets {
        lines.push(format!("until [ -S {socket} ]; do sleep 0.1; done").into());
    }
    let wiring = Wiring {
        kernel: kernel.into(),
        initrd: initrd_path,
        qmp: None,
        shares: sockets.iter().map(|socket| Socket::Path(socket.into())).collect(),
    };
    let mut words = vec![plan.qemu.clone().into_os_string()];
    words.extend(plan.qemu_arguments(&wiring));
    lines.push(shell_line(&words));
    lines.push(")\n".into());
    Ok(lines.join(OsStr::new("\n")))
}

/// `words` as a line for a POSIX shell.
fn shell_line(words: &[OsString]) -> OsString {
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
