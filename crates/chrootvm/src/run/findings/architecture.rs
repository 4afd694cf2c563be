//! The architecture of the machine: that of `--arch`, or else that of what it boots.

use anyhow::{Context, Result, bail, ensure};
use machine::kernel::bootable::KernelImage;
use machine::kernel::find::UserKernel;
use machine::plan::architecture::{self, Architecture};
use machine::plan::shares::Share;
use machine::root::architecture::KnownProgram;
use machine::root::kinds::Root;

use super::super::arguments::RunArguments;

/// The architecture of a machine.
#[derive(Clone, Debug)]
pub(in crate::run) struct ChosenArchitecture {
    /// Its constants.
    pub(in crate::run) constants: &'static Architecture,
    /// The reason for it, as in "the machine is for aarch64, REASON".
    reason: String,
}

impl ChosenArchitecture {
    /// Chooses for `arguments`, `root`, and the `kernel` that the user gave. The words of the user
    /// come first, then the platform of the OCI image, the programs in the root, and the kernel;
    /// without any of them, the machine is like this host.
    ///
    /// # Errors
    /// The root is for an architecture without machines.
    pub(in crate::run) fn choose(
        arguments: &RunArguments,
        root: Option<&Root>,
        kernel: Option<&UserKernel>,
    ) -> Result<Self> {
        let chosen = |constants, reason: String| Ok(Self { constants, reason });
        if let Some(constants) = arguments.machine.arch {
            return chosen(constants, "as --arch says".into());
        }
        if let Some(image) = &arguments.image {
            return chosen(image.architecture, format!("as image {} is", image.name));
        }
        let given = arguments.machine.kernel.as_deref();
        let has_kernel = given.is_some() || arguments.machine.kernel_builtin;
        if let Some(root) = root.filter(|root| is_read(root, has_kernel))
            && let Some(program) = root.files().ok().and_then(|files| KnownProgram::of(&*files))
        {
            let path = root.path().display();
            let constants = program.architecture().with_context(|| {
                format!(
                    "{} in {path} is for {}, and there are machines for {} only; --arch chooses one \
                     of them anyway",
                    program.path,
                    program.machine,
                    architecture::names()
                )
            })?;
            return chosen(constants, format!("as {} in {path} is", program.path));
        }
        let found = kernel.and_then(|kernel| of_kernel(&kernel.image));
        if let (Some(constants), Some(path)) = (found, given) {
            return chosen(constants, format!("as kernel {} is", path.display()));
        }
        chosen(architecture::of_host()?, "as this host is".into())
    }

    /// Checks that the kernel `image` is for this architecture.
    ///
    /// # Errors
    /// It is for another one.
    pub(super) fn check_kernel(&self, image: &KernelImage) -> Result<()> {
        // A file that is no kernel is reported when it is opened for QEMU.
        let Ok(kernel) = image.kernel() else { return Ok(()) };
        let arch = kernel.arch;
        ensure!(
            arch == self.constants.arch,
            "kernel {} is for {arch}, but the machine is for {}, {}: give --kernel and --modules of \
             {} kernel, or --arch",
            image.host_path().display(),
            self.constants.arch,
            self.reason,
            with_article(self.constants.arch)
        );
        Ok(())
    }

    /// Checks that this host can share directories with the machine.
    ///
    /// # Errors
    /// There are `shares`, and it cannot.
    pub(super) fn check_shares(&self, shares: &[Share]) -> Result<()> {
        match (shares.first(), self.constants.no_shares()) {
            (Some(share), Some(why)) => bail!(
                "{}: this {} host cannot share a directory with a guest of {}: {why}; `chrootvm image \
                 build` makes an image of it{}",
                share.source.display(),
                architecture::HOST,
                self.constants.arch,
                self.explanation()
            ),
            _ => Ok(()),
        }
    }

    /// The end of an error about a program or a file for this architecture that is missing; empty
    /// if it is that of this host.
    pub(super) fn explanation(&self) -> String {
        match self.constants.is_of_host() {
            true => String::new(),
            false => format!(" (the machine is for {}, {})", self.constants.arch, self.reason),
        }
    }
}

/// Whether the contents of `root` are read in any case: an archive for the memory that it takes,
/// an image for its kernel unless another one is given.
fn is_read(root: &Root, has_kernel: bool) -> bool {
    root.is_directory() || root.archive().is_some() || !has_kernel
}

/// The architecture of the kernel `image`; `None` if it cannot be read, which is reported later.
fn of_kernel(image: &KernelImage) -> Option<&'static Architecture> {
    architecture::named(image.kernel().ok()?.arch)
}

/// The name of an architecture with its article.
fn with_article(arch: &str) -> String {
    let article = if arch.starts_with(['a', 's', 'x']) { "an" } else { "a" };
    format!("{article} {arch}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::plan::shares::{Access, MountPoint, ROOT_TAG};

    #[test]
    fn directories_are_refused_for_foreign_ppc64le_and_s390x() {
        let share = Share {
            tag: ROOT_TAG.into(),
            source: "/r".into(),
            access: Access::ReadOnly,
            mount_point: MountPoint::Root,
        };
        for (arch, is_refused) in
            [("x86_64", false), ("aarch64", false), ("ppc64le", true), ("s390x", true)]
        {
            let constants = architecture::named(arch).unwrap();
            let chosen = ChosenArchitecture { constants, reason: "as --arch says".into() };
            assert!(chosen.check_shares(&[]).is_ok(), "{arch}");
            let found = chosen.check_shares(std::slice::from_ref(&share)).err();
            assert_eq!(found.is_some(), is_refused && arch != architecture::HOST, "{arch}");
            if let Some(error) = found {
                let error = error.to_string();
                assert!(error.starts_with("/r: ") && error.contains(&format!("guest of {arch}: ")));
            }
        }
    }
}
