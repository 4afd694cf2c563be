//! The host's own kernel, for a root file system that has none.
//!
//! The running kernel comes first, then the newest of the others. A kernel can serve if its
//! image can be read and holds a kernel for this machine, and if it has the modules that the
//! machine needs, as files or built in. Debian and Fedora let every user read their kernels;
//! Ubuntu's have mode 0600.
//!
//! Interfaces: the directories of [`super::installed`]; `/proc/sys/kernel/osrelease`
//! (proc_sys_kernel(5)).

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use files::lookup::Files;
use files::root_dir::RootDir;

use super::bootable::{Bootable, KernelImage, KernelName};
use super::installed::{InstalledKernel, installed};
use super::located::Located;
use super::modules::dir::ModulesDir;
use super::modules::resolve::{ModuleRequest, load_order};
use super::vmlinux::form;

/// File with the version of the running kernel.
const RUNNING: &str = "/proc/sys/kernel/osrelease";

/// A kernel of the host that a machine can boot.
#[derive(Debug)]
pub struct HostKernel {
    /// The image.
    pub image: KernelImage,
    /// Directory of its modules.
    pub modules: Located,
}

/// Finds a kernel of this host for the architecture `arch` that has the modules `needs`.
///
/// # Errors
/// The host has no such kernel; the error says what is wrong with the first one.
pub fn find(arch: &str, needs: &[&str]) -> Result<HostKernel> {
    let host: Rc<dyn Files> = Rc::new(RootDir::open(Path::new("/"))?);
    // Without /proc, the newest kernel comes first.
    let running = fs::read_to_string(RUNNING).unwrap_or_default();
    find_in(&host, running.trim(), arch, needs)
}

/// Finds a kernel of `host`, where the version `running` runs, for the architecture `arch` that has
/// the modules `needs`.
///
/// # Errors
/// As [`find`].
pub fn find_in(
    host: &Rc<dyn Files>,
    running: &str,
    arch: &str,
    needs: &[&str],
) -> Result<HostKernel> {
    let mut kernels = installed(&**host)?;
    // The sort is stable: the others stay the newest first. Modules often outlive their image.
    kernels.sort_by_key(|kernel| (kernel.image.is_none(), kernel.version != running));
    let mut first_problem = None;
    for kernel in &kernels {
        match check(host, kernel, arch, needs) {
            Ok(found) => return Ok(found),
            Err(problem) => first_problem = first_problem.or(Some(problem)),
        }
    }
    Err(first_problem.unwrap_or_else(|| {
        let path = host.host_path(Path::new("/lib/modules"));
        anyhow!("{} is missing or empty", path.display())
    }))
}

/// Checks that `kernel` can serve.
fn check(
    host: &Rc<dyn Files>,
    kernel: &InstalledKernel,
    arch: &str,
    needs: &[&str],
) -> Result<HostKernel> {
    let InstalledKernel { version, modules, image } = kernel;
    let located = |path: &Path| Located { root: Rc::clone(host), path: path.into() };
    let Some(image) = image else { bail!("it has modules of {version}, but no image of it") };
    let shown = host.host_path(image);
    let shown = shown.display();
    let file = host.file(image).map_err(|error| {
        anyhow!("{shown} cannot be read: {error}; as root, run `chmod a+r {shown}`")
    })?;
    let form = form::of_file(&file).with_context(|| shown.to_string())?;
    if let Some(other) = form.architecture().filter(|other| *other != arch) {
        bail!("{shown} is for {other}");
    }
    let dir = ModulesDir::open(&**host, modules)?;
    for &name in needs {
        load_order(&dir, &[ModuleRequest::must(name)])
            .with_context(|| format!("{shown} has no {name}"))?;
    }
    let image = located(image);
    let image = match form.architecture() {
        Some(arch) => KernelImage::opened(image, Bootable { file, named: KernelName::Image, arch }),
        None => KernelImage::new(image),
    };
    Ok(HostKernel { image, modules: located(modules) })
}

#[cfg(test)]
mod tests {
    use super::super::vmlinux::samples;
    use super::*;

    /// A kernel of the host.
    struct Version {
        name: &'static str,
        image: Option<&'static [u8]>,
        builtin: &'static str,
    }

    const ALL: &str = "kernel/virtio_pci.ko\nkernel/virtiofs.ko\n";

