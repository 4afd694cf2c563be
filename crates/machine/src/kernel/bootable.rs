//! The kernel file that QEMU loads: the image as it is, or the kernel unpacked from it.
//!
//! QEMU loads a bzImage, a vmlinux that has a PVH entry, or an Image of arm64. A kernel in another form (compressed,
//! in a UKI or in an EFI zboot image) is unpacked first; see [`vmlinux`](super::vmlinux).

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use files::memory::memory_file;

use super::located::{CommandPath, Located};
use super::vmlinux::cache::{Vmlinux, VmlinuxCache};
use super::vmlinux::pvh::{self, Pvh};
use super::vmlinux::{form, wrapper};

/// Kernel that QEMU can load.
#[derive(Debug)]
pub struct Bootable {
    /// The kernel, open for reading.
    pub file: File,
    /// Name by which a command can boot this kernel.
    pub named: KernelName,
    /// Name of its architecture (`uname -m`).
    pub arch: &'static str,
}

/// Name of a kernel for a command that boots it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelName {
    /// The kernel image itself.
    Image,
    /// This file in the cache, which was unpacked from the image.
    Cached(PathBuf),
    /// No name: the unpacked kernel is only in memory, and QEMU cannot load the image.
    Nameless,
}

impl Located {
    /// Opens the kernel image that QEMU loads. With [`Pvh::Auto`] that is the vmlinux in
    /// the image, if there is one with a PVH entry.
    ///
    /// # Errors
    /// The file is not a kernel that a machine here boots.
    pub fn bootable(&self, pvh: Pvh) -> Result<Bootable> {
        let image = self.kernel()?;
        let found = match pvh {
            Pvh::Auto => pvh::find(&image.file, VmlinuxCache::of_user().as_ref()),
            Pvh::Never => Ok(None),
        };
        let found = found.unwrap_or_else(|error| {
            log::warn!(
                "kernel {} is booted as it is, as with --pvh never: {error:#}",
                self.host_path().display()
            );
            None
        });
        match found {
            None => Ok(image),
            Some(vmlinux) => Bootable::new(vmlinux, image.named),
        }
    }

    /// Opens a kernel that QEMU can load. If the kernel is compressed or inside another
    /// file, it is unpacked.
    ///
    /// # Errors
    /// The file is not a kernel that a machine here boots.
    pub fn kernel(&self) -> Result<Bootable> {
        let file = self.open()?;
        let unpack = || {
            let form = form::of_file(&file)?;
            if let Some(arch) = form.architecture() {
                return Ok(Bootable { file, named: KernelName::Image, arch });
            }
            let kernel = wrapper::find(&file, form, VmlinuxCache::of_user().as_ref())?;
            Bootable::new(kernel, KernelName::Nameless)
        };
        unpack().with_context(|| format!("kernel {}", self.host_path().display()))
    }

    /// Opens the kernel image for reading.
    fn open(&self) -> Result<File> {
        let path = self.host_path();
        ensure!(
            !self.root.is_dir(&self.path),
            "kernel {}: it is a directory, not a kernel",
            path.display()
        );
        let file = self.root.file(&self.path);
        file.with_context(|| format!("open kernel {}", path.display()))
    }
}

impl Bootable {
    /// Wraps the unpacked `kernel`. If it is not in the cache, a command names it as `otherwise`
    /// says.
    fn new(kernel: Vmlinux, otherwise: KernelName) -> Result<Self> {
        let (file, named) = match kernel {
            Vmlinux::Cached { file, path } => (file, KernelName::Cached(path)),
            Vmlinux::InMemory(bytes) => (memory_file(&bytes)?, otherwise),
        };
        let arch = form::of_file(&file)?.architecture().context("it is not unpacked")?;
        Ok(Self { file, named, arch })
    }

    /// The path of this kernel for a command; `image` is the image that it came from.
    ///
    /// # Errors
    /// The kernel is only in memory.
    pub fn place(&self, image: &Located) -> Result<CommandPath> {
        match &self.named {
            KernelName::Image => image.place(),
            KernelName::Cached(path) => Ok(CommandPath { image: None, path: path.clone() }),
            KernelName::Nameless => bail!(
                "no command can name kernel {}: it has to be unpacked, and there is no cache to \
                 keep it in; set HOME or XDG_CACHE_HOME, or unpack it",
                image.host_path().display()
            ),
        }
    }
}
