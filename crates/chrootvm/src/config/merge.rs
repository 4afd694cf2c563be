//! Settings of all files and options of the command line → additional words of the line.
//!
//! The order of precedence is: the command line; then, first of the project's file and
//! afterwards of the user's, the section for the root and the settings for every root. A
//! setting is silenced by what precedes it and excludes it ([`Key::yields_to`]). Volumes
//! add up.
//!
//! [`Key::yields_to`]: super::keys::Key::yields_to

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::parse::{Config, Mistake, Setting};

/// A configuration file and its path.
#[derive(Debug)]
pub struct ConfigFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Directories that its volumes may share.
    pub reach: Reach,
    /// Its content.
    pub config: Config,
}

/// Directories that the volumes of a file may share with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those below the directory of the file. A project may come from somebody else.
    OwnDirectory,
    /// All.
    Anywhere,
}

/// Settings that apply to a run. The first ones have the lowest precedence.
#[derive(Debug, Default)]
pub struct Settings(pub Vec<Applied>);

/// A setting that applies, and where it comes from.
#[derive(Debug)]
pub struct Applied {
    /// The setting.
    pub setting: Setting,
    /// Path of the file.
    pub file: PathBuf,
    /// Directories that its volumes may share.
    pub reach: Reach,
}

/// Merges `files`, which are in the order of precedence. `given` are the arguments of the
/// command line; `is_root` tells whether a path is that of ROOTFS.
///
/// # Errors
/// Two sections of a file are for the same root. The error comes with the path of the file.
pub fn merge<'f>(
    files: &'f [ConfigFile],
    given: &[String],
    is_root: &dyn Fn(&Path) -> bool,
) -> Result<Settings, (&'f Path, Mistake)> {
    let mut given: BTreeSet<String> = given.iter().cloned().collect();
    let mut applied = Vec::new();
    for ConfigFile { path, reach, config } in files {
        let mut sections = config.sections.iter().filter(|section| is_root(&section.rootfs));
        let section = sections.next();
        if let Some(other) = sections.next() {
            let message = "another section is for the same root: keep one of them".into();
            return Err((path, Mistake { position: other.position, message }));
        }
        let of_root = section.map(|section| &section.settings);
        for settings in of_root.into_iter().chain([&config.settings]) {
            let is_silenced = |setting: &&Setting| {
                setting.key.yields_to.iter().any(|argument| given.contains(*argument))
            };
            let kept: Vec<_> = settings.iter().filter(|setting| !is_silenced(setting)).collect();
            given.extend(kept.iter().map(|setting| setting.key.name.to_owned()));
            let apply = |setting: &Setting| Applied {
                setting: setting.clone(),
                file: path.clone(),
                reach: *reach,
            };
            applied.extend(kept.into_iter().rev().map(apply));
        }
    }
    applied.reverse();
    Ok(Settings(applied))
}

impl Settings {
    /// Words for the command line, to stand before those of the user.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        self.0.iter().flat_map(|applied| applied.setting.value.words.clone()).collect()
    }

    /// A line for each setting: its value, and where it comes from.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(Applied::to_string).collect()
    }
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Setting { key, value, .. } = &self.setting;
        write!(f, "{} = {}, from {}", key.name, value.shown, self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Bases;
    use super::super::parse::parse;
    use super::*;

    fn file(path: &str, text: &str) -> ConfigFile {
        let bases = Bases { directory: Path::new("/p"), home: None };
        ConfigFile {
            path: path.into(),
            reach: Reach::Anywhere,
            config: parse(text, bases, &|_| Ok(())).unwrap(),
        }
    }

    fn merged(project: &str, user: &str, given: &[&str]) -> Result<String, String> {
        let files = [file("/p/.chrootvm.toml", project), file("/u/config.toml", user)];
        let given: Vec<_> = given.iter().map(|&name| name.to_owned()).collect();
        let merged = merge(&files, &given, &|path| path == "/p/debian");
        let merged = merged.map_err(|(path, mistake)| format!("{}: {mistake:?}", path.display()));
        Ok(merged?.words().join("--".as_ref()).into_string().unwrap())
            .map(|line| line.replace("----", " --"))
    }

    #[test]
    fn nearer_settings_win() {
        let section = "cpus = 1\n[root.'debian']\ncpus = 2\n[root.'./other']\ncpus = 3\n";
        for (name, project, user, given, expected) in [
            ("nothing", "", "", &[][..], ""),
            ("user", "", "cpus = 1", &[], "--cpus=1"),
            ("project", "cpus = 2", "cpus = 1", &[], "--cpus=2"),
            ("line", "cpus = 2", "cpus = 1", &["cpus"], ""),
            ("section", section, "", &[], "--cpus=2"),
            ("section of the user", "", section, &[], "--cpus=2"),
            ("project before the user's section", "cpus = 5", section, &[], "--cpus=5"),
            ("different keys", "cpus = 5", "memory = '1G'", &[], "--memory=1G --cpus=5"),
            ("off", "overlay = false", "overlay = true", &[], ""),
        ] {
            assert_eq!(merged(project, user, given).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn options_that_exclude_a_setting_silence_it() {
        let kernel = "kernel = '/k'\nmodules = '/m'";
        for (text, given, expected) in [
            (kernel, &[][..], "--kernel=/k --modules=/m"),
            (kernel, &["kernel_builtin"], ""),
            (kernel, &["kernel"], ""),
            (kernel, &["modules"], "--kernel=/k"),
            (kernel, &["initrd"], "--kernel=/k"),
            ("overlay = true", &["rw"], ""),
            ("overlay = '2G'", &["overlay"], ""),
            ("net = 'none'", &["publish"], ""),
            ("cache = 'always'", &["memory"], "--cache=always"),
        ] {
            assert_eq!(merged(text, "", given).as_deref(), Ok(expected), "{text} {given:?}");
        }
        // Modules belong to the kernel of their file.
        assert_eq!(merged("kernel = '/x'", kernel, &[]).as_deref(), Ok("--kernel=/x"));
        assert_eq!(
            merged("modules = '/x'", kernel, &[]).as_deref(),
            Ok("--kernel=/k --modules=/x")
        );
    }

    /// A later volume is mounted over an earlier one, so the nearest comes last.
    #[test]
    fn volumes_add_up() {
        let project = "volumes = ['/b:/b', '/c:/c']\n[root.debian]\nvolumes = ['/d:/d']";
        let expected = "--volume=/a:/a --volume=/b:/b --volume=/c:/c --volume=/d:/d";
        let found = merged(project, "volumes = ['/a:/a']", &["volumes"]);
        assert_eq!(found.as_deref(), Ok(expected));
    }

    #[test]
    fn a_root_has_one_section() {
        let error = merged("[root.debian]\n[root.'/p/debian']", "", &[]).unwrap_err();
        assert!(error.starts_with("/p/.chrootvm.toml:"), "{error}");
        assert!(error.contains("line: 2") && error.contains("the same root"), "{error}");
    }
}
