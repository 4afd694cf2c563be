//! The kernel file that QEMU loads: the image as it is, or the kernel unpacked from it.
//!
//! QEMU loads the forms that have an architecture ([`form`]). A kernel in another form (compressed,
//! in a UKI or in an EFI zboot image) is unpacked first; see [`vmlinux`](super::vmlinux).
//!
//! Invariant: a [`KernelImage`] is opened once, whoever asks for its architecture, its version or
//! the kernel. Without a cache, opening unpacks it.

use std::cell::OnceCell;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use files::memory::memory_file;

use super::located::{CommandPath, Located};
use super::vmlinux::cache::{Vmlinux, VmlinuxCache};
use super::vmlinux::pvh::{self, Pvh};
use super::vmlinux::{form, wrapper};

/// Kernel image that was found for a machine. The first who asks for its contents opens it.
#[derive(Debug)]
pub struct KernelImage {
    /// Place of the image.
    pub located: Located,
    /// The kernel, if the image was opened.
    opened: OnceCell<Bootable>,
}

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

impl KernelImage {
    /// The image at this place.
    #[must_use]
    pub fn new(located: Located) -> Self {
        Self { located, opened: OnceCell::new() }
    }

    /// The image at this place, whose kernel is open already.
    #[must_use]
    pub fn opened(located: Located, kernel: Bootable) -> Self {
        Self { located, opened: kernel.into() }
    }

    /// The path on the host, for messages; links are not resolved.
    #[must_use]
    pub fn host_path(&self) -> PathBuf {
        self.located.host_path()
    }

    /// Takes the kernel that QEMU loads. With [`Pvh::Auto`] that is the vmlinux in the image, if
    /// there is one with a PVH entry. Whoever asks later opens the image again.
    ///
    /// # Errors
    /// The file is not a kernel that a machine here boots.
    pub fn bootable(&mut self, pvh: Pvh) -> Result<Bootable> {
        let image = match self.opened.take() {
            Some(image) => image,
            None => self.open()?,
        };
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

    /// The kernel in the image. If it is compressed or inside another file, it is unpacked.
    ///
    /// # Errors
    /// The file is not a kernel that a machine here boots.
    pub fn kernel(&self) -> Result<&Bootable> {
        if let Some(kernel) = self.opened.get() {
            return Ok(kernel);
        }
        let kernel = self.open()?;
        Ok(self.opened.get_or_init(|| kernel))
    }

    /// Opens the image, and unpacks the kernel.
    fn open(&self) -> Result<Bootable> {
        let file = self.file()?;
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

    /// Opens the image for reading.
    fn file(&self) -> Result<File> {
        let path = self.host_path();
        let Located { root, path: inside } = &self.located;
        ensure!(!root.is_dir(inside), "kernel {}: it is a directory, not a kernel", path.display());
        let file = root.file(inside);
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

#[cfg(test)]
mod tests {
    use super::super::find::version;
    use super::super::vmlinux::samples;
    use super::*;
    use files::root_dir::RootDir;
    use std::rc::Rc;

    /// The file is removed after the first use: later ones have to do with the open kernel.
    #[test]
    fn an_image_is_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        for name in ["kernel", "version"] {
            std::fs::write(&path, samples::bzimage_of_version("6.1-a")).unwrap();
            let root = Rc::new(RootDir::open(dir.path()).unwrap());
            let mut image = KernelImage::new(Located { root, path: "kernel".into() });
            match name {
                "kernel" => assert!(image.kernel().is_ok()),
                _ => assert!(version(&image).is_ok()),
            }
            std::fs::remove_file(&path).unwrap();
            assert_eq!(image.kernel().unwrap().arch, "x86_64", "{name}");
            assert_eq!(version(&image).unwrap().as_deref(), Some("6.1-a"), "{name}");
            assert_eq!(image.bootable(Pvh::Never).unwrap().named, KernelName::Image, "{name}");
            let error = format!("{:#}", image.kernel().unwrap_err());
            assert!(error.starts_with("open kernel "), "{name}: {error}");
        }
    }
}
