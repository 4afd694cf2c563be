//! `bench warm`: the wall-clock time of a run that starts from a template, compared with a boot
//! and with another command.
//!
//! The commands run in turn, as in [`super::e2e`]. The templates are in a cache directory of
//! their own, so the first warm run always makes one. The unpacked kernel is in that directory as
//! well, and a boot before the first warm run puts it there.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Output;
use super::e2e::{Turns, ratio};
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{MachineOptions, Subject, output};
use super::timing_line::TimingLine;

/// Time `chrootvm --warm=always ROOT -- true`, and compare it with a boot and another command
#[derive(Debug, clap::Args)]
pub struct Warm {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    turns: Turns,
}

/// Phases of a warm run, by their names in the line of `--timing`.
const PHASES: [&str; 6] = ["host set-up", "load", "devices", "init", "command", "tear-down"];

/// The commands that run in turn.
struct Compared {
    warm: Command,
    boot: Command,
    other: Option<Command>,
}

/// Milliseconds of one round of the commands.
#[derive(Clone, Copy, Debug)]
struct Round {
    warm: f64,
    /// Phases of the warm run, in the order of [`PHASES`].
    phases: [f64; PHASES.len()],
    boot: f64,
    other: Option<f64>,
}

impl Warm {
    /// Measures the run that makes the template, and then times, ratios and phases.
    pub fn measure(&self) -> Result<Report> {
        let (subject, root) = self.machine.prepare()?;
        let facts = Facts::gather(&subject)?;
        let mut compared = self.compared(&subject, &root)?;
        timed(&mut compared.boot)?;
        let (first, _) = timed(&mut compared.warm)?;
        compared.other.as_mut().map(timed).transpose()?;
        let rounds = (0..self.turns.runs).map(|_| compared.round()).collect::<Result<Vec<_>>>()?;
        let mut rows = vec![Row::median("time, first warm run", "ms", vec![first])];
        rows.extend(self::rows(&rounds));
        Ok(Report { bench: "warm", statistic: "median", facts, rows })
    }

    fn compared(&self, subject: &Subject, root: &Path) -> Result<Compared> {
        let cache = subject.scratch().join("cache");
        let chrootvm = |when: &str| -> Result<Command> {
            let given = [when, "--timing"].map(OsString::from);
            let options: Vec<_> =
                given.into_iter().chain(self.machine.options.iter().cloned()).collect();
            subject.chrootvm(&options, root, &["true"])
        };
        let other = self.turns.other(subject, root);
        let (warm, boot) = (chrootvm("--warm=always")?, chrootvm("--warm=never")?);
        let mut compared = Compared { warm, boot, other };
        let Compared { warm, boot, other } = &mut compared;
        for command in [warm, boot].into_iter().chain(other) {
            command.env("XDG_CACHE_HOME", &cache);
        }
        Ok(compared)
    }
}

impl Compared {
    fn round(&mut self) -> Result<Round> {
        let (warm, stderr) = timed(&mut self.warm)?;
        let phases = phases(&stderr).with_context(|| format!("{:?} said: {stderr}", self.warm))?;
        let (boot, _) = timed(&mut self.boot)?;
        let other = self.other.as_mut().map(timed).transpose()?.map(|(time, _)| time);
        Ok(Round { warm, phases, boot, other })
    }
}

/// Runs a command that must succeed, and returns its time in milliseconds and what it wrote to
/// standard error.
fn timed(command: &mut Command) -> Result<(f64, String)> {
    let start = Instant::now();
    let (_, stderr) = output(command)?;
    Ok((start.elapsed().as_secs_f64() * 1e3, stderr))
}

/// Reads the phases of a warm run.
fn phases(stderr: &str) -> Result<[f64; PHASES.len()]> {
    let line = TimingLine::of(stderr).context("no line of --timing")?;
    ensure!(line.is_warm(), "the machine did not come from the template");
    let mut phases = [0.0; PHASES.len()];
    for (phase, name) in phases.iter_mut().zip(PHASES) {
        *phase = line.phase(name).with_context(|| format!("no phase {name:?}"))?;
    }
    Ok(phases)
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let all = |get: &dyn Fn(&Round) -> f64| rounds.iter().map(get).collect::<Vec<_>>();
    let (warm, boot) = (all(&|round| round.warm), all(&|round| round.boot));
    let other: Vec<_> = rounds.iter().filter_map(|round| round.other).collect();
    let mut rows = vec![Row::median("time, warm", "ms", warm.clone())];
    for (name, times) in [("a boot", boot), ("the other", other)] {
        if times.is_empty() {
            continue;
        }
        rows.push(ratio(format!("ratio, warm to {name}"), &warm, &times));
        rows.push(Row::median(format!("time, {name}"), "ms", times));
    }
    for (at, name) in PHASES.iter().enumerate() {
        rows.push(Row::median(format!("warm: {name}"), "ms", all(&|round| round.phases[at])));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_not_warm_is_an_error() {
        let timing = "timing: host set-up 1.0, load 2.0, devices 3.0, init 4.0, command 5.0, \
                      tear-down 6.0; 21.0 ms in all";
        let read = phases(&format!("{timing} (warm)\n")).unwrap();
        assert_eq!(read.map(|time| time.to_string()), ["1", "2", "3", "4", "5", "6"]);
        for (stderr, part) in [
            (timing, "did not come from the template"),
            ("", "no line"),
            ("timing: host set-up 1.0; 1.0 ms in all (warm)", "no phase \"load\""),
        ] {
            let error = phases(stderr).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn rows_of_another_command_need_one() {
        let round = |warm, boot, other| Round { warm, phases: [7.0; 6], boot, other };
        let rows = rows(&[round(1.0, 4.0, Some(8.0)), round(2.0, 4.0, Some(4.0))]);
        let named = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        let to_boot = named("ratio, warm to a boot");
        assert!((to_boot.min - 0.25).abs() < 1e-9 && (to_boot.max - 0.5).abs() < 1e-9);
        assert!((named("ratio, warm to the other").min - 0.125).abs() < 1e-9);
        assert!((named("warm: tear-down").value - 7.0).abs() < 1e-9);
        assert_eq!(super::rows(&[round(1.0, 4.0, None)]).len(), rows.len() - 2);
    }
}
