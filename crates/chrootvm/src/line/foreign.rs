//! Words of podman, docker, systemd-nspawn and virtme-ng that chrootvm does not have, and
//! what it has in their place.
//!
//! clap advises to type `-- --option` for an option that it does not know. That is never what
//! the user wants, so [`explain`] replaces the advice.

use clap::builder::{Arg, ArgAction, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Other programs' words for one thing, and the line that helps whoever types one of them.
pub type Hint = (&'static [&'static str], &'static str);

const FOREGROUND: &str = "`chrootvm exec` stays in the foreground; with -n, and & at the end of the line, you keep the terminal";
const PULLED_WHEN_USED: &str =
    "`chrootvm oci:NAME` pulls the image that it boots; `chrootvm cache ls` lists what is kept";
const ROOTFS_IS_A_WORD: &str = "ROOTFS is a word of its own: chrootvm ROOTFS [--] COMMAND [ARG]...";
const WHOLE_MACHINE: &str =
    "leave it out: a machine has a kernel of its own, and all of its rights";

/// Options of `run` and `exec` of other programs.
#[rustfmt::skip]
pub const OPTIONS: &[Hint] = &[
    (&["--network"],                               "--net user is QEMU's user network, --net none (the default) only loopback"),
    (&["--private-network"],                       "leave it out: --net none is the default"),
    (&["--mount"],                                 "--volume HOST:GUEST[:ro] shares a directory at a path; --mount takes two words, TAG and PATH"),
    (&["--bind", "--rwdir"],                       "--volume HOST:GUEST"),
    (&["--bind-ro", "--rodir"],                    "--volume HOST:GUEST:ro"),
    (&["--tmpfs"],                                 "/run and /tmp are in memory; with --overlay, the guest can write anywhere"),
    (&["--device", "--disk"],                      "--data FILE attaches an image or a block device, --qemu-arg any device of QEMU"),
    (&["--read-only"],                             "leave it out: ROOTFS never changes unless --rw is given"),
    (&["-x", "--ephemeral", "--volatile"],         "--overlay keeps in memory what the guest writes, and forgets it at the end"),
    (&["-D", "--directory", "--root", "--rootfs"], ROOTFS_IS_A_WORD),
    (&["--image"],                                 ROOTFS_IS_A_WORD),
    (&["--exec"],                                  "the command follows ROOTFS: chrootvm ROOTFS [--] COMMAND [ARG]..."),
    (&["-b", "--boot"],                            "chrootvm ROOTFS /sbin/init boots the system in ROOTFS"),
    (&["--as-pid2"],                               "leave it out: /init is PID 1, and runs COMMAND"),
    (&["-r", "--run"],                             "--kernel FILE; without it, the newest kernel in ROOTFS boots"),
    (&["-d", "--detach"],                          FOREGROUND),
    (&["--detach-keys"],                           "there are none; on a terminal, Enter ~ . ends the machine"),
    (&["--pipe"],                                  "--tty gives the command a terminal, --no-tty none"),
    (&["-E", "--setenv", "--env-file"],            "--env NAME=VALUE, once for each variable"),
    (&["--chdir", "--pwd"],                        "--workdir DIR"),
    (&["--privileged", "--cap-add", "--cap-drop"], WHOLE_MACHINE),
    (&["--capability", "--security-opt"],          WHOLE_MACHINE),
    (&["--userns", "--private-users", "-U"],       WHOLE_MACHINE),
    (&["--pid", "--ipc", "--uts"],                 WHOLE_MACHINE),
    (&["--os"],                                    "--platform [OS/]ARCH chooses an image, and its architecture is that of the machine"),
    (&["--tls-verify"],                            "--insecure accepts a registry without TLS, --ca FILE another authority"),
    (&["--log-opt", "--log-driver"],               "--logs DIR writes files, with --log-size SIZE, --log-keep N, --log-timestamps"),
    (&["--smp"],                                   "--cpus N"),
    (&["--kvm", "--enable-kvm"],                   "--accel kvm; without it, chrootvm uses KVM if that works"),
    (&["--disable-kvm"],                           "--accel tcg"),
    (&["--qemu-opts"],                             "--qemu-arg ARG, once for each argument"),
    (&["--ssh"],                                   "chrootvm exec NAME [--] COMMAND"),
];

/// Subcommands of other programs.
#[rustfmt::skip]
pub const SUBCOMMANDS: &[Hint] = &[
    (&["ls", "list"],                       "`chrootvm ps` lists the machines"),
    (&["kill"],                             "`chrootvm stop NAME` ends a machine"),
    (&["rm"],                               "a machine leaves nothing to remove; `chrootvm stop NAME` ends one"),
    (&["create", "start"],                  "`chrootvm ROOTFS [--] COMMAND` makes and starts a machine"),
    (&["boot"],                             "`chrootvm ROOTFS /sbin/init` boots the system in ROOTFS"),
    (&["top", "stats"],                     "`chrootvm exec NAME top` shows the processes of a machine, top(1) those of the host"),
    (&["attach", "enter", "shell"],         "`chrootvm exec NAME sh` runs a shell in a running machine"),
    (&["cp"],                               "--volume HOST:GUEST shares a directory"),
    (&["pull", "search"],                   PULLED_WHEN_USED),
    (&["login", "logout"],                  "chrootvm reads the credentials that `podman login` and `docker login` keep; or give --creds, --authfile"),
    (&["push"],                             "`chrootvm image build SOURCE -o FILE.oci.tar` makes an archive that skopeo(1) pushes"),
    (&["build", "export", "import", "load", "save"], "`chrootvm image build SOURCE -o FILE` makes an image"),
    (&["images"],                           "`chrootvm cache ls` lists the images of registries that are kept"),
    (&["rmi", "prune", "system"],           "`chrootvm cache prune` removes images of registries that are kept"),
    (&["inspect"],                          "`chrootvm ps` lists the machines, `chrootvm image inspect FILE` describes an image"),
    (&["doctor", "info"],                   "`chrootvm --doctor` describes the host"),
    (&["version"],                          "`chrootvm --version` prints the version"),
];

/// Finds the hint for `word` in one of the tables.
#[must_use]
pub fn hint(table: &[Hint], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint)
}

