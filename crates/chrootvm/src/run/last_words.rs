//! Messages of chrootvm after the end of a machine.

use std::ffi::OsStr;
use std::path::Path;

use files::tell;
use machine::plan::machine_plan::RunMode;
use machine::process::signals;
use machine::running::outcome::RunReport;
use machine::running::script;
use machine::running::timing::Timing;

/// Reports how a run ended, and returns the exit status. If the guest reset, `hint`
/// follows the error.
pub(super) fn tell(report: RunReport, mode: RunMode, hint: &str, timing: Option<&Timing>) -> u8 {
    // Messages may block. Signals must still end this program.
    signals::let_through();
    let hint = if report.outcome.is_reset() { hint } else { "" };
    let exit = report.outcome.exit_report(mode, report.console.reason.as_deref());
    if exit.shows_console && !report.console.lines.is_empty() {
        let lines = report.console.lines;
        tell::lines(format_args!("the last lines of the guest's console:\n{lines}"));
    }
    if let Some(problem) = exit.problem {
        log::error!("{problem}{hint}");
    }
    if let Some(timing) = timing {
        tell::note(timing.summary());
    }
    exit.status
}

/// Hint for a user who has given a command as INIT: INIT is PID 1, and a kernel panics
/// when PID 1 ends.
pub(super) fn hint(rootfs: &Path, init: Option<&OsStr>) -> String {
    let init = init.unwrap_or(OsStr::new("COMMAND"));
    let words = [OsStr::new("chrootvm"), rootfs.as_os_str(), OsStr::new("--"), init];
    let line = script::shell_line(&words.map(OsStr::to_owned));
    format!("; to run a command that ends: {}", line.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted() {
        let told = hint(Path::new("/a b"), Some(OsStr::new("ls")));
        assert!(told.ends_with(": chrootvm '/a b' -- ls"), "{told}");
        assert!(hint(Path::new("/r"), None).ends_with(": chrootvm /r -- COMMAND"));
    }
}
