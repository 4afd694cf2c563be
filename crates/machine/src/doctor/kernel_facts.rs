//! Gathering of the facts about kernels: those of the host, of ROOTFS, and the one that was given.

use std::path::{Path, PathBuf};

use anyhow::Result;
use files::lookup::Files;

use super::facts::{KernelFacts, RootKernels};
use super::guest_modules::{self, GuestModule, Support};
use crate::kernel::find::{self, UserKernel, VersionMismatch, find_kernel, mismatch};
use crate::kernel::installed::{InstalledKernel, installed};
use crate::kernel::modules::dir::ModulesDir;
use crate::kernel::modules::file::SymbolVersions;
use crate::kernel::modules::name::canonical_name;
use crate::kernel::modules::resolve::{ModuleRequest, load_order};
use crate::kernel::of_host;
use crate::kernel::vmlinux::form;
use crate::plan::architecture::Architecture;
use crate::root::kinds::Root;

/// Values of `--kernel` and `--modules`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenKernel<'a> {
    /// The kernel's image.
    pub image: Option<&'a Path>,
    /// Directory of its modules.
    pub modules: Option<&'a Path>,
}

/// The image of the host for machines of this `architecture` that boots a `rootfs` without a
/// kernel, or the reason why none does.
pub(super) fn host_kernel(
    rootfs: Option<&Path>,
    architecture: &Architecture,
) -> Result<Result<PathBuf, String>> {
    let root = Root::open(rootfs.unwrap_or(Path::new("/")))?;
    let needed = root.needed_modules(architecture.transport, None);
    let found = of_host::find(architecture.arch, &needed);
    Ok(found.map(|kernel| kernel.image.host_path()).map_err(|error| format!("{error:#}")))
}

/// Gathers the facts about the kernels of the root file system at `path`, for machines of this
/// `architecture`.
pub(super) fn root_kernels(
    path: &Path,
    is_rootfs: bool,
    architecture: &Architecture,
) -> Result<RootKernels> {
    let root = Root::open(path)?;
    let path = root.path().to_path_buf();
    // A file system that only the guest's kernel reads is booted with a kernel from elsewhere.
    let root = match root.files() {
        Ok(root) => root,
        Err(error) => {
            let problem = Some(format!("{error:#}"));
            return Ok(RootKernels { path, is_rootfs, problem, kernels: Vec::new() });
        }
    };
    let (installed, problem) = match installed(&*root) {
        Ok(installed) => (installed, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let kernels =
        installed.into_iter().map(|found| kernel_facts(&*root, found, architecture)).collect();
    Ok(RootKernels { path, is_rootfs, problem, kernels })
}

/// Gathers the facts about the kernel that a run with these options would boot; `None` if neither
/// is given. Without ROOTFS, the missing part is searched in the host's root.
pub(super) fn given_kernel(
    rootfs: Option<&Path>,
    given: GivenKernel<'_>,
    architecture: &Architecture,
) -> Result<Option<KernelFacts>> {
    if given.image.is_none() && given.modules.is_none() {
        return Ok(None);
    }
    let root = || Root::open(rootfs.unwrap_or(Path::new("/")))?.files();
    let kernel = given.image.map(UserKernel::at).transpose()?;
    let (image, modules) = find_kernel(root, kernel, given.modules)?;
    let file = image.located.root.file(&image.located.path);
    let form = file.as_ref().ok().map(form::of_file);
    let no_kernel = form.and_then(Result::err).map(|error| format!("{error:#}"));
    let mismatch = modules.as_ref().and_then(|dir| mismatch(&image, dir));
    let (refused, doubtful) = match mismatch {
        Some(VersionMismatch { problem, versions: SymbolVersions::Absent }) => {
            (Some(problem), None)
        }
        Some(VersionMismatch { problem, .. }) => (None, Some(problem)),
        None => (None, None),
    };
    let of_modules = match &modules {
        None => Err("its modules are not known; give --modules DIR, or boot it with ROOTFS if it \
                     has virtiofs built in"
            .to_owned()),
        Some(dir) => match refused {
            Some(problem) => Err(problem),
            None => {
                supports(&*dir.root, &dir.path, architecture).map_err(|error| format!("{error:#}"))
            }
        },
    };
    Ok(Some(KernelFacts {
        version: find::version(&image).ok().flatten().unwrap_or_default(),
        unreadable: file.err().map(|error| error.to_string()),
        no_kernel,
        image: Some(image.host_path()),
        modules: of_modules,
        modules_dir: modules.map(|dir| dir.host_path()).unwrap_or_default(),
        mismatch: doubtful,
    }))
}

/// Gathers the facts about one kernel of `root`.
fn kernel_facts(
    root: &dyn Files,
    found: InstalledKernel,
    architecture: &Architecture,
) -> KernelFacts {
    let file = found.image.as_ref().map(|image| root.file(image));
    let form = file.as_ref().and_then(|file| file.as_ref().ok()).map(form::of_file);
    KernelFacts {
        unreadable: file.and_then(Result::err).map(|error| error.to_string()),
        no_kernel: form.and_then(Result::err).map(|error| format!("{error:#}")),
        image: found.image.map(|image| root.host_path(&image)),
        modules: supports(root, &found.modules, architecture).map_err(|error| format!("{error:#}")),
        modules_dir: root.host_path(&found.modules),
        mismatch: None,
        version: found.version,
    }
}

/// Tells how the kernel with this modules directory has each of the modules that guests of this
/// `architecture` use.
fn supports(
    root: &dyn Files,
    path: &Path,
    architecture: &Architecture,
) -> Result<Vec<(&'static GuestModule, Support)>> {
    let dir = ModulesDir::open(root, path)?;
    let support = |name| match load_order(&dir, &[ModuleRequest::must(name)]) {
        Ok(order) if order.contains(&canonical_name(name)) => Support::Module,
        Ok(_) => Support::BuiltIn,
        Err(error) => Support::Missing(format!("{error:#}")),
    };
    Ok(guest_modules::of(architecture).map(|module| (module, support(module.name))).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::architecture;

    #[test]
    fn facts_about_kernels_are_gathered() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib/modules/6.9.1/vmlinuz", "");
        write("lib/modules/6.9.1/modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n");
        let dep = "kernel/fs/virtiofs.ko: kernel/fs/fuse.ko\nkernel/fs/fuse.ko:\n\
                   kernel/fs/overlay.ko: kernel/fs/gone.ko\n";
        write("lib/modules/6.9.1/modules.dep", dep);
        for name in ["virtiofs", "fuse", "overlay"] {
            let path = format!("lib/modules/6.9.1/kernel/fs/{name}.ko");
            write(&path, "");
            fs::write(dir.path().join(path), crate::kernel::modules::file::sample("")).unwrap();
        }
        write("lib/modules/6.8.1/nothing", "");

        let x86 = architecture::named("x86_64").unwrap();
        let found = root_kernels(dir.path(), true, x86).unwrap();
        let [newer, older] = &found.kernels[..] else { panic!("{found:?}") };
        let of = |name: &str| {
            let mut rows = newer.modules.as_ref().unwrap().iter();
            rows.find(|(module, _)| module.name == name).unwrap().1.clone()
        };
        assert_eq!(of("virtiofs"), Support::Module);
        assert_eq!(of("virtio_pci"), Support::BuiltIn);
        for (name, why) in [("overlay", "needs \"gone\""), ("virtio_net", "unknown module")] {
            let Support::Missing(reason) = of(name) else { panic!("{name}") };
            assert!(reason.contains(why), "{reason}");
        }
        assert!(older.image.is_none() && older.modules.is_err());
    }
}
