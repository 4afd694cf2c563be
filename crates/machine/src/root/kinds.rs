//! Kinds of root file systems: ROOTFS is a directory, an image of a file system, an image
//! with partitions, or an archive.
//!
//! The kind decides how the machine gets the root: a directory as a virtiofs share, an
//! image as a disk, an archive as a part of the initramfs. A new kind is one more variant
//! of `RootKind`; the compiler then names every place that must know it, all in this file.
//! The guest reads the parameters that [`Root::parameters`] makes (`root=`,
//! `rootfstype=`, `rw`, `ro`, `virtinit.overlay`).

use std::cell::OnceCell;
use std::fs::{File, FileType, Metadata};
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
use proto::words::Words;

use super::disk_files;
use crate::host::canonical_or_open;
use crate::plan::disks::{Disk, FIRST};
use crate::plan::shares::Access;
use crate::plan::transport::Transport;

/// File systems that the kernel only mounts read-only.
const READ_ONLY: &[&str] = &["erofs", "squashfs"];

/// A root file system on the host.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    kind: RootKind,
    /// Contents, once they were read.
    files: OnceCell<RootFiles>,
}

/// Contents of a root file system.
#[derive(Debug)]
struct RootFiles {
    files: Rc<dyn Files>,
    /// Bytes of all files of an image; 0 for a directory.
    size: u64,
}

/// Kind of file that holds a root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootKind {
    /// A directory.
    Directory,
    /// An image of one file system, with the kernel's name of its type.
    Disk(&'static str),
    /// An image with a partition table.
    Partitions,
    /// A newc archive, which may be compressed.
    Archive,
}

impl Root {
    /// Opens `path` and detects the kind of root by its contents, not by its name.
    ///
    /// # Errors
    /// The file is nothing that a kernel can mount or unpack.
    pub fn open(path: &Path) -> Result<Self> {
        let path = canonical_or_open(path)?;
        let shown = path.display();
        let kind = if path.is_dir() {
            RootKind::Directory
        } else {
            let file = open(&path)?;
            let format = format::recognise(&file).with_context(|| format!("read {shown}"))?;
            match (format, format.file_system()) {
                (_, Some(kind)) => RootKind::Disk(kind),
                (Format::PartitionTable, _) => RootKind::Partitions,
                (Format::Cpio(_), _) => RootKind::Archive,
                _ => bail!(
                    "{shown} ({format}) is nothing that a kernel mounts or unpacks; make an image \
                     of it: chrootvm image build {shown} -o NAME.erofs"
                ),
            }
        };
        Ok(Self { path, kind, files: OnceCell::new() })
    }

