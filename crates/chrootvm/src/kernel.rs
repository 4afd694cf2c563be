//! `chrootvm kernel`: builds and lists small kernels for `--kernel-builtin`, and prints what
//! other kernels need.
//!
//! A new kernel is kept only after it has run a command in a machine. All files are below
//! `$XDG_CACHE_HOME/virtinitrd/kernel`; see [`machine::kernel::small::cache`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use files::tell;
use machine::kernel::initrd::find_init;
use machine::kernel::small::build::{CompiledKernel, build};
use machine::kernel::small::cache::{self, SmallKernels};
use machine::kernel::small::source::KernelSource;
use machine::kernel::small::{fragment, proof};
use machine::kernel::{needs, tree};
use nix::fcntl::{Flock, FlockArg};

/// Build and list small guest kernels, and print the options that a kernel needs
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  \
                         chrootvm kernel build\n  \
                         chrootvm --kernel-builtin ./debian uname -r")]
pub struct Kernel {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    Build(Build),
    Ls(Ls),
    Config(Config),
}

/// Build the guest kernel that `chrootvm --kernel-builtin` boots
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm kernel build\n  \
                   chrootvm kernel build --source ./linux-6.1.100.tar.xz",
    after_help = "The kernel is kept below $XDG_CACHE_HOME/virtinitrd/kernel. It is built again only if\n\
                  its configuration or the source has changed: the contents of a TARBALL, or the\n\
                  names, sizes and times of the files in a DIR."
)]
struct Build {
    /// The kernel's source [default: the distribution's package linux-source]
    #[arg(long, value_name = "DIR|TARBALL")]
    source: Option<PathBuf>,
    /// The /init binary with which the new kernel is tested
    #[arg(long, value_name = "FILE", hide = true)]
    init: Option<PathBuf>,
}

/// List the kernels that were built or installed; a star marks the one that `--kernel-builtin` boots
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm kernel ls")]
struct Ls {}

/// Print the options that a guest's kernel needs, as a fragment of its configuration
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  \
                         chrootvm kernel config >needed.config\n  \
                         chrootvm kernel config --check ~/linux")]
struct Config {
    /// Print only what this configuration lacks, or that of the kernel tree DIR; the status is 1
    /// if a machine needs it
    #[arg(long, value_name = "FILE|DIR")]
    check: Option<PathBuf>,
}

/// Shell command that a new kernel must run: it prints the kernel's release and the number
/// of options that are set.
const PROOF: &str = "busybox uname -r; busybox zcat /proc/config.gz | busybox grep -c =y";

impl Kernel {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The build fails, or the new kernel does not run a command; a file cannot be read.
    pub fn run(self) -> Result<ExitCode> {
        match self.task {
            Task::Build(build) => build.run()?,
            Task::Ls(Ls {}) => list(&SmallKernels::of_user()?)?,
            Task::Config(config) => return config.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Config {
    /// Prints the fragment.
    fn run(self) -> Result<ExitCode> {
        /// Status if the configuration lacks an option that some machine needs.
        const LACKING: u8 = 1;
        let config = self.check.as_deref().map(read_config).transpose()?;
        tell::result(format_args!("{}", needs::fragment(config.as_deref())))?;
        Ok(match config.is_some_and(|config| needs::is_short(&config)) {
            true => ExitCode::from(LACKING),
            false => ExitCode::SUCCESS,
        })
    }
}

/// The configuration in the file `path`, or in the kernel tree `path`.
fn read_config(path: &Path) -> Result<String> {
    let path = if path.is_dir() { path.join(tree::CONFIG) } else { path.to_path_buf() };
    let name = || format!("configuration {}", path.display());
    let text = fs::read_to_string(&path).with_context(|| format!("read the {}", name()))?;
    let is_setting = |line: &str| line.starts_with("CONFIG_") && line.contains('=');
    ensure!(text.lines().any(is_setting), "{}: no line CONFIG_NAME=VALUE", name());
    Ok(text)
}

impl Build {
    /// Builds, tests and keeps the kernel. If the same kernel has been built before, only makes
    /// it current.
    fn run(self) -> Result<()> {
        ensure!(
            std::env::consts::ARCH == "x86_64",
            "the kernel's configuration is for x86_64, and this is {}",
            std::env::consts::ARCH
        );
        let kernels = SmallKernels::of_user()?;
        let dir = kernels.build_dir();
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let source = match &self.source {
            Some(path) => KernelSource::given(path)?,
            None => KernelSource::of_distribution(&dir.join("source"))?,
        };
        let version = source.version()?;
        let key = cache::key(&version, &source.fingerprint()?, fragment::TEXT);
        if let Some(image) = kernels.choose(&key)? {
            return tell::result(format_args!(
                "{}: built from this source and configuration before\n",
                image.display()
            ));
        }
        // The build takes minutes, so look first for the files that the test needs.
        let (init, busybox) = (find_init(self.init.as_deref())?, proof::busybox()?);
        let _lock = lock(&dir)?;
        // A build that failed or was killed has left its files.
        let work = dir.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        }
        let log = dir.join("build.log");
        let _ = fs::remove_file(&log); // the first build has none
        tell::result(format_args!(
            "building Linux {version} of {} (some minutes)\n",
            source.path().display()
        ))?;
        let start = Instant::now();
        let kernel = build(&source, &work, &log)?;
        tell::result(format_args!("built in {} s; booting it\n", start.elapsed().as_secs()))?;
        let root = work.join("root");
        proof::make_root(&root, &busybox, &[])?;
        prove(&kernel, &init, &root)?;
        let image = kernels.store(&key, &kernel.files)?;
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        tell::result(format_args!("{}: {} bytes\n", image.display(), kernel.files.image.len()))
    }
}

/// Prints a line for each kernel: a star or a space, the size in bytes, the path.
fn list(kernels: &SmallKernels) -> Result<()> {
    let mut rows: Vec<_> = kernels
        .list()?
        .into_iter()
        .map(|kernel| (kernel.is_current, kernel.size, kernel.image))
        .collect();
    if let Some(image) = kernels.installed() {
        let size = image.metadata().with_context(|| format!("read {}", image.display()))?.len();
        rows.push((rows.iter().all(|(is_current, ..)| !is_current), size, image));
    }
    for (is_current, size, image) in rows {
        let mark = if is_current { '*' } else { ' ' };
        tell::result(format_args!("{mark} {size:>9} {}\n", image.display()))?;
    }
    Ok(())
}

/// Locks the directory for builds against other processes, until the result is dropped.
///
/// # Errors
/// Another process has the lock.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {}: another `chrootvm kernel build` runs", path.display()))
}

/// Runs a command in a machine with the new kernel and the root file system `root`, and
/// checks that the kernel reports its release.
fn prove(kernel: &CompiledKernel, init: &Path, root: &Path) -> Result<()> {
    /// Time limit; it suffices on a busy host without KVM.
    const TIMEOUT: &str = "60s";
    let CompiledKernel { image, release, .. } = kernel;
    // The path of this program may have another file by now, because the build takes minutes.
    let mut chrootvm = Command::new("/proc/self/exe");
    chrootvm.args(["--timeout", TIMEOUT, "--init"]).arg(init);
    chrootvm.arg("--kernel").arg(image).arg(root);
    chrootvm.args(["--", "sh", "-c", PROOF]);
    let output = chrootvm.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("start chrootvm")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let (name, settings) = (lines.next(), lines.next().and_then(|count| count.parse::<u32>().ok()));
    ensure!(
        output.status.success() && name == Some(release.as_str()) && settings.is_some(),
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
    fn only_one_process_builds_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another"), "{error}");
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
