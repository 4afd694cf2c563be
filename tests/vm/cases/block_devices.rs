//! Block devices of the host as disks of a guest: loop devices (loop(4)).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::Case;
use crate::harness::Bed;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("read_only_is_read_only", read_only_is_read_only),
    ("writes_reach_it",        writes_reach_it),
    ("one_is_the_root",        one_is_the_root),
];

/// Bytes of the device; not a multiple of a page.
const SIZE: u64 = (1 << 20) + 512;

/// Whether loop devices can be made here.
pub(crate) fn can_run() -> bool {
    geteuid().is_root() && File::options().write(true).open("/dev/loop-control").is_ok()
}

/// A loop device, which goes with this value.
struct Device {
    path: PathBuf,
    image: PathBuf,
    _dir: TempDir,
}

impl Device {
    /// A device whose file `fill` writes.
    fn new(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("virtinitrd-test-").tempdir()?;
        let image = dir.path().join("image");
        fill(&image)?;
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
        let output = output.context("run losetup")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "losetup: {said}");
        let path = String::from_utf8(output.stdout)?.trim().into();
        Ok(Self { path, image, _dir: dir })
    }

    /// A device with `data`, then zeros.
    fn of(data: &[u8]) -> Result<Self> {
        Self::new(|file| {
            fs::write(file, data)?;
            Ok(File::options().write(true).open(file)?.set_len(SIZE)?)
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A device that is left over does no harm: its file is gone.
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn read_only_is_read_only(bed: &Bed) -> Result<()> {
    let device = Device::of(b"data")?;
    let script = "head -c 4 /dev/vda; echo; cat /sys/block/vda/size /sys/block/vda/ro
                  (echo new > /dev/vda) 2>/dev/null; true";
    let data = format!("{}:ro", device.path.display());
    let run = bed.sh(script)?.options(&["--data", &data]);
    run.finish()?.is(0, format!("data\n{}\n1\n", SIZE / 512), "")?;
    ensure!(fs::read(&device.image)?.starts_with(b"data"), "the device was written to");
    Ok(())
}

fn writes_reach_it(bed: &Bed) -> Result<()> {
    let device = Device::of(b"data")?;
    let data = device.path.display().to_string();
    let run = bed.sh("echo new > /dev/vda && sync")?.options(&["--data", &data]);
    run.finish()?.is(0, "", "")?;
    // Read from the device: its file may be written later.
    let device = fs::read(&device.path)?;
    ensure!(device.starts_with(b"new\n"), "{:?}", device.get(..8));
    Ok(())
}

fn one_is_the_root(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("awk '$2 == \"/\" { print $1, $3 }' /proc/mounts; cat /text")?;
    let root = run.guest.root();
    fs::write(root.join("text"), "text\n")?;
    let device = Device::new(|file| {
        let mut mkfs = Command::new("mkfs.erofs");
        let output = mkfs.arg("--quiet").arg(file).arg(&root).output().context("run mkfs.erofs")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "mkfs.erofs: {said}");
        Ok(())
    })?;
    run.guest.root_is(&device.path);
    run.finish()?.is(0, "/dev/vda erofs\ntext\n", "").map(drop)
}
