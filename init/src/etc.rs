//! An `/etc` that can be written to, in a root that cannot: `virtinit.etc=`.
//!
//! What is written is forgotten at the end of the machine.

use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use crate::error::{Context, Error, Result, show};
use crate::overlay;
use crate::root::NewRoot;
use crate::words::text;

/// What `/etc` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etc {
    /// An empty tmpfs.
    Tmpfs,
    /// An overlay, through which the root's own files are seen.
    Overlay,
}

impl Etc {
    /// Reads the value of `virtinit.etc=`.
    ///
    /// # Errors
    /// It is another.
    pub fn parse(value: &[u8]) -> Result<Self> {
        match text(value) {
            "tmpfs" => Ok(Self::Tmpfs),
            "overlay" => Ok(Self::Overlay),
            _ => Err(Error::new(
                format_args!("virtinit.etc={}", show(value)),
                "it is one of tmpfs, overlay",
            )),
        }
    }

    /// Makes it so.
    pub fn mount(self, root: &NewRoot) -> Result<()> {
        let etc = root
            .locate(b"/etc", OFlags::DIRECTORY)
            .context(format_args!("find /etc in the root"))?;
        match self {
            Self::Overlay => overlay::cover(&etc, "/etc", None),
            Self::Tmpfs => {
                let mount = || {
                    rustix::process::fchdir(&etc)?;
                    rustix::mount::mount(
                        c"etc",
                        c".",
                        c"tmpfs",
                        MountFlags::NOSUID | MountFlags::NODEV,
                        c"mode=0755",
                    )?;
                    rustix::process::chdir(c"/")
                };
                mount().context(format_args!("mount a tmpfs at /etc"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_kinds() {
        for (value, etc) in
            [("tmpfs", Some(Etc::Tmpfs)), ("overlay", Some(Etc::Overlay)), ("", None), ("ro", None)]
        {
            assert_eq!(Etc::parse(value.as_bytes()).ok(), etc, "{value}");
        }
    }
}
