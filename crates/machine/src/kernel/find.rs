//! The choice of kernel and modules for one machine.
//!
//! Without `--kernel`, the newest kernel of the root file system is taken, with its own
//! modules. A kernel that is given without `--modules` gets the modules that the root has of
//! the kernel's version. A kernel that is given as the [`tree`] in which it was built has its
//! modules there.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use files::lookup::Files;
use files::root_dir::RootDir;

use super::bootable::{KernelImage, KernelName};
use super::installed;
use super::located::Located;
use super::modules::dir::ModulesDir;
use super::modules::file::{SymbolVersions, vermagic};
use super::modules::resolve::{ModuleRequest, load_order};
use super::tree;
use super::vmlinux::form::{self, Form};
use super::vmlinux::{bzimage, wrapper};
use crate::host::canonical;

/// Bytes at the start of a bzImage in which its version is searched.
const IMAGE_HEAD: usize = 64 << 10;

/// Bytes of the largest Image of arm64 or RISC-V in which the version is searched.
const IMAGE_MOST: usize = 256 << 20;

/// Kernel that the user gave.
#[derive(Debug)]
pub struct UserKernel {
    /// Its image.
    pub image: KernelImage,
    /// The kernel tree with the image and the modules, if the user gave a tree.
    tree: Option<Located>,
}

impl UserKernel {
    /// Finds the kernel at `path`, which is a file or a kernel tree.
    ///
    /// # Errors
    /// The path does not exist, or the tree has no image.
    pub fn at(path: &Path) -> Result<Self> {
        let mut image = on_host("--kernel", path)?;
        let tree = image.root.is_dir(&image.path).then(|| image.clone());
        if let Some(tree) = &tree {
            image.path = tree::image(&*tree.root, &tree.path)
                .with_context(|| format!("--kernel {}", tree.path.display()))?;
        }
        Ok(Self { image: KernelImage::new(image), tree })
    }
}

/// The file or directory of this host that `option` gives.
fn on_host(option: &'static str, path: &Path) -> Result<Located> {
    let path = canonical(path).context(option)?;
    Ok(Located { root: Rc::new(RootDir::open(Path::new("/"))?), path })
}

/// Finds the kernel's image and its modules; without modules the kernel must have virtiofs
/// built in. `root` opens the root file system, and is called only if the kernel or its
/// modules are searched there. `modules` is the path that the user gave.
///
/// # Errors
/// The directory of modules does not exist, or the root has no kernel.
pub fn find_kernel(
    root: impl FnOnce() -> Result<Rc<dyn Files>>,
    kernel: Option<UserKernel>,
    modules: Option<&Path>,
) -> Result<(KernelImage, Option<Located>)> {
    let modules = modules.map(|path| on_host("--modules", path)).transpose()?;
    let Some(UserKernel { image, tree }) = kernel else {
        let root = root()?;
        let found = installed::find(&*root)?;
        let own = Located { root: root.clone(), path: found.modules };
        let image = KernelImage::new(Located { root, path: found.image });
        return Ok((image, modules.or(Some(own))));
    };
    if modules.is_some() || tree.is_some() {
        return Ok((image, modules.or(tree)));
    }
    let Some(version) = version(&image)? else { return Ok((image, None)) };
    let root = root()?;
    let own = installed::modules_of(&*root, &version).map(|path| Located { root, path });
    Ok((image, own))
}

/// A kernel and modules of another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionMismatch {
    /// Text about the versions, with what helps.
    pub problem: String,
    /// Whether the kernel may still load the modules.
    pub versions: SymbolVersions,
}

/// Compares the version of the kernel `image` with that of its `modules`; `None` if they agree,
/// or if one of them is unknown. A kernel or directory that cannot be read is no matter here.
#[must_use]
pub fn mismatch(image: &KernelImage, modules: &Located) -> Option<VersionMismatch> {
    let named = modules.path.file_name()?.to_string_lossy();
    let image_name = image.located.path.file_name()?.to_string_lossy();
    let is_tree = tree::is_tree(&*modules.root, &modules.path);
    // An image that was found by the version of the modules need not be read.
    let is_of_modules =
        image_name.ends_with(&*named) || image.located.path.starts_with(&modules.path);
    if is_of_modules && !is_tree {
        return None;
    }
    let version = version(image).ok()??;
    if version == named {
        return None;
    }
    let (built_for, versions) = version_of_modules(modules).filter(|(of, _)| *of != version)?;
    let (image, modules) = (image.host_path(), modules.host_path());
    let remedy = match is_tree {
        true => "run `make` there".to_owned(),
        false => format!("give --modules of {version}, or --kernel of {built_for}"),
    };
    let problem = format!(
        "kernel {} has version {version}, but the modules in {} are of version {built_for}; \
         {remedy}",
        image.display(),
        modules.display()
    );
    Some(VersionMismatch { problem, versions })
}

