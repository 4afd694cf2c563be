//! The configuration of the small kernel: `kernel/config`.
//!
//! Format: lines of a `.config` (kernel doc: kbuild/kconfig.rst) in groups; a comment above
//! each group gives its reason. Options that no line names are off (`make allnoconfig` with
//! `KCONFIG_ALLCONFIG`). If versions of the kernel have different names for one option, the
//! line has all of them, with ` | ` between; the word `gone` at its end means that newer
//! versions have no such option.
//!
//! Kconfig silently drops a line with an unknown option, or one whose dependencies are off.
//! [`lost`] finds such lines.

use std::collections::HashSet;

/// Text of `kernel/config`.
pub const TEXT: &str = include_str!("../../../../../kernel/config");

/// Separator of the names of one option.
const OR: &str = " | ";
/// Word for an option that newer kernels do not have.
const GONE: &str = "gone";

/// The input for Kconfig: every name of every option on its own line.
#[must_use]
pub fn expand(fragment: &str) -> String {
    let names = settings(fragment).flat_map(|setting| setting.split(OR));
    names.filter(|name| *name != GONE).flat_map(|name| [name, "\n"]).collect()
}

/// The settings of `fragment` that are missing in `config`, the `.config` that Kconfig made
/// of it.
#[must_use]
pub fn lost<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let lines: HashSet<&str> = config.lines().collect();
    let knows = |name: &str| {
        let off = format!("# {name} is not set");
        config
            .lines()
            .any(|line| line == off || line.split_once('=').is_some_and(|(n, _)| n == name))
    };
    let first_name = |setting: &str| setting.split('=').next().is_some_and(knows);
    let has = |setting: &str| {
        setting.split(OR).any(|one| match one {
            GONE => !first_name(setting),
            line => lines.contains(line),
        })
    };
    settings(fragment).filter(|setting| !has(setting)).collect()
}

/// The lines of `fragment` that set an option.
fn settings(fragment: &str) -> impl Iterator<Item = &str> {
    fragment.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_set_once() {
        let mut names = HashSet::new();
        let expanded = expand(TEXT);
        for setting in expanded.lines() {
            let (name, value) = setting.split_once('=').unwrap_or_else(|| panic!("{setting}"));
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(name.starts_with("CONFIG_") && name.chars().all(is_name), "{setting}");
            // Options that are off need no line, and the kernel has no modules.
            assert!(!matches!(value, "" | "n" | "m"), "{setting}");
            assert!(names.insert(name), "{name} is set twice");
        }
        assert!(names.len() > 100);
    }

    #[test]
    fn every_group_has_a_reason() {
        for group in TEXT.split("\n\n") {
            let reason = group.lines().next().unwrap();
            assert!(reason.starts_with("# ") && reason.len() > 20, "{group}");
        }
    }

    /// No machine of chrootvm works without these options.
    #[test]
    fn required_options_are_set() {
        let names = [
            "VIRTIO_PCI",
            "VIRTIO_FS",
            "VIRTIO_CONSOLE",
            "VIRTIO_NET",
            "OVERLAY_FS",
            "PVH",
            "DEVTMPFS",
            "SERIAL_8250_CONSOLE",
            "UNIX98_PTYS",
            "BLK_DEV_INITRD",
        ];
        for name in names {
            let line = format!("CONFIG_{name}=y");
            assert!(settings(TEXT).any(|setting| setting == line), "{line}");
        }
    }

    #[test]
    fn dropped_lines_are_found() {
        let fragment = "# why\nCONFIG_A=y\nCONFIG_B=250\n\n# why\nCONFIG_C=\"-x\"\n";
        let config = "# CONFIG_A is not set\nCONFIG_B=250\nCONFIG_C=\"\"\nCONFIG_D=y\n";
        assert_eq!(lost(fragment, config), ["CONFIG_A=y", "CONFIG_C=\"-x\""]);
        assert!(lost(fragment, &expand(fragment)).is_empty());
    }

    #[test]
    fn one_of_several_names_suffices() {
        let fragment = "CONFIG_A=y | CONFIG_B=y\nCONFIG_C=y | gone\n";
        assert_eq!(expand(fragment), "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n");
        for (config, expected) in [
            ("CONFIG_A=y\nCONFIG_C=y\n", &[][..]),
            ("CONFIG_B=y\n# CONFIG_CD is not set\n", &[]),
            ("CONFIG_AB=y\nCONFIG_C=y\n", &["CONFIG_A=y | CONFIG_B=y"]),
            ("CONFIG_A=y\n# CONFIG_C is not set\n", &["CONFIG_C=y | gone"]),
        ] {
            assert_eq!(lost(fragment, config), expected, "{config}");
        }
    }
}
