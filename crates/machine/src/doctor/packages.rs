//! Packages and installation commands of the distributions.
//!
//! Interface: os-release(5) names the distribution. `scripts/setup` has its own table,
//! because it runs before anything is built; a test compares both tables.

use std::fmt::Write;

/// Tool that a package provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// QEMU for x86_64.
    Qemu,
    /// QEMU for aarch64.
    QemuArm,
    /// QEMU for riscv64, with the firmware of its machines.
    QemuRiscv,
    /// QEMU for ppc64le.
    QemuPower,
    /// QEMU for s390x.
    QemuS390,
    /// virtiofsd, which exports directories to guests.
    Virtiofsd,
    /// A kernel for guests.
    Kernel,
    /// newuidmap(1) and newgidmap(1).
    IdMap,
    /// musl, with which `/init` is linked.
    Musl,
    /// mkfs.btrfs(8).
    Btrfs,
    /// mkfs.xfs(8).
    Xfs,
    /// mkfs.vfat(8).
    Fat,
    /// mcopy(1) and mmd(1).
    Mtools,
}

impl Tool {
    /// The QEMU for machines of the architecture `arch`.
    #[must_use]
    pub fn qemu_for(arch: &str) -> Self {
        match arch {
            "aarch64" => Self::QemuArm,
            "riscv64" => Self::QemuRiscv,
            "ppc64le" => Self::QemuPower,
            "s390x" => Self::QemuS390,
            _ => Self::Qemu,
        }
    }
}

/// Family of distributions with the same packages and the same package manager.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    /// `ID` of the family's main distribution; the others name it in `ID_LIKE`.
    id: &'static str,
    /// Installation command, without the package.
    install: &'static str,
    qemu: &'static str,
    qemu_arm: &'static str,
    qemu_riscv: &'static str,
    qemu_power: &'static str,
    qemu_s390: &'static str,
    virtiofsd: &'static str,
    kernel: &'static str,
    id_map: &'static str,
    musl: &'static str,
}

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    Family { id: "debian", install: "apt-get install", qemu: "qemu-system-x86",      qemu_arm: "qemu-system-arm",           qemu_riscv: "qemu-system-riscv64 opensbi", qemu_power: "qemu-system-ppc",    qemu_s390: "qemu-system-s390x",      virtiofsd: "virtiofsd", kernel: "linux-image-cloud-amd64", id_map: "uidmap",        musl: "musl-tools" },
    Family { id: "ubuntu", install: "apt-get install", qemu: "qemu-system-x86",      qemu_arm: "qemu-system-arm",           qemu_riscv: "qemu-system-riscv64 opensbi", qemu_power: "qemu-system-ppc",    qemu_s390: "qemu-system-s390x",      virtiofsd: "virtiofsd", kernel: "linux-image-generic",     id_map: "uidmap",        musl: "musl-tools" },
    Family { id: "fedora", install: "dnf install",     qemu: "qemu-system-x86-core", qemu_arm: "qemu-system-aarch64-core",  qemu_riscv: "qemu-system-riscv-core",    qemu_power: "qemu-system-ppc-core", qemu_s390: "qemu-system-s390x-core", virtiofsd: "virtiofsd", kernel: "kernel",                  id_map: "shadow-utils",  musl: "musl-gcc" },
    Family { id: "rhel",   install: "dnf install",     qemu: "qemu-kvm",             qemu_arm: "qemu-kvm",                  qemu_riscv: "qemu-kvm",                  qemu_power: "qemu-kvm",             qemu_s390: "qemu-kvm",               virtiofsd: "virtiofsd", kernel: "kernel",                  id_map: "shadow-utils",  musl: "musl-gcc" },
    Family { id: "arch",   install: "pacman -S",       qemu: "qemu-system-x86",      qemu_arm: "qemu-system-aarch64",       qemu_riscv: "qemu-system-riscv",         qemu_power: "qemu-system-ppc",      qemu_s390: "qemu-system-s390x",      virtiofsd: "virtiofsd", kernel: "linux",                   id_map: "shadow",        musl: "musl" },
    Family { id: "alpine", install: "apk add",         qemu: "qemu-system-x86_64",   qemu_arm: "qemu-system-aarch64",       qemu_riscv: "qemu-system-riscv64",       qemu_power: "qemu-system-ppc64",    qemu_s390: "qemu-system-s390x",      virtiofsd: "virtiofsd", kernel: "linux-virt",              id_map: "shadow-uidmap", musl: "musl-dev" },
];

