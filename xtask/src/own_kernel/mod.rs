//! `cargo xtask kernel`: a small guest kernel, built once, for `--kernel-builtin`.
//!
//! The distribution's source with the configuration of [`fragment`]; it has no
//! modules. A kernel that has not run a command in a machine is not kept.

pub mod build;
pub mod cache;
pub mod fragment;
pub mod source;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use self::build::Compilation;
use self::cache::Cache;
use self::source::Source;
use crate::{guest, tell, testbed, workspace};

/// Build the guest kernel that `chrootvm --kernel-builtin` boots
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It is kept below $XDG_CACHE_HOME/virtinitrd/kernel and built again only if\n\
                  kernel/config or the source has changed: the contents of a TARBALL; names, sizes\n\
                  and times of the files in a DIR."
)]
pub struct Kernel {
    /// The kernel's source [default: the distribution's package linux-source]
    #[arg(long, value_name = "DIR|TARBALL")]
    source: Option<PathBuf>,
}

/// What the proof runs in the guest.
const PROOF: &str = "busybox uname -r; busybox zcat /proc/config.gz | busybox grep -c =y";

impl Kernel {
    /// Builds, boots and keeps it, unless it is there.
    pub fn run(self) -> Result<()> {
        ensure!(
            std::env::consts::ARCH == "x86_64",
            "kernel/config is for x86_64, and this is {}",
            std::env::consts::ARCH
        );
        let tree = workspace::root()?;
        let target = tree.join("target/kernel");
        fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
        let source = match &self.source {
            Some(path) => Source::given(path)?,
            None => Source::of_distribution(&tree, &target.join("source"))?,
        };
        let version = source.version()?;
        let path = source.path();
        let key = cache::key(&version, &source.fingerprint()?, fragment::TEXT);
        let cache = Cache::of_user()?;
        if let Some(image) = cache.choose(&key)? {
            return tell::result(format_args!(
                "{}: built from this source and kernel/config before\n",
                image.display()
            ));
        }
        let _lock = lock(&target)?;
        // Of a build that failed, or was ended.
        let work = target.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        }
        let log = target.join("build.log");
        let _ = fs::remove_file(&log); // of the build before, where there was one
        tell::result(format_args!(
            "building Linux {version} of {} (some minutes)\n",
            path.display()
        ))?;
        let start = Instant::now();
        let sources = source.unpack(&work.join("source"))?;
        let output = work.join("build");
        let compilation = Compilation { tree: &sources, output: &output, log: &log };
        let config = compilation.configure(fragment::TEXT)?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let image = compilation.compile(jobs)?;
        let build = build::read(&image, config)?;
        tell::result(format_args!("built in {} s; booting it\n", start.elapsed().as_secs()))?;
        prove(&image, &compilation.release()?, &work)?;
        let image = cache.store(&key, &build)?;
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        tell::result(format_args!("{}: {} bytes\n", image.display(), build.image.len()))
    }
}

/// Keeps others from building in `dir` for as long as the result lives.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {}: another `cargo xtask kernel` builds", path.display()))
}

/// Runs a command in a machine with the kernel, which has to say who it is.
fn prove(image: &Path, release: &str, dir: &Path) -> Result<()> {
    /// Ample, without KVM on a crowded host.
    const TIMEOUT: &str = "60s";
    let init = guest::build()?;
    let root = dir.join("root");
    testbed::make_root(&root, &testbed::busybox()?, &[])?;
    // Not by its path: the build took minutes, in which another may stand there.
    let mut chrootvm = Command::new("/proc/self/exe");
    chrootvm.args(["chrootvm", "--timeout", TIMEOUT, "--init"]).arg(&init);
    chrootvm.arg("--kernel").arg(image).arg(&root);
    chrootvm.args(["--", "sh", "-c", PROOF]);
    let output = chrootvm.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("start chrootvm")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let (name, settings) = (lines.next(), lines.next().and_then(|count| count.parse::<u32>().ok()));
    ensure!(
        output.status.success() && name == Some(release) && settings.is_some(),
        "the kernel was built, but did not run a command as {release} ({}): \"{}\"",
        output.status,
        said.trim_end()
    );
    tell::result(format_args!(
        "Linux {release} booted and ran a command; {} settings\n",
        settings.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_builds_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another"), "{error}");
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
