//! The choice of kernel and modules for one machine.
//!
//! Without `--kernel`, the newest kernel of the root file system is taken, with its own
//! modules. A kernel that is given without `--modules` gets the modules that the root has of
//! the kernel's version.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use files::lookup::Files;
use files::root_dir::RootDir;

use super::bootable::KernelName;
use super::installed;
use super::located::Located;
use super::modules::dir::ModulesDir;
use super::modules::resolve::{ModuleRequest, load_order};
use super::vmlinux::{bzimage, wrapper};
use crate::host::canonical;

/// Bytes at the start of a bzImage in which its version is searched.
const IMAGE_HEAD: usize = 64 << 10;

/// Finds the kernel's image and its modules; without modules the kernel must have virtiofs
/// built in. `root` opens the root file system, and is called only if the kernel or its
/// modules are searched there. `kernel` and `modules` are the paths that the user gave.
///
/// # Errors
/// A given file does not exist, or the root has no kernel.
pub fn find_kernel(
    root: impl FnOnce() -> Result<Rc<dyn Files>>,
    kernel: Option<&Path>,
    modules: Option<&Path>,
) -> Result<(Located, Option<Located>)> {
    let host: Rc<dyn Files> = Rc::new(RootDir::open(Path::new("/"))?);
    let given = |path| -> Result<_> { Ok(Located { root: host.clone(), path: canonical(path)? }) };
    let modules = modules.map(given).transpose()?;
    let Some(file) = kernel else {
        let root = root()?;
        let found = installed::find(&*root)?;
        let own = Located { root: root.clone(), path: found.modules };
        return Ok((Located { root, path: found.image }, modules.or(Some(own))));
    };
    let image = given(file)?;
    if modules.is_some() {
        return Ok((image, modules));
    }
    let Some(version) = version(&image)? else { return Ok((image, None)) };
    let root = root()?;
    let own = installed::modules_of(&*root, &version).map(|path| Located { root, path });
    Ok((image, own))
}

/// The version of a kernel, such as `6.1.0-56-cloud-amd64`; the kernel may be inside another
/// file.
fn version(image: &Located) -> Result<Option<String>> {
    let kernel = image.kernel()?;
    let size = usize::try_from(kernel.file.metadata().context("look at the kernel")?.len())?;
    let read = |size| {
        let mut bytes = vec![0; size];
        kernel.file.read_exact_at(&mut bytes, 0).context("read the kernel").map(|()| bytes)
    };
    let version = bzimage::version(&read(size.min(IMAGE_HEAD))?);
    // The size of an unpacked kernel is bounded, so the whole of it may be read.
    if version.is_some() || kernel.named == KernelName::Image {
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
