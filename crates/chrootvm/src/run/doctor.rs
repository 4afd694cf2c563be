//! `chrootvm --doctor`: reports what this host has and lacks for running machines.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;
use machine::doctor::report::{Finding, Status, report};
use machine::doctor::{findings, gather};

/// Reports on this host, and on the kernels in `rootfs` if that is given, after the `first`
/// findings. The exit status is 1 if no machine can run.
pub(super) fn run(rootfs: Option<&Path>, first: Vec<Finding>) -> Result<ExitCode> {
    let mut findings = first;
    findings.extend(findings::findings(&gather::gather(rootfs)?));
    tell::result(report(&findings))?;
    Ok(match findings.iter().any(|finding| finding.status == Status::Missing) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
