//! The files that a machine boots from: kernel, modules, initrd.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use files::lookup::Files;
use files::memory::memory_file;
use files::root_dir::RootDir;

use crate::kernel::installed;
use crate::kernel::modules::dir::ModulesDir;
use crate::kernel::modules::resolve::{Request, load_order};
use crate::kernel::pack;
use crate::kernel::pack::Choice;
use crate::kernel::vmlinux::cache::Cache;
use crate::kernel::vmlinux::{self, Pvh, Vmlinux, form, wrapper};
use crate::plan::source::Source;

/// Bytes of an image in which its version is found.
const IMAGE_HEAD: usize = 64 << 10;

/// A kernel image or its modules, named as seen from a root.
#[derive(Clone, Debug)]
pub struct Located {
    /// The root.
    pub root: Rc<dyn Files>,
    /// The path in it.
    pub path: PathBuf,
}

impl Located {
    /// Opens a kernel image.
    pub fn open(&self) -> Result<File> {
        let path = self.root.host_path(&self.path);
        ensure!(
            !self.root.is_dir(&self.path),
            "kernel {}: it is a directory, no kernel",
            path.display()
        );
        let file = self.root.file(&self.path);
        file.with_context(|| format!("open kernel {}", path.display()))
    }

    /// Opens a kernel that QEMU can load; a kernel that is compressed or inside another
    /// file is unpacked.
    ///
    /// # Errors
    /// The file is no kernel for this machine.
    pub fn kernel(&self) -> Result<Bootable> {
        let file = self.open()?;
        let unpack = || {
            let form = form::of_file(&file)?;
            match form.is_loadable() {
                true => Ok(None),
                false => wrapper::find(&file, form, Cache::of_user().as_ref()).map(Some),
            }
        };
        let found = unpack();
        let found = found
            .with_context(|| format!("kernel {}", self.root.host_path(&self.path).display()))?;
        match found {
            None => Ok(Bootable { file, named: Named::Image }),
            Some(kernel) => Bootable::of(kernel, Named::Nothing),
        }
    }

    /// Opens what QEMU is to load: by PVH the vmlinux in a kernel image, or else
    /// the image.
    pub fn bootable(&self, pvh: Pvh) -> Result<Bootable> {
        let image = self.kernel()?;
        let found = match pvh {
            Pvh::Auto => vmlinux::find(&image.file, Cache::of_user().as_ref()),
            Pvh::Never => Ok(None),
        };
        let found = found.unwrap_or_else(|error| {
            let path = self.root.host_path(&self.path);
            log::warn!(
                "kernel {} is booted as it is, as with --pvh never: {error:#}",
                path.display()
            );
            None
        });
        match found {
            None => Ok(image),
            Some(vmlinux) => Bootable::of(vmlinux, image.named),
        }
    }

    /// Where a command finds it, links resolved.
    pub fn place(&self) -> Result<FoundAt> {
        let path = self.root.resolve(&self.path);
        let path =
            path.with_context(|| format!("find {}", self.root.host_path(&self.path).display()))?;
        Ok(match self.root.path() {
            directory if directory.is_dir() => FoundAt { image: None, path },
            image => {
                let inside = path.strip_prefix(image).unwrap_or(&path);
                FoundAt { image: Some(image.into()), path: Path::new("/").join(inside) }
            }
        })
    }
}

/// A file or directory of the host, or of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAt {
    /// The image, where it is in one.
    pub image: Option<PathBuf>,
    /// Absolute path.
    pub path: PathBuf,
}

/// What QEMU loads.
#[derive(Debug)]
pub struct Bootable {
    /// Opened.
    pub file: File,
    /// How a command names this kernel.
    pub named: Named,
}

/// How a command that boots the same kernel can name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The kernel image.
    Image,
    /// By this file in the cache, which was made from the image.
    Kept(PathBuf),
    /// Not at all: the unpacked kernel is in memory only, and QEMU cannot load the
    /// image.
    Nothing,
}

impl Bootable {
    /// Wraps `vmlinux`; a command names it as `named` says if it is not in the cache.
    fn of(vmlinux: Vmlinux, named: Named) -> Result<Self> {
        Ok(match vmlinux {
            Vmlinux::Kept { file, path } => Self { file, named: Named::Kept(path) },
            Vmlinux::Unpacked(bytes) => Self { file: memory_file(&bytes)?, named },
        })
    }

    /// The file for a command; `image` is the kernel's original file.
    ///
    /// # Errors
    /// The kernel is in memory only.
    pub fn place(&self, image: &Located) -> Result<FoundAt> {
        match &self.named {
            Named::Image => image.place(),
            Named::Kept(path) => Ok(FoundAt { image: None, path: path.clone() }),
            Named::Nothing => bail!(
                "no command can show kernel {}: it has to be unpacked, and there is no cache to \
                 keep it in; set HOME or XDG_CACHE_HOME, or unpack it",
                image.root.host_path(&image.path).display()
            ),
        }
    }
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
    /// The root as an archive, where it is one: it comes first, so that our `/init`
    /// takes the place of one that it has.
    pub archive: Option<PathBuf>,
}

