//! The request: everything that the guest must know to run one step.
//!
//! Format: records `KEY=VALUE`, each ended by NUL, as in a run file (`proto::settings`). They
//! may come in any order; the words of the command, variables, lower layers, binds and caches
//! keep theirs. A record with "once" in the table is needed or allowed only once.
//!
//! | Record | Meaning |
//! |---|---|
//! | `number=N` | number of the step: its directory on the scratch disk; needed, once |
//! | `lower=disk:DEVICE` | one more layer below, the lowest first: an EROFS image |
//! | `lower=step:N` | one more layer below: what step N has changed |
//! | `disk=DEVICE` | one more EROFS image, mounted at [`mount_point()`] for binds |
//! | `arg=WORD` | one more word of the command; needed |
//! | `env=NAME=VALUE` | one more variable; there are no others |
//! | `user=USER` | `NAME`, `UID`, `NAME:GROUP` or `UID:GID` of the image; the default is root; once |
//! | `cwd=PATH` | working directory, which must exist; the default is `/`; once |
//! | `hostname=NAME` | host name; the default is `localhost`; once |
//! | `network=none\|user` | network of the step; the default is `none`; once |
//! | `resolv-conf=TEXT` | contents of `/etc/resolv.conf`; only with `network=user`; once |
//! | `bind=ro\|rw LENGTH SOURCE PATH` | bind SOURCE of the machine, which has LENGTH bytes, at PATH of the image |
//! | `cache=DEVICE\|- K PATH` | mount cache K at PATH of the image, above the EROFS in DEVICE |
//! | `secret=NAME HEX` | file `/run/secrets/NAME` with these bytes |

mod check;
mod records;

use std::fmt;

pub use proto::access::Access;

/// Most bytes of a request.
pub const MAX: usize = 4 << 20;

/// Host name of a step if the request has none.
pub const HOSTNAME: &[u8] = b"localhost";

/// A step to be run. Paths and texts are bytes without NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the step, which names its directory on the scratch disk.
    pub number: u32,
    /// Layers below the step, the lowest first. Without layers, the image is empty.
    pub lowers: Vec<Lower>,
    /// Further disks with EROFS images, which binds use.
    pub disks: Vec<String>,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of
    /// the request.
    pub args: Vec<Vec<u8>>,
    /// All variables of the environment, as `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
    /// User and group as the files of the image name them; root by default.
    pub user: Option<Vec<u8>>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Network of the step.
    pub network: Network,
    /// Files and directories of the machine that the step sees.
    pub binds: Vec<Bind>,
    /// Caches that the step sees.
    pub caches: Vec<Cache>,
    /// Files that exist only while the step runs.
    pub secrets: Vec<Secret>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            number: 0,
            lowers: Vec::new(),
            disks: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            cwd: b"/".to_vec(),
            hostname: HOSTNAME.to_vec(),
            network: Network::None,
            binds: Vec::new(),
            caches: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

/// Where the machine mounts the EROFS image in `device`, such as `/dev/vdb`.
#[must_use]
pub fn mount_point(device: &str) -> String {
    format!("/run/step/disk-{}", device.rsplit('/').next().unwrap_or(device))
}

/// A layer below a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lower {
    /// A disk with an EROFS image, such as `/dev/vdb`.
    Disk(String),
    /// The changes of an earlier step.
    Step(u32),
}

/// The network of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Only the loopback device.
    None,
    /// The network of the machine.
    User {
        /// Contents of `/etc/resolv.conf`.
        resolv_conf: Vec<u8>,
    },
}

/// A file or directory of the machine that is mounted in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Whether the step may write to it.
    pub access: Access,
    /// Path in the machine.
    pub source: Vec<u8>,
    /// Path in the image.
    pub path: Vec<u8>,
}

/// A directory that is kept between builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Disk with an EROFS image of what the cache had before; `None` if it is empty.
    pub device: Option<String>,
    /// Number of the cache, which names its directory on the scratch disk.
    pub number: u32,
    /// Path in the image.
    pub path: Vec<u8>,
}

/// A file that exists only while the step runs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name of the file.
    pub name: String,
    /// Contents of the file: any bytes.
    pub bytes: Vec<u8>,
}

/// Without the bytes, so that no log has them.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
