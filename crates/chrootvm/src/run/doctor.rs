//! `chrootvm --doctor`: reports what this host has and lacks for running machines.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;
use machine::doctor::report::{Status, report};
use machine::doctor::{findings, gather};

/// Reports on this host, and on the kernels in `rootfs` if that is given. The exit status
/// is 1 if no machine can run.
pub(super) fn run(rootfs: Option<&Path>) -> Result<ExitCode> {
    let findings = findings::findings(&gather::gather(rootfs)?);
    tell::result(report(&findings))?;
    Ok(match findings.iter().any(|finding| finding.status == Status::Missing) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
