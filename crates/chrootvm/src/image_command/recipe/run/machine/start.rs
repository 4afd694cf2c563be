//! Starting the machine of a build.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use command_fds::{CommandFdExt, FdMapping};
use image::ext4;
use image::tree::{Content, Kind, Meta, Tree, directory};
use machine::kernel::initrd::find_step;
use recipe::Network;
use step::request::Access;

use super::super::super::kept::store::{Store, write_image};
use super::super::super::package::planned::Planned;
use super::super::halt::lock;
use super::super::request::VolumeOf;
use super::{BuildMachine, collect};

/// Bytes of a MiB.
const MEBIBYTE: u64 = 1 << 20;

/// Line with which `/step` says that the machine is ready.
const READY: &str = "ready";

/// First descriptor that the machine's chrootvm gets.
const FIRST_FD: i32 = 10;

/// Size of an empty disk in bytes: more than any layer has. It takes no room before it is written.
const SLOT: u64 = 1 << 40;

/// Directories of the machine's root.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "etc"];

/// Modules that the kernel needs for the steps.
const MODULES: [&str; 4] = ["virtio_blk", "ext4", "erofs", "overlay"];

/// What a machine of a build has.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct MachineSettings {
    /// Bytes that the steps may write.
    pub(in crate::image_command::recipe) disk: u64,
    /// Memory in MiB.
    pub(in crate::image_command::recipe) memory: Option<u64>,
    /// Number of processors.
    pub(in crate::image_command::recipe) cpus: Option<u32>,
    /// Network of the machine; a step without one is in a network namespace of its own.
    pub(in crate::image_command::recipe) network: Network,
    /// Directories of the host. The first one is at `/run/volumes/0`.
    pub(in crate::image_command::recipe) volumes: Vec<(PathBuf, Access)>,
    /// Further words of `chrootvm run`: the kernel and its modules.
    pub(in crate::image_command::recipe) words: Vec<OsString>,
}

impl MachineSettings {
    /// The machine that all steps share: it has as much as the recipe that asks for most.
    pub(in crate::image_command::recipe) fn of(
        steps: &[Planned],
        volumes: &[VolumeOf],
        words: &[OsString],
    ) -> Self {
        let builds = || steps.iter().map(|step| &step.package.recipe.build);
        Self {
            disk: builds().map(|build| build.disk).max().unwrap_or_default(),
            memory: builds().filter_map(|build| build.memory).max().map(|bytes| bytes / MEBIBYTE),
            cpus: builds().filter_map(|build| build.cpus).max(),
            network: Network::None,
            volumes: volumes.iter().map(|volume| (volume.host.clone(), volume.access)).collect(),
            words: words.to_vec(),
        }
    }
}