/// Distributions in which QEMU's C virtiofsd is part of [`QEMU_COMMON`], and the last release
/// in which it is.
const C_VIRTIOFSD: &[(&str, u32)] = &[("debian", 12), ("ubuntu", 22)];
/// Packages with the same name in every distribution.
const EVERYWHERE: &[(Tool, &str)] = &[
    (Tool::Btrfs, "btrfs-progs"),
    (Tool::Xfs, "xfsprogs"),
    (Tool::Fat, "dosfstools"),
    (Tool::Mtools, "mtools"),
];
/// Debian's package of files that all of QEMU's emulators share.
const QEMU_COMMON: &str = "qemu-system-common";

/// A distribution: its packages, and how they are installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    id: String,
    /// Number of the release, without the part after a dot.
    release: Option<u32>,
    /// Its family; `None` for an unknown distribution.
    family: Option<&'static Family>,
}

impl Distribution {
    /// Parses the text of os-release(5).
    #[must_use]
    pub fn parse(os_release: &str) -> Self {
        let value = |key: &str| {
            let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(name, _)| *name == key);
            found.map_or("", |(_, value)| value.trim_matches(['"', '\'']))
        };
        let id = value("ID");
        let mut likes = std::iter::once(id).chain(value("ID_LIKE").split_whitespace());
        let family = likes.find_map(|like| FAMILIES.iter().find(|family| family.id == like));
        let release = value("VERSION_ID").split('.').next().and_then(|number| number.parse().ok());
        Self { id: id.to_owned(), release, family }
    }

    /// First words of [`Distribution::install`] if no command is known.
    pub const ADVICE: &str = "install the package";

    /// Whether it packages only QEMU's C virtiofsd, and not the Rust one.
    #[must_use]
    pub fn has_c_virtiofsd(&self) -> bool {
        let is_it = |(id, last): &(&str, u32)| {
            self.id == *id && self.release.is_some_and(|release| release <= *last)
        };
        C_VIRTIOFSD.iter().any(is_it)
    }

    /// The command that installs `tool`; for an unknown distribution advice in words, with
    /// the possible names of the package.
    #[must_use]
    pub fn install(&self, tool: Tool) -> String {
        match self.family {
            Some(_) if tool == Tool::Virtiofsd && self.has_c_virtiofsd() => {
                format!("apt-get install {QEMU_COMMON}")
            }
            Some(family) => format!("{} {}", family.install, family.package(tool)),
            None => {
                let mut names: Vec<_> =
                    FAMILIES.iter().map(|family| family.package(tool)).collect();
                names.sort_unstable();
                names.dedup();
                let mut text = format!("{} {}", Self::ADVICE, names[0]);
                for other in &names[1..] {
                    // Writing to a String cannot fail.
                    let _ = write!(text, " or {other}");
                }
                text
            }
        }
    }
}

impl Family {
    /// Name of the package that has `tool`.
    fn package(&self, tool: Tool) -> &'static str {
        match tool {
            Tool::Qemu => self.qemu,
            Tool::QemuArm => self.qemu_arm,
            Tool::QemuRiscv => self.qemu_riscv,
            Tool::QemuPower => self.qemu_power,
            Tool::QemuS390 => self.qemu_s390,
            Tool::Virtiofsd => self.virtiofsd,
            Tool::Kernel => self.kernel,
            Tool::IdMap => self.id_map,
            Tool::Musl => self.musl,
            Tool::Btrfs | Tool::Xfs | Tool::Fat | Tool::Mtools => everywhere(tool),
        }
    }
}

