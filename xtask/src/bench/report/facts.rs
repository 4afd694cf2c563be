//! Facts about a measurement: host, programs, revision. Numbers mean little without them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::subject::{Subject, qemu_version};
use crate::workspace;

/// Names and values, in the order in which they are shown.
#[derive(Debug)]
pub struct Facts(pub Vec<(&'static str, String)>);

impl Facts {
    /// Gathers the facts of this host, of the source tree and of the subject.
    pub fn gather(subject: &Subject) -> Result<Self> {
        let mut facts = Self::of_host()?;
        facts.0.push(("guest kernel", subject.kernel_name()));
        facts.0.push(("QEMU", qemu_version()?));
        Ok(facts)
    }

    /// Gathers the facts of this host and of the source tree.
    pub fn of_host() -> Result<Self> {
        let cpus = std::thread::available_parallelism().context("count processors")?.get();
        let model = cpu_model(&machine::host::cpuinfo());
        let system = nix::sys::utsname::uname().context("uname")?;
        Ok(Self(vec![
            ("revision", revision(&workspace::root()?)),
            ("host", model),
            ("processors", cpus.to_string()),
            ("host kernel", system.release().to_string_lossy().into_owned()),
        ]))
    }
}

/// Commit of the source tree, with a mark if files differ from it.
fn revision(tree: &Path) -> String {
    let git =
        Command::new("git").arg("-C").arg(tree).args(["describe", "--always", "--dirty"]).output();
    let output = git.ok().filter(|output| output.status.success());
    output.map_or_else(
        || concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = line.and_then(|line| line.split_once(':')).map(|(_, model)| model.trim());
    model.unwrap_or(std::env::consts::ARCH).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_or_left_out() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A  B\n"), "A  B");
        assert_eq!(cpu_model(""), std::env::consts::ARCH);
    }
}