impl Initrd {
    /// The archive, with the guest's settings as its last segment; `notes` as in
    /// [`pack::initrd`].
    pub fn bytes(&self, records: &[Vec<u8>], notes: &mut Vec<String>) -> Result<Vec<u8>> {
        let initrd = match self {
            Initrd::File(file) => pack::read_initrd(file)?,
            Initrd::Packed(Contents { init, modules, choice, archive }) => {
                let modules = modules.as_ref().map(|found| (&*found.root, found.path.as_path()));
                let initrd = pack::initrd(pack::read_init(init)?, modules, choice, notes)?;
                pack::behind(archive.as_deref(), initrd)?
            }
        };
        pack::with_settings(initrd, records)
    }
}

impl Initrd {
    /// The command that writes what [`Initrd::bytes`] gives to `output`.
    pub fn command(
        &self,
        program: &Path,
        records: &[Vec<u8>],
        output: &str,
    ) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = vec![program.into(), pack::SUBCOMMAND.into()];
        match self {
            Initrd::File(file) => words.extend(["--initrd".into(), file.into()]),
            Initrd::Packed(Contents { init, modules, choice, archive }) => {
                words.extend(["--init".into(), init.into()]);
                words.extend(archive.iter().flat_map(|file| ["--archive".into(), file.into()]));
                if let Some(dir) = modules {
                    let place = dir.place()?;
                    words.extend(["--modules-dir".into(), place.path.into()]);
                    words.extend(
                        place.image.into_iter().flat_map(|one| ["--image".into(), one.into()]),
                    );
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
    source: &Source,
    kernel: Option<&Path>,
    modules: Option<&Path>,
) -> Result<(Located, Option<Located>)> {
    let host: Rc<dyn Files> = Rc::new(RootDir::open(Path::new("/"))?);
    let given = |path| -> Result<_> { Ok(Located { root: host.clone(), path: canonical(path)? }) };
    let modules = modules.map(given).transpose()?;
    let Some(file) = kernel else {
        let root = source.files()?;
        let found = installed::find(&*root)?;
        let own = Located { root: root.clone(), path: found.modules };
        return Ok((Located { root, path: found.image }, modules.or(Some(own))));
    };
    let image = given(file)?;
    if modules.is_some() {
        return Ok((image, modules));
    }
    let Some(version) = version(&image)? else { return Ok((image, None)) };
    let root = source.files()?;
    let own = installed::modules_of(&*root, &version).map(|path| Located { root, path });
    Ok((image, own))
}

/// Whether a machine has module `name`: it is built into the kernel, or one of
/// `modules` and, as `is_packed` tells, packed.
#[must_use]
pub fn has_module(name: &str, modules: Option<&Located>, is_packed: bool) -> bool {
    let order = modules.map(|found| {
        let dir = ModulesDir::open(&*found.root, &found.path)?;
        load_order(&dir, &[Request::Needed(name)])
    });
    order.is_some_and(|order| order.is_ok_and(|order| is_packed || order.is_empty()))
}

/// The version of a kernel, which may be inside another file.
fn version(image: &Located) -> Result<Option<String>> {
    let kernel = image.kernel()?;
    let size = usize::try_from(kernel.file.metadata().context("look at the kernel")?.len())?;
    let read = |size| {
        let mut bytes = vec![0; size];
        kernel.file.read_exact_at(&mut bytes, 0).context("read the kernel").map(|()| bytes)
    };
    let version = installed::image_version(&read(size.min(IMAGE_HEAD))?);
    // All of it may be read: the size of an unpacked vmlinux is bounded.
    if version.is_some() || kernel.named == Named::Image {
        return Ok(version);
    }
    Ok(wrapper::version(&read(size)?))
}

/// Where `/init` is, from the directory of this program: in a tree that was built,
/// installed below the same prefix, or where osbuild has it.
const INIT_PLACES: [&str; 3] =
    ["../guest/init", "../lib/osbuild/initrd/initrd", "/usr/lib/osbuild/initrd/initrd"];

/// The `/init` binary: the one given, or the one that this program came with.
///
/// # Errors
/// A file that is missing.
pub fn find_init(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = given {
        ensure!(file.is_file(), "{} is missing: run `make` to build it", file.display());
        return canonical(file);
    }
    let program = std::env::current_exe().context("find this program")?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    let found = INIT_PLACES.iter().map(|place| dir.join(place)).find(|place| place.is_file());
    let found = found.with_context(|| {
        let tree = dir.join(INIT_PLACES[0]);
        format!("{} is missing: run `make` to build it", tree.display())
    })?;
    canonical(&found)
}

/// `path` from the root directory, links resolved.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}
