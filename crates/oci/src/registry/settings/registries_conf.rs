//! `registries.conf`: where the images of a registry really are.
//!
//! Format: containers-registries.conf(5), version 2: `[[registry]]` with `prefix`, `location`,
//! `insecure`, `blocked` and `[[registry.mirror]]`. Short names are none of its business here: a
//! name without a host is one of Docker Hub. Unknown keys are ignored, as other programs have
//! more of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::environment::Environment;
use super::is_missing;
use super::options::Insecure;

/// Most bytes of a file.
const FILE_MAX: u64 = 1 << 20;
/// Variable that names the file in place of those that are looked up.
const CONF: &str = "CONTAINERS_REGISTRIES_CONF";
/// The file below the directories of configuration.
const NAME: &str = "containers/registries.conf";
/// The directory of further files beside it.
const PARTS: &str = "containers/registries.conf.d";

/// All that is known about registries.
#[derive(Debug, Default)]
pub struct RegistriesConf {
    /// Without two entries of the same prefix.
    pub entries: Vec<RegistryEntry>,
}

/// Images whose names begin alike, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    /// Start of names: `HOST[:PORT][/NAME…]`, or `*.DOMAIN[/NAME…]`.
    pub prefix: String,
    /// What takes the place of the start; `None` to leave it.
    pub location: Option<String>,
    /// Whether the location may be insecure.
    pub insecure: Insecure,
    /// Whether these images may be read.
    pub access: Access,
    /// Places to be asked before.
    pub mirrors: Vec<Mirror>,
}

/// Whether images may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    Permitted,
    /// No.
    Blocked,
}

/// A place that has the same images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// What takes the place of the start of a name.
    pub location: String,
    /// Whether the mirror may be insecure.
    pub insecure: Insecure,
    /// For which references it is.
    pub coverage: MirrorCoverage,
}

/// For which references a mirror is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum MirrorCoverage {
    /// For all.
    #[default]
    #[serde(rename = "all")]
    All,
    /// For those with a digest.
    #[serde(rename = "digest-only")]
    Digests,
    /// For those without a digest.
    #[serde(rename = "tag-only")]
    Tags,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<RegistryTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<MirrorCoverage>,
}

/// Parses one file.
///
/// # Errors
/// The file is not TOML of this form; an entry has neither prefix nor location.
pub fn parse(text: &str) -> Result<Vec<RegistryEntry>> {
    let file: File = toml::from_str(text)?;
    file.registry.into_iter().map(RegistryTable::entry).collect()
}

fn insecure(is_insecure: bool) -> Insecure {
    match is_insecure {
        true => Insecure::Permit,
        false => Insecure::Refuse,
    }
}

impl RegistryTable {
    fn entry(self) -> Result<RegistryEntry> {
        let given = |text: Option<String>| {
            text.map(|text| text.trim_end_matches('/').to_owned()).filter(|text| !text.is_empty())
        };
        let (prefix, location) = (given(self.prefix), given(self.location));
        let prefix = prefix.or_else(|| location.clone());
        let prefix = prefix.context("a [[registry]] with neither prefix nor location")?;
        for name in [Some(&prefix), location.as_ref()].into_iter().flatten() {
            ensure!(!name.contains("://"), "\"{name}\": names of registries have no scheme");
        }
        let of_all = match self.mirror_by_digest_only {
            true => MirrorCoverage::Digests,
            false => MirrorCoverage::All,
        };
        let mirror = |table: MirrorTable| -> Result<Mirror> {
            let location = given(Some(table.location));
            let location = location.with_context(|| format!("an empty mirror of {prefix}"))?;
            Ok(Mirror {
                location,
                insecure: insecure(table.insecure),
                coverage: table.pull_from_mirror.unwrap_or(of_all),
            })
        };
        let mirrors = self.mirror.into_iter().map(mirror).collect::<Result<_>>()?;
        let access = if self.blocked { Access::Blocked } else { Access::Permitted };
        Ok(RegistryEntry { location, insecure: insecure(self.insecure), access, mirrors, prefix })
    }
}

