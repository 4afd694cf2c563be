//! The recipes in `docs/examples/recipes`: each is built twice to the same bytes, and runs.
//!
//! A test works on a copy of the directory of a recipe, with a busybox beside it, as the head of
//! the recipe tells the reader.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::command_run::CommandRun;
use crate::harness::processes::{PATIENCE, eventually};
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("all_examples_are_tested",      all_examples_are_tested),
    ("httpd_answers",                httpd_answers),
    ("worker_works",                 worker_works),
];

/// Directory of the recipes.
const EXAMPLES: &str = "docs/examples/recipes";

/// The recipes that the tests build.
const NAMES: [&str; 2] = ["httpd", "worker"];

fn all_examples_are_tested(bed: &Bed) -> Result<()> {
    let dir = bed.workspace.join(EXAMPLES);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if entry.path().is_dir() {
            found.push(entry.file_name().into_string().ok().context("a name in UTF-8")?);
        }
    }
    found.sort();
    ensure!(found == NAMES, "{found:?}");
    Ok(())
}

/// A built recipe: `package` in the directory of the machine.
struct Example {
    machine: Machine,
    program: PathBuf,
}

impl Example {
    /// Builds the outputs of the recipe `name`.
    fn build(bed: &Bed, name: &str) -> Result<Self> {
        let machine = bed.bare_machine()?;
        let example = Self { machine, program: bed.chrootvm() };
        let package = example.machine.path("package");
        copy(&bed.workspace.join(EXAMPLES).join(name), &package)?;
        fs::copy(&bed.busybox, package.join("busybox")).context("copy busybox")?;
        // Without the cache, which other versions of the builder have filled, too.
        for option in ["--check", "--no-cache"] {
            let mut command = example.image(&["build", "recipe.toml", option, "--kernel"]);
            command.arg(&bed.kernel.image).arg("--modules").arg(&bed.kernel.modules);
            stdout_of(&mut command)?;
        }
        Ok(example)
    }

    /// `chrootvm image WORDS` in the package.
    fn image(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("image").args(words).current_dir(self.machine.path("package"));
        command.env("CHROOTVM_NO_CONFIG", "1").env_remove("SOURCE_DATE_EPOCH");
        command.stdin(Stdio::null());
        command
    }

    /// What `path` in the image `output` has.
    fn text(&self, output: &str, path: &str) -> Result<String> {
        stdout_of(&mut self.image(&["cat", output, path]))
    }

    /// `chrootvm IMAGE`: the workload of the image `output`.
    fn run(mut self, output: &str) -> CommandRun {
        let image = self.machine.path("package").join(output);
        self.machine.root_is(&image);
        CommandRun::new(self.machine, &[]).without_separator()
    }
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => fs::copy(entry.path(), &target).map(drop).context("copy a file")?,
        }
    }
    Ok(())
}

fn httpd_answers(bed: &Bed) -> Result<()> {
    let example = Example::build(bed, "httpd")?;
    let records = example.text("httpd.cpio.gz", "/etc/virtinit/run")?;
    ensure!(records.contains("health=5000 2000 10000"), "{records:?}");
    let manifest = fs::read_to_string(example.machine.path("package/manifest.json"))?;
    ensure!(manifest.contains("\"8080:80\""), "{manifest}");
    // The port was free a moment ago, and the system does not hand it out again at once.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let run = example.run("httpd.cpio.gz").options(&["--publish", &format!("{port}:80")]);
    let live = run.start()?;
    // QEMU accepts a connection at once, and closes it if no program listens in the guest.
    let page = || Ok(get(port, "/").ok().filter(|heard| !heard.is_empty()));
    let page = eventually("the guest answers", page)?;
    ensure!(page.contains(" 200 OK") && page.contains("It works"), "{page}");
    let missing = get(port, "/missing")?;
    ensure!(missing.contains(" 404 Not Found"), "{missing}");
    ensure!(missing.contains("There is no such page"), "{missing}");
    live.signal(Signal::SIGTERM)?;
    live.finish().map(drop)
}

/// Asks for a page of the guest's server, and returns the answer with its head.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

fn worker_works(bed: &Bed) -> Result<()> {
    let jobs = "worker: user worker, queue mail\n\
                worker: job 1 of mail is done\n\
                worker: job 2 of mail is done\n\
                worker: job 3 of mail is done\n";
    let example = Example::build(bed, "worker")?;
    let archive = example.text("worker.cpio.gz", "/usr/bin/worker")?;
    ensure!(archive == example.text("worker.erofs", "/usr/bin/worker")?);
    let finished = example.run("worker.erofs").finish()?;
    let said = String::from_utf8_lossy(finished.stdout()).into_owned();
    ensure!(said.replace('\r', "").contains(jobs), "{said:?}");
    Ok(())
}
