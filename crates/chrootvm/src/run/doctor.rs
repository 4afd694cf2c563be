//! `chrootvm --doctor`: reports what this host has and lacks for running machines.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;
use machine::doctor::findings;
use machine::doctor::gather;
use machine::doctor::kernel_facts::GivenKernel;
use machine::doctor::report::{Finding, Status, report};

/// Reports on this host, on the `kernel` that was given, and on the kernels in `rootfs` if that
/// is given, after the `first` findings. The exit status is 1 if no machine can run.
pub(super) fn run(
    rootfs: Option<&Path>,
    kernel: GivenKernel<'_>,
    first: Vec<Finding>,
) -> Result<ExitCode> {
    let mut findings = first;
    findings.extend(findings::findings(&gather::gather(rootfs, kernel)?));
    tell::result(report(&findings))?;
    Ok(match findings.iter().any(|finding| finding.status == Status::Missing) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
