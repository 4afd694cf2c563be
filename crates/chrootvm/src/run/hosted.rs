//! Whether this host has the streams of what a machine runs, and whether PID 1 supervises it.

use machine::root::kinds::Root;
use proto::settings::restart::Restart;

use super::arguments::RunArguments;
use super::workload::Configured;

impl RunArguments {
    /// Decides whether PID 1 supervises what runs: if the open `root` configures it, or if an
    /// option says how to do that.
    pub(super) fn choose_workload(&mut self, root: &Root) {
        let is_asked_for = self.workload.any_given().is_some();
        self.supervised = match (&self.image, &self.payload) {
            (_, Some(_)) => None,
            _ if self.workload.console => None,
            (Some(image), None) => image.configured,
            (None, None) if !self.command.is_empty() => None,
            (None, None) => Configured::find(root).unwrap_or_else(|_| {
                // The guest looks for the run file.
                (is_asked_for || self.log_options.is_given()).then(Configured::default)
            }),
        };
        if is_asked_for && !self.command.is_empty() {
            self.supervised.get_or_insert_default();
        }
    }

    /// Whether this host has the streams of what runs. Otherwise it has the console.
    pub(super) fn is_hosted(&self) -> bool {
        !self.command.is_empty() || self.supervised.is_some()
    }

    /// Whether PID 1 may start it again.
    pub(super) fn starts_again(&self) -> bool {
        let restart = |known: Configured| self.workload.restart(known.restart);
        self.supervised.is_some_and(|known| restart(known) != Restart::No)
    }
}
