//! Which QEMU, and what it can do here.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::machine::Machine;
use super::plan::{Accelerator, SANDBOX};
use crate::host;

/// `--accel`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM where that works.
    #[default]
    Auto,
    /// By the processor, fast (/dev/kvm)
    Kvm,
    /// By QEMU alone, slow, works everywhere
    Tcg,
}

impl Accel {
    /// What is used, where KVM has this problem or none.
    pub fn choose(self, kvm_problem: Option<String>) -> Result<Accelerator> {
        match (self, kvm_problem) {
            (Self::Tcg, _) | (Self::Auto, Some(_)) => Ok(Accelerator::Tcg),
            (Self::Auto | Self::Kvm, None) => Ok(Accelerator::Kvm),
            (Self::Kvm, Some(problem)) => bail!("--accel kvm: {problem}"),
        }
    }
}

/// The program for `machine`: the one given, or the one installed.
pub fn find(machine: &Machine, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        let found = match given.components().count() {
            1 => host::find_program(given.as_os_str()),
            _ => Some(given.to_path_buf()).filter(|path| host::is_executable(path)),
        };
        return found.with_context(|| format!("--qemu {}: no such program", given.display()));
    }
    installed(machine).with_context(|| {
        format!("{} not found in PATH: install QEMU (Debian: qemu-system-x86)", machine.qemu)
    })
}

/// The program for `machine`, where one is installed.
#[must_use]
pub fn installed(machine: &Machine) -> Option<PathBuf> {
    let names = [machine.qemu, "qemu-kvm"];
    let in_path = names.iter().find_map(|name| host::find_program(OsStr::new(name)));
    let libexec = || Path::new("/usr/libexec/qemu-kvm").to_path_buf();
    in_path.or_else(|| Some(libexec()).filter(|path| host::is_executable(path)))
}

/// The machine's own firmware, where `qemu` came with it: in `share/qemu` beside
/// the `bin` that the program is in.
#[must_use]
pub fn firmware(machine: &Machine, qemu: &Path) -> Option<PathBuf> {
    let program = qemu.canonicalize().ok()?;
    let prefix = program.parent()?.parent()?;
    Some(prefix.join("share/qemu").join(machine.firmware?)).filter(|file| file.is_file())
}

/// The question whether QEMU was built with `-sandbox`, on its way.
#[derive(Debug)]
pub struct SandboxProbe(Option<Child>);

impl SandboxProbe {
    /// Asks. The answer takes a few milliseconds, in which there is other work.
    #[must_use]
    pub fn start(qemu: &Path) -> Self {
        let mut command = Command::new(qemu);
        command.args(["-sandbox", SANDBOX, "-version"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().ok())
    }

    /// Whether it has. One that cannot be asked has not.
    #[must_use]
    pub fn finish(self) -> bool {
        self.0.is_some_and(|mut child| child.wait().is_ok_and(|status| status.success()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::machine;

    #[test]
    fn kvm_only_where_it_works() {
        let problem = || Some("no".to_owned());
        assert_eq!(Accel::Auto.choose(None).unwrap(), Accelerator::Kvm);
        assert_eq!(Accel::Auto.choose(problem()).unwrap(), Accelerator::Tcg);
        assert_eq!(Accel::Tcg.choose(None).unwrap(), Accelerator::Tcg);
        assert!(Accel::Kvm.choose(problem()).is_err());
    }

    #[test]
    fn the_firmware_is_that_of_the_program() {
        let machine = machine::of_host().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().canonicalize().unwrap();
        let (program, data) = (prefix.join("bin/qemu"), prefix.join("share/qemu"));
        for dir in [program.parent().unwrap(), &data] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(&program, "").unwrap();
        assert_eq!(firmware(machine, &program), None);
        let file = data.join(machine.firmware.unwrap());
        std::fs::write(&file, "").unwrap();
        assert_eq!(firmware(machine, &program), Some(file));
    }

    #[test]
    fn a_qemu_that_was_named_must_be_there() {
        let machine = machine::of_host().unwrap();
        assert_eq!(find(machine, Some(Path::new("/bin/sh"))).unwrap(), Path::new("/bin/sh"));
        assert!(find(machine, Some(Path::new("sh"))).unwrap().ends_with("sh"));
        for missing in ["no-such-qemu", "/etc/passwd", "./x/y"] {
            assert!(find(machine, Some(Path::new(missing))).is_err(), "{missing}");
        }
    }
}
