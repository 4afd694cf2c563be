//! Machines that QEMU runs without `chrootvm`, as osbuild starts them: `/init` must notice
//! trouble of the host by itself.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use archive::Archive;
use machine::plan::shares::{Access, MountPoint, Share};
use machine::plan::virtiofsd::DaemonSocket;
use machine::process::virtiofsd;
use nix::sys::signal::{Signal, kill};
use proto::settings::{self, Record, encode};
use virtinitrd_vm_tests::tool;

use crate::harness::make::disk::{EXT4, ZEROS, make_disk};
use crate::harness::make::initrd;
use crate::harness::processes::{eventually, family, named};
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case, Machine, RunningMachine, hotplug, read_only_disk};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("dead_virtiofsd_ends_the_boot", dead_virtiofsd_ends_the_boot),
    ("late_tag_is_waited_for",       late_tag_is_waited_for),
    ("osbuild_gets_the_error",       osbuild_gets_the_error),
    ("ext4_root_boots",              ext4_root_boots),
    ("root_without_ext4_is_an_error", root_without_ext4_is_an_error),
    ("lost_host_loses_no_data",      lost_host_loses_no_data),
];

/// If the virtiofsd of a root is killed, every request to it blocks for ever. `/init` notices
/// that nothing happens, and powers off.
fn dead_virtiofsd_ends_the_boot(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo not reached")?;
    machine.initrd(&initrd::with_many_bad_modules(bed)?)?;
    machine.append("virtinit.debug virtinit.wait=0 virtinit.fail=poweroff");
    let mut running = machine.start_unwatched("")?;
    running.wait_for("-virtio_ring.ko")?;
    let family = family(running.pid())?;
    let daemons: Vec<_> = named(&family, "virtiofsd").collect();
    ensure!(!daemons.is_empty(), "no virtiofsd to kill in {family:?}");
    // The driver has taken the device; the bad modules keep `/init` from mounting it.
    running.wait_for("-virtiofs.ko")?;
    for daemon in daemons {
        kill(daemon, Signal::SIGKILL)?;
    }
    running.finish()?;
    running.shows(&[
        "nothing happens for 15 s: the host's virtiofsd has died or \
         hangs, or a module does not return",
        "reboot: Power down",
    ])
}

/// The host adds a device while `/init` waits for its tag.
fn late_tag_is_waited_for(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("cat /run/mnt/late/text")?;
    let source = machine.directory("late")?;
    fs::write(source.join("text"), "better late than never\n")?;
    machine.append("mount=late virtinit.debug virtinit.wait=30");
    let (monitor, socket) = (machine.path("monitor"), machine.path("late.sock"));
    let mut running = machine.start_unwatched(&hotplug(&monitor))?;
    running.wait_for("waiting up to 30 s for virtiofs tag \"late\"")?;

    let (tag, access, mount_point) = ("late".into(), Access::ReadOnly, MountPoint::Tag);
    let share = Share { tag, source, access, mount_point };
    let daemon = virtiofsd::find(None)?;
    let mut daemon = Command::new(&daemon.program)
        .args(daemon.arguments(&share, &DaemonSocket::Path(socket.clone())))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    eventually("virtiofsd makes its socket", || {
        ensure!(daemon.try_wait()?.is_none(), "virtiofsd did not start");
        Ok(socket.exists().then_some(()))
    })?;
    let mut monitor = UnixStream::connect(&monitor).context("connect to the monitor")?;
    writeln!(monitor, "chardev-add socket,id=late,path={}", socket.display())?;
    writeln!(monitor, "device_add vhost-user-fs-pci,chardev=late,tag=late,bus=hotplug0")?;
    let ended = running.ends_with(0);
    daemon.wait()?;
    ended?;
    running.shows(&["better late than never"])
}

