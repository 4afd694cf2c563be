//! A whole distribution: Debian with its own kernel.

use anyhow::Result;

use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("debian_bash",    debian_bash),
    ("debian_shell",   debian_shell),
    ("debian_systemd", debian_systemd),
];

/// A machine on a Debian root. `chrootvm` finds the kernel there, with modules.dep as depmod
/// wrote it.
fn debian(bed: &Bed, payload: &str) -> Result<Machine> {
    let mut machine = bed.machine_on(&bed.debian_root()?)?;
    machine.payload(payload);
    Ok(machine)
}

fn debian_bash(bed: &Bed) -> Result<()> {
    let mut machine = debian(bed, "/bin/bash")?;
    machine.append(
        "-- -c \". /etc/os-release; echo $ID $VERSION_ID; ls -d /usr/lib/modules/$(uname -r); \
         echo o > /proc/sysrq-trigger; sleep 60\"",
    );
    let boot = machine.boot()?;
    let module_dir = boot.console.lines().any(|line| line.starts_with("/usr/lib/modules/6."));
    if !module_dir {
        return Err(boot.failure("the root's own kernel does not run"));
    }
    boot.shows(&["debian 12"])
}

/// A payload without a slash is searched in the root; the shell reads the console.
fn debian_shell(bed: &Bed) -> Result<()> {
    let mut machine = debian(bed, "bash")?;
    machine.input("echo shell $((6 * 7)) as $(id -un)\necho o > /proc/sysrq-trigger\n");
    let boot = machine.boot()?;
    // bash puts an escape sequence of its line editor before the text.
    if !boot.console.contains("shell 42 as root\n") {
        return Err(boot.failure("the shell did not answer"));
    }
    boot.shows(&[])
}

/// systemd as PID 1 on a read-only root.
fn debian_systemd(bed: &Bed) -> Result<()> {
    debian(bed, "/lib/systemd/systemd")?.boots_systemd()
}
