//! The two builders that are compared: chrootvm, and buildah(1).
//!
//! Both build up to an archive in a file. Both start with the base images in their stores, and
//! with nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use machine::host::find_program;

use super::bases::{BASES, Bases};
use super::fixtures::Fixture;
use crate::programs;
use crate::testbed::{HostKernel, run};

/// The host's loopback, as a guest of QEMU's user network sees it.
const HOST_IN_GUEST: &str = "10.0.2.2";
/// The host's loopback for buildah, whose steps have the network of the host.
const HOST: &str = "127.0.0.1";

/// Memory of the machine: cargo and go need more than the default.
const MEMORY: &str = "2G";

/// Files of one run of this task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// Root of the source tree.
    pub(super) workspace: &'a Path,
    /// New directory for the builders' stores, logs and results.
    pub(super) directory: &'a Path,
    /// The base images.
    pub(super) bases: &'a Bases,
    /// Port of the server of packages.
    pub(super) port: u16,
}

impl Site<'_> {
    fn proxy(&self, host: &str) -> String {
        format!("http_proxy=http://{host}:{}", self.port)
    }

    /// Runs a builder, whose output goes to the file `name.log`. Returns how long it took.
    fn timed(&self, command: &mut Command, name: &str) -> Result<Duration> {
        let path = self.directory.join(format!("{name}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("write {}", path.display()))?;
        command.stdout(log.try_clone().context("share the log")?).stderr(log);
        let start = Instant::now();
        run(command).with_context(|| format!("see {}", path.display()))?;
        Ok(start.elapsed())
    }
}

/// `chrootvm image build` with a cache of its own.
#[derive(Debug)]
pub(super) struct Chrootvm<'a> {
    site: Site<'a>,
    kernel: HostKernel,
}

impl<'a> Chrootvm<'a> {
    /// Puts the base images into the cache.
    pub(super) fn new(site: Site<'a>, kernel: HostKernel) -> Self {
        let builder = Self { site, kernel };
        for name in BASES {
            // An error here shows again when a fixture is built.
            if let Err(error) = builder.build_base(name) {
                log::info!("chrootvm: base {name}: {error:#}");
            }
        }
        builder
    }

    /// Builds an image that is the base image and one label.
    fn build_base(&self, name: &str) -> Result<()> {
        let context = self.site.directory.join(name);
        fs::create_dir(&context).with_context(|| format!("make {}", context.display()))?;
        let file = context.join("Containerfile");
        fs::write(&file, format!("FROM {name}\nLABEL base={name}\n")).context("write a base")?;
        let output = context.join("base.oci.tar");
        self.site.timed(&mut self.command(&file, &context, &output)?, "bases.chrootvm")?;
        Ok(())
    }

    /// Builds a fixture. Returns the archive, and how long it took.
    ///
    /// # Errors
    /// The build fails.
    pub(super) fn build(&self, fixture: &Fixture) -> Result<(PathBuf, Duration)> {
        let output = self.site.directory.join(format!("{}.chrootvm.oci.tar", fixture.name));
        let context = fixture.context(self.site.workspace);
        let mut command = self.command(&context.join("Containerfile"), &context, &output)?;
        command.args(fixture.options(&context)).envs(fixture.variables());
        command.args(["-t", &format!("{}:test", fixture.name)]);
        let time = self.site.timed(&mut command, &format!("{}.chrootvm", fixture.name))?;
        Ok((output, time))
    }

    fn command(&self, file: &Path, context: &Path, output: &Path) -> Result<Command> {
        let mut command = Command::new(programs::chrootvm()?);
        command.env("XDG_CACHE_HOME", self.site.directory.join("chrootvm"));
        command.args(["image", "build", "-f"]).arg(file).arg(context).arg("-o").arg(output);
        for base in BASES {
            let source = format!("{base}=oci-archive:{}", self.site.bases.image(base).display());
            command.args(["--build-context", &source]);
        }
        command.args(["--build-arg", &self.site.proxy(HOST_IN_GUEST), "--memory", MEMORY]);
        command.arg("--kernel").arg(&self.kernel.image);
        command.arg("--modules").arg(&self.kernel.modules);
        Ok(command)
    }
}

/// `buildah build` with a store of its own. Its steps run in a chroot: that needs no runtime, and
/// takes the least time.
#[derive(Debug)]
pub(super) struct Buildah<'a> {
    site: Site<'a>,
}

impl<'a> Buildah<'a> {
    /// Puts the base images into the store.
    ///
    /// # Errors
    /// buildah is missing, or cannot read an archive.
    pub(super) fn new(site: Site<'a>) -> Result<Self> {
        find_program("buildah".as_ref())
            .context("buildah is missing; scripts/setup containerfiles installs it")?;
        let temporary = site.directory.join("buildah/tmp");
        fs::create_dir_all(&temporary).with_context(|| format!("make {}", temporary.display()))?;
        let builder = Self { site };
        for name in BASES {
            let source = format!("oci-archive:{}", site.bases.image(name).display());
            let id = builder.command().args(["pull", "--quiet", &source]).output();
            let id = id.context("run buildah pull")?.stdout;
            let id = String::from_utf8_lossy(&id);
            run(builder.command().args(["tag", id.trim(), &format!("localhost/{name}")]))?;
        }
        Ok(builder)
    }

    /// Builds a fixture from its `Containerfile.buildah`, or else from its `Containerfile`, and
    /// writes an archive. Returns the archive, and how long it took.
    ///
    /// # Errors
    /// The build fails.
    pub(super) fn build(&self, fixture: &Fixture) -> Result<(PathBuf, Duration)> {
        let output = self.site.directory.join(format!("{}.buildah.tar", fixture.name));
        if output.exists() {
            fs::remove_file(&output).with_context(|| format!("remove {}", output.display()))?;
        }
        // A bind mount with `rw` changes the context: buildah gets a copy each time.
        let context = self.copy(&fixture.context(self.site.workspace))?;
        let files = ["Containerfile.buildah", "Containerfile"].map(|name| context.join(name));
        let file = files.iter().find(|file| file.exists()).context("there is no Containerfile")?;
        let name = format!("localhost/test-{}", fixture.name);

        let mut build = self.command();
        build.args(["build", "--isolation=chroot", "--layers", "--pull=never", "--format=docker"]);
        build.args(["--identity-label=false", "--build-arg", &self.site.proxy(HOST), "-f"]);
        build.arg(file).args(["-t", &name]).args(fixture.options(&context));
        build.envs(fixture.variables()).arg(&context);
        let mut push = self.command();
        push.args(["push", "--quiet", &name, &format!("docker-archive:{}", output.display())]);
        let log = format!("{}.buildah", fixture.name);
        let times = [self.site.timed(&mut build, &log)?, self.site.timed(&mut push, &log)?];
        Ok((output, times.iter().sum()))
    }

    /// A new copy of a context, with the times of its files.
    fn copy(&self, context: &Path) -> Result<PathBuf> {
        let copy = self.site.directory.join("buildah/context");
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| format!("remove {}", copy.display()))?;
        }
        run(Command::new("cp").arg("-a").arg(context).arg(&copy))?;
        Ok(copy)
    }

    fn command(&self) -> Command {
        let store = self.site.directory.join("buildah");
        // A build that fails leaves mounts. In a mount namespace they go with it.
        let mut command = Command::new("unshare");
        command.env("TMPDIR", store.join("tmp"));
        command.args(["--mount", "buildah", "--storage-driver=overlay"]);
        command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        command
    }
}
