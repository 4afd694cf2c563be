//! `cargo xtask documents`: the list of the libraries in the installed programs, and their
//! licences, which packages of distributions contain.
//!
//! | File in `target/documents` | Content |
//! |---|---|
//! | `sbom.cdx.json` | `CycloneDX` 1.5 (ecma-international.org, ECMA-424): each crate, its version, its licence, the digest in Cargo.lock, and what it uses |
//! | `third-party-licences` | the text of the licences that the crates of others come with |
//!
//! Both depend on the source alone: equal commits give equal bytes. Rust's standard library and
//! musl, which come from the host, are not in the list.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use files::{output, tell};
use serde_json::{Value, json};

use crate::metadata::{Metadata, Package};
use crate::{source_date, workspace};

/// List the libraries in the installed programs, and their licences, in target/documents
#[derive(Debug, clap::Args)]
pub struct Documents {}

/// Directory of the files, in the source tree.
pub const DIRECTORY: &str = "target/documents";
/// Names of the files.
pub const FILES: [&str; 2] = ["sbom.cdx.json", "third-party-licences"];

impl Documents {
    /// Writes the files.
    ///
    /// # Errors
    /// cargo fails, or a crate comes without the text of its licence.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        let metadata = Metadata::read(&root)?;
        let lock = root.join("Cargo.lock");
        let text = fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
        let time = source_date::format(source_date::of(&root)?, source_date::RFC_3339)?;
        let bom = bom(&metadata, &digests(&text).context("parse Cargo.lock")?, &time);
        let bom = format!("{}\n", serde_json::to_string_pretty(&bom)?);
        let directory = root.join(DIRECTORY);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        for (name, text) in FILES.into_iter().zip([bom, licences(&metadata)?]) {
            let path = directory.join(name);
            output::write(&path, text.as_bytes())?;
            tell::result(format_args!("{}: {} bytes\n", path.display(), text.len()))?;
        }
        Ok(())
    }
}

/// The SHA-256 digests in the text of Cargo.lock, by name and version.
fn digests(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let table: toml::Table = lock.parse()?;
    let packages = table.get("package").and_then(toml::Value::as_array);
    let text = |package: &toml::Value, key| Some(package.get(key)?.as_str()?.to_owned());
    let rows = packages.context("no packages")?.iter().filter_map(|package| {
        let name = (text(package, "name")?, text(package, "version")?);
        Some((name, text(package, "checksum")?))
    });
    Ok(rows.collect())
}

