//! The files that a machine boots from: kernel, modules, initrd.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};

use super::handover::memory_file;
use super::kernel;
use crate::pack::Choice;
use crate::rootdir::RootDir;
use crate::vmlinux::cache::Cache;
use crate::vmlinux::{self, Pvh, Vmlinux};
use crate::{pack, workspace};

/// Bytes of an image in which its version is found.
const IMAGE_HEAD: u64 = 64 << 10;

/// A kernel image or its modules, named as seen from a root.
#[derive(Clone, Debug)]
pub struct Located {
    /// The root.
    pub root: Rc<RootDir>,
    /// The path in it.
    pub path: PathBuf,
}

impl Located {
    /// Opens a kernel image.
    pub fn open(&self) -> Result<File> {
        let file = self.root.file(&self.path);
        file.with_context(|| format!("open kernel {}", self.root.host_path(&self.path).display()))
    }

    /// Opens what QEMU is to load: by PVH the vmlinux in a kernel image, or else
    /// the image.
    pub fn bootable(&self, pvh: Pvh, quiet: bool) -> Result<Bootable> {
        let image = self.open()?;
        let found = match pvh {
            Pvh::Auto => vmlinux::find(&image, Cache::of_user().as_ref()),
            Pvh::Never => Ok(None),
        };
        let found = found.unwrap_or_else(|error| {
            if !quiet {
                let path = self.root.host_path(&self.path);
                eprintln!(
                    "warning: kernel {} is booted as it is, as with --pvh never: {error:#}",
                    path.display()
                );
            }
            None
        });
        Ok(match found {
            None => Bootable { file: image, kept: None },
            Some(Vmlinux::Kept { file, path }) => Bootable { file, kept: Some(path) },
            Some(Vmlinux::Unpacked(bytes)) => {
                Bootable { file: memory_file(&bytes)?.into(), kept: None }
            }
        })
    }

    /// Its path outside of the root, links resolved.
    pub fn resolve(&self) -> Result<PathBuf> {
        let path = self.root.resolve(&self.path);
        path.with_context(|| format!("find {}", self.root.host_path(&self.path).display()))
    }
}

/// What QEMU loads.
#[derive(Debug)]
pub struct Bootable {
    /// Opened.
    pub file: File,
    /// The path of a vmlinux that is kept.
    pub kept: Option<PathBuf>,
}

/// Where the machine's initrd comes from.
#[derive(Debug)]
pub enum Initrd {
    /// As it is.
    File(PathBuf),
    /// Packed for the kernel.
    Packed(Contents),
}

/// What is packed.
#[derive(Debug)]
pub struct Contents {
    /// The `/init` binary.
    pub init: PathBuf,
    /// Where the kernel has modules.
    pub modules: Option<Located>,
    /// Which of them, and how.
    pub choice: Choice,
}

impl Initrd {
    /// The archive, with the guest's settings as its last segment.
    pub fn bytes(&self, records: &[Vec<u8>]) -> Result<Vec<u8>> {
        let initrd = match self {
            Initrd::File(file) => {
                std::fs::read(file).with_context(|| format!("read initrd {}", file.display()))?
            }
            Initrd::Packed(Contents { init, modules, choice }) => {
                let modules = modules.as_ref().map(|found| (&*found.root, found.path.as_path()));
                pack::initrd(pack::read_init(init)?, modules, choice)?
            }
        };
        pack::with_settings(initrd, records)
    }
}

impl Initrd {
    /// The command that writes what [`Initrd::bytes`] gives to `output`.
    pub fn command(
        &self,
        xtask: &Path,
        records: &[Vec<u8>],
        output: &str,
    ) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = vec![xtask.into(), "pack".into()];
        match self {
            Initrd::File(file) => words.extend(["--initrd".into(), file.into()]),
            Initrd::Packed(Contents { init, modules, choice }) => {
                words.extend(["--init".into(), init.into()]);
                if let Some(dir) = modules {
                    words.extend(["--modules-dir".into(), dir.resolve()?.into()]);
                    words.extend(choice.words().into_iter().map(OsString::from));
                }
            }
        }
        for record in records {
            words.extend(["--record".into(), OsString::from_vec(record.clone())]);
        }
        words.extend(["-o".into(), output.into()]);
        Ok(words)
    }
}

/// The kernel's image and modules. A kernel given without modules takes those
/// that the root has of its version; where there are none, it has to have
/// virtiofs built in.
pub fn find_kernel(
    root: &Rc<RootDir>,
    kernel: Option<&Path>,
    modules: Option<&Path>,
) -> Result<(Located, Option<Located>)> {
    let host = Rc::new(RootDir::open(Path::new("/"))?);
    let (image, found) = match kernel {
        Some(file) => {
            let image = Located { root: host.clone(), path: canonical(file)? };
            let mut head = Vec::new();
            image.open()?.take(IMAGE_HEAD).read_to_end(&mut head)?;
            let modules =
                kernel::image_version(&head).and_then(|version| kernel::modules_of(root, &version));
            (image, modules)
        }
        None => {
            let found = kernel::find(root)?;
            (Located { root: root.clone(), path: found.image }, Some(found.modules))
        }
    };
    let modules = match (modules, found) {
        (Some(dir), _) => Some(Located { root: host, path: canonical(dir)? }),
        (None, Some(dir)) => Some(Located { root: root.clone(), path: dir }),
        (None, None) => None,
    };
    Ok((image, modules))
}

/// The `/init` binary: the one given, or this tree's.
pub fn find_init(given: Option<&Path>) -> Result<PathBuf> {
    let init = match given {
        Some(file) => file.to_path_buf(),
        None => workspace::init_path(&workspace::root()?),
    };
    ensure!(init.is_file(), "{} is missing: run `make` to build it", init.display());
    canonical(&init)
}

/// `path` from the root directory, links resolved.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}
