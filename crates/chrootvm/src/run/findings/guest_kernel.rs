//! The kernel that a machine boots: the user's, one of ROOTFS, or one of this host.

use std::path::PathBuf;

use anyhow::{Error, Result, anyhow, bail, ensure};
use machine::doctor::gather::install_command;
use machine::doctor::packages::Tool;
use machine::kernel::bootable::KernelImage;
use machine::kernel::find::{UserKernel, find_kernel, mismatch};
use machine::kernel::located::Located;
use machine::kernel::modules::file::SymbolVersions;
use machine::kernel::needs::{self, MissingOption};
use machine::kernel::{of_host, signatures};
use machine::plan::architecture::Architecture;
use machine::root::kinds::Root;

use super::super::arguments::RunArguments;
use super::ChosenArchitecture;

/// Kernel of the guest, and its modules.
#[derive(Debug)]
pub(in crate::run) struct GuestKernel {
    pub(in crate::run) image: KernelImage,
    pub(in crate::run) modules: Option<Located>,
    /// Text of the kernel's configuration, if it can be read.
    pub(in crate::run) config: Option<String>,
}

impl GuestKernel {
    /// The directory of the modules; its name is usually the kernel's release.
    pub(in crate::run) fn modules_path(&self) -> Option<PathBuf> {
        self.modules.as_ref().map(Located::host_path)
    }

    /// Finds the kernel for `arguments` and `root`; `given` is the kernel that the user gave.
    ///
    /// # Errors
    /// Neither the options nor `root` nor this host has a kernel, or the kernel is for another
    /// architecture, or refuses its modules.
    pub(super) fn find(
        arguments: &RunArguments,
        root: &Root,
        architecture: &ChosenArchitecture,
        given: Option<UserKernel>,
    ) -> Result<Self> {
        let options = &arguments.machine;
        let is_given = given.is_some();
        let of_root = || match &arguments.image {
            Some(image) if !image.has_kernel => bail!("image {} has no kernel", image.name),
            _ => root.files(),
        };
        let (image, modules) = match find_kernel(of_root, given, options.modules.as_deref()) {
            Err(of_root) if !is_given => match options.modules {
                Some(_) => bail!("{of_root:#}; give --kernel"),
                None => of_this_host(arguments, root, architecture, &of_root)?,
            },
            found => found?,
        };
        architecture.check_kernel(&image)?;
        let packed = modules.as_ref().filter(|_| options.initrd.is_none());
        match packed.and_then(|modules| mismatch(&image, modules)) {
            None => {}
            Some(found) if found.versions == SymbolVersions::Present => {
                log::warn!("{}", found.problem);
            }
            Some(found) => bail!("{}", found.problem),
        }
        let config = signatures::config(&image.located, modules.as_ref());
        let kernel = Self { image, modules, config };
        if options.initrd.is_none() {
            kernel.check_options(arguments, root, architecture)?;
        }
        let needs_modules =
            !options.kernel_builtin && options.initrd.is_none() && root.archive().is_none();
        if needs_modules && kernel.modules.is_none() && !kernel.has_built_in("VIRTIO_FS") {
            log::warn!(
                "{} has no modules of kernel {}: give --modules DIR, unless the kernel has its \
                 drivers built in",
                arguments.root_name(root),
                kernel.image.host_path().display()
            );
        }
        Ok(kernel)
    }

    /// Checks that the kernel's configuration, if it is known, has the options without which this
    /// machine does not run.
    fn check_options(
        &self,
        arguments: &RunArguments,
        root: &Root,
        architecture: &ChosenArchitecture,
    ) -> Result<()> {
        let overlay = arguments.directories.overlay().map(|size| size.to_string());
        let transport = architecture.constants.transport;
        let mut modules = root.needed_modules(transport, overlay.as_deref());
        modules.retain(|&name| name != "virtio_console" || arguments.is_hosted());
        let missing = needs::missing(self.config.as_deref().unwrap_or_default(), &modules);
        let name = |option: &MissingOption| format!("CONFIG_{} ({})", option.name, option.purpose);
        let names: Vec<_> = missing.iter().map(name).collect();
        ensure!(
            names.is_empty(),
            "the configuration of kernel {} lacks {}; `chrootvm kernel config` prints the lines \
             for scripts/kconfig/merge_config.sh",
            self.image.host_path().display(),
            names.join(", ")
        );
        Ok(())
    }

    /// Whether the configuration says that the kernel has `CONFIG_NAME` built in.
    pub(super) fn has_built_in(&self, name: &str) -> bool {
        let line = format!("CONFIG_{name}=y");
        self.config.as_deref().is_some_and(|config| config.lines().any(|other| other == line))
    }
}

/// A kernel of this host and its modules; `of_root` is the reason why none of `root` boots.
fn of_this_host(
    arguments: &RunArguments,
    root: &Root,
    architecture: &ChosenArchitecture,
    of_root: &Error,
) -> Result<(KernelImage, Option<Located>)> {
    let overlay = arguments.directories.overlay().map(|size| size.to_string());
    let Architecture { arch, transport, .. } = *architecture.constants;
    let needs = root.needed_modules(transport, overlay.as_deref());
    let found = of_host::find(arch, &needs).map_err(|of_host| {
        match architecture.constants.is_of_host() {
            true => no_kernel(of_root, &of_host),
            false => anyhow!(
                "{of_root:#}; no kernel of this host can be booted{}: {of_host:#}; give --kernel \
                 FILE and --modules DIR of a kernel for {arch}",
                architecture.explanation()
            ),
        }
    })?;
    log::info!(
        "{} has no kernel; booting this host's: {}",
        arguments.root_name(root),
        found.image.host_path().display()
    );
    Ok((found.image, Some(found.modules)))
}

/// The error about a root and a host without a kernel, for these reasons.
fn no_kernel(of_root: &Error, of_host: &Error) -> Error {
    anyhow!(
        "{of_root:#}; no kernel of this host can be booted: {of_host:#}; give --kernel FILE, or \
         --kernel-builtin after `chrootvm kernel build`, or {}",
        install_command(Tool::Kernel)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kernel_has_three_remedies() {
        let error = no_kernel(&anyhow!("/r has no kernel"), &anyhow!("it has none")).to_string();
        let start = "/r has no kernel; no kernel of this host can be booted: it has none; ";
        assert!(error.starts_with(start), "{error}");
        for remedy in ["--kernel FILE", "--kernel-builtin after `chrootvm kernel build`", "install"]
        {
            assert!(error.contains(remedy), "{remedy}: {error}");
        }
    }
}
