//! A whole distribution that nobody here made: Debian, with its own kernel.

use anyhow::{Context, Result, ensure};
use xtask::testbed;

use crate::Case;
use crate::harness::{Bed, Guest};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("debian_bash",    debian_bash),
    ("debian_shell",   debian_shell),
    ("debian_systemd", debian_systemd),
];

/// The kernel is found in the root, with modules.dep as depmod wrote it.
fn debian(bed: &Bed, payload: &str) -> Result<Guest> {
    let root = testbed::debian(&bed.workspace).context("make a Debian")?;
    bed.guest_on(&root, payload)
}

fn debian_bash(bed: &Bed) -> Result<()> {
    let mut guest = debian(bed, "/bin/bash")?;
    guest.append(
        "-- -c \". /etc/os-release; echo $ID $VERSION_ID; ls -d /usr/lib/modules/$(uname -r); \
         echo o > /proc/sysrq-trigger; sleep 60\"",
    );
    let boot = guest.boot()?;
    let module_dir = boot.console.lines().any(|line| line.starts_with("/usr/lib/modules/6."));
    if !module_dir {
        return Err(boot.failure("the root's own kernel does not run"));
    }
    boot.shows(&["debian 12"])
}

/// A bare name is searched in the root; the shell reads the console.
fn debian_shell(bed: &Bed) -> Result<()> {
    let mut guest = debian(bed, "bash")?;
    guest.input("echo shell $((6 * 7)) as $(id -un)\necho o > /proc/sysrq-trigger\n");
    let boot = guest.boot()?;
    // Before it bash puts an escape sequence of its line editor.
    if !boot.console.contains("shell 42 as root\n") {
        return Err(boot.failure("the shell did not answer"));
    }
    boot.shows(&[])
}

/// systemd as PID 1 on a read-only root.
fn debian_systemd(bed: &Bed) -> Result<()> {
    systemd_starts(debian(bed, "/lib/systemd/systemd")?)
}

/// systemd, which is the payload of `guest`, comes up to basic.target.
pub(crate) fn systemd_starts(mut guest: Guest) -> Result<()> {
    guest.append("systemd.show_status=1 systemd.unit=basic.target");
    let mut running = guest.start()?;
    // A failed unit on the way would not keep the target from being reached.
    running.wait_for("Basic System")?;
    let console = String::from_utf8_lossy(&running.console).into_owned();
    running.stop()?;
    ensure!(!console.contains("FAILED"), "a unit failed:\n{console}");
    Ok(())
}
