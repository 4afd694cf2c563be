//! Machines that QEMU runs alone, as osbuild and others start them: what /init
//! has to see to without chrootvm's help.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use archive::Archive;
use machine::plan::{Access, Place, Share};
use machine::process::virtiofsd::{self, Socket};
use nix::sys::signal::{Signal, kill};
use virtinitrd_proto::settings::{self, Record, encode};
use virtinitrd_vm_tests::tool;

use crate::Case;
use crate::harness::{Bed, Guest, Running};
use crate::initrd;
use crate::processes::{family, named};
use crate::trial::needs;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("dead_virtiofsd_ends_the_boot", dead_virtiofsd_ends_the_boot),
    ("late_tag_is_waited_for",       late_tag_is_waited_for),
    ("osbuild_hears_of_it",          osbuild_hears_of_it),
    ("block_root",                   block_root),
    ("block_root_damaged",           block_root_damaged),
    ("lost_host_loses_no_data",      lost_host_loses_no_data),
];

fn shows(running: &Running, line: &str) -> Result<()> {
    let text = running.to_string();
    ensure!(text.contains(line), "no \"{line}\" in {text}");
    ensure!(!text.contains("Kernel panic"), "{text}");
    Ok(())
}

/// Every request to a virtiofs whose daemon was killed blocks for ever; /init
/// notices, and powers off.
fn dead_virtiofsd_ends_the_boot(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    guest.initrd(&initrd::with_much_to_refuse(bed)?)?;
    guest.append("virtinit.debug virtinit.wait=0 virtinit.fail=poweroff");
    let mut running = guest.start_unwatched("")?;
    running.wait_for("-virtio_ring.ko")?;
    let family = family(running.pid())?;
    let daemons: Vec<_> = named(&family, "virtiofsd").collect();
    ensure!(!daemons.is_empty(), "no virtiofsd to kill in {family:?}");
    // Its driver has taken the device; what follows keeps /init from mounting.
    running.wait_for("-virtiofs.ko")?;
    for daemon in daemons {
        kill(daemon, Signal::SIGKILL)?;
    }
    running.finish()?;
    shows(
        &running,
        "nothing happens for 15 s: the host's virtiofsd has died or \
         hangs, or a module does not return",
    )?;
    shows(&running, "reboot: Power down")
}