    /// Canonical path of the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the root is a directory, which is exported by virtiofs.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == RootKind::Directory
    }

    /// Path of the root if it is an archive.
    #[must_use]
    pub fn archive(&self) -> Option<&Path> {
        (self.kind == RootKind::Archive).then_some(&self.path)
    }

    /// Contents of the root.
    ///
    /// # Errors
    /// Only the guest's kernel can read this file system.
    pub fn files(&self) -> Result<Rc<dyn Files>> {
        self.contents().map(|contents| Rc::clone(&contents.files))
    }

    /// Bytes of the guest's memory that the root takes: an archive is unpacked there.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let Some(archive) = self.archive() else { return 0 };
        // The guest's kernel reports an archive that cannot be read.
        let unpacked = self.contents().map_or(0, |contents| contents.size);
        unpacked.saturating_add(archive.metadata().map_or(0, |found| found.len()))
    }

    fn contents(&self) -> Result<&RootFiles> {
        if let Some(contents) = self.files.get() {
            return Ok(contents);
        }
        let contents = match self.kind {
            RootKind::Directory => {
                RootFiles { files: Rc::new(RootDir::open(&self.path)?), size: 0 }
            }
            _ => {
                let read = source::open(
                    &self.path,
                    &source::ReadOptions::default(),
                    &mut Notes::default(),
                )?;
                let size = read.tree.size();
                RootFiles { files: Rc::new(ImageRoot::new(self.path.clone(), read.tree)), size }
            }
        };
        Ok(self.files.get_or_init(|| contents))
    }

    /// Contents of the root if they are those of a directory, or were read before.
    #[must_use]
    pub fn files_at_hand(&self) -> Option<Rc<dyn Files>> {
        match self.kind {
            RootKind::Directory => self.files().ok(),
            RootKind::Disk(_) | RootKind::Partitions | RootKind::Archive => {
                self.files.get().map(|contents| Rc::clone(&contents.files))
            }
        }
    }

    /// The disk for the root; `None` if the root is not on a disk.
    ///
    /// # Errors
    /// `access` allows writing, but writes to this kind of root would be lost.
    pub fn disk(&self, access: Access) -> Result<Option<Disk>> {
        let is_writable = match self.kind {
            RootKind::Directory | RootKind::Partitions => true,
            RootKind::Disk(kind) => !READ_ONLY.contains(&kind),
            RootKind::Archive => false,
        };
        ensure!(
            is_writable || access == Access::ReadOnly,
            "--rw: writes to {} could not be kept; use --overlay",
            self.path.display()
        );
        Ok(match self.kind {
            RootKind::Directory | RootKind::Archive => None,
            RootKind::Disk(_) | RootKind::Partitions => {
                Some(disk_files::disk(self.path.clone(), access))
            }
        })
    }

    /// Kernel parameters for this root. `overlay` is the size of an overlay over the root,
    /// or empty for the default size; `append` is the user's part of the command line.
    ///
    /// # Errors
    /// The root has partitions, and the user names none of them.
    pub fn parameters(
        &self,
        access: Access,
        overlay: Option<&str>,
        append: &[u8],
    ) -> Result<Vec<String>> {
        let mut parameters = match self.kind {
            RootKind::Directory => Vec::new(),
            RootKind::Disk(kind) => vec![format!("root={FIRST}"), format!("rootfstype={kind}")],
            RootKind::Partitions => {
                ensure!(
                    Words::new(append).any(|word| word.param == b"root" && word.value.is_some()),
                    "{} has partitions: name the one that is the root, and the module of its file \
                     system, as in --append root={FIRST}1 --module ext4",
                    self.path.display()
                );
                Vec::new()
            }
            RootKind::Archive => vec!["root=initramfs".into()],
        };
        parameters.extend(match (overlay, access) {
            (None, Access::ReadWrite) => Some("rw".into()),
            (None, Access::ReadOnly) => self.archive().map(|_| "ro".into()),
            (Some(size), _) => self.overlay_size(size).map(|size| match size {
                "" => "virtinit.overlay".into(),
                size => format!("virtinit.overlay={size}"),
            }),
        });
        Ok(parameters)
    }

    /// The size of the overlay that the guest makes; `None` if it makes none. An archive
    /// is unpacked into memory and needs an overlay only to limit its size.
    fn overlay_size<'a>(&self, size: &'a str) -> Option<&'a str> {
        (self.archive().is_none() || !size.is_empty()).then_some(size)
    }

    /// Kernel modules that the guest needs to mount the root, also those that may be built
    /// in; `overlay` as in [`Root::parameters`].
    #[must_use]
    pub fn modules(&self, overlay: Option<&str>) -> Vec<&'static str> {
        let kind = match self.kind {
            RootKind::Disk(kind) => Some(kind),
            RootKind::Directory | RootKind::Archive | RootKind::Partitions => None,
        };
        let overlay = overlay.and_then(|size| self.overlay_size(size)).map(|_| "overlay");
        kind.into_iter().chain(overlay).collect()
    }

    /// Kernel modules without which no machine with its devices on the bus `transport` boots from
    /// this root; `overlay` as in [`Root::parameters`].
    #[must_use]
    pub fn needed_modules(&self, transport: Transport, overlay: Option<&str>) -> Vec<&'static str> {
        let device = match self.kind {
            RootKind::Directory => Some("virtiofs"),
            RootKind::Disk(_) | RootKind::Partitions => Some("virtio_blk"),
            RootKind::Archive => None,
        };
        let bus = transport.module().into_iter();
        bus.chain(["virtio_console"]).chain(device).chain(self.modules(overlay)).collect()
    }
}

/// The noun for a file that has no contents of its own, such as `FIFO`; `None` for other files.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    let nouns = [
        (kind.is_fifo(), "FIFO"),
        (kind.is_socket(), "socket"),
        (kind.is_char_device(), "character device"),
    ];
    nouns.into_iter().find(|(is_it, _)| *is_it).map(|(_, noun)| noun)
}