/// The bill of materials of a source from `time` (RFC 3339).
fn bom(metadata: &Metadata, digests: &BTreeMap<(String, String), String>, time: &str) -> Value {
    let installed = metadata.installed();
    let components: Vec<_> = installed
        .values()
        .map(|(package, _)| {
            let digest = digests.get(&(package.name.clone(), package.version.clone()));
            component(package, digest.map(String::as_str))
        })
        .collect();
    let names = |ids: &[&str]| -> Vec<_> {
        ids.iter().filter_map(|id| Some(reference(installed.get(id)?.0))).collect()
    };
    let own = installed.iter().filter(|(_, (package, _))| package.is_own_program());
    let own: Vec<_> = own.map(|(id, _)| *id).collect();
    let mut dependencies = vec![json!({ "ref": "virtinitrd", "dependsOn": names(&own) })];
    dependencies.extend(
        installed
            .values()
            .map(|(package, uses)| json!({ "ref": reference(package), "dependsOn": names(uses) })),
    );
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "bom-ref": "virtinitrd",
                "name": "virtinitrd",
                "version": env!("CARGO_PKG_VERSION"),
                "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn component(package: &Package, digest: Option<&str>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if let Some(licence) = &package.license {
        // Old manifests have a slash for OR.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(digest) = digest {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

/// Name of a crate in the document: its package URL, unless it is one of this workspace, which no
/// registry has.
fn reference(package: &Package) -> String {
    match package.source {
        Some(_) => format!("pkg:cargo/{}@{}", package.name, package.version),
        None => format!("{}@{}", package.name, package.version),
    }
}

/// Beginnings of the names of files with licences and notices, in lower case.
const LICENCE_FILES: &[&str] =
    &["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// The texts that the crates of others come with.
fn licences(metadata: &Metadata) -> Result<String> {
    let mut text = String::from(
        "Rust libraries in the programs of virtinitrd, and their licences. Where a library leaves\n\
         the choice, virtinitrd takes the one that deny.toml in its source allows.\n",
    );
    let mut known = BTreeMap::new();
    for (package, _) in
        metadata.installed().values().filter(|(package, _)| package.source.is_some())
    {
        let directory = package.manifest_path.parent().context("a manifest without a directory")?;
        let licence = package.license.as_deref().unwrap_or("no expression");
        let texts = licence_texts(directory)?;
        let name = format!("{} {}", package.name, package.version);
        ensure!(!texts.is_empty(), "{name} comes without a file of its licence");
        let rule = "=".repeat(78);
        write!(text, "\n{rule}\n{name}: {licence}\n{rule}\n").context("no memory")?;
        for file in texts {
            // Most libraries have the same text of the Apache License.
            let first = known.entry(file.trim().to_owned()).or_insert_with(|| name.clone());
            let shown = if *first == name { file.trim_end() } else { &format!("As {first}.") };
            write!(text, "\n{shown}\n").context("no memory")?;
        }
    }
    Ok(text)
}

/// Contents of the licence files in `directory`, in the order of their names.
fn licence_texts(directory: &Path) -> Result<Vec<String>> {
    let context = || format!("read {}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && LICENCE_FILES.iter().any(|start| name.starts_with(start)) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::sample;

    #[test]
    fn digests_come_from_the_lock_file() {
        let lock = "version = 4\n\
                    [[package]]\nname = 'a'\nversion = '1.2.3'\nchecksum = 'abc'\n\
                    [[package]]\nname = 'virtinitrd-init'\nversion = '1.2.3'\n";
        let found = digests(lock).unwrap();
        let key = ("a".to_owned(), "1.2.3".to_owned());
        assert_eq!(found, BTreeMap::from([(key, "abc".to_owned())]));
        assert!(digests("version = 4").is_err());
    }

    #[test]
    fn the_document_lists_what_is_installed() {
        let key = ("a".to_owned(), "1.2.3".to_owned());
        let digests = BTreeMap::from([(key, "abc".to_owned())]);
        let bom = bom(&sample(), &digests, "2026-11-30T06:58:09Z");
        let expected = json!([
            {
                "type": "library", "bom-ref": "pkg:cargo/a@1.2.3", "name": "a", "version": "1.2.3",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }], "purl": "pkg:cargo/a@1.2.3",
                "hashes": [{ "alg": "SHA-256", "content": "abc" }],
            },
            {
                "type": "library", "bom-ref": "pkg:cargo/b@1.2.3", "name": "b", "version": "1.2.3",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }], "purl": "pkg:cargo/b@1.2.3",
            },
            {
                "type": "library", "bom-ref": "virtinitrd-init@1.2.3", "name": "virtinitrd-init",
                "version": "1.2.3", "licenses": [{ "expression": "Apache-2.0" }],
            },
        ]);
        assert_eq!(bom["components"], expected);
        let expected = json!([
            { "ref": "virtinitrd", "dependsOn": ["virtinitrd-init@1.2.3"] },
            { "ref": "pkg:cargo/a@1.2.3", "dependsOn": ["pkg:cargo/b@1.2.3"] },
            { "ref": "pkg:cargo/b@1.2.3", "dependsOn": [] },
            { "ref": "virtinitrd-init@1.2.3", "dependsOn": ["pkg:cargo/a@1.2.3"] },
        ]);
        assert_eq!(bom["dependencies"], expected);
    }

    #[test]
    fn licences_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("LICENSE-MIT", "one"), ("COPYING", "zero"), ("lib.rs", "code")] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        assert_eq!(licence_texts(directory.path()).unwrap(), ["zero", "one"]);
    }
}
