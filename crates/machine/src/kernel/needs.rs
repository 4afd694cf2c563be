//! Options that a kernel needs for machines of chrootvm, as a fragment of a configuration, and
//! those that a configuration lacks.
//!
//! Format: lines of a `.config` (kernel doc: kbuild/kconfig.rst), for
//! `scripts/kconfig/merge_config.sh`. The options that a listed option depends on are listed too,
//! so that the fragment works on top of any configuration, `tinyconfig` included.

use std::collections::HashMap;

/// User of a group of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NeededBy {
    /// Every machine; the options must be built in.
    Machines,
    /// Machines that use this module; the options may be modules.
    Module(&'static str),
    /// No machine: the options make it faster, or are for programs.
    Comfort,
}

/// Architecture of the guests that need a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// Each.
    All,
    /// One whose configuration has this option.
    Only(&'static str),
    /// Each whose configuration lacks this option.
    Others(&'static str),
}

/// Options with one purpose.
struct Group {
    /// Purpose, as a comment of the fragment and in messages.
    purpose: &'static str,
    needed_by: NeededBy,
    on: On,
    /// Menus and other options that those of `options` depend on; a configuration with those has
    /// these, too. Names without `CONFIG_`.
    menus: &'static [&'static str],
    /// Names without `CONFIG_`.
    options: &'static [&'static str],
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    Group { purpose: "/init, its initrd, and what it mounts", needed_by: NeededBy::Machines, on: On::All,
            menus: &[], options: &["BLK_DEV_INITRD", "BINFMT_ELF", "PRINTK", "TTY", "PROC_FS", "SYSFS", "SHMEM", "TMPFS", "DEVTMPFS", "SIGNALFD", "MULTIUSER"] },
    Group { purpose: "the console", needed_by: NeededBy::Machines, on: On::Only("X86"),
            menus: &[], options: &["64BIT", "SERIAL_8250", "SERIAL_8250_CONSOLE"] },
    Group { purpose: "the console", needed_by: NeededBy::Machines, on: On::Only("ARM64"),
            menus: &[], options: &["SERIAL_AMBA_PL011", "SERIAL_AMBA_PL011_CONSOLE"] },
    Group { purpose: "the console", needed_by: NeededBy::Machines, on: On::Only("RISCV"),
            menus: &[], options: &["64BIT", "SERIAL_8250", "SERIAL_8250_CONSOLE", "SERIAL_OF_PLATFORM"] },
    Group { purpose: "QEMU's machine and the console", needed_by: NeededBy::Machines, on: On::Only("PPC64"),
            menus: &["PPC_BOOK3S_64"], options: &["CPU_LITTLE_ENDIAN", "PPC_PSERIES", "HVC_CONSOLE"] },
    Group { purpose: "the console", needed_by: NeededBy::Machines, on: On::Only("S390"),
            menus: &[], options: &["SCLP_VT220_TTY", "SCLP_VT220_CONSOLE"] },
    Group { purpose: "interrupts of PCI devices, and power off", needed_by: NeededBy::Machines, on: On::Only("X86"),
            menus: &[], options: &["ACPI"] },
    Group { purpose: "QEMU's bus", needed_by: NeededBy::Machines, on: On::Only("ARM64"),
            menus: &["PCI"], options: &["PCI_HOST_GENERIC"] },
    Group { purpose: "QEMU's bus and its interrupts", needed_by: NeededBy::Machines, on: On::Only("RISCV"),
            menus: &["PCI"], options: &["PCI_HOST_GENERIC", "SIFIVE_PLIC"] },
    Group { purpose: "QEMU's devices", needed_by: NeededBy::Module("virtio_pci"), on: On::Others("S390"),
            menus: &["PCI", "VIRTIO_MENU"], options: &["VIRTIO_PCI"] },
    Group { purpose: "QEMU's devices", needed_by: NeededBy::Machines, on: On::Only("S390"),
            menus: &["CCW", "VIRTIO_MENU"], options: &["S390_GUEST"] },
    Group { purpose: "the streams of a COMMAND", needed_by: NeededBy::Module("virtio_console"), on: On::All,
            menus: &[], options: &["VIRTIO_CONSOLE"] },
    Group { purpose: "directories of the host", needed_by: NeededBy::Module("virtiofs"), on: On::All,
            menus: &["FUSE_FS"], options: &["VIRTIO_FS"] },
    Group { purpose: "--overlay", needed_by: NeededBy::Module("overlay"), on: On::All,
            menus: &[], options: &["OVERLAY_FS"] },
    Group { purpose: "disks", needed_by: NeededBy::Module("virtio_blk"), on: On::All,
            menus: &["BLOCK", "BLK_DEV"], options: &["VIRTIO_BLK"] },
    Group { purpose: "EROFS images", needed_by: NeededBy::Module("erofs"), on: On::All,
            menus: &["BLOCK", "MISC_FILESYSTEMS"], options: &["EROFS_FS"] },
    Group { purpose: "--net user", needed_by: NeededBy::Module("virtio_net"), on: On::All,
            menus: &["NET", "INET", "NETDEVICES", "NET_CORE"], options: &["VIRTIO_NET"] },
    Group { purpose: "files in EROFS images: compression and attributes", needed_by: NeededBy::Comfort, on: On::All,
            menus: &[], options: &["EROFS_FS_ZIP", "EROFS_FS_XATTR", "EROFS_FS_POSIX_ACL", "EROFS_FS_SECURITY"] },
    Group { purpose: "attributes of files in an overlay", needed_by: NeededBy::Comfort, on: On::All,
            menus: &[], options: &["TMPFS_XATTR", "TMPFS_POSIX_ACL"] },
    Group { purpose: "programs", needed_by: NeededBy::Comfort, on: On::All,
            menus: &[], options: &["BINFMT_SCRIPT", "UNIX98_PTYS", "UNIX", "FUTEX", "EPOLL", "TIMERFD", "EVENTFD", "POSIX_TIMERS", "FILE_LOCKING", "INOTIFY_USER", "NAMESPACES", "CGROUPS"] },
    Group { purpose: "a faster start, and a clock under KVM", needed_by: NeededBy::Comfort, on: On::Only("X86"),
            menus: &["HYPERVISOR_GUEST", "PARAVIRT"], options: &["PVH", "KVM_GUEST"] },
];

