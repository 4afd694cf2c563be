//! Kernels that are installed in a root file system.
//!
//! Interface: the directories in which distributions install kernels and modules. All paths
//! are relative to the root's `/`.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use files::lookup::Files;

/// Parents of modules directories: with a merged /usr, and without.
const MODULES_ROOTS: &[&str] = &["usr/lib/modules", "lib/modules"];

/// Paths of the image of version `{version}`: in Fedora and Arch, in Debian, in Debian for riscv64
/// and ppc64le, where it is not compressed, and in Alpine. In Alpine the image has the name of the
/// kernel's flavour, the last part of the version.
const IMAGES: &[&str] = &[
    "{modules}/{version}/vmlinuz",
    "boot/vmlinuz-{version}",
    "boot/vmlinux-{version}",
    "boot/vmlinuz-{flavour}",
];

/// Kernel version for which a root has modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledKernel {
    /// Version, such as `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// Directory of its modules.
    pub modules: PathBuf,
    /// Its image; `None` if the root has no image of this version.
    pub image: Option<PathBuf>,
}

/// Kernel that can be booted: an image and its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPaths {
    /// The image.
    pub image: PathBuf,
    /// Directory of its modules.
    pub modules: PathBuf,
}

/// Lists every kernel of `root` that has modules, the newest first. With a merged /usr a
/// modules directory has two names, but is listed once.
///
/// # Errors
/// A directory cannot be read.
pub fn installed(root: &dyn Files) -> Result<Vec<InstalledKernel>> {
    let mut installed = Vec::new();
    let mut seen = HashSet::new();
    for modules_root in MODULES_ROOTS {
        for version in versions(root, Path::new(modules_root))? {
            let modules = Path::new(modules_root).join(&version);
            let real = root.resolve(&modules);
            if seen.insert(real.with_context(|| format!("find {}", modules.display()))?) {
                let image = candidates(modules_root, &version).find(|image| root.is_file(image));
                installed.push(InstalledKernel { version, modules, image });
            }
        }
    }
    Ok(installed)
}

/// Finds the newest kernel of `root` that has both an image and modules.
///
/// # Errors
/// `root` has no such kernel; the error says what is missing.
pub fn find(root: &dyn Files) -> Result<KernelPaths> {
    let mut without_image = Vec::new();
    for InstalledKernel { version, modules, image } in installed(root)? {
        match image {
            Some(image) => return Ok(KernelPaths { image, modules }),
            None => without_image.push(version),
        }
    }
    let path = root.path().display();
    if without_image.is_empty() {
        bail!("{path} has no kernel: usr/lib/modules is missing or empty");
    }
    bail!(
        "{path} has modules of {} but no image of it (usr/lib/modules/VERSION/vmlinuz, \
           boot/vmlinuz-VERSION)",
        without_image.join(", ")
    );
}

/// The directory with the modules of `version`; `None` if `root` has none.
#[must_use]
pub fn modules_of(root: &dyn Files, version: &str) -> Option<PathBuf> {
    let mut dirs = MODULES_ROOTS.iter().map(|modules| Path::new(modules).join(version));
    dirs.find(|dir| root.is_dir(dir))
}

/// Versions that have a directory in `dir`, the newest first; none if `dir` is missing.
fn versions(root: &dyn Files, dir: &Path) -> Result<Vec<String>> {
    let names = match root.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => {
            names.with_context(|| format!("list {}/{}", root.path().display(), dir.display()))?
        }
    };
    let mut versions: Vec<_> =
        names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    versions.retain(|version| root.is_dir(&dir.join(version)));
    versions.sort_by(|a, b| compare_versions(b, a));
    Ok(versions)
}

/// Paths at which the image of `version` may be.
fn candidates(modules: &str, version: &str) -> impl Iterator<Item = PathBuf> {
    let flavour = version.rsplit('-').next().unwrap_or(version);
    IMAGES.iter().map(move |image| {
        let image = image.replace("{modules}", modules).replace("{version}", version);
        PathBuf::from(image.replace("{flavour}", flavour))
    })
}