/// `/init` writes an error to osbuild's port as a line of JSON.
fn osbuild_gets_the_error(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo not reached")?;
    machine.initrd(&initrd::with_module(bed, "virtio_console")?)?;
    machine.append("rootfs=g\\one virtinit.wait=0 virtinit.fail=poweroff");
    let heard = machine.path("heard");
    let options = format!(
        "-device virtio-serial-pci -chardev file,id=other,path=/dev/null \
         -device virtserialport,chardev=other,name=ipc.1 -chardev file,id=ipc,path={} \
         -device virtserialport,chardev=ipc,name=ipc.0",
        heard.display()
    );
    let mut running = machine.start_unwatched(&options)?;
    running.ends_with(0)?;
    let line = fs::read_to_string(heard)?;
    let expected = "{\"ok\":false,\"error\":\"init\",\"msg\":\"mount virtiofs tag \\\"g\\\\\\\\one\\\" at /sysroot: EINVAL: no such tag;";
    ensure!(line.starts_with(expected) && line.ends_with("\"}\n"), "{line}");
    running.shows(&["reboot: Power down"])
}

/// Boots from a disk that is said to be an ext4, until the machine powers off.
fn boots_from(bed: &Bed, machine: &mut Machine, disk: &Path) -> Result<RunningMachine> {
    machine.initrd(&initrd::with_module(bed, "virtio_blk")?)?;
    machine.append("root=/dev/vda rootfstype=ext4 rootflags=noload virtinit.fail=poweroff");
    let mut running = machine.start_unwatched(&read_only_disk(disk))?;
    running.ends_with(0)?;
    Ok(running)
}

/// An ext4 image of the machine's root.
fn ext4(machine: &Machine) -> Result<PathBuf> {
    let image = machine.path("image");
    make_disk(EXT4, &machine.root(), &image)?;
    Ok(image)
}

/// The host closes the control port while a command runs. `/init` gives up, but first it
/// writes the data of the command to the disk.
fn lost_host_loses_no_data(bed: &Bed) -> Result<()> {
    needs(&["debugfs"])?;
    let mut machine = bed.machine("")?;
    let image = ext4(&machine)?;
    let mut archive = Archive::default();
    let script = b"echo kept > /new-file; echo is up > /dev/console; exec sleep 3600";
    let command = [&b"/bin/sh"[..], b"-c", script].map(Record::Arg);
    archive.add_file(settings::FILE, 0o600, encode(&command));
    let mut bytes = initrd::with_modules(bed, &["virtio_blk", "virtio_console"])?;
    archive.write(&mut bytes, 0)?;
    machine.initrd(&bytes)?;
    machine.append("root=/dev/vda rootfstype=ext4 rw virtinit.fail=poweroff");
    let control = machine.path("control");
    let mut options = format!(
        "-drive file={},format=raw,if=virtio -device virtio-serial-pci \
         -chardev socket,id=control,path={},server=on,wait=off \
         -device virtserialport,chardev=control,name=virtinit.0.control",
        image.display(),
        control.display()
    );
    let stream = |stream| {
        format!(
            " -chardev file,id={stream},path=/dev/null \
             -device virtserialport,chardev={stream},name=virtinit.0.{stream}"
        )
    };
    options.extend(["stdin", "stdout", "stderr"].map(stream));
    let mut running = machine.start_unwatched(&options)?;
    let host = eventually("QEMU makes its socket", || Ok(UnixStream::connect(&control).ok()))?;
    running.wait_for("is up")?;
    drop(host);
    running.ends_with(0)?;
    running.shows(&["virtinit: tell the host: EPIPE"])?;
    let kept = stdout_of(tool("debugfs").args(["-R", "cat /new-file"]).arg(&image))?;
    ensure!(kept == "kept\n", "the file holds {kept:?}");
    Ok(())
}

fn ext4_root_boots(bed: &Bed) -> Result<()> {
    let mut machine =
        bed.machine("awk '$2 == \"/\" { print $1, $3, substr($4, 1, 2) }' /proc/mounts")?;
    let image = ext4(&machine)?;
    boots_from(bed, &mut machine, &image)?.shows(&["/dev/vda ext4 ro"])
}

fn root_without_ext4_is_an_error(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo not reached")?;
    let image = machine.path("image");
    make_disk(ZEROS, &machine.root(), &image)?;
    boots_from(bed, &mut machine, &image)?.shows(&[
        "virtinit: mount root=/dev/vda at /sysroot: EINVAL: no file system of that type is on it, \
         or an option is wrong",
    ])
}