    /// The version of the kernel that serves, or the error.
    fn found(versions: &[Version], running: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: String, bytes: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for Version { name, image, builtin } in versions {
            write(format!("lib/modules/{name}/modules.builtin"), builtin.as_bytes());
            write(format!("lib/modules/{name}/modules.dep"), b"");
            if let Some(image) = image {
                write(format!("boot/vmlinuz-{name}"), image);
            }
        }
        let host: Rc<dyn Files> = Rc::new(RootDir::open(dir.path()).unwrap());
        let found = find_in(&host, running, "x86_64", &["virtio_pci", "virtiofs"]);
        let text = |text: &Path| text.to_str().unwrap().to_owned();
        found
            .map(|kernel| {
                let version = text(&kernel.modules.path).replace("lib/modules/", "");
                assert_eq!(text(&kernel.image.located.path), format!("boot/vmlinuz-{version}"));
                version
            })
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_running_kernel_comes_first_then_the_newest_that_can_serve() {
        let kernel: &'static [u8] = samples::bzimage_of_version("6").leak();
        let version = |name| Version { name, image: Some(kernel), builtin: ALL };
        let lacks = |name| Version { builtin: "kernel/virtio_pci.ko\n", ..version(name) };
        let no_image = |name| Version { image: None, ..version(name) };
        let no_kernel = |name| Version { image: Some(b"text"), ..version(name) };
        let arm64: &'static [u8] = samples::image(b"").leak();
        let other = |name| Version { image: Some(arm64), ..version(name) };
        #[rustfmt::skip]
        let cases = [
            ("running", vec![version("6.1"), version("6.9"), version("6.10")], Ok("6.1")),
            ("newest", vec![version("6.2"), version("6.9"), version("6.10")], Ok("6.10")),
            ("running without virtiofs", vec![lacks("6.1"), version("5.9"), version("5.10")], Ok("5.10")),
            ("running without image", vec![no_image("6.1"), version("5.9")], Ok("5.9")),
            ("no kernel in the image", vec![no_kernel("6.1"), version("5.9")], Ok("5.9")),
            ("another architecture", vec![other("6.1"), version("5.9")], Ok("5.9")),
            ("only another", vec![other("6.1")], Err("vmlinuz-6.1 is for aarch64")),
            ("none", vec![], Err("lib/modules is missing or empty")),
            ("no image", vec![no_image("6.1"), no_image("6.2")], Err("modules of 6.1, but no image")),
            ("the image counts", vec![no_image("6.1"), lacks("6.2")], Err("vmlinuz-6.2 has no virtiofs")),
            ("text", vec![no_kernel("6.1")], Err("vmlinuz-6.1")),
        ];
        for (name, versions, expected) in cases {
            match (found(&versions, "6.1"), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{name}: {error}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_kernel_that_only_root_reads_has_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("lib/modules/6.1")).unwrap();
        std::fs::write(dir.path().join("lib/modules/6.1/modules.dep"), "").unwrap();
        std::fs::write(dir.path().join("lib/modules/6.1/vmlinuz"), "").unwrap();
        let host: Rc<dyn Files> = Rc::new(Unreadable(RootDir::open(dir.path()).unwrap()));
        let error = find_in(&host, "6.1", "x86_64", &[]).unwrap_err().to_string();
        let image = dir.path().canonicalize().unwrap().join("lib/modules/6.1/vmlinuz");
        let remedy = format!("as root, run `chmod a+r {}`", image.display());
        assert!(error.ends_with(&remedy) && error.contains("cannot be read"), "{error}");
    }

    /// A root whose files may be seen, but not be opened.
    #[derive(Debug)]
    struct Unreadable(RootDir);

    impl Files for Unreadable {
        fn path(&self) -> &Path {
            self.0.path()
        }
        fn file(&self, _: &Path) -> std::io::Result<fs::File> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
        fn resolve(&self, path: &Path) -> std::io::Result<std::path::PathBuf> {
            self.0.resolve(path)
        }
        fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
            self.0.read(path, limit)
        }
        fn list(&self, path: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
            self.0.list(path)
        }
        fn is_dir(&self, path: &Path) -> bool {
            self.0.is_dir(path)
        }
        fn is_real_dir(&self, path: &Path) -> bool {
            self.0.is_real_dir(path)
        }
        fn link(&self, path: &Path) -> Option<std::path::PathBuf> {
            self.0.link(path)
        }
        fn is_file(&self, path: &Path) -> bool {
            self.0.is_file(path)
        }
    }
}