/// Option of the architecture of this program.
const HERE: &str = if cfg!(target_arch = "aarch64") {
    "ARM64"
} else if cfg!(target_arch = "riscv64") {
    "RISCV"
} else if cfg!(target_arch = "powerpc64") {
    "PPC64"
} else if cfg!(target_arch = "s390x") {
    "S390"
} else {
    "X86"
};

/// First words of a configuration that Kconfig wrote. Another file may be only a part.
const WHOLE: &str = "# Automatically generated file; DO NOT EDIT.";

/// An option that a configuration lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingOption {
    /// Its name without `CONFIG_`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// The fragment with every option. With the configuration `config`, the fragment has only the
/// options that are missing in it; it is empty if there are none.
#[must_use]
pub fn fragment(config: Option<&str>) -> String {
    let values = config.map(values);
    let mut text = String::new();
    for group in GROUPS.iter().filter(|group| group.is_on(values.as_ref())) {
        let lacks = |name: &&str| values.as_ref().is_none_or(|known| !group.is_met(known, name));
        let lacking: Vec<_> = group.options.iter().copied().filter(lacks).collect();
        if lacking.is_empty() {
            continue;
        }
        let wish = if group.needed_by == NeededBy::Comfort { " (optional)" } else { "" };
        text.extend(["# For ", group.purpose, wish, "\n"]);
        let names = group.menus.iter().copied().chain(lacking);
        text.extend(names.flat_map(|name| ["CONFIG_", name, "=y\n"]));
    }
    text
}

/// The options without which a machine that uses `modules` does not run, and that `config`
/// lacks; none if `config` is not a whole configuration.
#[must_use]
pub fn missing(config: &str, modules: &[&str]) -> Vec<MissingOption> {
    if !config.lines().any(|line| line == WHOLE) {
        return Vec::new();
    }
    let values = values(config);
    let is_used = |group: &&Group| match group.needed_by {
        NeededBy::Machines => true,
        NeededBy::Module(name) => modules.contains(&name),
        NeededBy::Comfort => false,
    };
    let groups = GROUPS.iter().filter(is_used).filter(|group| group.is_on(Some(&values)));
    let lost = groups.flat_map(|group| {
        let names = group.options.iter().filter(|name| !group.is_met(&values, name));
        names.map(|name| MissingOption { name, purpose: group.purpose })
    });
    lost.collect()
}

/// Whether `config` lacks an option that some machine needs.
#[must_use]
pub fn is_short(config: &str) -> bool {
    let values = values(config);
    let needed = GROUPS.iter().filter(|group| group.needed_by != NeededBy::Comfort);
    let mut applied = needed.filter(|group| group.is_on(Some(&values)));
    applied.any(|group| group.options.iter().any(|name| !group.is_met(&values, name)))
}

