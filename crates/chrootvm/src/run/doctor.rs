//! `chrootvm --doctor`: reports what this host has and lacks for running machines.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;
use machine::doctor::findings;
use machine::doctor::gather;
use machine::doctor::kernel_facts::GivenKernel;
use machine::doctor::report::{Finding, Status, report};
use machine::kernel::find::UserKernel;
use machine::root::kinds::Root;

use super::arguments::RunArguments;
use super::findings::ChosenArchitecture;

/// Reports on this host and its machines for `arguments`, on the `kernel` that was given, and on the
/// kernels in `rootfs` if that is given, after the `first` findings. The exit status is 1 if no
/// machine can run.
pub(super) fn run(
    arguments: &RunArguments,
    rootfs: Option<&Path>,
    kernel: GivenKernel<'_>,
    first: Vec<Finding>,
) -> Result<ExitCode> {
    let root = rootfs.map(Root::open).transpose()?;
    // A kernel that does not exist is one of the findings.
    let given = kernel.image.and_then(|path| UserKernel::at(path).ok());
    let chosen = ChosenArchitecture::choose(arguments, root.as_ref(), given.as_ref())?;
    let mut findings = first;
    findings.extend(findings::findings(&gather::gather(rootfs, kernel, chosen.constants)?));
    tell::result(report(&findings))?;
    Ok(match findings.iter().any(|finding| finding.status == Status::Missing) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
