//! Messages of chrootvm after the end of a machine.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;
use files::tell;
use machine::plan::machine_plan::{MachinePlan, RunMode};
use machine::process::signals;
use machine::running::outcome::{Outcome, RunFacts, RunReport};
use machine::running::script;
use machine::running::timing::Timing;

use super::report::{End, Report};
use crate::logger;

/// INIT in messages.
#[derive(Debug)]
pub(super) struct InitWords {
    /// Name of PID 1, such as `ls (PID 1)`.
    name: String,
    /// Hint for a user who has given a command as INIT: with PID 1 ends the machine.
    hint: String,
}

impl InitWords {
    /// The words for `init` in `rootfs`.
    pub(super) fn new(rootfs: &Path, init: Option<&OsStr>) -> Self {
        let name = init.map_or("PID 1".into(), |init| format!("{} (PID 1)", init.display()));
        let init = init.unwrap_or(OsStr::new("COMMAND"));
        let words = [OsStr::new("chrootvm"), rootfs.as_os_str(), OsStr::new("--"), init];
        let line = script::shell_line(&words.map(OsStr::to_owned));
        Self { name, hint: format!("; to run a command: {}", line.display()) }
    }
}

/// Receivers of the end of a run, and the words for them.
#[derive(Debug)]
pub(super) struct Audience<'a> {
    /// INIT in messages.
    pub(super) init: InitWords,
    /// Directory of the log files, if there are any.
    pub(super) log_dir: Option<&'a Path>,
    /// The last lines of the console may follow a failure.
    pub(super) shows_console: bool,
    /// Whether to print how long each part took.
    pub(super) shows_timing: bool,
    /// The report of `--report`.
    pub(super) file: &'a Report,
}

/// Reports how the run of `plan` ended, and returns the exit status.
///
/// # Errors
/// The report of `--report` cannot be written.
pub(super) fn tell(
    report: RunReport,
    plan: &MachinePlan,
    timing: &Timing,
    audience: &Audience<'_>,
) -> Result<u8> {
    let Audience { init, log_dir, shows_console, shows_timing, file } = audience;
    let hint = match (&report.outcome, log_dir) {
        (Outcome::Pid1Ended(_), _) => init.hint.clone(),
        (Outcome::OutputLost(_), Some(dir)) => format!(" (--logs {})", dir.display()),
        _ => String::new(),
    };
    let reason = report.console.reason.as_deref();
    let powers_off_silently = plan.architecture.powers_off_silently;
    let facts = RunFacts {
        mode: plan.mode,
        memory: plan.memory,
        init: &init.name,
        reason,
        powers_off_silently,
    };
    let exit = report.outcome.exit_report(&facts);
    let problem = exit.problem.map(|problem| problem + &hint);
    // Before messages: once signals are let through, the next one ends this program.
    let written = file.finish(End {
        status: exit.status,
        ending: exit.ending,
        signal: report.signal,
        error: problem.clone(),
        phases: timing.phases(),
        console: match plan.mode {
            RunMode::Command { .. } => Some(report.console.tail),
            RunMode::Console { .. } => None,
        },
    });
    // Messages may block. Signals must still end this program.
    signals::let_through();
    if exit.shows_console && *shows_console && !report.console.lines.is_empty() {
        let lines = report.console.lines;
        tell::lines(format_args!("the last lines of the guest's console:\n{lines}"));
    }
    logger::warn_all(report.shortage.advice(Some(plan.memory)));
    match problem {
        Some(problem) if exit.status == 0 => log::info!("chrootvm: {problem}"),
        Some(problem) => log::error!("{problem}"),
        None => {}
    }
    if *shows_timing {
        tell::note(timing.summary());
    }
    written.map(|()| exit.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted() {
        for (rootfs, init, name, line) in [
            ("/a b", Some("ls"), "ls (PID 1)", "chrootvm '/a b' -- ls"),
            ("/r", None, "PID 1", "chrootvm /r -- COMMAND"),
        ] {
            let words = InitWords::new(Path::new(rootfs), init.map(OsStr::new));
            assert_eq!(words.name, name);
            assert_eq!(words.hint, format!("; to run a command: {line}"));
        }
    }
}
