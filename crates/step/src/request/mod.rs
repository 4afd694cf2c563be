//! The request: everything that the guest must know to run one step.
//!
//! Format: records `KEY=VALUE`, each ended by NUL, as in a run file (`proto::settings`). They
//! may come in any order; the words of the command, variables, lower layers and mounts keep
//! theirs. A record with "once" in the table is needed or allowed only once. Numbers are decimal,
//! modes octal.
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
//! | `cwd=PATH` | working directory; the default is `/`; once |
//! | `hostname=NAME` | host name; the default is `localhost`; once |
//! | `network=none\|user` | network of the step; the default is `none`; once |
//! | `resolv-conf=TEXT` | contents of `/etc/resolv.conf`; only with `network=user`; once |
//! | `run=fresh\|image` | whether `/run` is an empty file system in memory, or that of the image; the default is `fresh`; once |
//! | `etc=image\|private` | whether `/etc/hosts` and `/etc/resolv.conf` are those of the image where it has them, or copies that go with the step; the default is `image`; once |
//! | `bind=ro\|rw\|scratch LENGTH SOURCE PATH` | bind SOURCE of the machine, which has LENGTH bytes, at PATH of the image; with `scratch`, what the step writes is dropped |
//! | `cache=DEVICE\|- K ro\|rw MODE UID GID PATH` | mount cache K at PATH of the image, above the EROFS in DEVICE; a cache without a device is new, and its directory gets mode and owner |
//! | `tmpfs=SIZE\|- PATH` | mount an empty file system of at most SIZE bytes at PATH of the image |
//! | `secret=MODE UID GID LENGTH PATH HEX` | file at PATH of the image, which has LENGTH bytes, with this mode, this owner and these bytes |
//!
//! A working directory that is missing is made, with mode 755 and for root, as other builders do
//! it; it belongs to the layer of the step. The types of the mounts say in which order they are
//! mounted.

mod check;
mod mounts;
mod records;

pub use mounts::{Bind, BindAccess, Cache, MODE_MAX, Secret, Tmpfs};
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
    /// Working directory. It is made if it is missing.
    pub cwd: Vec<u8>,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Network of the step.
    pub network: Network,
    /// What the step sees in `/run`.
    pub run: RunDirectory,
    /// What the step sees as `/etc/hosts` and `/etc/resolv.conf`.
    pub etc: EtcFiles,
    /// Files and directories of the machine that the step sees.
    pub binds: Vec<Bind>,
    /// Caches that the step sees.
    pub caches: Vec<Cache>,
    /// File systems in memory that the step sees.
    pub tmpfs: Vec<Tmpfs>,
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
            run: RunDirectory::Fresh,
            etc: EtcFiles::Image,
            binds: Vec::new(),
            caches: Vec::new(),
            tmpfs: Vec::new(),
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

/// What a step sees in `/run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunDirectory {
    /// An empty file system in memory with the directory `lock`. It ends with the step, and hides
    /// what the image has there.
    Fresh,
    /// The directory of the image: what the step writes there belongs to its layer.
    Image,
}

/// What a step sees as `/etc/hosts` and `/etc/resolv.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcFiles {
    /// The files of the image, but a generated `/etc/hosts` if that of the image is missing or
    /// empty, and the request's `/etc/resolv.conf` if the step has a network.
    Image,
    /// Copies that go with the step, so what it writes to them never belongs to its layer.
    /// `/etc/hosts` has the text of the image, or is generated if that is missing or empty.
    /// `/etc/resolv.conf` has the request's text if the step has a network; otherwise it has the
    /// text of the image, or is empty.
    Private,
}

#[cfg(test)]
mod tests;