impl BuildMachine {
    /// Starts a machine with `disks`, and with `slots` empty ones behind them.
    ///
    /// # Errors
    /// A disk cannot be made; the machine does not come up.
    pub(in crate::image_command::recipe) fn start(
        settings: &MachineSettings,
        disks: &[File],
        slots: usize,
        store: &Store,
    ) -> Result<Self> {
        let scratch = store.temporary()?;
        ext4::scratch(settings.disk, &scratch)?;
        let slots = (0..slots).map(|_| {
            let file = store.temporary()?;
            file.set_len(SLOT).context("make an empty disk")?;
            Ok(file)
        });
        let slots = slots.collect::<Result<Vec<_>>>()?;
        let name = format!("build-{}-{}", std::process::id(), nonce()?);
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.args(["run", "--no-config", "--quiet", "--name", &name]);
        for module in MODULES {
            command.args(["--module", module]);
        }
        command.args(["--net", if settings.network == Network::User { "user" } else { "none" }]);
        if let Some(memory) = settings.memory {
            command.args(["--memory", &format!("{memory}M")]);
        }
        if let Some(cpus) = settings.cpus {
            command.args(["--cpus", &cpus.to_string()]);
        }
        for (number, (path, access)) in settings.volumes.iter().enumerate() {
            let ending = match access {
                Access::ReadOnly => ":ro",
                Access::ReadWrite => "",
            };
            let mut volume = path.clone().into_os_string();
            volume.push(format!(":/run/volumes/{number}{ending}"));
            command.arg("--volume").arg(volume);
        }
        let mut fds: Vec<OwnedFd> = Vec::new();
        let mut descriptor = |file: &File| -> Result<String> {
            let fd = FIRST_FD + i32::try_from(fds.len())?;
            fds.push(file.try_clone().context("hand over a disk")?.into());
            Ok(format!("/proc/self/fd/{fd}"))
        };
        command.args(["--data", &descriptor(&scratch)?]);
        for file in disks.iter().chain(&slots) {
            command.arg("--data").arg(format!("{}:ro", descriptor(file)?));
        }
        let root_path = descriptor(&root(store)?)?;
        command.args(&settings.words).arg(&root_path);
        command.args(["--", "/step", "hold"]);
        let number = |(fd, parent_fd)| FdMapping { parent_fd, child_fd: fd };
        command.fd_mappings((FIRST_FD..).zip(fds).map(number).collect())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start the machine of the build")?;
        let stdin = Arc::new(Mutex::new(child.stdin.take()));
        let stderr = child.stderr.take().context("the machine has no standard error")?;
        let stdout = child.stdout.take().context("the machine has no standard output")?;
        let devices = (2..disks.len() + 2).map(device);
        let slots = slots.into_iter().zip((disks.len() + 2..).map(device));
        let mut machine = Self {
            name,
            child,
            stdin,
            words: Some(collect(stderr)),
            scratch: Arc::new(scratch),
            devices: devices.collect(),
            slots: slots.collect::<VecDeque<_>>(),
        };
        let mut line = String::new();
        // chrootvm limits the time of a boot.
        let read = BufReader::new(stdout.take_line()).read_line(&mut line);
        read.context("wait for the machine of the build")?;
        if line.trim_end() != READY {
            drop(lock(&machine.stdin).take());
            let words = machine.last_words();
            // The root has no name that means something to the user.
            let words = words.replace(&root_path, "the machine of a build");
            ensure!(!words.is_empty(), "the machine of the build did not come up");
            bail!("the machine of the build did not come up: {words}");
        }
        Ok(machine)
    }
}

/// Limits what is read of the first line.
trait TakeLine: std::io::Read + Sized {
    /// The first bytes, enough for the line.
    fn take_line(self) -> std::io::Take<Self> {
        self.take(64)
    }
}

impl<T: std::io::Read> TakeLine for T {}

/// The root of the machine, a file without a name.
fn root(store: &Store) -> Result<File> {
    let path = find_step()?;
    let program = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let meta = |permissions| Meta { permissions, ..Meta::default() };
    let mut tree = Tree::new(meta(0o755));
    for name in DIRECTORIES {
        tree.put(name.as_bytes(), meta(0o755), directory())?;
    }
    tree.put(b"step", meta(0o755), Kind::File(Content::Bytes(program.into())))?;
    let file = store.temporary()?;
    write_image(&tree, &file).context("make the root of the build's machine")?;
    Ok(file)
}

/// The device of the disk with this number; the root has number 0, and the scratch disk 1
/// (`virtblk_name_format` of drivers/block/virtio_blk.c).
fn device(number: usize) -> String {
    /// Letters of the alphabet.
    const LETTERS: usize = 26;
    let mut name = String::new();
    let mut rest = number + 1;
    while rest > 0 {
        rest -= 1;
        name.insert(0, char::from(b'a' + u8::try_from(rest % LETTERS).unwrap_or_default()));
        rest /= LETTERS;
    }
    format!("/dev/vd{name}")
}

/// Random digits, so that nobody can take the name of the machine before.
fn nonce() -> Result<String> {
    let mut bytes = [0; 4];
    let mut file = File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut file, &mut bytes).context("read /dev/urandom")?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_names_of_the_kernel() {
        for (number, name) in [(0, "vda"), (1, "vdb"), (25, "vdz"), (26, "vdaa"), (701, "vdzz")] {
            assert_eq!(device(number), format!("/dev/{name}"));
        }
    }
}
