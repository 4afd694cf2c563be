//! Settings of a run: everything that is not part of the machine's plan.

use std::fs::File;

use super::readiness::Readiness;
use super::time_limit::TimeLimit;
use crate::session::console_relay::PageDisplay;
use crate::session::log_files::LogFiles;
use crate::template::TemplateUse;

/// Settings of a run that are not part of the machine.
#[derive(Debug)]
pub struct RunSettings {
    /// Time limit of the run (`--timeout`).
    pub limit: TimeLimit,
    /// Whether to show the console on standard error.
    pub verbose: bool,
    /// Name of the root in the line about a boot; `None` for no such line.
    pub boot_line: Option<String>,
    /// File for the text of the console.
    pub console_log: Option<File>,
    /// Log files for the output of the command; `None` for chrootvm's own streams.
    pub logs: Option<LogFiles>,
    /// Fate of the page of a panic that follows the end of INIT.
    pub page: PageDisplay,
    /// Whether QEMU has `-sandbox`.
    pub sandbox: bool,
    /// Template from which a machine with orders comes, or which it becomes.
    pub template: Option<TemplateUse>,
    /// Name by which other chrootvm processes find the machine.
    pub name: Option<String>,
    /// The wait until the machine is ready.
    pub readiness: Readiness,
    /// Description of the machine for `chrootvm ps`.
    pub description: String,
}
