//! `cargo xtask fleets`: many machines by the engines of `docs/fleets.md`, with its examples as
//! they stand.
//!
//! | Module | Content |
//! |---|---|
//! | `matrix` | kernels, commands, and what each task has to report |
//! | `site` | the directory of all runs, and what is left of them |
//! | `slurm` | an array job of a Slurm on this host, and jobs that are cancelled |
//! | `parallel` | GNU parallel, with reports as JUnit's XML |
//! | `kubernetes` | the manifest against the schema of the API |

mod kubernetes;
mod matrix;
mod parallel;
mod site;
mod slurm;

use anyhow::{Result, bail};
use files::tell;

use self::site::Site;
use crate::{guest, programs};

/// Run many machines by Slurm and GNU parallel, check the manifest for Kubernetes, and print what
/// was run
#[derive(Debug, clap::Args)]
pub struct Fleets {
    /// Engines: slurm, parallel, kubernetes [default: all]
    names: Vec<String>,
}

/// Runs an engine, and returns a line about what was run.
type Run = fn(&Site) -> Result<String>;

/// Engines by their names.
const ENGINES: [(&str, Run); 3] =
    [("slurm", slurm::run), ("parallel", parallel::run), ("kubernetes", kubernetes::run)];

/// What no engine has run, whatever the host has.
const NOT_RUN: &str = "a cluster of Kubernetes; a Slurm of several nodes, or with cgroups";

impl Fleets {
    /// Runs the engines, and prints a table.
    ///
    /// # Errors
    /// A task has another end than it should, or something is left.
    pub fn run(self) -> Result<()> {
        let names: Vec<_> = ENGINES.iter().map(|(name, _)| *name).collect();
        if let Some(name) = self.names.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("there is no engine {name}: the engines are {}", names.join(", "));
        }
        guest::build()?;
        programs::build()?;
        let site = Site::make()?;
        let mut table = Vec::new();
        for (name, run) in ENGINES {
            let is_wanted = self.names.is_empty() || self.names.iter().any(|wanted| wanted == name);
            let line = match is_wanted {
                true => {
                    log::info!("fleets: {name}");
                    run(&site)?
                }
                false => "not run".into(),
            };
            table.push(format!("{name:<10}  {line}"));
        }
        for (number, kernel) in site.kernels.iter().enumerate() {
            table.push(format!("kernel {number}    {kernel}"));
        }
        table.push(format!("not run     {NOT_RUN}\n"));
        tell::result(table.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Readers copy from the document, and the engines run the files.
    #[test]
    fn the_document_shows_the_examples() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let document = fs::read_to_string(root.join("docs/fleets.md")).unwrap();
        for name in ["fleets/matrix.sbatch", "fleets/matrix.sh", "kubernetes/job.yaml"] {
            let path = format!("examples/{name}");
            let text = fs::read_to_string(root.join("docs").join(&path)).unwrap();
            assert!(document.contains(&format!("]({path})")), "no link to {path}");
            assert!(document.contains(&format!("\n{text}```\n")), "{path} differs");
        }
    }
}
