//! Finding QEMU, and asking for its version and its `-sandbox`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use files::named::Named;

use crate::host;
use crate::plan::architecture::Architecture;
use crate::plan::machine_plan::Accelerator;
use crate::plan::qemu_arguments::SANDBOX;
use crate::process::answers::Question;

/// Value of `--accel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccelOption {
    /// KVM if this host can use it, otherwise TCG.
    #[default]
    Auto,
    /// KVM: the processor executes guest code.
    Kvm,
    /// TCG: QEMU translates guest code.
    Tcg,
}

#[rustfmt::skip]
impl Named for AccelOption {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "KVM if it works, else tcg"),
        ("kvm", Self::Kvm, "on the processor of this host, fast; needs /dev/kvm"),
        ("tcg", Self::Tcg, "emulated by QEMU: slow, but works everywhere"),
    ];
}

impl AccelOption {
    /// The accelerator to use; `kvm_problem` says why KVM cannot be used, if so.
    ///
    /// # Errors
    /// The user insists on KVM, which cannot be used.
    pub fn choose(self, kvm_problem: Option<String>) -> Result<Accelerator> {
        match (self, kvm_problem) {
            (Self::Tcg, _) | (Self::Auto, Some(_)) => Ok(Accelerator::Tcg),
            (Self::Auto | Self::Kvm, None) => Ok(Accelerator::Kvm),
            (Self::Kvm, Some(problem)) => bail!("--accel kvm: {problem}"),
        }
    }
}

/// Path of QEMU for `architecture`: the program `given` by the user, or the installed one.
///
/// # Errors
/// The given program does not exist, or QEMU is not installed.
pub fn find(architecture: &Architecture, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        let found = match given.components().count() {
            1 => host::find_program(given.as_os_str()),
            _ => Some(given.to_path_buf()).filter(|path| host::is_executable(path)),
        };
        return found.with_context(|| format!("--qemu {}: no such program", given.display()));
    }
    installed(architecture).with_context(|| {
        format!("{}, the QEMU for {}, not found in PATH", architecture.qemu, architecture.arch)
    })
}

/// Path of the installed QEMU for `architecture`.
#[must_use]
pub fn installed(architecture: &Architecture) -> Option<PathBuf> {
    let own = host::find_program(OsStr::new(architecture.qemu));
    if own.is_some() || !architecture.is_of_host() {
        return own;
    }
    let libexec = || Path::new("/usr/libexec/qemu-kvm").to_path_buf();
    host::find_program(OsStr::new("qemu-kvm"))
        .or_else(|| Some(libexec()).filter(|path| host::is_executable(path)))
}

/// Path of the architecture's own firmware, if it was installed together with `qemu`: the
/// directory `share/qemu` is beside the `bin` of the program.
#[must_use]
pub fn firmware(architecture: &Architecture, qemu: &Path) -> Option<PathBuf> {
    let program = qemu.canonicalize().ok()?;
    let prefix = program.parent()?.parent()?;
    Some(prefix.join("share/qemu").join(architecture.firmware?)).filter(|file| file.is_file())
}

/// Oldest supported version of QEMU (major, minor) for most architectures. It must know every
/// argument of [`crate::plan::qemu_arguments`]: `hpet=off` of q35 came with 5.2, `-machine
/// memory-backend=` with 5.0, vhost-user-fs-pci with 4.2, booting by PVH with 4.0,
/// memory-backend-memfd and `fd=` of a socket with 2.12, and the switches of `-sandbox` with
/// 2.11. The QMP command `set-action` (6.0) is optional.
const OLDEST: (u32, u32) = (5, 2);