/// Replaces clap's advice in `error` by the hint of `table`, if that has one.
#[must_use]
pub fn explain(mut error: clap::Error, table: &[Hint]) -> clap::Error {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().starts_with("to pass '"));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    let is_about_a_word = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::WrongNumberOfValues | ErrorKind::ValueValidation
    );
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    // It may be followed by the names of its values.
    let word = argument.split([' ', '=']).next().unwrap_or_default();
    if let Some(hint) = hint(table, word).filter(|_| is_about_a_word) {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::Usage);
        let tips = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// An option of podman and docker that asks for what chrootvm does anyway.
#[must_use]
pub fn habit(long: &'static str) -> Arg {
    Arg::new(long).long(long).action(ArgAction::SetTrue).overrides_with(long).hide(true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, Command};

    use super::*;
    use crate::exec::Exec;
    use crate::run::RunArguments;

    /// A word that chrootvm gets itself must leave the table.
    #[test]
    fn the_options_are_not_ours() {
        let ours = |command: Command| {
            let arguments = command.get_arguments();
            let names = arguments.flat_map(|argument| {
                let long = argument.get_long().map(|long| format!("--{long}"));
                long.into_iter().chain(argument.get_short().map(|short| format!("-{short}")))
            });
            names.collect::<BTreeSet<_>>()
        };
        let run = ours(RunArguments::augment_args(Command::new("run")));
        let exec = ours(Exec::augment_args(Command::new("exec")));
        assert!(run.contains("--mount") && exec.contains("-t"));
        for word in OPTIONS.iter().flat_map(|(words, _)| *words) {
            // The error about a wrong value of --mount has a hint, and exec has no --detach.
            let of_run = ["--mount", "-d", "--detach"].contains(word);
            assert_eq!(run.contains(*word), of_run, "{word}");
            assert!(!exec.contains(*word), "{word}");
        }
    }

    #[test]
    fn a_word_has_one_hint() {
        for table in [OPTIONS, SUBCOMMANDS] {
            let mut seen = BTreeSet::new();
            for word in table.iter().flat_map(|(words, _)| *words) {
                assert!(seen.insert(word), "{word}");
            }
        }
    }
}
