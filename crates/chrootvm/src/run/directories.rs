//! Options for directories and disks of the host: which ones the guest sees, and where.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueHint;
use clap::builder::{OsStringValueParser, TypedValueParser};
use files::lookup::Files;
use files::root_dir::RootDir;
use machine::plan::disks::Disk;
use machine::plan::shares::{Access, MountPoint, ROOT_TAG, Share};
use machine::plan::virtiofsd::CacheMode;
use machine::root::disk_files;
use machine::root::kinds::{self, Root};
use proto::tag::Tag;

use super::additions::Additions;
use crate::line::named::named;
use crate::line::sizes::{OverlaySize, parse_overlay};
use crate::line::values::{Volume, parse_volume};

/// Directories and disks of the host in the guest
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Directories")]
pub(super) struct Directories {
    /// Let the guest write to ROOTFS
    ///
    /// An image must hold a file system that can be written to, such as ext4.
    #[arg(long, conflicts_with = "overlay")]
    rw: bool,
    /// Let the guest write to memory instead, at most SIZE (512M, 50%); what it writes is forgotten
    /// at the end [default: half of the memory]
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true,
          default_missing_value = "", value_parser = parse_overlay)]
    overlay: Option<OverlaySize>,
    /// Share the directory or file HOST at the path GUEST, read-write unless :ro follows;
    /// repeatable
    ///
    /// GUEST must exist in ROOTFS, unless it is below /run or /tmp, or --overlay is given.
    /// HOST:GUEST:rw is the same as HOST:GUEST.
    #[arg(short, long = "volume", value_name = "HOST:GUEST[:ro]")]
    volumes: Vec<OsString>,
    /// Attach the image or block device FILE as one more disk, read-write unless :ro follows;
    /// repeatable
    ///
    /// The first one is /dev/vdb, or /dev/vda if ROOTFS is no disk.
    #[arg(long, value_name = "FILE[:ro]")]
    data: Vec<OsString>,
    /// Mount the directory PATH at /run/mnt/TAG, read-write; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"], value_parser = mount_words())]
    mount: Vec<OsString>,
    /// The same as --mount, but read-only; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"], value_parser = mount_words())]
    mount_ro: Vec<OsString>,
    /// What the guest may cache of all shared directories [default: virtiofsd's own, auto]
    ///
    /// With always, the host must not change the directories meanwhile. QEMU's own virtiofsd does
    /// not know metadata.
    #[arg(long, value_parser = named::<CacheMode>(), value_name = "MODE")]
    pub(super) cache: Option<CacheMode>,
    /// The program virtiofsd to run [default: the installed one]
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub(super) virtiofsd: Option<PathBuf>,
}

/// Parser of TAG and PATH. It refuses podman's `type=bind,source=…`, or else ROOTFS would become
/// the PATH.
fn mount_words() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|word| match word.as_bytes().starts_with(b"type=") {
        true => Err("not a TAG"),
        false => Ok(word),
    })
}

/// Directories and disks of the host that the guest gets.
#[derive(Debug)]
pub(super) struct Attachments {
    /// Shared directories. If the root is shared, it comes first.
    pub(super) shares: Vec<Share>,
    /// Disks. If the root is a disk, it comes first.
    pub(super) disks: Vec<Disk>,
}

impl Directories {
    /// Size of the overlay, if the root has one.
    pub(super) fn overlay(&self) -> Option<OverlaySize> {
        self.overlay
    }

    /// Whether the guest may write to ROOTFS itself.
    pub(super) fn is_writable(&self) -> bool {
        self.rw
    }

    /// Lets the guest write to memory, as `--overlay` does, if the user has not said so.
    pub(super) fn write_to_memory(&mut self) {
        self.overlay = self.overlay.or(Some(OverlaySize::Default));
    }

    /// Whether `word` would be the size of `--overlay`, which is given without one.
    pub(super) fn is_overlay_size(&self, word: &OsStr) -> bool {
        let has_no_size = self.overlay == Some(OverlaySize::Default);
        let is_size = |word| parse_overlay(word).is_ok_and(|size| size != OverlaySize::Default);
        has_no_size && word.to_str().is_some_and(is_size)
    }

