//! Which QEMU, and what it can do here.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use files::named::Named;

use crate::host;
use crate::plan::architecture::Machine;
use crate::plan::{Accelerator, SANDBOX};

/// `--accel`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM where that works.
    #[default]
    Auto,
    /// By the processor, fast (/dev/kvm)
    Kvm,
    /// By QEMU alone, slow, works everywhere
    Tcg,
}

#[rustfmt::skip]
impl Named for Accel {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "KVM where that works"),
        ("kvm", Self::Kvm, "By the processor, fast (/dev/kvm)"),
        ("tcg", Self::Tcg, "By QEMU alone, slow, works everywhere"),
    ];
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

/// The oldest QEMU that knows all that [`crate::plan`] writes: major and minor number.
/// The newest of these is `hpet=off` of q35 (5.2); `-machine memory-backend=` came with
/// 5.0, vhost-user-fs-pci with 4.2, the entry by PVH with 4.0, memory-backend-memfd and
/// `fd=` of a socket with 2.12, the switches of `-sandbox` with 2.11. `set-action`
/// (6.0) is tried, and its absence is no error.
const OLDEST: (u32, u32) = (5, 2);

/// The first word that begins with a digit, in what a program says to `--version`.
#[must_use]
pub fn version(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// An error if QEMU's `version` is too old; `None` also if `version` is no number.
#[must_use]
pub fn too_old(version: &str) -> Option<String> {
    let mut numbers = version.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    let found = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    let (major, minor) = OLDEST;
    (found < OLDEST).then(|| format!("QEMU {major}.{minor} or newer is needed"))
}

/// A QEMU that is asked for its version, and whether it was built with `-sandbox`; it
/// answers in the background.
#[derive(Debug)]
pub struct Probe {
    program: PathBuf,
    child: Option<Child>,
}

impl Probe {
    /// Asks. The answer takes a few milliseconds, in which there is other work.
    #[must_use]
    pub fn start(qemu: &Path) -> Self {
        let mut command = Command::new(qemu);
        command.args(["-sandbox", SANDBOX, "-version"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { program: qemu.to_path_buf(), child: command.spawn().ok() }
    }

    /// Whether QEMU has `-sandbox`; false if QEMU cannot be asked.
    ///
    /// # Errors
    /// A version that is too old.
    pub fn finish(self) -> Result<bool> {
        let answer = self.child.and_then(|child| child.wait_with_output().ok());
        let answer = answer.filter(|answer| answer.status.success());
        let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        judge(&self.program, text.as_deref())
    }
}

/// Whether `program` has `-sandbox`, by its `answer`: text with its version, or `None`
/// if it does not know `-sandbox`.
fn judge(program: &Path, answer: Option<&str>) -> Result<bool> {
    let Some(answer) = answer else { return Ok(false) };
    let version = version(answer).unwrap_or_default();
    match too_old(&version) {
        Some(problem) => bail!("{} is version {version}: {problem}", program.display()),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::architecture;

    #[test]
    fn kvm_only_where_it_works() {
        let problem = || Some("no".to_owned());
        assert_eq!(Accel::Auto.choose(None).unwrap(), Accelerator::Kvm);
        assert_eq!(Accel::Auto.choose(problem()).unwrap(), Accelerator::Tcg);
        assert_eq!(Accel::Tcg.choose(None).unwrap(), Accelerator::Tcg);
        assert!(Accel::Kvm.choose(problem()).is_err());
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (text, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)\nCopyright 2003", Some("7.2.22")),
            ("virtiofsd version 7.2.22 (Debian)\nusing FUSE 7.36", Some("7.2.22")),
            ("virtiofsd 1.11.1\n", Some("1.11.1")),
            ("", None),
        ] {
            assert_eq!(version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_qemu_before_hpet_off_is_too_old() {
        for (version, is_old) in [
            ("2.12.1", true),
            ("4.2.1", true),
            ("5", true),
            ("5.0.0", true),
            ("5.1.92", true),
            ("5.2", false),
            ("5.2.0", false),
            ("5.2rc1", false),
            ("6.2.0", false),
            ("7.2.22", false),
            ("10.0.2", false),
            ("10", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(too_old(version).is_some(), is_old, "{version}");
        }
    }

    #[test]
    fn an_old_qemu_is_refused_before_anything_runs() {
        let program = Path::new("/q");
        for (name, answer, expected) in [
            ("new", Some("QEMU emulator version 7.2.22\n"), Ok(true)),
            ("silent", Some(""), Ok(true)),
            ("without -sandbox", None, Ok(false)),
            (
                "old",
                Some("QEMU emulator version 5.1.0 (Fedora)"),
                Err("/q is version 5.1.0: QEMU 5.2"),
            ),
        ] {
            match (judge(program, answer), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{name}: {error}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_firmware_is_that_of_the_program() {
        let machine = architecture::of_host().unwrap();
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
        let machine = architecture::of_host().unwrap();
        assert_eq!(find(machine, Some(Path::new("/bin/sh"))).unwrap(), Path::new("/bin/sh"));
        assert!(find(machine, Some(Path::new("sh"))).unwrap().ends_with("sh"));
        for missing in ["no-such-qemu", "/etc/passwd", "./x/y"] {
            assert!(find(machine, Some(Path::new(missing))).is_err(), "{missing}");
        }
    }
}