/// Version in the output of `--version`: the first word that begins with a digit.
#[must_use]
pub fn version(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// Error text if `version` of QEMU is too old for machines of `architecture`; `None` if it is new
/// enough or unknown.
#[must_use]
pub fn too_old(architecture: &Architecture, version: &str) -> Option<String> {
    let mut numbers = version.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    let found = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    let (major, minor) = architecture.oldest_qemu.unwrap_or(OLDEST);
    (found < (major, minor)).then(|| format!("QEMU {major}.{minor} or newer is needed"))
}

/// A QEMU that runs in the background to print its version, with `-sandbox`. A QEMU that was
/// built without `-sandbox` fails.
#[derive(Debug)]
pub struct QemuProbe {
    architecture: &'static Architecture,
    program: PathBuf,
    question: Question,
}

impl QemuProbe {
    /// Asks `qemu`, the one for `architecture`, which takes a few milliseconds the first time;
    /// meanwhile the caller can go on.
    #[must_use]
    pub fn start(architecture: &'static Architecture, qemu: &Path) -> Self {
        let question = Question::ask(qemu, &["-sandbox", SANDBOX, "-version"]);
        Self { architecture, program: qemu.to_path_buf(), question }
    }

    /// Waits for the answer, and returns whether QEMU has `-sandbox`; false if QEMU fails.
    ///
    /// # Errors
    /// The version is too old.
    pub fn finish(self) -> Result<bool> {
        let answer = self.question.answer().ok().filter(|answer| answer.is_success);
        judge(self.architecture, &self.program, answer.as_ref().map(|answer| &*answer.text))
    }
}

/// Whether `program`, the QEMU for `architecture`, has `-sandbox`. Its `answer` is the text with
/// its version, or `None` if it failed.
fn judge(architecture: &Architecture, program: &Path, answer: Option<&str>) -> Result<bool> {
    let Some(answer) = answer else { return Ok(false) };
    let version = version(answer).unwrap_or_default();
    match too_old(architecture, &version) {
        Some(problem) => bail!("{} is version {version}: {problem}", program.display()),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::architecture;

    #[test]
    fn kvm_is_used_only_if_it_works() {
        let problem = || Some("no".to_owned());
        assert_eq!(AccelOption::Auto.choose(None).unwrap(), Accelerator::Kvm);
        assert_eq!(AccelOption::Auto.choose(problem()).unwrap(), Accelerator::Tcg);
        assert_eq!(AccelOption::Tcg.choose(None).unwrap(), Accelerator::Tcg);
        assert!(AccelOption::Kvm.choose(problem()).is_err());
    }

    #[test]
    fn versions_are_found_in_the_output_of_programs() {
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
        let x86 = architecture::named("x86_64").unwrap();
        let power = architecture::named("ppc64le").unwrap();
        assert!(too_old(power, "6.1.1").is_some() && too_old(power, "6.2").is_none());
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
            assert_eq!(too_old(x86, version).is_some(), is_old, "{version}");
        }
    }

    #[test]
    fn the_answer_decides_on_the_version_and_the_sandbox() {
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
            match (judge(architecture::named("x86_64").unwrap(), program, answer), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{name}: {error}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_firmware_is_found_beside_the_program() {
        let architecture = architecture::of_host().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().canonicalize().unwrap();
        let (program, data) = (prefix.join("bin/qemu"), prefix.join("share/qemu"));
        for dir in [program.parent().unwrap(), &data] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(&program, "").unwrap();
        assert_eq!(firmware(architecture, &program), None);
        let file = data.join(architecture.firmware.unwrap());
        std::fs::write(&file, "").unwrap();
        assert_eq!(firmware(architecture, &program), Some(file));
    }

    #[test]
    fn a_qemu_that_the_user_names_must_exist() {
        let architecture = architecture::of_host().unwrap();
        assert_eq!(find(architecture, Some(Path::new("/bin/sh"))).unwrap(), Path::new("/bin/sh"));
        assert!(find(architecture, Some(Path::new("sh"))).unwrap().ends_with("sh"));
        for missing in ["no-such-qemu", "/etc/passwd", "./x/y"] {
            assert!(find(architecture, Some(Path::new(missing))).is_err(), "{missing}");
        }
    }
}