impl RegistriesConf {
    /// Reads the user's file or, if there is none, that of the system; then the files in the
    /// directories beside both. A later entry replaces one of the same prefix.
    ///
    /// # Errors
    /// A file cannot be read or makes no sense. The text names it.
    pub fn read(environment: &Environment) -> Result<Self> {
        let mut found = Self::default();
        if let Some(path) = environment.path(CONF) {
            let text = read(&path)?.with_context(|| format!("{}: no such file", path.display()))?;
            found.add(&path, &text)?;
            return Ok(found);
        }
        let etc = |name: &str| environment.in_system(&format!("etc/{name}"));
        for path in environment.in_config(NAME).into_iter().chain([etc(NAME)]) {
            if let Some(text) = read(&path)? {
                found.add(&path, &text)?;
                break;
            }
        }
        for dir in [etc(PARTS)].into_iter().chain(environment.in_config(PARTS)) {
            for path in parts(&dir)? {
                if let Some(text) = read(&path)? {
                    found.add(&path, &text)?;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<()> {
        let entries = parse(text).with_context(|| path.display().to_string())?;
        for entry in entries {
            self.entries.retain(|other| other.prefix != entry.prefix);
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// A file as text; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>> {
    let at = || format!("read {}", path.display());
    match fs::metadata(path) {
        Err(error) if is_missing(error.kind()) => return Ok(None),
        found => {
            let size = found.with_context(at)?.len();
            ensure!(size <= FILE_MAX, "{}: more than {FILE_MAX} bytes", path.display());
        }
    }
    fs::read_to_string(path).with_context(at).map(Some)
}

/// The `*.conf` files of a directory, by name. A missing directory is not an error.
fn parts(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_missing(error.kind()) => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", dir.display()))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        if path.extension().is_some_and(|name| name == "conf") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn entries_are_parsed() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "enforcing"

            [[registry]]
            prefix = "docker.io/library"
            location = "mirror.example:5000/hub/"
            insecure = true
            mirror-by-digest-only = true

            [[registry.mirror]]
            location = "near.example"

            [[registry.mirror]]
            location = "far.example/x"
            insecure = true
            pull-from-mirror = "tag-only"

            [[registry]]
            location = "bad.example"
            blocked = true
        "#;
        let mirror = |location: &str, insecure, coverage| Mirror {
            location: location.to_owned(),
            insecure,
            coverage,
        };
        let first = RegistryEntry {
            prefix: "docker.io/library".to_owned(),
            location: Some("mirror.example:5000/hub".to_owned()),
            insecure: Insecure::Permit,
            access: Access::Permitted,
            mirrors: vec![
                mirror("near.example", Insecure::Refuse, MirrorCoverage::Digests),
                mirror("far.example/x", Insecure::Permit, MirrorCoverage::Tags),
            ],
        };
        let second = RegistryEntry {
            prefix: "bad.example".to_owned(),
            location: Some("bad.example".to_owned()),
            insecure: Insecure::Refuse,
            access: Access::Blocked,
            mirrors: Vec::new(),
        };
        assert_eq!(parse(text).unwrap(), [first, second]);
    }

    #[test]
    fn entries_that_make_no_sense_are_refused() {
        for text in [
            "[[registry]]",
            "[[registry]]\nprefix = \"\"",
            "[[registry]]\nlocation = \"https://r.example\"",
            "[[registry]]\nprefix = \"a.example\"\n[[registry.mirror]]\nlocation = \"\"",
            "[[registry]]\nprefix = \"a.example\"\n[[registry.mirror]]\ninsecure = true",
            "registry = 7",
            "= ",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_joined_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, location: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!("[[registry]]\nprefix = \"p\"\nlocation = \"{location}\"");
            fs::write(path, text).unwrap();
        };
        let home = dir.path().join("home");
        let named = dir.path().join("named.conf");
        let environment = |conf: Option<&Path>| {
            let rows = [("HOME", Some(home.clone())), (CONF, conf.map(Path::to_path_buf))];
            let find = move |name: &str| {
                rows.iter().find(|row| row.0 == name)?.1.clone().map(OsString::from)
            };
            Environment::new(find, dir.path())
        };
        let location = |conf: Option<&Path>| {
            let found = RegistriesConf::read(&environment(conf)).unwrap().entries;
            assert!(found.len() < 2);
            found.into_iter().next().and_then(|entry| entry.location)
        };
        assert_eq!(location(None), None);
        for path in [
            "etc/containers/registries.conf",
            "home/.config/containers/registries.conf",
            "etc/containers/registries.conf.d/1.conf",
            "etc/containers/registries.conf.d/2.conf",
            "home/.config/containers/registries.conf.d/1.conf",
        ] {
            write(path, path);
            assert_eq!(location(None).as_deref(), Some(path));
        }
        write("etc/containers/registries.conf.d/3.conf.off", "off");
        assert_ne!(location(None).as_deref(), Some("off"));
        assert!(RegistriesConf::read(&environment(Some(&named))).is_err());
        write("named.conf", "named");
        assert_eq!(location(Some(&named)).as_deref(), Some("named"));
    }
}
