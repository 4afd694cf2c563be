//! Differences between two builders' images that are no faults, each with its reason.
//!
//! Times of files are not compared at all: the files are made when the builder runs.

/// Files in which two images may differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explained {
    /// The fixture; `None` stands for all.
    pub(super) fixture: Option<&'static str>,
    /// Path in the image, without `/` at its beginning.
    pub(super) path: &'static str,
    /// What may differ: an aspect of `chrootvm image diff`, or [`ONLY_OURS`] or [`ONLY_THEIRS`].
    pub(super) what: &'static [&'static str],
    /// The reason.
    pub(super) why: &'static str,
}

/// Only the first image, ours, has the path.
pub(super) const ONLY_OURS: &str = "only ours";
/// Only the second image, that of buildah, has the path.
pub(super) const ONLY_THEIRS: &str = "only theirs";

const DATES: &str = "has dates";
const INODES: &str = "has dates and inode numbers of files";
const MOUNT_POINT: &str = "buildah leaves its mount point";
const MODE: &str =
    "as with BuildKit, an octal --chmod is also the mode of a directory that COPY makes";
const OWNER: &str = "buildah gives the owner of --chown to directories that are there";

#[rustfmt::skip]
pub(super) const EXPLAINED: &[Explained] = &[
    Explained { fixture: None, path: "etc/shadow",                      what: &["content"],         why: "has the day of the last change of a user" },
    Explained { fixture: None, path: "var/cache/apt/pkgcache.bin",      what: &["content", "size"], why: DATES },
    Explained { fixture: None, path: "var/cache/apt/srcpkgcache.bin",   what: &["content", "size"], why: DATES },
    Explained { fixture: None, path: "var/cache/ldconfig/aux-cache",    what: &["content"],         why: INODES },
    Explained { fixture: None, path: "var/log/apt/history.log",         what: &["content", "size"], why: DATES },
    Explained { fixture: None, path: "var/log/apt/term.log",            what: &["content", "size"], why: DATES },
    Explained { fixture: None, path: "var/log/dpkg.log",                what: &["content"],         why: DATES },
    Explained { fixture: None, path: "etc/hostname",                    what: &[ONLY_THEIRS],       why: MOUNT_POINT },
    Explained { fixture: None, path: "etc/hosts",                       what: &[ONLY_THEIRS],       why: MOUNT_POINT },
    Explained { fixture: None, path: "etc/resolv.conf",                 what: &[ONLY_THEIRS],       why: MOUNT_POINT },
    Explained { fixture: None, path: "var/log/journal",                 what: &["xattrs"],          why: "systemd gives it an ACL, which buildah leaves out" },
    Explained { fixture: Some("distroless"), path: "www",               what: &["mode"],            why: MODE },
    Explained { fixture: Some("matrix"), path: "opt",                   what: &["owner"],           why: OWNER },
    Explained { fixture: Some("matrix"), path: "opt/app",               what: &["owner"],           why: OWNER },
    Explained { fixture: Some("matrix"), path: "opt/app/doc",           what: &["mode"],            why: MODE },
    Explained { fixture: Some("secrets"), path: "home/app",             what: &[ONLY_THEIRS],       why: MOUNT_POINT },
    Explained { fixture: Some("secrets"), path: "root/.config",         what: &[ONLY_THEIRS],       why: MOUNT_POINT },
    Explained { fixture: Some("secrets"), path: "run/secrets",          what: &[ONLY_THEIRS],       why: MOUNT_POINT },
];

/// Fields of an image's config in which two images may differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExplainedField {
    /// The fixture; `None` stands for all.
    pub(super) fixture: Option<&'static str>,
    /// Name of the field, as `chrootvm image inspect --json` prints it.
    pub(super) field: &'static str,
    /// The reason.
    pub(super) why: &'static str,
}

pub(super) const EXPLAINED_FIELDS: &[ExplainedField] = &[];
