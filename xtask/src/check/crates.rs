//! Rules for the dependencies between the crates of the workspace.
//!
//! Interface: `Cargo.toml` ("The Manifest Format", The Cargo Book). Only
//! `[dependencies]` count; tests may use what they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Directory of each crate, and the crates of the workspace that it may use. Later rows
/// may use earlier ones, never the other way round.
#[rustfmt::skip]
const CRATES: &[(&str, &[&str])] = &[
    ("crates/proto",    &[]),
    ("init",            &["crates/proto"]),
    ("crates/recipe",   &["crates/proto"]),
    ("crates/step",     &["crates/proto"]),
    ("crates/files",    &[]),
    ("crates/archive",  &["crates/files"]),
    ("crates/image",    &["crates/archive", "crates/files", "crates/proto"]),
    ("crates/oci",      &["crates/image", "crates/archive", "crates/files"]),
    ("crates/machine",  &["crates/image", "crates/archive", "crates/files", "crates/proto"]),
    ("crates/chrootvm", &["crates/machine", "crates/oci", "crates/image", "crates/archive", "crates/files", "crates/recipe", "crates/step", "crates/proto"]),
    ("xtask",           &["crates/chrootvm", "crates/machine", "crates/oci", "crates/image", "crates/archive", "crates/files", "crates/recipe", "crates/step", "crates/proto", "init"]),
    ("tests/vm",        &[]),
];

/// Crates from outside, and the only directories that may use them.
const ONLY_IN: &[(&str, &[&str])] = &[("clap", &["crates/chrootvm", "xtask"])];

/// Crates for system calls; a crate uses at most one of them.
const SYSTEM_CALLS: [&str; 2] = ["nix", "rustix"];

/// Names of the direct dependencies of each crate, by its directory. A crate of this
/// workspace is named by its directory.
pub type Graph = BTreeMap<String, Vec<String>>;

/// Reads the manifests of the workspace at `root`.
///
/// # Errors
/// A manifest cannot be read.
pub fn read(root: &Path) -> Result<Graph> {
    let workspace = manifest(root)?;
    let shared = workspace["workspace"]["dependencies"].as_table().context("no dependencies")?;
    let place = |name: &String| {
        let path = shared.get(name).and_then(|row| row.get("path")?.as_str());
        path.unwrap_or(name).to_owned()
    };
    let mut graph = Graph::new();
    for member in members(root, &workspace)? {
        let manifest = manifest(&root.join(&member))?;
        let names = manifest.get("dependencies").and_then(toml::Value::as_table);
        let names = names.map(|table| table.keys().map(place).collect()).unwrap_or_default();
        graph.insert(member, names);
    }
    Ok(graph)
}

/// A line for each dependency that the tables above do not allow.
#[must_use]
pub fn faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for (member, uses) in graph {
        let Some((_, allowed)) = CRATES.iter().find(|(directory, _)| directory == member) else {
            faults.push(format!("{member}: no row in the table of crates"));
            continue;
        };
        let ours = uses.iter().filter(|name| graph.contains_key(*name));
        let wrong = ours.filter(|name| !allowed.contains(&name.as_str()));
        faults.extend(wrong.map(|name| format!("{member} must not use {name}")));
        for (name, directories) in ONLY_IN {
            if uses.iter().any(|used| used == name) && !directories.contains(&member.as_str()) {
                faults.push(format!("{member} must not use {name}"));
            }
        }
        let has_both = SYSTEM_CALLS.iter().all(|name| uses.iter().any(|used| used == name));
        if has_both {
            faults.push(format!("{member} must use only one of {}", SYSTEM_CALLS.join(" and ")));
        }
    }
    faults
}

/// Directories of the workspace's crates.
fn members(root: &Path, workspace: &toml::Table) -> Result<Vec<String>> {
    let patterns = workspace["workspace"]["members"].as_array().context("no members")?;
    let mut members = Vec::new();
    for pattern in patterns {
        let pattern = pattern.as_str().context("a member is not a string")?;
        let Some(directory) = pattern.strip_suffix("/*") else {
            members.push(pattern.to_owned());
            continue;
        };
        if directory.contains('*') {
            bail!("member {pattern}: only a last part of * is supported");
        }
        let entries = fs::read_dir(root.join(directory));
        for entry in entries.with_context(|| format!("list {directory}"))? {
            let name = entry?.file_name();
            members.push(format!("{directory}/{}", name.display()));
        }
    }
    Ok(members)
}

fn manifest(directory: &Path) -> Result<toml::Table> {
    let path = directory.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.parse().with_context(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_dependencies_are_named() {
        for (member, uses, expected) in [
            ("crates/image", &["crates/archive", "nix"][..], None),
            ("crates/archive", &["crates/image"], Some("crates/archive must not use crates/image")),
            ("crates/image", &["clap"], Some("crates/image must not use clap")),
            (
                "crates/files",
                &["nix", "rustix"],
                Some("crates/files must use only one of nix and rustix"),
            ),
            ("crates/new", &[], Some("crates/new: no row in the table of crates")),
        ] {
            let graph = ["crates/archive", "crates/image", "init", member]
                .map(|name| (name.to_owned(), Vec::new()));
            let mut graph = Graph::from(graph);
            graph.insert(member.into(), uses.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(faults(&graph), Vec::from_iter(expected), "{member} uses {uses:?}");
        }
    }

    /// The rows of the table are in the order of the graph.
    #[test]
    fn the_table_has_one_direction() {
        for (at, (directory, uses)) in CRATES.iter().enumerate() {
            for used in *uses {
                let is_earlier = CRATES[..at].iter().any(|(earlier, _)| earlier == used);
                assert!(is_earlier, "{directory}: {used} is not above it");
            }
        }
    }
}
