//! `cargo xtask vm` and `chrootvm`: a directory as a virtual machine.
//!
//! Arguments become a [`plan::Plan`]; [`run`] runs it, or `--dry-run` prints it.

pub mod child;
pub mod cmdline;
pub mod handover;
pub mod kernel;
pub mod machine;
pub mod plan;
pub mod qmp;
pub mod run;
pub mod sandbox;
mod script;
pub mod terminal;
pub mod userns;
pub mod virtiofsd;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use virtinitrd_init::tag::Tag;

use self::cmdline::CommandLine;
use self::machine::Machine;
use self::plan::{Accelerator, Access, Console, Plan, ROOT_TAG, Share};
use self::virtiofsd::{CacheMode, Guard};
use crate::rootdir::RootDir;
use crate::{host, pack, workspace};

/// Where bare names of INIT are searched in the root, first match first.
const BIN_DIRS: &[&str] =
    &["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Boot a directory as a virtual machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The console is on the terminal: Ctrl-A X ends the machine, Ctrl-A C opens QEMU's monitor.
Exit status: 0 the guest powered off or was ended at its console, 2 bad options,
125 anything else, 128+N signal N ended chrootvm.")]
pub struct Vm {
    /// Mount the directory PATH at /run/mnt/TAG, read-write; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"])]
    mount: Vec<OsString>,
    /// Mount the directory PATH at /run/mnt/TAG, read-only; repeatable
    #[arg(long, num_args = 2, value_names = ["TAG", "PATH"])]
    mount_ro: Vec<OsString>,
    /// Show what /init does
    #[arg(long)]
    debug: bool,
    /// Kernel image [default: the newest in ROOTFS]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The kernel's modules [default: those of that kernel in ROOTFS]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Boot this initrd instead of packing one
    #[arg(long, value_name = "FILE", conflicts_with = "modules")]
    initrd: Option<PathBuf>,
    /// Memory of the machine, in MiB or with a suffix M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_memory)]
    memory: u64,
    /// More words for the kernel command line; they win over ours; repeatable
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Vec<OsString>,
    /// How to run guest code; auto is kvm where that works
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    /// The virtiofsd to run [default: the installed one]
    #[arg(long, value_name = "FILE")]
    virtiofsd: Option<PathBuf>,
    /// What the guest may cache of all shares [default: virtiofsd's, auto]
    #[arg(long, value_enum, value_name = "MODE")]
    cache: Option<CacheMode>,
    /// Print the commands instead of running them
    #[arg(long)]
    dry_run: bool,
    /// The /init binary
    #[arg(long, value_name = "FILE", hide = true)]
    init: Option<PathBuf>,
    /// The directory that becomes the root file system, read-only
    rootfs: PathBuf,
    /// What becomes PID 1: an absolute path in the guest, or a name to be searched there
    #[arg(value_name = "INIT", default_value = "/bin/sh")]
    payload: OsString,
}

/// `--accel`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Accel {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// Where the machine's initrd comes from.
enum Initrd {
    /// As it is.
    File(PathBuf),
    /// Packed for the kernel; its modules are a path in a root, if it has any.
    Packed { init: PathBuf, modules: Option<Located> },
}

impl Vm {
    /// Boots, and returns chrootvm's exit status.
    pub fn run(self) -> Result<ExitCode> {
        let root = Rc::new(RootDir::open(&self.rootfs)?);
        let (image, modules) = self.find_kernel(&root)?;
        let kernel = image.open()?;
        let initrd = match &self.initrd {
            Some(file) => Initrd::File(pack::absolute(file)?),
            None => Initrd::Packed { init: self.find_init()?, modules },
        };
        let plan = self.plan(&root)?;
        if self.dry_run {
            let script = script::script(&plan, &image.resolve()?, &initrd)?;
            std::io::stdout().lock().write_all(script.as_bytes()).context("write the commands")?;
            return Ok(ExitCode::SUCCESS);
        }
        let outcome = run::run(&plan, kernel, &initrd.bytes()?)?;
        Ok(match outcome.check()? {
            None => ExitCode::SUCCESS,
            Some(signal) => ExitCode::from(EXIT_SIGNAL.saturating_add(signal as u8)),
        })
    }

    fn plan(&self, root: &RootDir) -> Result<Plan> {
        let machine = machine::of_host()?;
        let shares = self.shares(root)?;
        let init = find_payload(root, &self.payload)?;
        let virtiofsd = virtiofsd::find(self.virtiofsd.as_deref())?.with_cache(self.cache)?;
        for share in shares.iter().filter(|share| share.source == Path::new("/")) {
            ensure!(
                virtiofsd.guard(share) != Guard::Mount,
                "/ itself cannot be shared read-only by {}: use the Rust virtiofsd, or a directory \
                 below /",
                virtiofsd.program.display()
            );
        }
        let (debug, append) = (self.debug, &self.append[..]);
        let line = CommandLine { machine, init: &init, shares: &shares, debug, append };
        Ok(Plan {
            qemu: find_qemu(machine)?,
            machine,
            accelerator: accelerator(self.accel, host::kvm_problem())?,
            memory: self.memory,
            command_line: line.build()?,
            console: match std::io::stdin().is_terminal() {
                true => Console::Terminal,
                false => Console::Stream,
            },
            virtiofsd,
            shares,
        })
    }

    /// The kernel's image and modules. A kernel given without modules takes
    /// those that the root has of its version; where there are none, it has to
    /// have virtiofs built in.
    fn find_kernel(&self, root: &Rc<RootDir>) -> Result<(Located, Option<Located>)> {
        let host = Rc::new(RootDir::open(Path::new("/"))?);
        let (image, modules) = match &self.kernel {
            Some(file) => {
                let image = Located { root: host.clone(), path: canonical(file)? };
                let mut head = Vec::new();
                image.open()?.take(IMAGE_HEAD).read_to_end(&mut head)?;
                let modules = kernel::image_version(&head)
                    .and_then(|version| kernel::modules_of(root, &version));
                (image, modules)
            }
            None => {
                let found = kernel::find(root)?;
                (Located { root: root.clone(), path: found.image }, Some(found.modules))
            }
        };
        let modules = match (&self.modules, modules) {
            (Some(dir), _) => Some(Located { root: host, path: canonical(dir)? }),
            (None, Some(dir)) => Some(Located { root: root.clone(), path: dir }),
            (None, None) => None,
        };
        Ok((image, modules))
    }

    fn find_init(&self) -> Result<PathBuf> {
        let init = match &self.init {
            Some(file) => file.clone(),
            None => workspace::init_path(&workspace::root()?),
        };
        ensure!(init.is_file(), "{} is missing: run `make` to build it", init.display());
        canonical(&init)
    }

    /// The root first, then the others as given.
    fn shares(&self, root: &RootDir) -> Result<Vec<Share>> {
        let source = root.path().to_path_buf();
        let mut shares = vec![Share { tag: ROOT_TAG.into(), source, access: Access::ReadOnly }];
        let extra = [(&self.mount, Access::ReadWrite), (&self.mount_ro, Access::ReadOnly)];
        for (pairs, access) in extra {
            for pair in pairs.chunks_exact(2) {
                let tag = pair[0].to_str().context("a virtiofs tag must be UTF-8")?.to_owned();
                Tag::parse(tag.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
                ensure!(
                    shares.iter().all(|share| share.tag != tag),
                    "virtiofs tag \"{tag}\" is taken: tags are unique, and \"{ROOT_TAG}\" is ROOTFS"
                );
                let source = RootDir::open(Path::new(&pair[1]))?.path().to_path_buf();
                shares.push(Share { tag, source, access });
            }
        }
        Ok(shares)
    }
}

/// Added to the number of the signal that ended us, as a shell does.
const EXIT_SIGNAL: u8 = 128;

/// Bytes of an image in which its version is found.
const IMAGE_HEAD: u64 = 64 << 10;

/// A kernel image or its modules, named as seen from a root.
struct Located {
    root: Rc<RootDir>,
    path: PathBuf,
}

impl Located {
    fn open(&self) -> Result<File> {
        let file = self.root.file(&self.path);
        file.with_context(|| format!("open kernel {}", self.root.host_path(&self.path).display()))
    }

    /// Its path outside of the root, links resolved.
    fn resolve(&self) -> Result<PathBuf> {
        let path = self.root.resolve(&self.path);
        path.with_context(|| format!("find {}", self.root.host_path(&self.path).display()))
    }
}

impl Initrd {
    fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Initrd::File(file) => {
                std::fs::read(file).with_context(|| format!("read initrd {}", file.display()))
            }
            Initrd::Packed { init, modules } => {
                let modules = modules.as_ref().map(|found| (&*found.root, found.path.as_path()));
                pack::initrd(pack::read_init(init)?, modules, &[])
            }
        }
    }
}

