//! A recipe as a whole: its base, settings of the build, PID 1 and busybox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::network::Network;
use super::output::Output;
use super::run::{Machine, Run};
use super::step::Step;

/// A recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Name of what is made.
    pub name: Option<String>,
    /// JSON file that is written after the outputs.
    pub manifest: Option<PathBuf>,
    /// The tree that the steps start with.
    pub from: From,
    /// Settings of the build.
    pub build: Build,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// PID 1 of the image; `None` for the built-in one if `run` has a command, else for none.
    pub init: Option<Init>,
    /// Busybox to install.
    pub busybox: Option<Busybox>,
    /// The workload.
    pub run: Run,
    /// What the workload needs of a machine.
    pub machine: Option<Machine>,
    /// Files to make; empty if the caller names the only one.
    pub outputs: Vec<Output>,
}

/// The tree that the steps start with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// Source of the tree.
    pub base: Base,
    /// Platform of an OCI image, such as `linux/amd64`; only with the OCI kinds.
    pub platform: Option<String>,
    /// `sha256:` and 64 lower-case hexadecimal digits; only with [`Base::Image`] and
    /// [`Base::Tar`].
    pub digest: Option<String>,
}

/// Source of the first tree. A text is what follows the colon of a SOURCE of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Only the directories of the Filesystem Hierarchy Standard.
    #[default]
    Empty,
    /// OCI image of a registry, such as `debian:12-slim`.
    Oci(String),
    /// OCI image layout: a directory, and a tag after a colon.
    OciLayout(String),
    /// Archive of an OCI image layout.
    OciArchive(String),
    /// Archive of `docker save`.
    DockerArchive(String),
    /// Image file of any format.
    Image(PathBuf),
    /// Directory of the host.
    Dir(PathBuf),
    /// Tar archive.
    Tar(PathBuf),
    /// Tree of another recipe, a file of the package.
    Recipe(PathBuf),
}

/// Settings of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Network of steps that do not choose one.
    pub network: Network,
    /// Time limit of each command step that does not choose one.
    pub timeout: Duration,
    /// Memory of the machine in bytes, a multiple of 1 MiB; `None` if the builder chooses.
    pub memory: Option<u64>,
    /// Number of processors of the machine; `None` if the builder chooses.
    pub cpus: Option<u32>,
    /// Most bytes that all steps may write.
    pub disk: u64,
    /// Host name during the build.
    pub hostname: String,
    /// Environment of all command steps.
    pub env: BTreeMap<String, String>,
    /// Secrets by name, for steps that name them.
    pub secrets: BTreeMap<String, Secret>,
    /// Guest paths of directories that are kept between builds and are not in the image.
    pub cache: Vec<String>,
    /// Host directories by the guest path at which steps see them.
    pub volumes: BTreeMap<String, HostVolume>,
    /// What is made equal in all builds.
    pub normalise: Vec<Normalisation>,
    /// Latest time of a file and time of the image, in seconds since 1970; `None` for
    /// `SOURCE_DATE_EPOCH`, else the newest time of a file of the base.
    pub time: Option<u32>,
}

impl Build {
    /// Default of `timeout`.
    pub const TIMEOUT: Duration = Duration::from_secs(60 * 60);
    /// Default of `disk`, in bytes.
    pub const DISK: u64 = 16 << 30;
    /// Default of `hostname`.
    pub const HOSTNAME: &str = "localhost";
}

impl Default for Build {
    fn default() -> Self {
        Self {
            network: Network::None,
            timeout: Self::TIMEOUT,
            memory: None,
            cpus: None,
            disk: Self::DISK,
            hostname: Self::HOSTNAME.to_owned(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            cache: Vec::new(),
            volumes: BTreeMap::new(),
            normalise: Normalisation::ALL.iter().map(|(_, kind)| *kind).collect(),
            time: None,
        }
    }
}

/// Where the bytes of a secret come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Variable of the builder's environment.
    Env(String),
    /// File of the host.
    File(PathBuf),
}

/// Host directory that steps see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVolume {
    /// Path on the host, relative to the recipe's directory.
    pub path: PathBuf,
    /// Steps may write to it.
    pub writable: bool,
}

/// Kind of files that differ from build to build, and are made equal or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Normalisation {
    /// `logs`: files below /var/log.
    Logs,
    /// `ldconfig`: /var/cache/ldconfig/aux-cache.
    Ldconfig,
    /// `machine-id`: /etc/machine-id.
    MachineId,
    /// `dbus-id`: /var/lib/dbus/machine-id.
    DbusId,
    /// `random-seed`: the saved seed of the random number generator.
    RandomSeed,
    /// `wget-hsts`: .wget-hsts in home directories.
    WgetHsts,
    /// `apt`: caches and lists of apt.
    Apt,
    /// `python`: compiled files of Python.
    Python,
}

impl Normalisation {
    /// All kinds by their names in a recipe; also the meaning of `true`.
    pub const ALL: &[(&str, Self)] = &[
        ("logs", Self::Logs),
        ("ldconfig", Self::Ldconfig),
        ("machine-id", Self::MachineId),
        ("dbus-id", Self::DbusId),
        ("random-seed", Self::RandomSeed),
        ("wget-hsts", Self::WgetHsts),
        ("apt", Self::Apt),
        ("python", Self::Python),
    ];
}

/// PID 1 of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// The /init of this project.
    Builtin,
    /// File of the package.
    File(PathBuf),
    /// Program of the image, by its guest path.
    Image(String),
    /// Nothing is added.
    None,
}

/// Busybox to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busybox {
    /// The program.
    pub source: BusyboxSource,
    /// Guest path of the program.
    pub to: String,
    /// Names of the links beside it; `None` for all common applets that the program has.
    pub applets: Option<Vec<String>>,
}

impl Busybox {
    /// Default of `to`.
    pub const TO: &str = "/bin/busybox";
}

/// Where busybox comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusyboxSource {
    /// File of the package.
    Path(PathBuf),
    /// Download.
    Url {
        /// Address, http or https.
        url: String,
        /// SHA-256 of the file, 64 lower-case hexadecimal digits.
        sha256: String,
    },
}
