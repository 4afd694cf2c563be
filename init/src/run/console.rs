//! The console of the payload: its size, and job control for a shell.
//!
//! Interfaces: setsid(2), ioctl_tty(2), shells(5).
//!
//! A shell controls its jobs only on a controlling terminal. An init must not have one: there,
//! Ctrl-C is SIGINT to the process group of PID 1, and an init takes SIGINT for Ctrl-Alt-Del.

use proto::settings::{Settings, Size};

use crate::root::new_root::NewRoot;
use crate::rt;
use crate::run::payload::base_name;
use crate::run::program::Program;
use crate::run::session::stdio::set_size;

/// File of the root that lists its shells (shells(5)).
const SHELLS: &[u8] = b"/etc/shells";

/// The shell of a root without that file, as for getusershell(3).
const DEFAULT_SHELL: &[u8] = b"/bin/sh";

/// The console, if a terminal of the host shows it.
#[derive(Debug)]
pub struct PayloadConsole {
    /// Size of that terminal.
    size: Size,
    /// Whether the console becomes the controlling terminal of the payload.
    job_control: bool,
}

impl PayloadConsole {
    /// The console of `program`; the payload is `init` in `root`. A workload gets its
    /// controlling terminal from its supervisor, and a session has its own.
    #[must_use]
    pub fn of(
        program: &Program<'_>,
        settings: &Settings<'_>,
        init: &[u8],
        root: &NewRoot,
    ) -> Option<Self> {
        let size = settings.command.terminal?;
        let job_control = match program {
            Program::Session => return None,
            Program::Workload(_) if settings.workload => return None,
            Program::Workload(_) => false,
            Program::Payload => {
                is_shell(init, &root.read(SHELLS).ok().flatten().unwrap_or_default())
            }
        };
        Some(Self { size, job_control })
    }

    /// Sets up the console.
    pub fn set_up(&self) {
        // These calls fail if the console is no terminal.
        let _ = set_size(rt::stderr(), self.size);
        if self.job_control {
            let _ = rustix::process::setsid();
            let _ = rustix::process::ioctl_tiocsctty(rt::stderr());
        }
    }
}

/// Whether `init` has the name of a shell in the text of shells(5). The directory does not
/// count: `/bin` may be a link to `/usr/bin`.
fn is_shell(init: &[u8], shells: &[u8]) -> bool {
    let listed = shells.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"/"));
    listed.chain([DEFAULT_SHELL]).any(|shell| base_name(shell.trim_ascii()) == base_name(init))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_recognized_by_name() {
        let shells = "# /etc/shells: /bin/init\n/bin/bash\n/usr/bin/zsh \n\n";
        for (init, shells, expected) in [
            ("/usr/bin/bash", shells, true),
            ("/bin/zsh", shells, true),
            ("/bin/sh", shells, true),
            ("/bin/sh", "", true),
            ("/bin/bash", "", false),
            ("/sbin/init", shells, false),
            ("/lib/systemd/systemd", shells, false),
        ] {
            assert_eq!(is_shell(init.as_bytes(), shells.as_bytes()), expected, "{init}");
        }
    }
}