/// A device is plugged in while /init waits for its tag.
fn late_tag_is_waited_for(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("cat /run/mnt/late/text")?;
    let source = guest.directory("late")?;
    fs::write(source.join("text"), "better late than never\n")?;
    guest.append("mount=late virtinit.debug virtinit.wait=30");
    let (monitor, socket) = (guest.path("monitor"), guest.path("late.sock"));
    let options = format!(
        "-device pcie-root-port,id=hotplug0,chassis=1 -monitor unix:{},server=on,wait=off",
        monitor.display()
    );
    let mut running = guest.start_unwatched(&options)?;
    running.wait_for("waiting up to 30 s for virtiofs tag \"late\"")?;

    let (tag, access, place) = ("late".into(), Access::ReadOnly, Place::Tag);
    let share = Share { tag, source, access, place };
    let daemon = virtiofsd::find(None)?;
    let mut daemon = Command::new(&daemon.program)
        .args(daemon.arguments(&share, &Socket::Path(socket.clone())))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while !socket.exists() {
        ensure!(daemon.try_wait()?.is_none(), "virtiofsd did not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut monitor = UnixStream::connect(&monitor).context("connect to the monitor")?;
    writeln!(monitor, "chardev-add socket,id=late,path={}", socket.display())?;
    writeln!(monitor, "device_add vhost-user-fs-pci,chardev=late,tag=late,bus=hotplug0")?;
    let finished = running.finish();
    daemon.wait()?;
    ensure!(finished? == 0, "{running}");
    shows(&running, "better late than never")
}

/// The port that osbuild reads gets the error as a line of JSON.
fn osbuild_hears_of_it(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    guest.initrd(&initrd::with_module(bed, "virtio_console")?)?;
    guest.append("rootfs=g\\one virtinit.wait=0 virtinit.fail=poweroff");
    let heard = guest.path("heard");
    let options = format!(
        "-device virtio-serial-pci -chardev file,id=other,path=/dev/null \
         -device virtserialport,chardev=other,name=ipc.1 -chardev file,id=ipc,path={} \
         -device virtserialport,chardev=ipc,name=ipc.0",
        heard.display()
    );
    let mut running = guest.start_unwatched(&options)?;
    ensure!(running.finish()? == 0, "{running}");
    let line = fs::read_to_string(heard)?;
    let expected = "{\"ok\":false,\"error\":\"init\",\"msg\":\"mount virtiofs tag \\\"g\\\\\\\\one\\\" at /sysroot: EINVAL: no such tag;";
    ensure!(line.starts_with(expected) && line.ends_with("\"}\n"), "{line}{running}");
    shows(&running, "reboot: Power down")
}

/// A disk as the root, made by mke2fs(8).
fn on_disk(bed: &Bed, guest: &mut Guest, image: &[u8]) -> Result<Running> {
    let disk = guest.path("disk");
    fs::write(&disk, image)?;
    guest.initrd(&initrd::with_module(bed, "virtio_blk")?)?;
    guest.append("root=/dev/vda rootfstype=ext4 rootflags=noload virtinit.fail=poweroff");
    let options = format!("-drive file={},format=raw,if=virtio,readonly=on", disk.display());
    let mut running = guest.start_unwatched(&options)?;
    ensure!(running.finish()? == 0, "{running}");
    Ok(running)
}

/// Runs a tool of e2fsprogs, which must succeed, and returns its output.
fn e2fs(command: &mut Command) -> Result<String> {
    let output = command.output();
    let output = output.with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The guest's root on an ext4 of its own.
fn make_ext4(guest: &Guest) -> Result<PathBuf> {
    let image = guest.path("image");
    let paths = [&guest.root(), &image];
    e2fs(tool("mke2fs").args(["-q", "-t", "ext4", "-d"]).args(paths).arg("16M"))?;
    Ok(image)
}

/// Connects to a socket that a QEMU under way makes.
fn connect(path: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error).context("connect to the control port"),
        }
    }
}

/// The host leaves in the middle of a command: /init gives up, but not before what
/// the command wrote is on the disk.
fn lost_host_loses_no_data(bed: &Bed) -> Result<()> {
    needs(&["mke2fs", "debugfs"])?;
    let mut guest = bed.guest("")?;
    let image = make_ext4(&guest)?;
    let mut archive = Archive::default();
    let script = b"echo kept > /new-file; echo is up > /dev/console; exec sleep 3600";
    let command = [&b"/bin/sh"[..], b"-c", script].map(Record::Arg);
    archive.add_file(settings::FILE, 0o600, encode(&command));
    let mut bytes = initrd::with_modules(bed, &["virtio_blk", "virtio_console"])?;
    archive.write(&mut bytes, 0)?;
    guest.initrd(&bytes)?;
    guest.append("root=/dev/vda rootfstype=ext4 rw virtinit.fail=poweroff");
    let control = guest.path("control");
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
    let mut running = guest.start_unwatched(&options)?;
    let host = connect(&control)?;
    running.wait_for("is up")?;
    drop(host);
    ensure!(running.finish()? == 0, "{running}");
    shows(&running, "virtinit: serve the command: EPIPE")?;
    let kept = e2fs(tool("debugfs").args(["-R", "cat /new-file"]).arg(&image))?;
    ensure!(kept == "kept\n", "{kept:?} {running}");
    Ok(())
}

fn block_root(bed: &Bed) -> Result<()> {
    needs(&["mke2fs"])?;
    let mut guest =
        bed.guest("awk '$2 == \"/\" { print $1, $3, substr($4, 1, 2) }' /proc/mounts")?;
    let image = make_ext4(&guest)?;
    let running = on_disk(bed, &mut guest, &fs::read(&image)?)?;
    shows(&running, "/dev/vda ext4 ro")
}

fn block_root_damaged(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    let running = on_disk(bed, &mut guest, &vec![0; 1 << 20])?;
    shows(
        &running,
        "virtinit: mount root=/dev/vda at /sysroot: EINVAL: no file system of that type is on it, \
         or an option is wrong",
    )
}
