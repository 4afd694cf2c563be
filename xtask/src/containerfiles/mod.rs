//! `cargo xtask containerfiles`: builds the Containerfiles of `tests/containerfiles`, and compares
//! images and times with those of buildah(1).
//!
//! | Module | Content |
//! |---|---|
//! | `fixtures` | the Containerfiles, and the options for each |
//! | `bases` | base images, and the Debian packages for all Containerfiles |
//! | `server` | the packages on this host's loopback |
//! | `builders` | how chrootvm and buildah are called |
//! | `compare` | what differs between two images |
//! | `explained` | what may differ, and why |
//! | `table` | the results |
//!
//! Base images and packages are kept in `target/containerfiles`; the builders' stores, logs and
//! archives are in its directory `run`, and are those of the last run. Each time is that of one
//! build, from the Containerfile to an archive in a file. chrootvm compresses its archive, and
//! buildah does not.

mod bases;
mod builders;
mod compare;
mod explained;
mod fixtures;
mod server;
mod table;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use files::tell;

use self::bases::Bases;
use self::builders::{Buildah, Chrootvm, Site};
use self::fixtures::Fixture;
use self::server::Server;
use self::table::{Row, Table, Times, Verdict};
use crate::{guest, programs, step_program, testbed, workspace};

/// Build the Containerfiles of tests/containerfiles, without steps that are kept and again
#[derive(Debug, clap::Args)]
pub struct Containerfiles {
    /// Directories of tests/containerfiles [default: all]
    names: Vec<String>,
    /// Build them with buildah as well, and compare the images
    #[arg(long)]
    buildah: bool,
}

impl Containerfiles {
    /// Builds, compares, and prints what differs and a table.
    ///
    /// # Errors
    /// A build fails, or images differ in something that is not explained.
    pub fn run(self) -> Result<()> {
        let fixtures = fixtures::select(&self.names)?;
        let tree = workspace::root()?;
        guest::build()?;
        step_program::build()?;
        programs::build()?;
        let kernel = testbed::kernel(&tree)?;
        let home = tree.join("target/containerfiles");
        let bases = Bases::prepare(&home)?;
        let server = Server::start(&bases.repository())?;

        let directory = home.join("run");
        if directory.exists() {
            fs::remove_dir_all(&directory).context("remove the files of the last run")?;
        }
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        let site =
            Site { workspace: &tree, directory: &directory, bases: &bases, port: server.port() };
        let buildah = self.buildah.then(|| Buildah::new(site)).transpose()?;
        let chrootvm = Chrootvm::new(site, kernel);
        let rows = fixtures.iter().map(|fixture| row(fixture, &chrootvm, buildah.as_ref()));
        let table = Table(rows.collect::<Result<_>>()?);
        tell::result(&table)?;
        ensure!(table.is_good(), "a build failed, or images differ; see {}", directory.display());
        Ok(())
    }
}

/// Builds one fixture with each builder, and compares the images.
///
/// # Errors
/// The images cannot be compared. A build that fails is printed, and is no error.
fn row(fixture: &Fixture, chrootvm: &Chrootvm<'_>, buildah: Option<&Buildah<'_>>) -> Result<Row> {
    log::info!("building {}", fixture.name);
    let (ours, our_times) = twice(fixture, &|| chrootvm.build(fixture));
    let (theirs, their_times) = match buildah {
        Some(buildah) => {
            let (image, times) = twice(fixture, &|| buildah.build(fixture));
            (Some(image), times)
        }
        None => (None, Times::default()),
    };
    let verdict = match (ours, theirs) {
        (Some(_), None) => Verdict::Built,
        (Some(ours), Some(Some(theirs))) => {
            let faults = compare::compare(fixture.name, &ours, &theirs)?;
            for fault in &faults {
                tell::result(format_args!("{}: {fault}\n", fixture.name))?;
            }
            if faults.is_empty() { Verdict::Same } else { Verdict::Differs }
        }
        _ => Verdict::Failed,
    };
    Ok(Row { name: fixture.name, verdict, ours: our_times, theirs: their_times })
}

/// Builds a fixture twice. Returns the image of the second build; `None` if a build failed.
fn twice(
    fixture: &Fixture,
    build: &dyn Fn() -> Result<(PathBuf, Duration)>,
) -> (Option<PathBuf>, Times) {
    let attempt = || {
        let result = build();
        result.inspect_err(|error| log::info!("{}: {error:#}", fixture.name)).ok()
    };
    let Some((_, cold)) = attempt() else { return (None, Times::default()) };
    match attempt() {
        Some((image, cached)) => (Some(image), Times { cold: Some(cold), cached: Some(cached) }),
        None => (None, Times { cold: Some(cold), cached: None }),
    }
}