/// INIT as a path in the guest.
fn find_payload(root: &RootDir, payload: &OsStr) -> Result<OsString> {
    let shown = payload.display();
    if payload.as_bytes().starts_with(b"/") {
        return Ok(payload.to_owned());
    }
    ensure!(!payload.is_empty(), "INIT is empty");
    ensure!(
        !payload.as_bytes().contains(&b'/'),
        "INIT \"{shown}\": give an absolute path in the guest, or a bare name to be searched"
    );
    let mut paths = BIN_DIRS.iter().map(|dir| Path::new(dir).join(payload));
    match paths.find(|path| root.is_file(path)) {
        Some(path) => Ok(path.into()),
        None => {
            let (root, dirs) = (root.path().display(), BIN_DIRS.join(", "));
            bail!("INIT \"{shown}\" not found in {root}: searched {dirs}")
        }
    }
}

fn find_qemu(machine: &Machine) -> Result<PathBuf> {
    qemu_program(machine).with_context(|| {
        format!("{} not found in PATH: install QEMU (Debian: qemu-system-x86)", machine.qemu)
    })
}

/// The QEMU of this host for a machine.
#[must_use]
pub fn qemu_program(machine: &Machine) -> Option<PathBuf> {
    let names = [machine.qemu, "qemu-kvm"];
    let in_path = names.iter().find_map(|name| host::find_program(OsStr::new(name)));
    let libexec = || Path::new("/usr/libexec/qemu-kvm").to_path_buf();
    in_path.or_else(|| Some(libexec()).filter(|path| host::is_executable(path)))
}

