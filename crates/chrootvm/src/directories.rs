//! Which directories of the host the guest sees, and where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use files::lookup::Files;
use files::root_dir::RootDir;
use machine::plan::disks::Disk;
use machine::plan::options::{Volume, parse_overlay, parse_volume};
use machine::plan::shares::{Access, MountPoint, ROOT_TAG, Share};
use machine::plan::virtiofsd::CacheMode;
use machine::root::disk_files;
use machine::root::kinds::Root;
use virtinitrd_proto::settings::{Record, Volume as VolumeRecord};
use virtinitrd_proto::tag::Tag;

use crate::named::named;

/// What the guest sees of the host
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Directories")]
pub struct Directories {
    /// Let the guest write to ROOTFS
    #[arg(long, conflicts_with = "overlay")]
    rw: bool,
    /// Let the guest write to / in memory, which is forgotten at the end; SIZE as 512m or 50%
    /// [default: 50%]
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true,
          default_missing_value = "", value_parser = parse_overlay)]
    overlay: Option<String>,
    /// Share the directory HOST at the path GUEST, read-write without :ro; repeatable
    #[arg(short, long = "volume", value_name = "HOST:GUEST[:ro]")]
    volumes: Vec<OsString>,
    /// Attach the image or block device FILE as a disk, read-write without :ro; repeatable
    #[arg(long, value_name = "FILE[:ro]")]
    data: Vec<OsString>,
    /// Mount the directory PATH at /run/mnt/TAG, read-write; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"])]
    mount: Vec<OsString>,
    /// Mount the directory PATH at /run/mnt/TAG, read-only; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"])]
    mount_ro: Vec<OsString>,
    /// What the guest may cache of all directories [default: virtiofsd's, auto]
    #[arg(long, value_parser = named::<CacheMode>(), value_name = "MODE")]
    pub cache: Option<CacheMode>,
    /// The virtiofsd to run [default: the installed one]
    #[arg(long, value_name = "FILE")]
    pub virtiofsd: Option<PathBuf>,
}

/// What virtiofsd exports, and what the guest has to be told of it.
#[derive(Debug)]
pub struct Shares {
    /// The root, where it is one, first.
    pub shares: Vec<Share>,
    /// Records of [`virtinitrd_proto::settings`].
    pub records: Vec<Vec<u8>>,
}

impl Directories {
    /// The size of the overlay, where there is one; empty for tmpfs's default.
    #[must_use]
    pub fn overlay(&self) -> Option<&str> {
        self.overlay.as_deref()
    }

    /// What the guest may do with the root.
    #[must_use]
    pub fn root_access(&self) -> Access {
        if self.rw { Access::ReadWrite } else { Access::ReadOnly }
    }

    /// The disk that holds `root`, where one does, and those of `--data`.
    pub fn disks(&self, root: &Root) -> Result<Vec<Disk>> {
        let data = self.data.iter().map(|text| disk_files::parse(text).map(Some));
        let disks = [root.disk(self.root_access())].into_iter().chain(data);
        disks.filter_map(Result::transpose).collect()
    }

    /// All that is shared: `root`, the tags, the volumes, each as given.
    ///
    /// # Errors
    /// A tag given twice; what is no directory.
    pub fn shares(&self, root: &Root) -> Result<Shares> {
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
        let mut records = Vec::new();
        for text in &self.volumes {
            let context = || format!("--volume {}", text.display());
            let Volume { source, target, access } =
                parse_volume(text).map_err(anyhow::Error::msg).with_context(context)?;
            let source = RootDir::open(&source).with_context(context)?.path().to_path_buf();
            let tag = free_tag(&shares);
            let (name, path) = (tag.as_bytes(), target.as_bytes());
            records.push(Record::Volume(VolumeRecord { tag: name, access, path }).to_bytes());
            shares.push(Share { tag, source, access, mount_point: MountPoint::Volume });
        }
        Ok(Shares { shares, records })
    }
}

/// A tag for a volume, whose name nobody sees.
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