    /// Whether the guest may write to the root.
    pub(super) fn root_access(&self) -> Access {
        if self.rw { Access::ReadWrite } else { Access::ReadOnly }
    }

    /// Opens everything that the guest gets: `root`, directories and disks.
    ///
    /// # Errors
    /// A tag is given twice, a shared path is not a directory, or a file cannot be a disk.
    pub(super) fn attachments(&self, root: &Root) -> Result<Attachments> {
        Ok(Attachments { shares: self.shares(root)?, disks: self.disks(root)? })
    }

    /// The disk that holds `root`, if one does, and those of `--data`.
    fn disks(&self, root: &Root) -> Result<Vec<Disk>> {
        let data = self.data.iter().map(|text| disk_files::parse(text).map(Some));
        let disks = [root.disk(self.root_access())].into_iter().chain(data);
        disks.filter_map(Result::transpose).collect()
    }

    /// Shares for `root`, for the tags and for the volumes in the order of their mounts.
    fn shares(&self, root: &Root) -> Result<Vec<Share>> {
        let mut shares = Vec::from_iter(root.is_directory().then(|| Share {
            tag: ROOT_TAG.into(),
            source: root.path().to_path_buf(),
            access: self.root_access(),
            mount_point: MountPoint::Root,
        }));
        let extra = [(&self.mount, Access::ReadWrite), (&self.mount_ro, Access::ReadOnly)];
        for (pairs, access) in extra {
            for pair in pairs.chunks_exact(2) {
                let tag = pair[0].to_str().context("a virtiofs tag must be UTF-8")?.to_owned();
                Tag::parse(tag.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
                ensure!(
                    tag != ROOT_TAG && shares.iter().all(|share| share.tag != tag),
                    "virtiofs tag \"{tag}\" is taken: tags are unique, and \"{ROOT_TAG}\" is ROOTFS"
                );
                let source = RootDir::open(Path::new(&pair[1]))?.path().to_path_buf();
                shares.push(Share { tag, source, access, mount_point: MountPoint::Tag });
            }
        }
        for text in &self.volumes {
            let context = || format!("--volume {}", text.display());
            let Volume { source, target, access } =
                parse_volume(text).map_err(anyhow::Error::msg).with_context(context)?;
            let (source, mount_point) = open(&source, target).with_context(context)?;
            let tag = free_tag(&shares);
            shares.push(Share { tag, source, access, mount_point });
        }
        // `/init` mounts the files last, and a file may lie in a directory that is a volume.
        shares.sort_by_key(|share| share.file().is_some());
        Ok(shares)
    }
}

impl Attachments {
    /// Parts that the attachments add to the run.
    pub(super) fn additions(&self) -> Additions {
        let module = (!self.disks.is_empty()).then(|| "virtio_blk".to_owned());
        Additions {
            records: self.shares.iter().filter_map(Share::record).collect(),
            modules: Vec::from_iter(module),
            ..Additions::default()
        }
    }
}

/// The canonical path of a volume's source, and its mount point at `target`.
///
/// # Errors
/// The source is neither a directory nor a regular file.
fn open(source: &Path, target: OsString) -> Result<(PathBuf, MountPoint)> {
    let metadata = source.metadata().with_context(|| format!("open {}", source.display()))?;
    if metadata.is_dir() {
        let dir = RootDir::open(source)?;
        return Ok((dir.path().to_path_buf(), MountPoint::Volume(target)));
    }
    let noun = kinds::special(metadata.file_type()).unwrap_or("block device");
    ensure!(
        metadata.is_file(),
        "{} is a {noun}; a volume is a directory or a regular file",
        source.display()
    );
    let path = source.canonicalize().with_context(|| format!("open {}", source.display()))?;
    Ok((path, MountPoint::File(target)))
}

/// A tag for a volume; no share has this tag yet. Users never see it, because they know a
/// volume by its path.
fn free_tag(shares: &[Share]) -> String {
    let mut number = 0;
    loop {
        let tag = format!("volume{number}");
        if shares.iter().all(|share| share.tag != tag) {
            return tag;
        }
        number += 1;
    }
}
