//! The kernels of the table.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use archive::compress::{Compression, compress};
use files::root_dir::RootDir;
use machine::kernel::bootable::KernelImage;
use machine::kernel::located::Located;
use machine::kernel::small::cache::SmallKernels;
use machine::kernel::vmlinux::pvh::Pvh;
use machine::kernel::vmlinux::samples::{uki, zboot};
use tempfile::TempDir;

use super::packages;

/// A kernel of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name in the table.
    pub(super) name: &'static str,
    source: Source,
    form: Form,
    /// Words for its command line.
    append: &'static str,
}

/// Where a kernel comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A package of [`packages::PACKAGES`].
    Package(&'static str),
    /// The tree that the user gave.
    Tree,
    /// The small kernel that the user has built.
    Small,
}

/// The form in which a kernel of a package is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As the package has it.
    Packaged,
    /// Compressed by gzip.
    Gzip,
    /// In an EFI zboot image.
    Zboot,
    /// In a UKI.
    Uki,
    /// The vmlinux in it.
    Vmlinux,
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { name: "Debian 11, 5.10 cloud",     source: Source::Package("bullseye-cloud"),   form: Form::Packaged, append: "" },
    Row { name: "Debian 11, 5.10 generic",   source: Source::Package("bullseye-generic"), form: Form::Packaged, append: "" },
    Row { name: "Debian 12, 6.1 cloud",      source: Source::Package("bookworm-cloud"),   form: Form::Packaged, append: "" },
    Row { name: "Debian 12, 6.1 generic",    source: Source::Package("bookworm-generic"), form: Form::Packaged, append: "" },
    Row { name: "Debian 13, 6.12 cloud",     source: Source::Package("trixie-cloud"),     form: Form::Packaged, append: "" },
    Row { name: "Debian 13, 6.12 generic",   source: Source::Package("trixie-generic"),   form: Form::Packaged, append: "" },
    Row { name: "Debian sid, cloud",         source: Source::Package("sid-cloud"),        form: Form::Packaged, append: "" },
    Row { name: "Debian sid, generic",       source: Source::Package("sid-generic"),      form: Form::Packaged, append: "" },
    Row { name: "6.1 cloud, gzip",           source: Source::Package("bookworm-cloud"),   form: Form::Gzip,     append: "" },
    Row { name: "6.1 cloud, EFI zboot",      source: Source::Package("bookworm-cloud"),   form: Form::Zboot,    append: "" },
    Row { name: "6.1 cloud, UKI",            source: Source::Package("bookworm-cloud"),   form: Form::Uki,      append: "" },
    Row { name: "6.1 cloud, vmlinux",        source: Source::Package("bookworm-cloud"),   form: Form::Vmlinux,  append: "" },
    Row { name: "6.1 cloud, lockdown=integrity",       source: Source::Package("bookworm-cloud"), form: Form::Packaged, append: "lockdown=integrity" },
    Row { name: "6.1 cloud, lockdown=confidentiality", source: Source::Package("bookworm-cloud"), form: Form::Packaged, append: "lockdown=confidentiality" },
    Row { name: "6.1 cloud, module.sig_enforce=1",     source: Source::Package("bookworm-cloud"), form: Form::Packaged, append: "module.sig_enforce=1" },
    Row { name: "6.1 cloud, security=selinux",         source: Source::Package("bookworm-cloud"), form: Form::Packaged, append: "security=selinux" },
    Row { name: "kernel tree",               source: Source::Tree,                        form: Form::Packaged, append: "" },
    Row { name: "small kernel",              source: Source::Small,                       form: Form::Packaged, append: "" },
];

/// A kernel that is ready to boot.
#[derive(Debug)]
pub(super) struct ReadyKernel {
    /// Options of chrootvm that boot it.
    pub(super) options: Vec<OsString>,
    /// Directory of its image, which ends with this value; `None` if the image is kept elsewhere.
    _directory: Option<TempDir>,
}

impl Row {
    /// Prepares the kernel; `tree` is the kernel tree that the user gave.
    ///
    /// # Errors
    /// The kernel does not exist, or cannot be fetched.
    pub(super) fn options(&self, workspace: &Path, tree: Option<&Path>) -> Result<ReadyKernel> {
        let mut directory = None;
        let mut options: Vec<OsString> = match self.source {
            Source::Tree => {
                let tree = tree.context("give a built tree with --tree DIR")?;
                vec!["--kernel".into(), tree.into()]
            }
            Source::Small => {
                let built = SmallKernels::of_user()?.list()?;
                built.iter().find(|kernel| kernel.is_current).context("run `make kernel` first")?;
                vec!["--kernel-builtin".into()]
            }
            Source::Package(name) => {
                let kernel = packages::kernel(workspace, name)?;
                let mut image = kernel.image;
                if self.form != Form::Packaged {
                    let made = tempfile::Builder::new().prefix("virtinitrd-kernels-").tempdir();
                    let made = made.context("make a directory")?;
                    let packed = made.path().join("kernel");
                    self.form.pack(&image, &packed)?;
                    (image, directory) = (packed, Some(made));
                }
                vec!["--kernel".into(), image.into(), "--modules".into(), kernel.modules.into()]
            }
        };
        if !self.append.is_empty() {
            options.extend(["--append".into(), self.append.into()]);
        }
        Ok(ReadyKernel { options, _directory: directory })
    }
}

impl Form {
    /// Writes the kernel `image` in this form to the file `to`.
    fn pack(self, image: &Path, to: &Path) -> Result<()> {
        if self == Form::Vmlinux {
            let root = Rc::new(RootDir::open(Path::new("/"))?);
            let kernel =
                KernelImage::new(Located { root, path: image.into() }).bootable(Pvh::Auto)?;
            // A kernel that was unpacked just now was written to this descriptor.
            let mut kernel = &kernel.file;
            let copied = kernel
                .rewind()
                .and_then(|()| File::create(to))
                .and_then(|mut to| io::copy(&mut kernel, &mut to));
            return copied.map(drop).with_context(|| format!("write {}", to.display()));
        }
        let plain = fs::read(image).with_context(|| format!("read {}", image.display()))?;
        let gzip = |bytes: Vec<u8>| compress(bytes, Compression::Gzip);
        let packed = match self {
            Form::Packaged | Form::Vmlinux => plain,
            Form::Gzip => gzip(plain)?,
            Form::Zboot => zboot(&gzip(plain)?, "gzip"),
            Form::Uki => uki(".linux", &plain),
        };
        fs::write(to, packed).with_context(|| format!("write {}", to.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_document_and_has_a_package() {
        let document = include_str!("../../../docs/kernel.md");
        for row in ROWS {
            assert!(document.contains(&format!("\n| {} | ", row.name)), "{}", row.name);
            if let Source::Package(name) = row.source {
                assert!(packages::PACKAGES.iter().any(|package| package.name == name), "{name}");
            }
        }
    }
}
