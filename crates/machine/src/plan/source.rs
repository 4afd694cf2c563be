//! What ROOTFS is, and what follows from it for the machine: a directory is
//! shared, a file system image is a disk, an archive is the initramfs.
//!
//! The words for the guest are those that `init::root_words` reads.

use std::cell::OnceCell;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use files::lookup::Files;
use files::notes::Notes;
use files::root_dir::RootDir;
use image::format::{self, Format};
use image::source;
use image::tree::root::ImageRoot;
use nix::fcntl::OFlag;
use virtinitrd_proto::words::Words;

use super::disks::{Disk, FIRST};
use crate::host::canonical;
use crate::plan::Access;

/// File systems that nobody can write to.
const READ_ONLY: &[&str] = &["erofs", "squashfs"];

/// A root file system of the host.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    kind: Kind,
    files: OnceCell<Rc<dyn Files>>,
}

/// What a root file system is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    /// An image of a file system of this type, as the kernel calls it.
    Disk(&'static str),
    /// An image with a partition table.
    Partitions,
    /// A newc archive, compressed or not.
    Archive,
}

impl Source {
    /// Looks at what `path` is, whatever its name says.
    pub fn open(path: &Path) -> Result<Self> {
        let path = canonical(path)?;
        let shown = path.display();
        let kind = if path.is_dir() {
            Kind::Directory
        } else {
            let file = open(&path)?;
            let format = format::recognise(&file).with_context(|| format!("read {shown}"))?;
            match (format, format.file_system()) {
                (_, Some(kind)) => Kind::Disk(kind),
                (Format::PartitionTable, _) => Kind::Partitions,
                (Format::Cpio(_), _) => Kind::Archive,
                _ => bail!(
                    "{shown} ({format}) is nothing that a kernel mounts or unpacks; make an image \
                     of it: chrootvm image build {shown} -o NAME.erofs"
                ),
            }
        };
        Ok(Self { path, kind, files: OnceCell::new() })
    }

    /// Its canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is shared by virtiofs.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The archive, where it is one.
    #[must_use]
    pub fn archive(&self) -> Option<&Path> {
        (self.kind == Kind::Archive).then_some(&self.path)
    }

    /// What is in it.
    ///
    /// # Errors
    /// A file system that only the guest's kernel can read.
    pub fn files(&self) -> Result<Rc<dyn Files>> {
        if let Some(files) = self.files.get() {
            return Ok(Rc::clone(files));
        }
        let files: Rc<dyn Files> = match self.kind {
            Kind::Directory => Rc::new(RootDir::open(&self.path)?),
            _ => {
                let read = source::open(
                    &self.path,
                    &source::ReadOptions::default(),
                    &mut Notes::default(),
                )?;
                Rc::new(ImageRoot::new(self.path.clone(), read.tree))
            }
        };
        Ok(Rc::clone(self.files.get_or_init(|| files)))
    }

    /// The disk that holds it, where one does.
    ///
    /// # Errors
    /// What cannot be written to, but should be.
    pub fn disk(&self, access: Access) -> Result<Option<Disk>> {
        let is_writable = match self.kind {
            Kind::Directory | Kind::Partitions => true,
            Kind::Disk(kind) => !READ_ONLY.contains(&kind),
            Kind::Archive => false,
        };
        ensure!(
            is_writable || access == Access::ReadOnly,
            "--rw: what is written to {} could not be kept; use --overlay",
            self.path.display()
        );
        Ok(match self.kind {
            Kind::Directory | Kind::Archive => None,
            Kind::Disk(_) | Kind::Partitions => Some(Disk::new(self.path.clone(), access)),
        })
    }

    /// What the kernel command line says of it; `overlay` as in
    /// [`super::cmdline::CommandLine`], `append` the user's own words.
    ///
    /// # Errors
    /// A disk of which one partition has to be named.
    pub fn words(
        &self,
        access: Access,
        overlay: Option<&str>,
        append: &[u8],
    ) -> Result<Vec<String>> {
        let mut words = match self.kind {
            Kind::Directory => Vec::new(),
            Kind::Disk(kind) => vec![format!("root={FIRST}"), format!("rootfstype={kind}")],
            Kind::Partitions => {
                ensure!(
                    Words::new(append).any(|word| word.param == b"root" && word.value.is_some()),
                    "{} has partitions: name the one that is the root, and the module of its file \
                     system, as in --append root={FIRST}1 --module ext4",
                    self.path.display()
                );
                Vec::new()
            }
            Kind::Archive => vec!["root=initramfs".into()],
        };
        words.extend(match (overlay, access) {
            (None, Access::ReadWrite) => Some("rw".into()),
            (None, Access::ReadOnly) => self.archive().map(|_| "ro".into()),
            (Some(size), _) => self.layer(size).map(|size| match size {
                "" => "virtinit.overlay".into(),
                size => format!("virtinit.overlay={size}"),
            }),
        });
        Ok(words)
    }

