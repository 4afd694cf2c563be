//! Whether a kernel refuses modules without a signature, and so which modules
//! are stripped.
//!
//! Interfaces: a kernel's configuration as distributions ship it beside the image,
//! and its command line (kernel docs: admin-guide/module-signing.rst,
//! kernel_lockdown(7)). Where neither says that signatures are not asked for, they
//! are kept.

use std::io;
use std::path::{Path, PathBuf};

use files::named::Named;
use virtinitrd_proto::words::Words;

use super::boot_files::Located;
use crate::kernel::modules::canonical;
use crate::kernel::modules::strip::Strip;

/// `--strip`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Where the kernel does not ask for signatures
    #[default]
    Auto,
    /// All modules
    Always,
    /// None
    Never,
}

#[rustfmt::skip]
impl Named for When {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "Where the kernel does not ask for signatures"),
        ("always", Self::Always, "All modules"),
        ("never", Self::Never, "None"),
    ];
}

/// Bytes of a configuration that are read. Debian's has 150 kB.
const CONFIG_MAX: u64 = 4 << 20;

/// Options of the configuration by which signatures are always asked for.
const ENFORCING: &[&str] = &[
    "CONFIG_MODULE_SIG_FORCE=y",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y",
    "CONFIG_IMA_APPRAISE_REQUIRE_MODULE_SIGS=y",
];

/// The command line that is built into a kernel.
const BUILT_IN_LINE: &str = "CONFIG_CMDLINE=";

/// An option that every configuration has in which something is said of modules.
const MODULES: &str = "CONFIG_MODULES=y";

/// Words of the command line by which they are asked for, whatever the value,
/// unless it is one of [`OFF`].
const WORDS: &[&str] = &["module.sig_enforce", "lockdown", "ima_policy"];

/// Values that ask for nothing (kernel: `kstrtobool`).
const OFF: &[&[u8]] = &[b"0", b"n", b"N", b"no", b"off", b"none"];

impl When {
    /// Which modules to strip, for a kernel with this configuration, where it is
    /// known, and these words on its command line.
    #[must_use]
    pub fn decide(self, config: Option<&str>, line: &[u8]) -> Option<Strip> {
        match self {
            When::Never => None,
            // What has no signature is loaded, or refused, as before.
            When::Auto if asks_for_signatures(config, line) => Some(Strip::Unsigned),
            When::Auto | When::Always => Some(Strip::All),
        }
    }
}

fn asks_for_signatures(config: Option<&str>, line: &[u8]) -> bool {
    let Some(config) = config.filter(|text| text.lines().any(|line| line == MODULES)) else {
        return true;
    };
    let built_in = config.lines().find_map(|line| line.strip_prefix(BUILT_IN_LINE));
    let built_in = built_in.unwrap_or_default().trim_matches('"').as_bytes();
    config.lines().any(|line| ENFORCING.contains(&line))
        || [built_in, line].into_iter().any(enforces)
}

fn enforces(line: &[u8]) -> bool {
    Words::new(line).any(|word| {
        let name = canonical(&String::from_utf8_lossy(word.param));
        WORDS.contains(&&*name) && !word.value.is_some_and(|value| OFF.contains(&value))
    })
}

/// The configuration of the kernel `image`, which has `modules`: `config-VERSION`
/// beside `vmlinuz-VERSION` (Debian), `config` beside `vmlinuz` (Fedora) or beside
/// `vmlinux` (a kernel of our own), and what is called so in the modules' directory.
#[must_use]
pub fn config(image: &Located, modules: Option<&Located>) -> Option<String> {
    let beside = image.path.file_name().and_then(|name| name.to_str());
    let images = ["vmlinuz", "vmlinux"];
    let beside = beside.and_then(|name| images.iter().find_map(|start| name.strip_prefix(start)));
    let beside = beside.map(|rest| (image, image.path.with_file_name(format!("config{rest}"))));
    let version = modules.and_then(|dir| dir.path.file_name()).and_then(|name| name.to_str());
    let named =
        version.map(|version| (image, image.path.with_file_name(format!("config-{version}"))));
    let within = modules.map(|dir| (dir, dir.path.join("config")));
    let places: [Option<(&Located, PathBuf)>; 3] = [beside, within, named];
    places.into_iter().flatten().find_map(|(located, path)| read(located, &path).ok())
}

