//! Block devices of the host as disks of a guest. The tests use loop devices (loop(4)).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::harness::make::disk::{EROFS, make_disk};
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case, new_directory};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("ro_refuses_writes",       ro_refuses_writes),
    ("writes_reach_the_device", writes_reach_the_device),
    ("device_is_the_root",      device_is_the_root),
];

/// Size of the device in bytes, which is not a multiple of a page.
const SIZE: u64 = (1 << 20) + 512;

/// Whether loop devices can be made here.
pub(crate) fn can_run() -> bool {
    geteuid().is_root() && File::options().write(true).open("/dev/loop-control").is_ok()
}

/// A loop device, which is detached when this value is dropped.
struct LoopDevice {
    path: PathBuf,
    image: PathBuf,
    _directory: TempDir,
}

impl LoopDevice {
    /// A device on a file that `fill` writes.
    fn new(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let directory = new_directory()?;
        let image = directory.path().join("image");
        fill(&image)?;
        let path = stdout_of(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
        let device = Self { path: path.trim().into(), image, _directory: directory };
        // A device that was set read-only stays so for its next file.
        stdout_of(Command::new("blockdev").arg("--setrw").arg(&device.path))?;
        Ok(device)
    }

    /// A device with `data`, and zeros behind it.
    fn with_data(data: &[u8]) -> Result<Self> {
        Self::new(|file| {
            fs::write(file, data)?;
            Ok(File::options().write(true).open(file)?.set_len(SIZE)?)
        })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // A device that stays does no harm, for its file is gone.
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// The guest of a run with `:ro` cannot write. Without `:ro`, a read-only device is refused before
/// the boot.
fn ro_refuses_writes(bed: &Bed) -> Result<()> {
    let device = LoopDevice::with_data(b"data")?;
    let script = "head -c 4 /dev/vda; echo; cat /sys/block/vda/size /sys/block/vda/ro
                  (echo new > /dev/vda) 2>/dev/null; true";
    let data = format!("{}:ro", device.path.display());
    let run = bed.sh(script)?.options(&["--data", &data]);
    run.finish()?.is(0, format!("data\n{}\n1\n", SIZE / 512), "")?;
    ensure!(fs::read(&device.image)?.starts_with(b"data"), "the device was written to");
    stdout_of(Command::new("blockdev").arg("--setro").arg(&device.path))?;
    let writable = device.path.display().to_string();
    let run = bed.sh("echo not reached")?.options(&["--data", &writable]);
    run.finish()?.says(125, "", &[&data, "the device is read-only"])?;
    Ok(())
}

fn writes_reach_the_device(bed: &Bed) -> Result<()> {
    let device = LoopDevice::with_data(b"data")?;
    let data = device.path.display().to_string();
    let run = bed.sh("echo new > /dev/vda && sync")?.options(&["--data", &data]);
    run.finish()?.is(0, "", "")?;
    // The kernel may write the file later, so read the device.
    let device = fs::read(&device.path)?;
    ensure!(device.starts_with(b"new\n"), "{:?}", device.get(..8));
    Ok(())
}

fn device_is_the_root(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("awk '$2 == \"/\" { print $1, $3 }' /proc/mounts; cat /text")?;
    let root = run.machine.root();
    fs::write(root.join("text"), "text\n")?;
    let device = LoopDevice::new(|file| make_disk(EROFS, &root, file))?;
    run.machine.root_is(&device.path);
    run.finish()?.is(0, "/dev/vda erofs\ntext\n", "").map(drop)
}