    /// The size of the layer that an overlay of `size` takes: none over an archive,
    /// which is in memory anyway, unless it is to be limited.
    fn layer<'a>(&self, size: &'a str) -> Option<&'a str> {
        (self.archive().is_none() || !size.is_empty()).then_some(size)
    }

    /// Modules that mounting it takes, built in or not; `overlay` as in
    /// [`Source::words`].
    #[must_use]
    pub fn modules(&self, overlay: Option<&str>) -> Vec<&'static str> {
        let kind = match self.kind {
            Kind::Disk(kind) => Some(kind),
            Kind::Directory | Kind::Archive | Kind::Partitions => None,
        };
        let layer = overlay.and_then(|size| self.layer(size)).map(|_| "overlay");
        kind.into_iter().chain(layer).collect()
    }
}

/// Opens an image, but no FIFO, socket or character device: a FIFO blocks until
/// somebody writes to it, and a device may do anything.
fn open(path: &Path) -> Result<File> {
    let shown = path.display();
    let check = |found: &Metadata| {
        let kind = found.file_type();
        let other = [
            (kind.is_fifo(), "FIFO"),
            (kind.is_socket(), "socket"),
            (kind.is_char_device(), "character device"),
        ];
        match other.into_iter().find(|(is_it, _)| *is_it) {
            Some((_, what)) => bail!(
                "{shown} is a {what}; ROOTFS is a directory, an image, an archive or a block device"
            ),
            None => Ok(()),
        }
    };
    check(&path.metadata().with_context(|| format!("find {shown}"))?)?;
    // Meanwhile another file may have taken the path.
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).with_context(|| format!("open {shown}"))?;
    check(&file.metadata().with_context(|| format!("find {shown}"))?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{ReadOnly, ReadWrite};

    fn source(kind: Kind) -> Source {
        Source { path: "/x".into(), kind, files: OnceCell::new() }
    }

    #[test]
    fn the_guest_is_told_what_and_how_the_root_is() {
        let (erofs, ext4) = (Kind::Disk("erofs"), Kind::Disk("ext4"));
        for (kind, access, overlay, words, modules) in [
            (Kind::Directory, ReadOnly, None, "", &[][..]),
            (Kind::Directory, ReadWrite, None, "rw", &[]),
            (Kind::Directory, ReadOnly, Some(""), "virtinit.overlay", &["overlay"]),
            (erofs, ReadOnly, None, "root=/dev/vda rootfstype=erofs", &["erofs"]),
            (
                ext4,
                ReadOnly,
                Some("1g"),
                "root=/dev/vda rootfstype=ext4 virtinit.overlay=1g",
                &["ext4", "overlay"],
            ),
            (ext4, ReadWrite, None, "root=/dev/vda rootfstype=ext4 rw", &["ext4"]),
            (Kind::Archive, ReadOnly, None, "root=initramfs ro", &[]),
            (Kind::Archive, ReadOnly, Some(""), "root=initramfs", &[]),
            (
                Kind::Archive,
                ReadOnly,
                Some("5%"),
                "root=initramfs virtinit.overlay=5%",
                &["overlay"],
            ),
            (Kind::Partitions, ReadWrite, None, "rw", &[]),
        ] {
            let root = source(kind);
            let found = root.words(access, overlay, b"quiet root=/dev/vda1").unwrap();
            assert_eq!(found.join(" "), words, "{kind:?}");
            assert_eq!(root.modules(overlay), modules, "{kind:?}");
        }
    }

    #[test]
    fn what_blocks_or_acts_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("fifo", path("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (path, what) in [
            (path("fifo"), "is a FIFO"),
            (path("link"), "is a FIFO"),
            (path("socket"), "is a socket"),
            ("/dev/null".into(), "is a character device"),
        ] {
            let error = Source::open(&path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_partition_has_to_be_named() {
        let error = source(Kind::Partitions).words(ReadOnly, None, b"xroot=1 root").unwrap_err();
        assert!(error.to_string().contains("--append root=/dev/vda1"), "{error}");
    }

    #[test]
    fn only_what_can_be_kept_is_written() {
        for (kind, is_disk, is_writable) in [
            (Kind::Directory, false, true),
            (Kind::Disk("ext4"), true, true),
            (Kind::Disk("squashfs"), true, false),
            (Kind::Partitions, true, true),
            (Kind::Archive, false, false),
        ] {
            let root = source(kind);
            assert_eq!(root.disk(ReadOnly).unwrap().is_some(), is_disk, "{kind:?}");
            assert_eq!(root.disk(ReadWrite).is_ok(), is_writable, "{kind:?}");
        }
    }
}
