//! Errors of a run, with what helps against them.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Error, anyhow};
use machine::kernel::modules::resolve::MissingModule;
use machine::root::kinds::Root;
use machine::running::script;

use super::arguments::RunArguments;
use super::findings::Findings;
use crate::line::locations;

impl RunArguments {
    /// `error` about ROOTFS, with the option that took the real ROOTFS, or left its value, or with
    /// the word for an image.
    pub(super) fn explain_rootfs(&self, error: Error) -> Error {
        let took_rootfs = self.machine.init.as_deref().is_some_and(Path::is_dir);
        let of_init = "leave out --init: /init is PID 1 without it".to_owned();
        let missing = self.rootfs.as_deref().filter(|path| path.symlink_metadata().is_err());
        let of_image = || locations::hint(missing?.as_os_str());
        let explanation = self.misread_rootfs().or(took_rootfs.then_some(of_init));
        match explanation.or_else(of_image) {
            Some(explanation) => anyhow!("{error:#}; {explanation}"),
            None => error,
        }
    }

    /// `error` of packing the initrd, with what helps if a module is missing.
    pub(super) fn explain_module(&self, error: Error, root: &Root, findings: &Findings) -> Error {
        if error.downcast_ref::<MissingModule>().is_none() {
            return error;
        }
        let kernel = &findings.kernel;
        let mut words: Vec<OsString> = vec!["chrootvm".into(), "--doctor".into()];
        // A path in an image is no path of the host.
        if root.is_directory() || self.machine.kernel.is_some() {
            words.extend(["--kernel".into(), kernel.image.host_path().into()]);
            if let Some(modules) = &kernel.modules {
                words.extend(["--modules".into(), modules.host_path().into()]);
            }
        }
        words.push(root.path().into());
        let doctor = script::shell_line(&words);
        anyhow!(
            "{error:#}; install the rest of that kernel's modules (Fedora: kernel-modules, Ubuntu: \
             linux-modules-extra-VERSION), or give another kernel with --kernel and --modules; {} \
             says what this one has",
            doctor.display()
        )
    }
}
