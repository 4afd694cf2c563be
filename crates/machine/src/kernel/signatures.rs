//! Decision on which modules may be stripped: stripping removes signatures, and some kernels
//! refuse modules without a signature.
//!
//! Interfaces: a kernel's configuration, which distributions ship beside the image, and its
//! command line (kernel doc: admin-guide/module-signing.rst; kernel_lockdown(7)). If the
//! configuration is unknown, signatures are kept.

use std::io;
use std::path::{Path, PathBuf};

use files::named::Named;
use proto::words::Words;

use super::located::Located;
use super::modules::name::canonical_name;
use super::modules::strip::Strip;
use super::tree;

/// Value of chrootvm's option `--strip`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripWhen {
    /// All modules, unless the kernel asks for signatures.
    #[default]
    Auto,
    /// All modules.
    Always,
    /// No modules.
    Never,
}

#[rustfmt::skip]
impl Named for StripWhen {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "yes, unless the kernel asks for signatures"),
        ("always", Self::Always, "yes"),
        ("never", Self::Never, "no"),
    ];
}

/// Size in bytes of the largest configuration that is read. Debian's has 150 kB.
const CONFIG_MAX: u64 = 4 << 20;

/// Lines of a configuration with which the kernel always asks for signatures.
const ENFORCING: &[&str] = &[
    "CONFIG_MODULE_SIG_FORCE=y",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y",
    "CONFIG_IMA_APPRAISE_REQUIRE_MODULE_SIGS=y",
];

/// Start of the line with the command line that is built into the kernel.
const BUILT_IN_LINE: &str = "CONFIG_CMDLINE=";

/// Line of every configuration of a kernel with modules; a file without it is not a
/// configuration.
const MODULES: &str = "CONFIG_MODULES=y";

/// Parameters of the command line with which the kernel asks for signatures, unless their
/// value is one of [`OFF`].
const WORDS: &[&str] = &["module.sig_enforce", "lockdown", "ima_policy"];

/// Values that switch a parameter off (kernel: `kstrtobool`; `none` for `lockdown`).
const OFF: &[&[u8]] = &[b"0", b"n", b"N", b"no", b"off", b"none"];

impl StripWhen {
    /// Decides which modules to strip. `config` is the kernel's configuration, if it is known,
    /// and `line` is its command line.
    #[must_use]
    pub fn decide(self, config: Option<&str>, line: &[u8]) -> Option<Strip> {
        match self {
            StripWhen::Never => None,
            // Stripping does not change whether the kernel loads a module without signature.
            StripWhen::Auto if asks_for_signatures(config, line) => Some(Strip::Unsigned),
            StripWhen::Auto | StripWhen::Always => Some(Strip::All),
        }
    }
}

/// Whether the kernel refuses modules without a signature.
fn asks_for_signatures(config: Option<&str>, line: &[u8]) -> bool {
    let Some(config) = config.filter(|text| text.lines().any(|line| line == MODULES)) else {
        return true;
    };
    let built_in = config.lines().find_map(|line| line.strip_prefix(BUILT_IN_LINE));
    let built_in = built_in.unwrap_or_default().trim_matches('"').as_bytes();
    config.lines().any(|line| ENFORCING.contains(&line))
        || [built_in, line].into_iter().any(enforces)
}

/// Whether a command line has a parameter of [`WORDS`] that is not switched off.
fn enforces(line: &[u8]) -> bool {
    Words::new(line).any(|word| {
        let name = canonical_name(&String::from_utf8_lossy(word.param));
        WORDS.contains(&&*name) && !word.value.is_some_and(|value| OFF.contains(&value))
    })
}

/// Reads the configuration of the kernel `image`, whose modules are `modules`; `None` if no
/// file has it. It is `config-VERSION` beside `vmlinuz-VERSION` (Debian), `config` beside
/// `vmlinuz` (Fedora) or beside `vmlinux` (the small kernel), `config` in the modules
/// directory, `.config` in a kernel tree, or `config-VERSION` beside the image, with the name of the modules directory.
#[must_use]
pub fn config(image: &Located, modules: Option<&Located>) -> Option<String> {
    let beside = image.path.file_name().and_then(|name| name.to_str());
    let images = ["vmlinuz", "vmlinux"];
    let beside = beside.and_then(|name| images.iter().find_map(|start| name.strip_prefix(start)));
    let beside = beside.map(|rest| (image, image.path.with_file_name(format!("config{rest}"))));
    let version = modules.and_then(|dir| dir.path.file_name()).and_then(|name| name.to_str());
    let named =
        version.map(|version| (image, image.path.with_file_name(format!("config-{version}"))));
    let within = |name| modules.map(|dir| (dir, dir.path.join(name)));
    let places: [Option<(&Located, PathBuf)>; 4] =
        [within(tree::CONFIG), beside, within("config"), named];
    places.into_iter().flatten().find_map(|(located, path)| read(located, &path).ok())
}

/// Reads the file `path` in the root of `located`.
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
    fn signatures_stay_if_the_kernel_asks_for_them() {
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
            let decided = StripWhen::Auto.decide(config.as_deref(), line.as_bytes());
            assert_eq!(decided, expected, "{name}");
        }
        assert_eq!(StripWhen::Always.decide(None, b"module.sig_enforce"), all);
        assert_eq!(StripWhen::Never.decide(Some(DEBIAN), b""), None);
    }

    #[test]
    fn the_configuration_of_each_distribution_is_found() {
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
