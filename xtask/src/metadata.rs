//! What cargo knows of the crates of this workspace: `cargo metadata`, format 1.
//!
//! It is about the target of the host: crates for other systems are not downloaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::toolchain::host_triple;
use serde::Deserialize;

use crate::workspace;

/// Crates whose programs are installed.
const INSTALLED: &[&str] = &["chrootvm", "virtinitrd-init", "virtinitrd-step"];

/// All crates, and what they depend on.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// The workspace's crates and those of others.
    pub packages: Vec<Package>,
    resolve: Resolve,
}

/// A crate.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Package {
    /// Opaque name, unique among all crates.
    pub id: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Expression of SPDX licences.
    pub license: Option<String>,
    /// Registry; `None` for a crate of this workspace.
    pub source: Option<String>,
    /// Path of its Cargo.toml.
    pub manifest_path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Clone, Debug, Deserialize)]
struct DependencyKind {
    /// `None` for a normal dependency, else `build` or `dev`.
    kind: Option<String>,
}

impl Package {
    /// Whether this is a crate of this workspace whose program is installed.
    #[must_use]
    pub fn is_own_program(&self) -> bool {
        self.source.is_none() && INSTALLED.contains(&&*self.name)
    }
}

impl Metadata {
    /// Asks cargo about the workspace at `root`.
    ///
    /// # Errors
    /// cargo fails, for instance because it has to download a crate and has no network.
    pub fn read(root: &Path) -> Result<Self> {
        let mut cargo = workspace::cargo();
        cargo.current_dir(root).args(["metadata", "--format-version=1", "--locked"]);
        cargo.args(["--filter-platform", &host_triple()?]).args(workspace::vendor_arguments(root));
        let output = cargo.output().context("run cargo metadata")?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata: {message}");
        serde_json::from_slice(&output.stdout).context("parse the output of cargo metadata")
    }

    /// The crates whose code is in an installed program, each with the ids of those that it uses
    /// itself. Crates that only builds or tests use are left out. The order is that of the ids.
    #[must_use]
    pub fn installed(&self) -> BTreeMap<&str, (&Package, Vec<&str>)> {
        let packages: BTreeMap<_, _> =
            self.packages.iter().map(|package| (&*package.id, package)).collect();
        let first = self.packages.iter().filter(|package| package.is_own_program());
        let mut pending: Vec<_> = first.map(|package| &*package.id).collect();
        let mut found = BTreeMap::new();
        while let Some(id) = pending.pop() {
            let Some(package) = packages.get(id).filter(|_| !found.contains_key(id)) else {
                continue;
            };
            let uses = self.uses(id);
            pending.extend(&uses);
            found.insert(id, (*package, uses));
        }
        found
    }

    /// Ids of the crates that the crate `id` uses in its programs, sorted.
    fn uses(&self, id: &str) -> Vec<&str> {
        let node = self.resolve.nodes.iter().find(|node| node.id == id);
        let dependencies = node.into_iter().flat_map(|node| &node.deps);
        let is_normal =
            |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let mut ids: Vec<_> =
            dependencies.filter(is_normal).map(|dependency| &*dependency.pkg).collect();
        ids.sort_unstable();
        ids
    }
}

/// Metadata for tests: `/init` uses `a`, which uses `b`; `c` is built with, `d` is not used.
#[cfg(test)]
pub(crate) fn sample() -> Metadata {
    let package = |name: &str, license: &str| {
        let source = (name.len() == 1).then_some("registry+https://example.org/index");
        serde_json::json!({
            "id": name, "name": name, "version": "1.2.3", "license": license, "source": source,
            "manifest_path": format!("/crates/{name}/Cargo.toml"),
        })
    };
    let uses = |name: &str, kind: Option<&str>| serde_json::json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
    let document = serde_json::json!({
        "packages": [
            package("virtinitrd-init", "Apache-2.0"), package("a", "MIT OR Apache-2.0"),
            package("b", "MIT/Apache-2.0"), package("c", "MIT"), package("d", "GPL-3.0-only"),
        ],
        "resolve": { "nodes": [
            { "id": "virtinitrd-init", "deps": [uses("c", Some("build")), uses("a", None)] },
            { "id": "a", "deps": [uses("b", None), uses("d", Some("dev"))] },
        ] },
    });
    serde_json::from_value(document).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_programs_is_installed() {
        let metadata = sample();
        let installed = metadata.installed();
        let installed: Vec<_> = installed.iter().map(|(id, (_, uses))| (*id, &**uses)).collect();
        let expected: [(&str, &[&str]); 3] =
            [("a", &["b"]), ("b", &[]), ("virtinitrd-init", &["a"])];
        assert_eq!(installed, expected);
    }
}
