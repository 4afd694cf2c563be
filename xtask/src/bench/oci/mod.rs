//! `bench oci`: from an image in a registry to an EROFS image, compared with other commands.
//!
//! A registry on the loopback serves two images with the same files, in one layer and in ten.
//! Each round runs all commands in turn, so the ratio of a command's time to that of the peers'
//! pipeline is one of the same minute.

mod fixture;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use self::fixture::IMAGES;
use super::Output;
use super::measure::{Usage, measure};
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::scratch;
use crate::programs;
use crate::registry::Registry;

/// Time `chrootvm image build oci:REF`, and compare it with skopeo, umoci and mkfs.erofs
#[derive(Debug, clap::Args)]
pub struct Oci {
    #[command(flatten)]
    pub(super) output: Output,
    /// One more command, for sh -c, with $REF, $OUTPUT and $WORK, an empty directory; repeatable
    #[arg(long, value_name = "COMMAND")]
    vs: Vec<OsString>,
    /// Number of rounds
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Options for chrootvm image build
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// What the peers' programs do, for sh -c. `umoci` needs an option without root.
const PIPELINE: &str = "set -e\n\
    skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://$REF oci:$WORK/layout:1\n\
    umoci unpack $(test $(id -u) = 0 || echo --rootless) --image $WORK/layout:1 $WORK/bundle\n\
    mkfs.erofs -zlz4 $OUTPUT $WORK/bundle/rootfs";

/// What is left of the cache before a run of ours: a name, and the directories that are removed.
#[rustfmt::skip]
const CACHES: &[(&str, &[&str])] = &[
    ("empty cache",          &["blobs", "layers", "images", "refs"]),
    ("blobs in the cache",   &["layers", "images"]),
    ("layers in the cache",  &["images"]),
];

/// Directory of images below the cache directory.
const CACHE: &str = "virtinitrd/oci";

/// Name of the command with which the others are compared.
const PEERS: &str = "skopeo, umoci, mkfs.erofs";

/// Numbers of a run: name, unit, and where it is.
type Column = (&'static str, &'static str, fn(&Usage) -> f64);

const COLUMNS: &[Column] = &[
    ("time", "ms", |usage| usage.wall),
    ("processor time", "ms", |usage| usage.cpu),
    ("peak memory", "MiB", |usage| usage.memory),
];

impl Oci {
    /// Measures all commands with both images.
    pub fn measure(&self) -> Result<Report> {
        programs::build()?;
        let facts = Facts::of_host()?;
        let registry = fixture::registry()?;
        let scratch = scratch()?;
        let mut rows = Vec::new();
        for (image, layers) in IMAGES {
            let reference = format!("{}/bench/{image}:1", registry.authority());
            let commands = self.commands(scratch.path(), &reference)?;
            let title = if *layers == 1 { "one layer".into() } else { format!("{layers} layers") };
            let rounds = self.rounds(&commands, scratch.path())?;
            rows.extend(rows_of(&title, &commands, &rounds));
        }
        // Until here, the registry answers.
        drop::<Registry>(registry);
        Ok(Report { bench: "oci", statistic: "median", facts, rows })
    }

    fn commands(&self, dir: &Path, reference: &str) -> Result<Vec<Timed>> {
        let mut commands = Vec::new();
        for (name, removed) in CACHES {
            let mut command = Command::new(programs::chrootvm()?);
            command.args(["image", "build", "--quiet", &format!("oci:{reference}"), "-o"]);
            command.arg(dir.join("ours.erofs")).args(&self.options);
            command.env("XDG_CACHE_HOME", dir.join("cache"));
            commands.push(Timed { name: format!("chrootvm, {name}"), command, removed });
        }
        commands.push(shell(PEERS.into(), PIPELINE.as_ref(), dir, reference));
        for text in &self.vs {
            commands.push(shell(text.display().to_string(), text, dir, reference));
        }
        Ok(commands)
    }

    /// Runs all commands in turn. The first round does not count: it fills the page cache.
    fn rounds(&self, commands: &[Timed], dir: &Path) -> Result<Vec<Vec<Usage>>> {
        let round = || commands.iter().map(|timed| timed.run(dir)).collect::<Result<Vec<_>>>();
        round()?;
        (0..self.runs).map(|_| round()).collect()
    }
}

/// A command to measure.
struct Timed {
    name: String,
    command: Command,
    /// Directories of the cache that are removed before.
    removed: &'static [&'static str],
}

impl Timed {
    fn run(&self, dir: &Path) -> Result<Usage> {
        for name in self.removed {
            remove(&dir.join("cache").join(CACHE).join(name))?;
        }
        for name in ["work", "ours.erofs", "other.erofs"] {
            remove(&dir.join(name))?;
        }
        fs::create_dir(dir.join("work")).context("make a directory for a command")?;
        measure(&self.command)
    }
}

/// A command of sh(1), as `--vs` describes it.
fn shell(name: String, text: &OsStr, dir: &Path, reference: &str) -> Timed {
    let mut command = Command::new("sh");
    command.arg("-c").arg(text).env("REF", reference).env("WORK", dir.join("work"));
    command.env("OUTPUT", dir.join("other.erofs"));
    Timed { name, command, removed: &[] }
}

/// Removes a file or a directory, if it exists.
fn remove(path: &Path) -> Result<()> {
    let result = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false if !path.exists() => Ok(()),
        false => fs::remove_file(path),
    };
    result.with_context(|| format!("remove {}", path.display()))
}

/// The rows of one image: all numbers of each command, and the ratio of its time to that of the
/// peers.
fn rows_of(title: &str, commands: &[Timed], rounds: &[Vec<Usage>]) -> Vec<Row> {
    let mut rows = Vec::new();
    let peers = commands.iter().position(|timed| timed.name == PEERS);
    for (number, Timed { name, .. }) in commands.iter().enumerate() {
        for (what, unit, get) in COLUMNS {
            let values = rounds.iter().map(|round| get(&round[number])).collect();
            rows.push(Row::median(format!("{title}: {name}: {what}"), unit, values));
        }
        if let Some(peers) = peers.filter(|peers| *peers != number) {
            let ratio = |round: &Vec<Usage>| round[number].wall / round[peers].wall;
            let ratios = rounds.iter().map(ratio).collect();
            rows.push(Row::median(format!("{title}: {name}: time, ratio to {PEERS}"), "", ratios));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_to_the_peers_of_the_same_round() {
        let timed =
            |name: &str| Timed { name: name.into(), command: Command::new("x"), removed: &[] };
        let usage = |wall| Usage { wall, cpu: 1.0, memory: 2.0 };
        let rounds = [(1.0, 10.0), (2.0, 10.0), (9.0, 30.0)]
            .map(|(ours, peers)| vec![usage(ours), usage(peers)]);
        let rows = rows_of("one layer", &[timed("ours"), timed(PEERS)], &rounds);
        let ratios: Vec<_> = rows.iter().filter(|row| row.name.contains("ratio")).collect();
        assert_eq!((ratios.len(), rows.len()), (1, 7));
        assert!((ratios[0].value - 0.2).abs() < 1e-9, "{:?}", ratios[0]);
    }

    #[test]
    fn files_and_directories_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        remove(&path).unwrap();
        fs::write(&path, "").unwrap();
        remove(&path).unwrap();
        fs::create_dir_all(path.join("y")).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