/// The kernel version in one of the modules that guests use.
fn version_of_modules(modules: &Located) -> Option<(String, SymbolVersions)> {
    let dir = ModulesDir::open(&*modules.root, &modules.path).ok()?;
    let requests = ["virtio_pci", "virtiofs", "virtio_console", "virtio_blk"];
    let order = load_order(&dir, &requests.map(ModuleRequest::may)).ok()?;
    vermagic(&dir.read(order.first()?).ok()?)
}

/// The version of a kernel, such as `6.1.0-56-cloud-amd64`; the kernel may be inside another
/// file.
///
/// # Errors
/// The file is not a kernel that a machine here boots, or cannot be read.
pub fn version(image: &KernelImage) -> Result<Option<String>> {
    let kernel = image.kernel()?;
    let size = usize::try_from(kernel.file.metadata().context("look at the kernel")?.len())?;
    let read = |size| {
        let mut bytes = vec![0; size];
        kernel.file.read_exact_at(&mut bytes, 0).context("read the kernel").map(|()| bytes)
    };
    let version = bzimage::version(&read(size.min(IMAGE_HEAD))?);
    // The size of an unpacked kernel is bounded, so the whole of it may be read; of kernels as they
    // are, only an Image is.
    let is_packed = kernel.named != KernelName::Image;
    let is_image = size <= IMAGE_MOST && matches!(form::of_file(&kernel.file)?, Form::Image(_));
    if version.is_some() || !(is_packed || is_image) {
        return Ok(version);
    }
    Ok(wrapper::version(&read(size)?))
}

/// Whether a machine has the module `name`: the kernel has it built in, or `modules` has it
/// and `is_packed` tells that modules are packed.
#[must_use]
pub fn has_module(name: &str, modules: Option<&Located>, is_packed: bool) -> bool {
    let order = modules.map(|found| {
        let dir = ModulesDir::open(&*found.root, &found.path)?;
        load_order(&dir, &[ModuleRequest::must(name)])
    });
    order.is_some_and(|order| order.is_ok_and(|order| is_packed || order.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::super::modules::file::sample;
    use super::super::vmlinux::samples;
    use super::*;

    #[test]
    fn modules_of_another_version_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let module = |version: &str, modinfo: &str| {
            let path = format!("m/{version}/kernel/virtio_pci.ko");
            std::fs::create_dir_all(dir.path().join(&path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), sample(modinfo)).unwrap();
        };
        module("6.1-a", "vermagic=6.1-a SMP ");
        module("6.2-b", "vermagic=6.2-b SMP ");
        module("6.3-c", "vermagic=6.3-c SMP modversions ");
        module("renamed", "vermagic=6.1-a SMP ");
        module("plain", "depends=");
        std::fs::write(dir.path().join("kernel"), samples::bzimage_of_version("6.1-a")).unwrap();
        std::fs::write(dir.path().join("vmlinuz-6.2-b"), "").unwrap();
        std::fs::write(dir.path().join("other"), "no kernel").unwrap();
        std::fs::create_dir(dir.path().join("linux")).unwrap();
        for (name, contents) in [
            (".config", b"CONFIG_X86=y\n".to_vec()),
            ("Makefile", Vec::new()),
            ("modules.order", b"virtio_pci.ko\n".to_vec()),
            ("virtio_pci.ko", sample("vermagic=6.2-b SMP ")),
            ("vmlinux", samples::bzimage_of_version("6.1-a")),
        ] {
            std::fs::write(dir.path().join("linux").join(name), contents).unwrap();
        }
        let root: Rc<dyn Files> = Rc::new(RootDir::open(dir.path()).unwrap());
        let located = |path: &str| Located { root: root.clone(), path: path.into() };
        let (absent, present) = (Some(SymbolVersions::Absent), Some(SymbolVersions::Present));
        for (image, modules, expected) in [
            ("kernel", "m/6.1-a", None),
            ("kernel", "m/6.2-b", absent),
            ("kernel", "m/6.3-c", present),
            ("kernel", "m/renamed", None),
            ("kernel", "m/plain", None),
            ("kernel", "m/gone", None),
            ("vmlinuz-6.2-b", "m/6.2-b", None),
            ("other", "m/6.2-b", None),
            // A tree whose name ends like that of the image.
            ("linux/vmlinux", "linux", absent),
        ] {
            let found = mismatch(&KernelImage::new(located(image)), &located(modules));
            let problem = found.as_ref().map(|found| found.problem.clone()).unwrap_or_default();
            assert_eq!(found.map(|found| found.versions), expected, "{image} {modules}: {problem}");
            let words = format!("has version 6.1-a, but the modules in {}", dir.path().display());
            assert_eq!(problem.contains(&words), expected.is_some(), "{problem}");
        }
    }
}