/// Opens an image. Refuses a FIFO, because reading blocks until there is a writer, and a
/// socket or character device, because opening a device may have side effects.
fn open(path: &Path) -> Result<File> {
    let shown = path.display();
    let check = |found: &Metadata| match special(found.file_type()) {
        Some(what) => bail!(
            "{shown} is a {what}; ROOTFS is a directory, an image, an archive or a block device"
        ),
        None => Ok(()),
    };
    check(&path.metadata().with_context(|| format!("find {shown}"))?)?;
    // Another file may have replaced the path since the check, so do not block, and check
    // again.
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

    fn root(kind: RootKind) -> Root {
        Root { path: "/x".into(), kind, files: OnceCell::new() }
    }

    #[test]
    fn parameters_and_modules_follow_from_the_kind_of_root() {
        let (erofs, ext4) = (RootKind::Disk("erofs"), RootKind::Disk("ext4"));
        for (kind, access, overlay, parameters, modules) in [
            (RootKind::Directory, ReadOnly, None, "", &[][..]),
            (RootKind::Directory, ReadWrite, None, "rw", &[]),
            (RootKind::Directory, ReadOnly, Some(""), "virtinit.overlay", &["overlay"]),
            (erofs, ReadOnly, None, "root=/dev/vda rootfstype=erofs", &["erofs"]),
            (
                ext4,
                ReadOnly,
                Some("1g"),
                "root=/dev/vda rootfstype=ext4 virtinit.overlay=1g",
                &["ext4", "overlay"],
            ),
            (ext4, ReadWrite, None, "root=/dev/vda rootfstype=ext4 rw", &["ext4"]),
            (RootKind::Archive, ReadOnly, None, "root=initramfs ro", &[]),
            (RootKind::Archive, ReadOnly, Some(""), "root=initramfs", &[]),
            (
                RootKind::Archive,
                ReadOnly,
                Some("5%"),
                "root=initramfs virtinit.overlay=5%",
                &["overlay"],
            ),
            (RootKind::Partitions, ReadWrite, None, "rw", &[]),
        ] {
            let root = root(kind);
            let found = root.parameters(access, overlay, b"quiet root=/dev/vda1").unwrap();
            assert_eq!(found.join(" "), parameters, "{kind:?}");
            assert_eq!(root.modules(overlay), modules, "{kind:?}");
            let needed = root.needed_modules(Transport::Pci, overlay);
            assert!(needed.ends_with(modules) && needed.starts_with(&["virtio_pci"]), "{kind:?}");
            let on_ccw = root.needed_modules(Transport::Ccw, overlay);
            assert_eq!(on_ccw, needed.get(1..).unwrap_or_default(), "{kind:?}");
            assert_eq!(needed.contains(&"virtiofs"), kind == RootKind::Directory, "{kind:?}");
        }
    }

    #[test]
    fn fifos_sockets_and_character_devices_are_not_opened() {
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
            let error = Root::open(&path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_name_can_be_a_root() {
        let mut file = tempfile::tempfile().unwrap();
        archive::newc::Archive::default().write(&mut file, 0).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let root = Root::open(Path::new(&path)).unwrap();
        assert_eq!((root.kind, root.path()), (RootKind::Archive, Path::new(&path)));
    }

    #[test]
    fn a_root_with_partitions_needs_a_root_parameter() {
        let error =
            root(RootKind::Partitions).parameters(ReadOnly, None, b"xroot=1 root").unwrap_err();
        assert!(error.to_string().contains("--append root=/dev/vda1"), "{error}");
    }

    #[test]
    fn only_roots_that_keep_changes_are_writable() {
        for (kind, is_disk, is_writable) in [
            (RootKind::Directory, false, true),
            (RootKind::Disk("ext4"), true, true),
            (RootKind::Disk("squashfs"), true, false),
            (RootKind::Partitions, true, true),
            (RootKind::Archive, false, false),
        ] {
            let root = root(kind);
            assert_eq!(root.disk(ReadOnly).unwrap().is_some(), is_disk, "{kind:?}");
            assert_eq!(root.disk(ReadWrite).is_ok(), is_writable, "{kind:?}");
        }
    }
}