impl Group {
    /// Whether the group is for the architecture of the configuration with these `values`;
    /// without one, it is for that of this program.
    fn is_on(&self, values: Option<&HashMap<&str, &str>>) -> bool {
        let is_for = |name| match values {
            Some(values) => values.get(name) == Some(&"y"),
            None => name == HERE,
        };
        match self.on {
            On::All => true,
            On::Only(name) => is_for(name),
            On::Others(name) => !is_for(name),
        }
    }

    /// Whether a configuration with these `values` has the option `name` as this group needs it.
    fn is_met(&self, values: &HashMap<&str, &str>, name: &str) -> bool {
        match values.get(name) {
            Some(&"m") => matches!(self.needed_by, NeededBy::Module(_)),
            value => value == Some(&"y"),
        }
    }
}

/// The values of the options in `config`, by name without `CONFIG_`.
fn values(config: &str) -> HashMap<&str, &str> {
    config
        .lines()
        .filter_map(|line| line.strip_prefix("CONFIG_")?.trim_end().split_once('='))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole configuration of x86_64 with these lines after the fragment.
    fn with(lines: &str) -> String {
        let base = fragment(None).replace("# For", "#");
        format!("{WHOLE}\nCONFIG_X86=y\n{base}{lines}")
    }

    fn names(missing: &[MissingOption]) -> Vec<&str> {
        missing.iter().map(|option| option.name).collect()
    }

    #[test]
    fn what_a_run_lacks_is_named_at_once() {
        let modules = ["virtio_pci", "virtio_console", "virtiofs"];
        for (name, lines, modules, expected) in [
            ("all", "", &modules[..], &[][..]),
            ("modules", "CONFIG_VIRTIO_FS=m\nCONFIG_VIRTIO_PCI=m\n", &modules, &[]),
            ("unused", "CONFIG_OVERLAY_FS=n\nCONFIG_PVH=n\n", &modules, &[]),
            ("used", "CONFIG_OVERLAY_FS=n\n", &["overlay"], &["OVERLAY_FS"]),
            (
                "several",
                "CONFIG_VIRTIO_FS=n\nCONFIG_BLK_DEV_INITRD=n\nCONFIG_VIRTIO_CONSOLE=n\n",
                &modules,
                &["BLK_DEV_INITRD", "VIRTIO_CONSOLE", "VIRTIO_FS"],
            ),
            ("must be built in", "CONFIG_DEVTMPFS=m\n", &modules, &["DEVTMPFS"]),
        ] {
            assert_eq!(names(&missing(&with(lines), modules)), expected, "{name}");
        }
        assert_eq!(missing("CONFIG_VIRTIO_FS=y\n", &modules), [], "only a part");
    }

    #[test]
    fn a_fragment_has_what_is_missing_with_its_menus() {
        assert_eq!(fragment(Some(&with(""))), "");
        let lacks = with("CONFIG_VIRTIO_FS=n\nCONFIG_KVM_GUEST=n\n");
        let expected = "# For directories of the host\nCONFIG_FUSE_FS=y\nCONFIG_VIRTIO_FS=y\n\
                        # For a faster start, and a clock under KVM (optional)\n\
                        CONFIG_HYPERVISOR_GUEST=y\nCONFIG_PARAVIRT=y\nCONFIG_KVM_GUEST=y\n";
        assert_eq!(fragment(Some(&lacks)), expected);
        assert!(is_short(&lacks) && !is_short(&with("CONFIG_KVM_GUEST=n\n")));
        let arm = fragment(Some("CONFIG_ARM64=y\n"));
        assert!(arm.contains("PL011") && !arm.contains("8250") && !arm.contains("64BIT"), "{arm}");
        let s390 = fragment(Some("CONFIG_S390=y\n"));
        assert!(
            s390.contains("S390_GUEST")
                && s390.contains("SCLP_VT220_CONSOLE")
                && !s390.contains("VIRTIO_PCI"),
            "{s390}"
        );
        let riscv = fragment(Some("CONFIG_RISCV=y\n"));
        assert!(riscv.contains("SERIAL_OF_PLATFORM") && !riscv.contains("PL011"), "{riscv}");
    }

    /// Our small kernel has everything.
    #[test]
    fn the_small_kernel_has_every_option() {
        use crate::kernel::small::fragment;
        let config = format!("CONFIG_X86=y\n{}", fragment::expand(fragment::TEXT));
        assert_eq!(super::fragment(Some(&config)), "");
    }
}
