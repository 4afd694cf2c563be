//! The Containerfiles in `docs/examples/containerfiles`: each is built on a root of busybox, as its
//! head tells the reader, and runs.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xtask::testbed;

use crate::harness::command_run::CommandRun;
use crate::harness::processes::eventually;
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case};
use crate::recipes::examples::{copy, get};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("all_examples_are_tested", all_examples_are_tested),
    ("site_answers",            site_answers),
];

/// Directory of the Containerfiles.
const EXAMPLES: &str = "docs/examples/containerfiles";

/// Applets of busybox that the examples use.
const APPLETS: [&str; 7] = ["basename", "cat", "httpd", "mkdir", "sed", "test", "wget"];

fn all_examples_are_tested(bed: &Bed) -> Result<()> {
    let entries = fs::read_dir(bed.workspace.join(EXAMPLES)).context("read the examples")?;
    let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(names == ["site"], "{names:?}");
    Ok(())
}

fn site_answers(bed: &Bed) -> Result<()> {
    let mut machine = bed.bare_machine()?;
    let (package, root) = (machine.path("package"), machine.path("busybox"));
    copy(&bed.workspace.join(EXAMPLES).join("site"), &package)?;
    testbed::make_root(&root, &bed.busybox, &[])?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).context("link an applet")?;
    }
    let mut build = Command::new(bed.chrootvm());
    build.args(["image", "build", "./Containerfile", "-o", "site.erofs", "--init"]);
    build.arg("--build-context").arg(format!("busybox={}", root.display()));
    build.arg("--kernel").arg(&bed.kernel.image).arg("--modules").arg(&bed.kernel.modules);
    build.current_dir(&package).stdin(Stdio::null());
    build.env("CHROOTVM_NO_CONFIG", "1").env_remove("SOURCE_DATE_EPOCH");
    stdout_of(&mut build)?;

    machine.root_is(&package.join("site.erofs"));
    // The port was free a moment ago, and the system does not hand it out again at once.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let run = CommandRun::new(machine, &[]).without_separator();
    let live = run.options(&["--publish", &format!("{port}:8080")]).start()?;
    // QEMU accepts a connection at once, and closes it if no program listens in the guest.
    let page = || Ok(get(port, "/").ok().filter(|heard| !heard.is_empty()));
    let page = eventually("the guest answers", page)?;
    ensure!(page.contains(" 200 OK") && page.contains("Notes"), "{page}");
    let missing = get(port, "/no-such-page")?;
    ensure!(missing.contains(" 404 Not Found"), "{missing}");
    live.signal(Signal::SIGTERM)?;
    live.finish().map(drop)
}