fn read(located: &Located, path: &Path) -> io::Result<String> {
    let bytes = located.root.read(path, CONFIG_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use files::root_dir::RootDir;

    const DEBIAN: &str = "CONFIG_MODULES=y\nCONFIG_MODULE_SIG=y\n\
                          # CONFIG_MODULE_SIG_FORCE is not set\n\
                          CONFIG_LOCK_DOWN_KERNEL_FORCE_NONE=y\n";

    #[test]
    fn signatures_stay_where_they_are_asked_for() {
        let (all, unsigned) = (Some(Strip::All), Some(Strip::Unsigned));
        let with = |line: &str| format!("{DEBIAN}{line}\n");
        #[rustfmt::skip]
        let rows = [
            ("a stock kernel",          Some(DEBIAN.to_owned()), "quiet panic=-1",        all),
            ("it is not known",         None,                    "quiet",                 unsigned),
            ("a file of another kind",  Some("config".into()),   "quiet",                 unsigned),
            ("forced",                  Some(with("CONFIG_MODULE_SIG_FORCE=y")), "",       unsigned),
            ("locked down",             Some(with("CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y")), "", unsigned),
            ("confidential",            Some(with("CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y")), "", unsigned),
            ("IMA",                     Some(with("CONFIG_IMA_APPRAISE_REQUIRE_MODULE_SIGS=y")), "", unsigned),
            ("a line built in",         Some(with("CONFIG_CMDLINE=\"quiet lockdown=integrity\"")), "", unsigned),
            ("a word",                  Some(DEBIAN.into()), "module.sig_enforce",         unsigned),
            ("a word with a value",     Some(DEBIAN.into()), "quiet module.sig_enforce=1", unsigned),
            ("a word with a dash",      Some(DEBIAN.into()), "module.sig-enforce=y",       unsigned),
            ("a word that says no",     Some(DEBIAN.into()), "module.sig_enforce=0",       all),
            ("another word",            Some(DEBIAN.into()), "xmodule.sig_enforce=1",      all),
            ("lockdown",                Some(DEBIAN.into()), "lockdown=integrity",         unsigned),
            ("no lockdown",             Some(DEBIAN.into()), "lockdown=none",              all),
            ("IMA's policy",            Some(DEBIAN.into()), "ima_policy=\"tcb|secure_boot\"", unsigned),
        ];
        for (name, config, line, expected) in rows {
            let decided = When::Auto.decide(config.as_deref(), line.as_bytes());
            assert_eq!(decided, expected, "{name}");
        }
        assert_eq!(When::Always.decide(None, b"module.sig_enforce"), all);
        assert_eq!(When::Never.decide(Some(DEBIAN), b""), None);
    }

    #[test]
    fn each_distributions_configuration_is_found() {
        for (name, file, image, modules) in [
            ("Debian", "boot/config-6.1-x", "boot/vmlinuz-6.1-x", Some("lib/modules/6.1-x")),
            ("Debian, no modules", "boot/config-6.1-x", "boot/vmlinuz-6.1-x", None),
            ("Fedora", "m/6.9/config", "m/6.9/vmlinuz", Some("m/6.9")),
            ("Fedora, the image in /boot", "m/6.9/config", "boot/vmlinuz-6.9", Some("m/6.9")),
            ("Alpine", "boot/config-6.6-virt", "boot/vmlinuz-virt", Some("lib/modules/6.6-virt")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(file), DEBIAN).unwrap();
            let root = Rc::new(RootDir::open(dir.path()).unwrap());
            let located = |path: &str| Located { root: root.clone(), path: path.into() };
            let modules = modules.map(located);
            let found = config(&located(image), modules.as_ref());
            assert_eq!(found.as_deref(), Some(DEBIAN), "{name}");
            assert_eq!(config(&located("boot/other"), None), None, "{name}");
        }
    }
}
