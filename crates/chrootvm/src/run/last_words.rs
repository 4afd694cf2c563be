//! Messages of chrootvm after the end of a machine.

use std::ffi::OsStr;
use std::path::Path;

use files::tell;
use machine::plan::machine_plan::MachinePlan;
use machine::process::signals;
use machine::running::outcome::{Outcome, RunFacts, RunReport};
use machine::running::script;
use machine::running::timing::Timing;

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

/// Reports how the run of `plan` ended, and returns the exit status. `log_dir` is the directory of
/// its log files, if it has any.
pub(super) fn tell(
    report: RunReport,
    plan: &MachinePlan,
    init: &InitWords,
    log_dir: Option<&Path>,
    timing: Option<&Timing>,
) -> u8 {
    // Messages may block. Signals must still end this program.
    signals::let_through();
    let hint = match (&report.outcome, log_dir) {
        (Outcome::Pid1Ended(_), _) => init.hint.clone(),
        (Outcome::OutputLost(_), Some(dir)) => format!(" (--logs {})", dir.display()),
        _ => String::new(),
    };
    let reason = report.console.reason.as_deref();
    let facts = RunFacts { mode: plan.mode, memory: plan.memory, init: &init.name, reason };
    let exit = report.outcome.exit_report(&facts);
    if exit.shows_console && !report.console.lines.is_empty() {
        let lines = report.console.lines;
        tell::lines(format_args!("the last lines of the guest's console:\n{lines}"));
    }
    logger::warn_all(report.shortage.advice(Some(plan.memory)));
    match exit.problem {
        Some(problem) if exit.status == 0 => log::info!("chrootvm: {problem}{hint}"),
        Some(problem) => log::error!("{problem}{hint}"),
        None => {}
    }
    if let Some(timing) = timing {
        tell::note(timing.summary());
    }
    exit.status
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
