//! Machines that cannot be warm: `--warm=always` says why, and `--warm=auto` boots them.

use anyhow::{Context, Result, ensure};

use super::site::{Answer, Site, Start};
use crate::harness::command_run::CommandRun;
use crate::harness::make::image::build;
use crate::harness::make::initrd;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("never_is_cold",             never_is_cold),
    ("options_of_other_machines", options_of_other_machines),
    ("init_boots",                init_boots),
];

const RIGHT: Answer<'_> = Answer { status: 3, stdout: b"right\n", says: &[] };

const SCRIPT: &[&str] = &["sh", "-c", "echo right; exit 3"];

/// A run with a changed machine.
type Variant = (&'static str, fn(&Site<'_>, &mut CommandRun) -> Result<()>);

#[rustfmt::skip]
const VARIANTS: &[Variant] = &[
    ("--initrd",   |site, run| run.machine.initrd(&initrd::with_module(site.bed, "virtio_console")?)),
    ("--qemu-arg", |_, run| { run.machine.options(&["--qemu-arg", "-name", "--qemu-arg", "x"]); Ok(()) }),
    ("an archive", |site, run| { run.machine.root_is(&site.path("root.cpio")); Ok(()) }),
];

/// No template is made, and a template is not used.
fn never_is_cold(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let never = || RIGHT.check(site.run(&["--warm=never"], SCRIPT)?.finish()?);
    ensure!(never()? == Start::Cold);
    ensure!(site.templates()?.is_empty(), "{:?}", site.templates()?);
    site.echoes(Start::Cold)?;
    ensure!(never()? == Start::Cold);
    site.echoes(Start::Warm)
}

fn options_of_other_machines(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    build(bed, &site.path("root"), &site.path("root.cpio"), &[])?;
    for (name, change) in VARIANTS {
        let run = |when| -> Result<_> {
            let mut run = site.run(&[when], SCRIPT)?;
            change(&site, &mut run)?;
            run.finish()
        };
        let start = RIGHT.check(run("--warm=auto")?).context(*name)?;
        ensure!(start == Start::Cold, "{name}: {start:?}");
        refused(run("--warm=always")?).context(*name)?;
    }
    ensure!(site.templates()?.is_empty(), "{:?}", site.templates()?);
    Ok(())
}

/// INIT is PID 1 of its machine, which nothing can give orders.
fn init_boots(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let run = |when: &str| -> Result<_> {
        let mut machine = bed.machine("echo right from PID $$")?;
        machine.options(&[when]);
        let run = CommandRun::new(machine, &[]).without_separator();
        run.variable("XDG_CACHE_HOME", site.path("cache")).finish()
    };
    let finished = run("--warm=auto")?;
    let is_right = String::from_utf8_lossy(finished.stdout()).contains("right from PID 1");
    finished.check(is_right, || "expected: right from PID 1".into())?;
    refused(run("--warm=always")?)
}

fn refused(finished: crate::harness::command_run::FinishedCommand) -> Result<()> {
    let says = finished.stderr();
    let is_refused = matches!(finished.status, 2 | 125) && says.contains("--warm");
    finished.check(is_refused, || "expected: an error that names --warm".into()).map(drop)
}