fn accelerator(wanted: Accel, kvm_problem: Option<String>) -> Result<Accelerator> {
    match (wanted, kvm_problem) {
        (Accel::Tcg, _) | (Accel::Auto, Some(_)) => Ok(Accelerator::Tcg),
        (Accel::Auto | Accel::Kvm, None) => Ok(Accelerator::Kvm),
        (Accel::Kvm, Some(problem)) => bail!("--accel kvm: {problem}"),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}

/// MiB from `512`, `512M` or `4G`.
fn parse_memory(text: &str) -> Result<u64, String> {
    /// Less than this no distribution's kernel boots in.
    const MINIMUM: u64 = 32;
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1024),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok().and_then(|size| size.checked_mul(factor));
    let size = size.ok_or("give MiB, or a number with suffix M or G")?;
    if size < MINIMUM {
        return Err(format!("at least {MINIMUM}M"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        for (text, size) in [("512", Some(512)), ("64M", Some(64)), ("4g", Some(4096))] {
            assert_eq!(parse_memory(text).ok(), size, "{text}");
        }
        for bad in
            ["", "G", "-1", "1.5G", "8M", "99999999999999999999G", "1T", "18014398509481984G"]
        {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kvm_only_where_it_works() {
        let problem = || Some("no".to_owned());
        assert_eq!(accelerator(Accel::Auto, None).unwrap(), Accelerator::Kvm);
        assert_eq!(accelerator(Accel::Auto, problem()).unwrap(), Accelerator::Tcg);
        assert_eq!(accelerator(Accel::Tcg, None).unwrap(), Accelerator::Tcg);
        assert!(accelerator(Accel::Kvm, problem()).is_err());
    }

    #[test]
    fn bare_names_are_searched_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        std::fs::create_dir_all(dir.path().join("sbin")).unwrap();
        std::fs::write(dir.path().join("bin/busybox"), "").unwrap();
        std::os::unix::fs::symlink("/bin/busybox", dir.path().join("sbin/init")).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let find = |name: &str| find_payload(&root, OsStr::new(name));
        assert_eq!(find("init").unwrap(), "/sbin/init");
        assert_eq!(find("busybox").unwrap(), "/bin/busybox");
        assert_eq!(find("/run/mnt/x/y").unwrap(), "/run/mnt/x/y");
        for bad in ["", "systemd", "bin/busybox", "./busybox"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }
}
