//! Gathering of the facts: asks programs and reads files, but judges nothing.
//!
//! Interfaces: subuid(5), os-release(5), /proc/cpuinfo and /proc/sys (proc(5)), and the
//! command lines of QEMU and virtiofsd.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group};

use super::facts::{Daemon, Facts, Ids, Kvm, Processor, Program, Qemu, User};
use super::kernel_facts::{GivenKernel, given_kernel, host_kernel, root_kernels};
use super::packages::{Distribution, Tool};
use crate::host;
use crate::plan::architecture::{Architecture, HOST};
use crate::plan::shares::{Access, MountPoint, Share};
use crate::process::qemu::version;
use crate::process::{qemu, virtiofsd};
use crate::toolchain;

/// Files with the users' ranges of subordinate ids (subuid(5), subgid(5)).
const ID_FILES: &[&str] = &["/etc/subuid", "/etc/subgid"];

/// Lowest subordinate id (login.defs(5), `SUB_UID_MIN`).
const FIRST_ID: u32 = 100_000;

/// Programs that enter subordinate ids into a user namespace.
const ID_PROGRAMS: &[&str] = &["newuidmap", "newgidmap"];

/// Settings that forbid user namespaces if they are 0, and the commands that permit them.
/// Debian's kernels have the first setting, all kernels have the second.
const NAMESPACE_SETTINGS: &[(&str, &str)] = &[
    ("/proc/sys/kernel/unprivileged_userns_clone", "sysctl kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "sysctl user.max_user_namespaces=10000"),
];

/// Paths of os-release(5); the second is read if the first is missing.
const OS_RELEASE: &[&str] = &["/etc/os-release", "/usr/lib/os-release"];

/// Gathers the facts about this host and its machines of `architecture`, about the kernel that is
/// `given`, and about the kernels of `rootfs`, if that is given.
///
/// # Errors
/// `rootfs` or a part of the `given` kernel cannot be opened.
pub fn gather(
    rootfs: Option<&Path>,
    given: GivenKernel<'_>,
    architecture: &'static Architecture,
) -> Result<Facts> {
    let user = user();
    let given = given_kernel(rootfs, given, architecture)?;
    let mut kernels = vec![root_kernels(Path::new("/"), false, architecture)?];
    if let Some(rootfs) = rootfs {
        let rootfs = root_kernels(rootfs, true, architecture)?;
        kernels.retain(|host| host.path != rootfs.path);
        kernels.push(rootfs);
    }
    Ok(Facts {
        architecture,
        distribution: distribution(),
        qemu: qemu(architecture),
        virtiofsd: daemon(),
        kvm: kvm(architecture),
        given,
        kernels,
        host_kernel: host_kernel(rootfs, architecture)?,
        ids: ids(&user.name),
        musl: toolchain::musl(),
        user,
    })
}

/// The command with which this user installs `tool` on this host.
#[must_use]
pub fn install_command(tool: Tool) -> String {
    user().as_root(&distribution().install(tool))
}

/// The distribution of this host.
fn distribution() -> Distribution {
    let os_release = OS_RELEASE.iter().find_map(|path| fs::read_to_string(path).ok());
    Distribution::parse(&os_release.unwrap_or_default())
}

/// The current user.
fn user() -> User {
    let uid = nix::unistd::geteuid();
    let entry = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = entry.map_or_else(|| uid.to_string(), |entry| entry.name);
    User { is_root: uid.is_root(), name }
}

/// Looks for QEMU and asks it for its version and features.
fn qemu(architecture: &Architecture) -> Program<Qemu> {
    let Some(program) = qemu::installed(architecture) else { return Program::Missing };
    let answer = match answer(&program, &["--version"]) {
        Ok(answer) if answer.status.success() => answer,
        Ok(answer) => return Program::Broken(complaint(&program, &answer)),
        Err(error) => return Program::Broken(format!("{error:#}")),
    };
    // Every build lists -sandbox in its help; only a build with libseccomp accepts it.
    let sandbox = self::answer(&program, &["-sandbox", "on", "-version"]);
    // Not every QEMU has a default machine, without which it lists nothing.
    let networks = self::answer(&program, &["-machine", "none", "-netdev", "help"]);
    Program::Works(Qemu {
        version: version(&text(&answer)),
        sandbox: sandbox.is_ok_and(|answer| answer.status.success()),
        user_network: networks.is_ok_and(|answer| text(&answer).lines().any(|line| line == "user")),
        program,
    })
}

/// Looks for virtiofsd and asks it for its version and features.
fn daemon() -> Program<Daemon> {
    let Some(program) = virtiofsd::installed() else { return Program::Missing };
    let found = match virtiofsd::probe(program.clone()) {
        Ok(found) => found,
        Err(error) => return Program::Broken(format!("{error:#}")),
    };
    let (tag, source) = ("tag".into(), "/srv".into());
    let share = Share { tag, source, access: Access::ReadOnly, mount_point: MountPoint::Tag };
    let answer = answer(&program, &["--version"]);
    let answer = answer.ok().filter(|answer| answer.status.success());
    Program::Works(Daemon {
        version: answer
            .and_then(|answer| version(&text(&answer)))
            .or_else(|| version_in(&contents(&program).ok()?)),
        flavour: found.flavour,
        guard: found.guard(&share),
        program,
    })
}

/// Runs a program and returns its output.
fn answer(program: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.with_context(|| format!("run {} {}", program.display(), arguments.join(" ")))
}

/// Standard output and standard error of a program, one after the other.
fn text(answer: &Output) -> String {
    [&answer.stdout[..], &answer.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// First line of the output of a program that has failed.
fn complaint(program: &Path, answer: &Output) -> String {
    let text = text(answer);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    format!("{}: {}: {line}", program.display(), answer.status)
}

/// Reads the start of a program's file.
fn contents(program: &Path) -> std::io::Result<Vec<u8>> {
    /// Most bytes that are read. QEMU's C virtiofsd has 1 MB.
    const MOST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    fs::File::open(program)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The version of QEMU's C virtiofsd, searched in its file `program`. It does not print its
/// version for a user: before it prints anything it drops the supplementary groups, which
/// only root may do.
fn version_in(program: &[u8]) -> Option<String> {
    const BEFORE: &[u8] = b"virtiofsd version ";
    let at = program.windows(BEFORE.len()).position(|part| part == BEFORE)?;
    let text = program.get(at + BEFORE.len()..)?.split(|byte| !byte.is_ascii_graphic()).next()?;
    version(std::str::from_utf8(text).ok()?)
}

/// Checks KVM for machines of `architecture`.
fn kvm(architecture: &Architecture) -> Kvm {
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let owner = fs::metadata("/dev/kvm").ok().map(|device| Gid::from_raw(device.gid()));
    let group = owner.and_then(|id| Group::from_gid(id).ok().flatten());
    Kvm {
        problem: host::kvm_problem(architecture.arch),
        device: device.err().map(|error| error.kind()),
        group: group.map(|group| group.name),
        processor: match HOST {
            "x86_64" => processor(&host::cpuinfo()),
            "ppc64le" => Processor { module: Some("kvm_hv"), is_guest: false },
            _ => Processor { module: Some("kvm"), is_guest: false },
        },
    }
}

/// Parses the flags of x86 in /proc/cpuinfo (kernel: arch/x86/include/asm/cpufeatures.h).
fn processor(cpuinfo: &str) -> Processor {
    let has = |flag: &str| cpuinfo.split_whitespace().any(|word| word == flag);
    let modules = [("vmx", "kvm_intel"), ("svm", "kvm_amd")];
    let module = modules.iter().find(|(flag, _)| has(flag)).map(|(_, module)| *module);
    Processor { module, is_guest: has("hypervisor") }
}

/// Checks subordinate ids and user namespaces for `user`.
fn ids(user: &str) -> Ids {
    let uid = nix::unistd::geteuid().to_string();
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let lacks_range = |file: &&&str| !has_range(&text(file), &[user, uid.as_str()]);
    let is_missing = |name: &&&str| host::find_program(name.as_ref()).is_none();
    let is_off = |path| fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
    let off = NAMESPACE_SETTINGS.iter().find(|(path, _)| is_off(path));
    Ids {
        without_range: ID_FILES.iter().filter(lacks_range).copied().collect(),
        free: ID_FILES.iter().map(|file| first_free(&text(file))).max().unwrap_or(FIRST_ID),
        without_program: ID_PROGRAMS.iter().filter(is_missing).copied().collect(),
        forbidden: off.map(|(_, mend)| *mend),
    }
}

/// Whether the text of subuid(5) has a line `USER:FIRST:COUNT` for one of `names`.
fn has_range(text: &str, names: &[&str]) -> bool {
    text.lines().filter_map(|line| line.split_once(':')).any(|(name, _)| names.contains(&name))
}

/// The first id above all ranges in the text of subuid(5), so that no other user has it.
fn first_free(text: &str) -> u32 {
    let end = |line: &str| {
        let mut numbers = line.split(':').skip(1).map(|number| number.parse::<u32>().ok());
        Some(numbers.next()??.saturating_add(numbers.next()??))
    };
    text.lines().filter_map(end).fold(FIRST_ID, u32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_file_of_the_program() {
        for (program, expected) in [
            (&b"\x7fELF\0virtiofsd version 7.2.22 (Debian 1:7.2)\n\0"[..], Some("7.2.22")),
            (b"virtiofsd version 7.2\0", Some("7.2")),
            (b"virtiofsd version %s\0", None),
            (b"virtiofsd version ", None),
            (b"", None),
        ] {
            assert_eq!(version_in(program).as_deref(), expected, "{program:?}");
        }
    }

    #[test]
    fn the_flags_tell_the_processor() {
        for (cpuinfo, module, is_guest) in [
            ("flags : fpu vmx\n", Some("kvm_intel"), false),
            ("flags : fpu svm hypervisor\n", Some("kvm_amd"), true),
            ("flags : fpu novmx\n", None, false),
        ] {
            assert_eq!(processor(cpuinfo), Processor { module, is_guest }, "{cpuinfo}");
        }
    }

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "# ranges\nme:100000:65536\n1001:165536:65536\n";
        assert!(has_range(text, &["me", "1000"]));
        assert!(has_range(text, &["you", "1001"]));
        assert!(!has_range(text, &["m", "1000"]));
        assert_eq!(first_free(text), 231_072);
        assert_eq!(first_free("me:1000:1\nyou:many\n"), FIRST_ID);
    }
}
