//! What a machine runs if ROOTFS is an OCI image: the image's config, and what the user says
//! instead.
//!
//! Rules: OCI image specification, `config.md` (Entrypoint, Cmd), as podman run follows them.

use std::ffi::{OsStr, OsString};

use oci::document::config::Process;

use crate::image_config::{self, SYSTEMS};

/// Command of an image that names none.
pub(super) const DEFAULT: &str = "/bin/sh";

/// What the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// This program as PID 1.
    Init(OsString),
    /// A command.
    Command(Vec<OsString>),
    /// [`DEFAULT`], because neither the user nor the image names a command.
    Shell,
}

/// Decides what runs. `words` replace Cmd, `entrypoint` replaces Entrypoint and Cmd; an empty
/// one removes them. A system boots only if the user says nothing.
pub(super) fn start(process: &Process, entrypoint: Option<&OsStr>, words: &[OsString]) -> Start {
    let line = image_config::words(process, entrypoint, words);
    let line: Vec<_> = line.into_iter().map(OsStr::to_owned).collect();
    match line.as_slice() {
        [] => Start::Shell,
        [program] if entrypoint.is_none() && words.is_empty() && is_init(program) => {
            Start::Init(program.clone())
        }
        _ => Start::Command(line),
    }
}

fn is_init(program: &OsString) -> bool {
    SYSTEMS.iter().any(|init| program == init)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(entrypoint: &[&str], cmd: &[&str]) -> Process {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Process { entrypoint: words(entrypoint), cmd: words(cmd), ..Process::default() }
    }

    #[test]
    fn words_replace_cmd_and_an_entrypoint_replaces_both() {
        let with_both = process(&["/run"], &["a", "b"]);
        let cmd_only = process(&[], &["sh", "-c", "x *"]);
        let empty = process(&[], &[]);
        #[rustfmt::skip]
        let cases = [
            ("both",                    &with_both, None,        &[][..],       &["/run", "a", "b"][..]),
            ("words",                   &with_both, None,        &["c"],        &["/run", "c"]),
            ("an empty word",           &with_both, None,        &[""],         &["/run", ""]),
            ("entrypoint",              &with_both, Some("/x"),  &[],           &["/x"]),
            ("entrypoint and words",    &with_both, Some("/x"),  &["c", "d"],   &["/x", "c", "d"]),
            ("no entrypoint",           &with_both, Some(""),    &["c"],        &["c"]),
            ("cmd only",                &cmd_only,  None,        &[],           &["sh", "-c", "x *"]),
            ("words for cmd only",      &cmd_only,  None,        &["ls", "/"],  &["ls", "/"]),
            ("words alone",             &empty,     None,        &["ls"],       &["ls"]),
        ];
        for (name, process, entrypoint, words, expected) in cases {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            let expected = Start::Command(expected.iter().map(OsString::from).collect());
            assert_eq!(start(process, entrypoint.map(OsStr::new), &words), expected, "{name}");
        }
        assert_eq!(start(&empty, None, &[]), Start::Shell);
        assert_eq!(start(&with_both, Some(OsStr::new("")), &[]), Start::Shell);
    }

    #[test]
    fn a_system_boots_unless_the_user_names_a_command() {
        let words = [OsString::from("sh")];
        for init in SYSTEMS {
            for process in [process(&[init], &[]), process(&[], &[init])] {
                assert_eq!(start(&process, None, &[]), Start::Init(init.into()));
                assert!(matches!(start(&process, None, &words), Start::Command(_)), "{init}");
                assert!(
                    matches!(start(&process, Some(init.as_ref()), &[]), Start::Command(_)),
                    "{init}"
                );
            }
        }
        let with_argument = process(&["/sbin/init"], &["--version"]);
        assert!(matches!(start(&with_argument, None, &[]), Start::Command(_)));
    }
}
