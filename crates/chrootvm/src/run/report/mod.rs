//! `--report`: a file that says how a run ended, for programs.
//!
//! The file is checked before the machine starts, and written once, at the end: whole, or not at
//! all. Whoever ends the run writes it: `last_words` after a machine, [`Report::end`] after an
//! error, or the thread of the time limit before the machine is watched. A chrootvm that a signal
//! kills writes nothing.
//!
//! | Module | Content |
//! |---|---|
//! | `document` | what a report says, as one line of JSON |
//! | `junit` | the same as JUnit's XML, for a FILE that ends in `.xml` |
//! | `target` | FILE: a file, standard output, or a descriptor |

mod document;
mod junit;
mod target;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use machine::plan::exit_status::{EXIT_TIMEOUT, EXIT_TROUBLE};
use machine::running::outcome::Ending;
use machine::running::time_limit;
use machine::running::timing::Timing;

use self::document::Document;
pub(super) use self::document::{End, ImageFacts, KernelFacts, MachineFacts, Run};
use self::target::Target;

/// The option in messages.
const OPTION: &str = "--report";

/// A report that is to be written; a copy is the same report.
#[derive(Clone, Debug)]
pub(super) struct Report(Arc<Mutex<Option<Open>>>);

/// A report that is not written yet.
#[derive(Debug)]
struct Open {
    target: Target,
    run: Run,
}

/// Refuses a FILE that a machine in the background would not have.
///
/// # Errors
/// FILE is standard output.
pub(super) fn check_detached(file: Option<&Path>) -> Result<()> {
    ensure!(
        !file.is_some_and(files::output::is_stdout),
        "{OPTION}: standard output is not that of a machine in the background; name a file"
    );
    Ok(())
}

impl Report {
    /// Begins the report to `file`; without a file, nothing is reported.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn begin(file: Option<&Path>, run: impl FnOnce() -> Run) -> Result<Self> {
        let open = |path| -> Result<_> {
            Ok(Open { target: Target::prepare(path).context(OPTION)?, run: run() })
        };
        Ok(Self(Arc::new(Mutex::new(file.map(open).transpose()?))))
    }

    /// Adds facts about the run, if it is reported.
    pub(super) fn note(&self, add: impl FnOnce(&mut Run)) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &mut *open {
            add(&mut open.run);
        }
    }

    /// Adds what `facts` finds about the machine, if it is reported. Reading may hang: meanwhile, the
    /// thread of the time limit can write the report without these facts.
    pub(super) fn describe(&self, facts: impl FnOnce() -> MachineFacts) {
        let is_open = self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_open {
            let facts = facts();
            self.note(|run| run.machine = facts);
        }
    }

    /// Writes the report, if it is not written yet.
    ///
    /// # Errors
    /// The file cannot be written; it stays as it was.
    pub(super) fn finish(&self, end: End) -> Result<()> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { target, run }) = open else { return Ok(()) };
        target.write(&Document::new(run, end)).context(OPTION)
    }

    /// Writes the report if the run has failed with an error. Returns the `result`.
    pub(super) fn end(&self, result: Result<ExitCode>, timing: &Timing) -> Result<ExitCode> {
        if let Err(error) = &result {
            // If the time is over, that is what the report says, and the error follows from it.
            time_limit::hold_if_passed();
            let end = End::new(Ending::Failed, EXIT_TROUBLE, Some(format!("{error:#}")));
            self.finish_or_log(End { phases: timing.phases(), ..end });
        }
        result
    }

    /// Writes the report of a run whose time was over before its machine was watched.
    pub(super) fn time_is_over(&self, problem: &str) {
        self.finish_or_log(End::new(Ending::TimeLimit, EXIT_TIMEOUT, Some(problem.into())));
    }

    /// For a run that has failed already: its status stays.
    fn finish_or_log(&self, end: End) {
        if let Err(error) = self.finish(end) {
            log::error!("{error:#}");
        }
    }
}
