//! Finding the virtiofsd of this host, asking what it can do, and preparing it to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{geteuid, getgroups};

use crate::host;
use crate::isolation::sandbox;
use crate::isolation::userns::UserNamespace;
use crate::plan::virtiofsd::{DaemonDefaults, Flavour, MODCAPS, NO_ANNOUNCE, Sandbox, Virtiofsd};
use crate::process::answers::Question;

/// Directories in which distributions install virtiofsd; `PATH` is searched after them.
const DIRS: &[&str] = &["/usr/libexec", "/usr/lib", "/usr/lib/qemu"];

/// A daemon that can run on this host as this user.
#[derive(Debug)]
pub struct PreparedVirtiofsd {
    /// The daemon.
    pub daemon: Virtiofsd,
    /// The user namespace for the daemon of an ordinary user, which lives as long as this
    /// value.
    pub namespace: Option<UserNamespace>,
    /// A warning about limits that an ordinary user meets.
    pub warning: Option<String>,
}

/// Finds a virtiofsd, or takes the one `given`, and asks what it can do.
///
/// # Errors
/// No virtiofsd is installed, or the program is not a virtiofsd.
pub fn find(given: Option<&Path>) -> Result<Virtiofsd> {
    let program = match given {
        Some(file) => {
            ensure!(host::is_executable(file), "{} is no executable file", file.display());
            // A bare name would be searched in PATH.
            host::absolute(file)?
        }
        None => installed().context(
            "virtiofsd not found in /usr/libexec, /usr/lib, /usr/lib/qemu or PATH; install the \
             package virtiofsd (Debian 12: qemu-system-common)",
        )?,
    };
    probe(program)
}

/// Asks the virtiofsd `program` what it can do.
///
/// # Errors
/// The program cannot be run, or is not a virtiofsd.
pub fn probe(program: PathBuf) -> Result<Virtiofsd> {
    let help = Question::ask(&program, &["--help"]).answer();
    let help = help.with_context(|| format!("run {} --help", program.display()))?.text;
    let flavour = flavour(&help)
        .with_context(|| format!("{}: its --help is of no known virtiofsd", program.display()))?;
    let is_root = geteuid().is_root();
    Ok(Virtiofsd {
        program,
        flavour,
        sandbox: sandbox::of_host(is_root),
        is_root,
        cache: None,
        defaults: DaemonDefaults {
            announces_mounts: help.contains(NO_ANNOUNCE),
            keeps_noatime: !help.contains("--preserve-noatime"),
        },
        root_is_lower: false,
        left_out: match is_root && help.contains(MODCAPS) {
            true => sandbox::missing_capabilities(),
            false => Vec::new(),
        },
    })
}

/// Path of the installed virtiofsd, of either implementation.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    DIRS.iter()
        .map(|dir| Path::new(dir).join("virtiofsd"))
        .find(|path| host::is_executable(path))
        .or_else(|| host::find_program(OsStr::new("virtiofsd")))
}

/// Implementation of the daemon whose `--help` prints `help`.
fn flavour(help: &str) -> Result<Flavour> {
    // QEMU's daemon drops its groups before it reads its options; for an ordinary user that
    // fails, and the daemon prints only this error.
    let is_c = help.contains("-o source=") || help.starts_with("setgroups() failed");
    match (help.contains("--shared-dir"), is_c) {
        (true, _) => Ok(Flavour::Rust { readonly: help.contains("--readonly") }),
        (false, true) => Ok(Flavour::C),
        (false, false) => bail!("neither --shared-dir nor -o source="),
    }
}

/// Makes the user namespace that `virtiofsd` needs if an ordinary user starts it.
///
/// # Errors
/// The daemon cannot run: it is the C daemon, and this user may not be root even in a user
/// namespace.
pub fn prepare(virtiofsd: &Virtiofsd) -> Result<PreparedVirtiofsd> {
    let program = virtiofsd.program.display();
    let flavour = virtiofsd.flavour;
    let daemon = virtiofsd.clone();
    if virtiofsd.is_root {
        return Ok(PreparedVirtiofsd { daemon, namespace: None, warning: None });
    }
    let namespace = match (UserNamespace::new(), flavour) {
        (Ok(namespace), _) => namespace,
        (Err(error), Flavour::C) => {
            return Err(error).with_context(|| {
                format!(
                    "{program} is the C virtiofsd of QEMU, which must be root, if only of a \
                     user namespace; run chrootvm as root or install the Rust virtiofsd"
                )
            });
        }
        (Err(error), Flavour::Rust { .. }) => {
            let warning = format!(
                "{program} runs without a sandbox, with all your rights, and owners are \
                 those of the host: {error:#}"
            );
            let daemon = Virtiofsd { sandbox: Sandbox::None, ..daemon };
            return Ok(PreparedVirtiofsd { daemon, namespace: None, warning: Some(warning) });
        }
    };
    let mut warnings = namespace.left_out.clone();
    if let Some(missing) = namespace.missing_ids() {
        ensure!(
            flavour != Flavour::C || namespace.has_groups || getgroups()?.is_empty(),
            "{program} is the C virtiofsd of QEMU, which drops your supplementary groups and \
             needs subordinate ids for that: {missing}; or install the Rust virtiofsd"
        );
        warnings.push(format!(
            "the guest sees only your own files as root's, all others as nobody's, \
             and can make none for another user than root: {missing}"
        ));
    }
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Ok(PreparedVirtiofsd { daemon, namespace: Some(namespace), warning })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_texts_tell_the_flavours_apart() {
        assert_eq!(flavour("    -o source=PATH   shared directory tree").unwrap(), Flavour::C);
        assert_eq!(
            flavour("--shared-dir <SHARED_DIR>\n--readonly").unwrap(),
            Flavour::Rust { readonly: true }
        );
        let of_user = "setgroups() failed with error=1:Operation not permitted";
        assert_eq!(flavour(of_user).unwrap(), Flavour::C);
        assert!(flavour("usage: ls").is_err());
    }
}
