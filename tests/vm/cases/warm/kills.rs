//! SIGKILL while a template is made or used, and first runs at the same time. The next run is
//! right, and nothing is left.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use super::site::{Answer, Site, Start};
use crate::harness::processes::{Victim, all_gone, family, is_empty, no_process_mentions};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("chrootvm_killed_while_it_makes_one", |bed| killed_at_any_moment(bed, Use::Makes)),
    ("chrootvm_killed_while_it_uses_one",  |bed| killed_at_any_moment(bed, Use::Loads)),
    ("first_runs_at_once",                 first_runs_at_once),
    ("unfinished_files_are_removed",       unfinished_files_are_removed),
];

/// What a run does with its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Makes,
    Loads,
}

/// Number of kills. The environment variable `VM_KILLS` gives another.
const ROUNDS: u64 = 4;

/// Age of files that a later run removes.
const OLD: Duration = Duration::from_secs(2 * 3600);

/// The moments lie one behind the other between the start of `chrootvm` and a moment at which
/// the command runs.
fn killed_at_any_moment(bed: &Bed, what: Use) -> Result<()> {
    let rounds = std::env::var("VM_KILLS").ok().and_then(|text| text.parse().ok());
    let rounds: u64 = rounds.unwrap_or(ROUNDS).max(1);
    let span = match what {
        Use::Makes => 3000,
        Use::Loads => 900,
    };
    let site = Site::new(bed)?;
    for round in 0..rounds {
        match what {
            Use::Makes => site.templates()?.iter().try_for_each(fs::remove_file)?,
            Use::Loads => {
                site.answers(&[], "true", Answer { status: 0, stdout: b"", says: &[] })?;
            }
        }
        let moment = (round * 2 + 1) * span / (rounds * 2);
        killed_at(&site, moment).with_context(|| format!("{what:?}, {moment} ms"))?;
    }
    site.answers(&[], "echo in", Answer { status: 0, stdout: b"in\n", says: &[] })
}

fn killed_at(site: &Site<'_>, moment: u64) -> Result<()> {
    let live = site.sh(&[], "exec sleep 600")?.start()?;
    // This sleep does not wait for anything: the moments are arbitrary on purpose.
    std::thread::sleep(Duration::from_millis(moment));
    let family = family(live.pid())?;
    kill(Victim::Chrootvm.wait(live.pid())?, Signal::SIGKILL)?;
    let mut finished = live.finish()?;
    finished.take_timing();
    let is_killed = finished.status == 137 && finished.stdout().is_empty();
    finished.check(is_killed, || "expected: exit status 137".into())?;
    all_gone(&family)?;
    no_process_mentions(&site.path("root"))?;
    is_empty(&site.path("tmp"))?;
    let answer = Answer { status: 3, stdout: b"right\n", says: &[] };
    answer.check(site.sh(&[], "echo right; exit 3")?.finish()?).map(drop)
}

/// Four runs find the directory empty.
fn first_runs_at_once(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let runs = (0..4).map(|number| site.sh(&[], &format!("echo {number}; exit {number}"))?.start());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    for (number, live) in runs.into_iter().enumerate() {
        let stdout = format!("{number}\n");
        let status = i32::try_from(number)?;
        Answer { status, stdout: stdout.as_bytes(), says: &[] }.check(live.finish()?)?;
    }
    ensure!(site.templates()?.len() == 1, "{:?}", site.templates()?);
    ensure!(site.unfinished()?.is_empty(), "{:?}", site.unfinished()?);
    site.echoes(Start::Warm)
}

/// A file that a killed run has left goes when a later run keeps its template; the file of a
/// run that may still write it stays.
fn unfinished_files_are_removed(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    let (old, new) = (site.store().join(".virtinitrd-old"), site.store().join(".virtinitrd-new"));
    fs::write(&new, "half")?;
    fs::write(&old, "half")?;
    File::options().write(true).open(&old)?.set_modified(SystemTime::now() - OLD)?;
    for template in site.templates()? {
        fs::remove_file(template)?;
    }
    site.echoes(Start::Cold)?;
    ensure!(site.unfinished()? == [new], "{:?}", site.unfinished()?);
    Ok(())
}