/// Compares versions: runs of digits compare as numbers, the other parts as text (sort -V).
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a_run, a_rest) = first_run(a);
    let (b_run, b_rest) = first_run(b);
    match run_key(a_run).cmp(&run_key(b_run)) {
        Ordering::Equal if a.is_empty() || b.is_empty() => a.cmp(b),
        Ordering::Equal => compare_versions(a_rest, b_rest),
        order => order,
    }
}

/// Sort key of a run of digits or of other characters. Without leading zeros, a number with
/// more digits is larger, whatever its length; text comes before numbers.
fn run_key(run: &str) -> (usize, &str) {
    match run.starts_with(|c: char| c.is_ascii_digit()) {
        true => {
            let digits = run.trim_start_matches('0');
            (1 + digits.len(), digits)
        }
        false => (0, run),
    }
}

/// Splits `text` after its first run, which is all digits or all other characters.
fn first_run(text: &str) -> (&str, &str) {
    let is_digit = |c: char| c.is_ascii_digit();
    let starts_with_digit = text.starts_with(is_digit);
    text.split_at(text.find(|c| is_digit(c) != starts_with_digit).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;

    #[test]
    fn versions_compare_as_numbers() {
        let mut versions = ["6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.1", "6.1.0-10", "5.19", ""];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["", "5.19", "6.1.0-9-amd64", "6.1.0-10", "6.1.0-10-amd64", "6.12.1"]);
        let mut hostile: Vec<_> = (0..300).map(|n| "9".repeat(n % 40) + &n.to_string()).collect();
        hostile.sort_by(|a, b| compare_versions(a, b));
        assert!(hostile.windows(2).all(|pair| pair[0].len() <= pair[1].len()), "{hostile:?}");
    }

    fn find_in(files: &[&str]) -> Result<KernelPaths> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        find(&RootDir::open(dir.path()).unwrap())
    }

    #[test]
    fn the_layout_of_each_distribution_is_known() {
        for (name, files, image) in [
            (
                "Fedora",
                &["usr/lib/modules/6.9.9-200/vmlinuz"][..],
                "usr/lib/modules/6.9.9-200/vmlinuz",
            ),
            (
                "Debian",
                &["usr/lib/modules/6.1.0-9-amd64/x", "boot/vmlinuz-6.1.0-9-amd64"],
                "boot/vmlinuz-6.1.0-9-amd64",
            ),
            ("Alpine", &["lib/modules/6.6.1-0-virt/x", "boot/vmlinuz-virt"], "boot/vmlinuz-virt"),
            (
                "newest",
                &["usr/lib/modules/6.9.1/vmlinuz", "usr/lib/modules/6.10.1/vmlinuz"],
                "usr/lib/modules/6.10.1/vmlinuz",
            ),
            (
                "newest with an image",
                &["usr/lib/modules/6.9.1/vmlinuz", "usr/lib/modules/6.10.1/x"],
                "usr/lib/modules/6.9.1/vmlinuz",
            ),
        ] {
            assert_eq!(find_in(files).unwrap().image, Path::new(image), "{name}");
        }
    }

    #[test]
    fn a_merged_usr_shows_each_kernel_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib/modules/6.9.1")).unwrap();
        std::os::unix::fs::symlink("usr/lib", dir.path().join("lib")).unwrap();
        let found = installed(&RootDir::open(dir.path()).unwrap()).unwrap();
        let modules = PathBuf::from("usr/lib/modules/6.9.1");
        assert_eq!(found, [InstalledKernel { version: "6.9.1".into(), modules, image: None }]);
    }

    #[test]
    fn a_missing_kernel_is_explained() {
        let error = find_in(&["etc/passwd"]).unwrap_err().to_string();
        assert!(error.contains("has no kernel"), "{error}");
        let error = find_in(&["usr/lib/modules/6.9.1/x"]).unwrap_err().to_string();
        assert!(error.contains("modules of 6.9.1 but no image"), "{error}");
    }
}
