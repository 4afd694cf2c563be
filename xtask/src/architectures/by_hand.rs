//! A machine that QEMU starts without chrootvm: with the kernel command line of osbuild, or with a
//! root on a disk.
//!
//! Interfaces: qemu(1), the options of both virtiofsd, docs/osbuild.md.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use machine::plan::architecture::Architecture;
use machine::plan::virtiofsd::{Flavour, Virtiofsd};
use machine::process::virtiofsd;

use crate::kernels::checks::{CheckRoot, MARK, START};
use crate::kernels::trial::Site;
use crate::outcomes::{Outcome, last_words};
use crate::programs;
use crate::testbed::{HostKernel, run};

/// Root of a machine, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandRoot {
    /// Directories, by virtiofs: the root, and the one with the payload.
    Osbuild,
    /// A virtio disk.
    Disk,
}

impl HandRoot {
    pub(super) const ALL: [Self; 2] = [Self::Osbuild, Self::Disk];

    /// Heading of its column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Osbuild => "osbuild's line",
            Self::Disk => "disk",
        }
    }

    /// The kernel command line, after the console.
    fn words(self) -> String {
        let (start, _) = START;
        match self {
            Self::Osbuild => format!(
                "quiet selinux=1 enforcing=0 rootfstype=virtiofs root=rootfs ro mount={SHARE} \
                 init=/run/mnt/{SHARE}/{start}"
            ),
            Self::Disk => format!("quiet root=UUID={UUID} ro init=/{start}"),
        }
    }
}

/// Tag of the share with the payload.
const SHARE: &str = "mnt0";
/// UUID of the file system on the disk.
const UUID: &str = "2b1b4c0e-6a0c-4f0e-9d53-3c8c5d7e1a10";
/// Seconds after which a machine is ended.
const LIMIT: &str = "180";
/// Time for virtiofsd to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Boots the root of `site` with `kernel`, and looks for what its PID 1 writes on the console.
///
/// # Errors
/// A part of the machine cannot be made, or the machine cannot be started.
pub(super) fn boot(
    row: &Architecture,
    root: HandRoot,
    site: &Site,
    kernel: &HostKernel,
) -> Result<Outcome> {
    if let (HandRoot::Osbuild, Some(reason)) = (root, row.no_shares()) {
        return Ok(Outcome::NotRun(reason.into()));
    }
    let dir = tempfile::Builder::new().prefix("virtinitrd-by-hand-").tempdir();
    let dir = dir.context("make a directory")?;
    let initrd = dir.path().join("initrd.img");
    let mut pack = Command::new(programs::chrootvm()?.with_file_name("mkvirtinitrd"));
    pack.args(["--module", "ext4", "--module", "virtio_blk"]);
    run(pack.arg(site.init()).arg(&kernel.modules).arg(&initrd))?;
    // timeout(1) ends a machine that hangs.
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after", "5", LIMIT, row.qemu, "-cpu", row.emulated_cpu, "-m", "512M"]);
    let machine = [row.machine, row.emulated_properties, ",memory-backend=mem"].concat();
    qemu.args(["-machine", &machine]);
    qemu.args(["-object", "memory-backend-memfd,id=mem,size=512M,share=on"]);
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initrd);
    qemu.args(["-append", &format!("console={} {}", row.console, root.words())]);
    let tree = site.root(CheckRoot::Directory);
    let daemons = match root {
        HandRoot::Osbuild => share(&tree, row, dir.path(), &mut qemu)?,
        HandRoot::Disk => {
            add_disk(&tree, row, dir.path(), &mut qemu)?;
            Vec::new()
        }
    };
    let output = qemu.stdin(Stdio::null()).output().context("start timeout")?;
    drop(daemons);
    let console = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && console.contains(MARK) {
        return Ok(Outcome::Worked);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let shown = last_words([&errors, &console]).unwrap_or("no message");
    Ok(Outcome::Failed(format!("{}: {shown}", output.status)))
}

/// Exports the root `tree`, and a directory with the payload alone, which is made in `dir`.
fn share(tree: &Path, row: &Architecture, dir: &Path, qemu: &mut Command) -> Result<Vec<Daemon>> {
    let virtiofsd = virtiofsd::find(None)?;
    let share = dir.join(SHARE);
    fs::create_dir(&share).context("make a directory")?;
    fs::copy(tree.join(START.0), share.join(START.0)).context("copy the payload")?;
    let mut daemons = Vec::new();
    for (tag, source) in [("rootfs", tree), (SHARE, &share)] {
        let socket = dir.join(format!("{tag}.sock"));
        daemons.push(Daemon::start(&virtiofsd, source, &socket)?);
        qemu.args(["-chardev", &format!("socket,id={tag},path={}", socket.display())]);
        let device = row.transport.device("vhost-user-fs");
        qemu.args(["-device", &format!("{device},chardev={tag},tag={tag}")]);
    }
    Ok(daemons)
}

/// Adds a disk with an image of the root `tree`, which is made in `dir`.
fn add_disk(tree: &Path, row: &Architecture, dir: &Path, qemu: &mut Command) -> Result<()> {
    let image = dir.join("root.ext4");
    programs::make_image(tree, &image, &["--uuid", UUID])?;
    let drive = format!("if=none,id=disk,format=raw,readonly=on,file={}", image.display());
    let device = row.transport.device("virtio-blk");
    qemu.args(["-drive", &drive, "-device", &format!("{device},drive=disk")]);
    Ok(())
}

/// A virtiofsd, ended when this value is dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts the daemon for `source`, and waits until it listens on `socket`.
    fn start(virtiofsd: &Virtiofsd, source: &Path, socket: &Path) -> Result<Self> {
        let mut command = Command::new(&virtiofsd.program);
        command.arg(format!("--socket-path={}", socket.display()));
        match virtiofsd.flavour {
            Flavour::C => command.arg("-o").arg(format!("source={}", source.display())),
            Flavour::Rust { .. } => command.arg("--shared-dir").arg(source),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = Self(command.spawn().context("start virtiofsd")?);
        let deadline = Instant::now() + PATIENCE;
        while !fs::metadata(socket).is_ok_and(|meta| meta.file_type().is_socket()) {
            ensure!(Instant::now() < deadline, "virtiofsd does not listen");
            if let Some(status) = daemon.0.try_wait().context("wait for virtiofsd")? {
                bail!("virtiofsd ended: {status}");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
