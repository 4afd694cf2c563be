//! `docs/examples/kubernetes/job.yaml` against the schema of the API of Kubernetes.
//!
//! The schemas of the API are in kubernetes-validate, a package of PyPI; `--strict` refuses members
//! that the API does not have. No cluster runs the job.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::site::Site;
use crate::testbed::run as run_command;

/// Release of the package; it has the schemas of the API of the same version.
const RELEASE: &str = "1.37.0";

/// Versions of the API that the manifest is for: the oldest one in which `backoffLimitPerIndex` is
/// stable, and the newest one.
const VERSIONS: [&str; 2] = ["1.33.0", RELEASE];

/// A member that the API does not have, in place of one that it has.
const MISTAKE: (&str, &str) = ("backoffLimitPerIndex", "backoffLimitPerIndices");

/// Validates the manifest, and shows that a mistake would be found.
///
/// # Errors
/// The package cannot be installed, or the manifest has a mistake.
pub(super) fn run(site: &Site) -> Result<String> {
    let dir = site.tree.join("target/fleets").join(format!("kubernetes-validate-{RELEASE}"));
    if !dir.exists() {
        let unfinished = dir.with_extension("tmp");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).context("remove an unfinished package")?;
        }
        let package = format!("kubernetes-validate=={RELEASE}");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&unfinished).arg(package);
        run_command(&mut pip)?;
        fs::rename(&unfinished, &dir).context("keep the package")?;
    }
    let manifest = site.tree.join("docs/examples/kubernetes/job.yaml");
    let validate = |manifest, version| {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &dir).args([
            "-m",
            "kubernetes_validate",
            "--strict",
            "-k",
            version,
        ]);
        python.arg(manifest).output().context("run python3")
    };
    for version in VERSIONS {
        let output = validate(&manifest, version)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} for {version}: {words}", manifest.display());
    }
    let text = fs::read_to_string(&manifest)?;
    ensure!(text.contains(MISTAKE.0), "the manifest has no {}", MISTAKE.0);
    let wrong = site.path("wrong.yaml");
    fs::write(&wrong, text.replace(MISTAKE.0, MISTAKE.1))?;
    ensure!(!validate(&wrong, RELEASE)?.status.success(), "the schema accepts {}", MISTAKE.1);
    Ok(format!("job.yaml is valid for the API {}; no cluster has run it", VERSIONS.join(" and ")))
}
