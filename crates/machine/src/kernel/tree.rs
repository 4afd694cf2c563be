//! A kernel tree: the directory in which a kernel was built, by `make` or by `make O=DIR`.
//!
//! | File | Content |
//! |---|---|
//! | `.config` | the configuration; its architecture tells where the image is |
//! | `Makefile` | of the source, or the one that `make O=DIR` writes |
//! | `arch/…/boot/…`, `vmlinux` | the image |
//! | `modules.order`, `modules.builtin` | the modules; see [`modules::index`](super::modules::index) |
//!
//! Interface: kernel doc, kbuild/kbuild.rst.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use files::lookup::Files;

/// The configuration in a tree.
pub const CONFIG: &str = ".config";

/// Files that every tree has after `make` has begun.
const MARKS: [&str; 2] = [CONFIG, "Makefile"];

/// Size in bytes of the largest configuration that is read. Debian's has 280 kB.
const CONFIG_MAX: u64 = 4 << 20;

/// Architecture of a tree.
struct TreeArchitecture {
    /// Line of its configuration.
    line: &'static str,
    /// Paths of the image.
    images: &'static [&'static str],
}

#[rustfmt::skip]
const ARCHITECTURES: &[TreeArchitecture] = &[
    TreeArchitecture { line: "CONFIG_X86=y",   images: &["arch/x86/boot/bzImage", "vmlinux"] },
    TreeArchitecture { line: "CONFIG_ARM64=y", images: &["arch/arm64/boot/Image", "arch/arm64/boot/Image.gz", "arch/arm64/boot/vmlinuz.efi"] },
    TreeArchitecture { line: "CONFIG_RISCV=y", images: &["arch/riscv/boot/Image", "arch/riscv/boot/Image.gz", "arch/riscv/boot/vmlinuz.efi"] },
    TreeArchitecture { line: "CONFIG_S390=y",  images: &["arch/s390/boot/bzImage"] },
    TreeArchitecture { line: "CONFIG_PPC64=y", images: &["vmlinux"] },
];

/// Kind of a directory that is not a tree in which a kernel was built.
struct OtherDirectory {
    /// Names that it has, all of them.
    has: &'static [&'static str],
    /// What it is, and what helps.
    is: &'static str,
}

#[rustfmt::skip]
const OTHERS: &[OtherDirectory] = &[
    OtherDirectory { has: &["Kconfig", "Makefile"], is: "it is the source of a kernel without .config: run `make defconfig` and `make` there, or give the directory of make's O=" },
    OtherDirectory { has: &["modules.dep"],         is: "it is a directory of modules: give it with --modules, and the kernel's image with --kernel" },
    OtherDirectory { has: &["modules.builtin"],     is: "it is a directory of modules: give it with --modules, and the kernel's image with --kernel" },
    OtherDirectory { has: &["etc", "usr"],          is: "it is a root file system: give it as ROOTFS, whose kernel is booted without --kernel" },
    OtherDirectory { has: &[],                      is: "it is neither a kernel's image nor a directory in which a kernel was built: there is no .config" },
];

/// Whether directory `dir` of `root` is a tree.
#[must_use]
pub fn is_tree(root: &dyn Files, dir: &Path) -> bool {
    MARKS.iter().all(|name| root.is_file(&dir.join(name)))
}

/// Finds the image in the tree `dir` of `root`. If several of them were built, the one that was
/// built last is taken: `make vmlinux` leaves an older bzImage as it is.
///
/// # Errors
/// The directory is not a tree, or its kernel was not built.
pub fn image(root: &dyn Files, dir: &Path) -> Result<PathBuf> {
    let exists = |name: &str| root.is_file(&dir.join(name)) || root.is_dir(&dir.join(name));
    if !is_tree(root, dir) {
        let other = OTHERS.iter().find(|other| other.has.iter().all(|name| exists(name)));
        bail!("{}", other.map_or("it is no kernel tree", |other| other.is));
    }
    let config = config(root, dir).context("read .config")?;
    let is_of = |row: &&TreeArchitecture| config.lines().any(|line| line == row.line);
    let Some(architecture) = ARCHITECTURES.iter().find(is_of) else {
        bail!("its .config names none of the architectures x86, arm64, riscv, s390 and ppc64");
    };
    let built = architecture.images.iter().map(|image| dir.join(image));
    let built = built.filter_map(|image| Some((written(root, &image).ok()?, image)));
    // Of equally old images, the first of the row is taken.
    let newest = built.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let Some((_, image)) = newest else {
        let wanted = architecture.images.join(" nor ");
        bail!("the kernel was not built: there is neither {wanted}; run `make` there");
    };
    Ok(image)
}

/// The configuration of the tree `dir` of `root`.
///
/// # Errors
/// The file cannot be read.
pub fn config(root: &dyn Files, dir: &Path) -> io::Result<String> {
    let bytes = root.read(&dir.join(CONFIG), CONFIG_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// When the file `path` was written.
fn written(root: &dyn Files, path: &Path) -> io::Result<SystemTime> {
    root.file(path)?.metadata()?.modified()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::*;
    use files::root_dir::RootDir;

    /// The image that is found in a directory with these files, each written a second after
    /// the one before it; or the error. An empty text stands for a directory.
    fn found(files: &[(&str, &str)]) -> Result<String> {
        let top = tempfile::tempdir().unwrap();
        for (second, (name, text)) in (1..).zip(files) {
            let path = top.path().join("tree").join(name);
            if text.is_empty() {
                fs::create_dir_all(path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        let image = image(&RootDir::open(top.path()).unwrap(), Path::new("tree"))?;
        Ok(image.strip_prefix("tree").unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_image_that_was_built_last_is_taken() {
        let x86 = [("Makefile", "x"), (".config", "CONFIG_X86=y\n")];
        let arm = [("Makefile", "x"), (".config", "CONFIG_64BIT=y\nCONFIG_ARM64=y\n")];
        let (bzimage, vmlinux) = (("arch/x86/boot/bzImage", "x"), ("vmlinux", "x"));
        let (raw, packed) = (("arch/arm64/boot/Image", "x"), ("arch/arm64/boot/Image.gz", "x"));
        for (name, tree, images, expected) in [
            ("make", x86, &[vmlinux, bzimage][..], "arch/x86/boot/bzImage"),
            ("make vmlinux after it", x86, &[bzimage, vmlinux], "vmlinux"),
            ("only vmlinux", x86, &[vmlinux], "vmlinux"),
            ("arm64", arm, &[bzimage, vmlinux, raw, packed], "arch/arm64/boot/Image.gz"),
            ("arm64, Image", arm, &[packed, raw], "arch/arm64/boot/Image"),
        ] {
            assert_eq!(found(&[&tree[..], images].concat()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn another_directory_is_told_apart() {
        let built = [("Makefile", "x"), (".config", "CONFIG_X86=y\n")];
        for (name, files, expected) in [
            ("not built", &built[..], "neither arch/x86/boot/bzImage nor vmlinux; run `make`"),
            ("unknown", &[("Makefile", "x"), (".config", "CONFIG_SPARC=y\n")], "architectures"),
            ("no .config", &[("Kconfig", "x"), ("Makefile", "x"), ("usr", "")], "make's O="),
            ("modules", &[("modules.dep", "x"), ("kernel", "")], "give it with --modules"),
            ("unpacked modules", &[("modules.builtin", "x")], "give it with --modules"),
            ("root", &[("etc", ""), ("usr", ""), ("boot", "")], "give it as ROOTFS"),
            ("boot", &[("vmlinuz-6.1", "x"), ("config-6.1", "x")], "there is no .config"),
        ] {
            let error = found(files).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