/// Name of the package that has `tool` in [`EVERYWHERE`]; empty if none has it.
fn everywhere(tool: Tool) -> &'static str {
    EVERYWHERE.iter().find(|(row, _)| *row == tool).map_or("", |(_, package)| package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_has_its_command() {
        #[rustfmt::skip]
        let cases = [
            ("ID=debian\nVERSION_ID=\"13\"\n", Tool::Virtiofsd, "apt-get install virtiofsd"),
            ("ID=debian\nVERSION_ID=\"12\"\n", Tool::Virtiofsd, "apt-get install qemu-system-common"),
            ("ID=debian\n", Tool::Virtiofsd, "apt-get install virtiofsd"),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\n", Tool::Virtiofsd, "apt-get install qemu-system-common"),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", Tool::Kernel, "apt-get install linux-image-generic"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n", Tool::Virtiofsd, "apt-get install virtiofsd"),
            ("NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=42\n", Tool::Qemu, "dnf install qemu-system-x86-core"),
            ("ID=debian\n", Tool::qemu_for("aarch64"), "apt-get install qemu-system-arm"),
            ("ID=debian\n", Tool::qemu_for("riscv64"), "apt-get install qemu-system-riscv64 opensbi"),
            ("ID=fedora\n", Tool::qemu_for("ppc64le"), "dnf install qemu-system-ppc-core"),
            ("ID=arch\n", Tool::qemu_for("s390x"), "pacman -S qemu-system-s390x"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Tool::Qemu, "dnf install qemu-kvm"),
            ("ID=manjaro\nID_LIKE=arch\n", Tool::Musl, "pacman -S musl"),
            ("ID=alpine\nVERSION_ID=3.20.1\n", Tool::IdMap, "apk add shadow-uidmap"),
            ("ID='opensuse-leap'\nID_LIKE='suse opensuse'\n", Tool::Virtiofsd, "install the package virtiofsd"),
            ("ID=debian\n", Tool::Btrfs, "apt-get install btrfs-progs"),
            ("ID=fedora\n", Tool::Xfs, "dnf install xfsprogs"),
            ("ID=arch\n", Tool::Fat, "pacman -S dosfstools"),
            ("ID=alpine\n", Tool::Mtools, "apk add mtools"),
            ("", Tool::Mtools, "install the package mtools"),
            ("", Tool::Qemu, "install the package qemu-kvm or qemu-system-x86 or qemu-system-x86-core or qemu-system-x86_64"),
        ];
        for (os_release, tool, expected) in cases {
            assert_eq!(Distribution::parse(os_release).install(tool), expected, "{os_release}");
        }
    }

    #[test]
    fn the_setup_script_names_the_same_packages() {
        let setup = include_str!("../../../../scripts/setup");
        let columns = ["debian", "fedora", "arch", "alpine"];
        for (row, tool) in [
            ("qemu", Tool::Qemu),
            ("qemu-arm", Tool::QemuArm),
            ("qemu-riscv", Tool::QemuRiscv),
            ("qemu-ppc", Tool::QemuPower),
            ("qemu-s390x", Tool::QemuS390),
            ("virtiofsd", Tool::Virtiofsd),
            ("musl-gcc", Tool::Musl),
            ("mkfs.btrfs", Tool::Btrfs),
            ("mkfs.xfs", Tool::Xfs),
            ("mkfs.vfat", Tool::Fat),
            ("mcopy", Tool::Mtools),
        ] {
            let mut rows = setup.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let cells = rows.find(|cells| cells.len() == 6 && cells[0] == row).unwrap();
            for (id, package) in columns.iter().zip(&cells[2..]) {
                let family = FAMILIES.iter().find(|family| family.id == *id).unwrap();
                assert_eq!(family.package(tool).replace(' ', ","), *package, "{row} of {id}");
            }
        }
    }
}
