//! chrootvm as a user: owners, what is read-only, and what is said and done
//! where the user has no subordinate ids.
//!
//! The user is made up. It exists, and has ids, in a mount namespace only
//! (mount_namespaces(7)), where other files lie over those of /etc: nothing has
//! to be undone. The programs are copied, for users may not look into a tree
//! below /root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use files::root_dir::RootDir;
use machine::kernel::pack::{self, Choice};
use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;
use tempfile::TempDir;
use xtask::testbed::HostKernel;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::{Bed, Guest};
use crate::processes::{all_gone, family};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("subordinate_ids_keep_owners", subordinate_ids_keep_owners),
    ("without_them_it_warns",       without_them_it_warns),
    ("sigkill_ends_it",             sigkill_ends_it),
    ("commands_run",                commands_run),
    ("warnings_can_be_silenced",    warnings_can_be_silenced),
];

/// Only root can become another user.
pub(crate) fn can_run() -> bool {
    geteuid().is_root()
}

/// The user, in no distribution's range of system or login users.
const UID: u32 = 54321;

/// Two ranges, found by name and by number: 1 is 600000, and 1001 is 700000. Half of
/// the first is named once more, and so is the user's own id, as several tools that
/// write to one file leave it.
pub(crate) const RANGES: &str =
    "vmtest:600000:1000\nvmtest:600500:500\n54321:700000:64536\n54321:54320:3\n";

/// A testbed of which the user can read everything, and its own programs.
pub(crate) struct Stage {
    pub(crate) bed: Bed,
    dir: TempDir,
}

impl Stage {
    pub(crate) fn new(bed: &Bed, ranges: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("virtinitrd-test-").tempdir()?;
        let at = dir.path();
        open_to_all(at)?;
        for name in ["etc", "scripts"] {
            fs::create_dir(at.join(name))?;
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        fs::write(at.join("etc/passwd"), format!("{passwd}vmtest:x:{UID}:{UID}::/:/bin/sh\n"))?;
        fs::write(at.join("etc/subuid"), ranges)?;
        fs::write(at.join("etc/subgid"), ranges)?;
        fs::copy(bed.workspace.join("target/release/chrootvm"), at.join("chrootvm"))?;
        fs::copy(bed.init(), at.join("init"))?;
        let image = at.join("kernel");
        fs::copy(&bed.kernel.image, &image)?;
        open_to_all(&image)?;
        let script = at.join("scripts/chrootvm");
        let text = format!(
            "#!/bin/sh\nexec unshare --mount sh -c '\n\
             for file in passwd subuid subgid; do\n\
             mount --bind {dir}/etc/$file /etc/$file || exit\n\
             done\n\
             exec setpriv --reuid={UID} --regid={UID} --clear-groups \
             {dir}/chrootvm --init {dir}/init \"$@\"' chrootvm \"$@\"\n",
            dir = at.display()
        );
        fs::write(&script, text)?;
        open_to_all(&script)?;
        let kernel = HostKernel { image, modules: bed.kernel.modules.clone() };
        let mut bed = Bed { workspace: at.to_path_buf(), kernel, ..bed.clone() };
        if let Some(program) = &mut bed.virtiofsd {
            let copy = at.join("virtiofsd");
            fs::copy(&*program, &copy)?;
            *program = copy;
        }
        Ok(Self { bed, dir })
    }

    /// `script` for the shell of a root that is the user's.
    pub(crate) fn run(&self, script: &str) -> Result<CommandRun> {
        let run = self.bed.sh(script)?;
        let root = run.guest.root();
        open_to_all(root.parent().context("no directory")?)?;
        give_all(&root)?;
        Ok(run)
    }

    /// A machine whose root is the user's, but for the files of `others`.
    fn guest(&self, body: &str, others: &[(&str, u32)]) -> Result<Guest> {
        let mut guest = self.bed.guest(body)?;
        let root = guest.root();
        open_to_all(root.parent().context("no directory")?)?;
        let host = RootDir::open(Path::new("/"))?;
        let init = pack::read_init(&self.dir.path().join("init"))?;
        guest.initrd(&pack::initrd(
            init,
            Some((&host, &self.bed.kernel.modules)),
            &Choice::default(),
            &mut Vec::new(),
        )?)?;
        give(&root, UID)?;
        for (name, owner) in others {
            fs::write(root.join(name), "")?;
            give(&root.join(name), *owner)?;
        }
        Ok(guest)
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn give(path: &Path, owner: u32) -> Result<()> {
    chown(path, Some(owner), Some(owner)).with_context(|| format!("chown {}", path.display()))
}

/// All below `dir`; a link has no owner that matters.
fn give_all(dir: &Path) -> Result<()> {
    give(dir, UID)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => give_all(&entry.path())?,
            kind if kind.is_symlink() => {}
            _ => give(&entry.path(), UID)?,
        }
    }
    Ok(())
}

/// Owners are the same on both sides, and remounting read-write helps nobody.
fn subordinate_ids_keep_owners(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, RANGES)?;
    let mut guest = stage.guest(
        "stat -c '%n is %u:%g' /own /first /second /other\n\
         cd /run/mnt/out; touch root user; chown 1001:1 user; stat -c '%n is %u:%g' root user\n\
         mount -o remount,rw /; mount -o remount,rw /run/mnt/data\n\
         (echo > /own) 2>/dev/null || echo root kept\n\
         (echo > /run/mnt/data/new) 2>/dev/null || echo share kept",
        &[("own", UID), ("first", 600_000), ("second", 700_000), ("other", 0)],
    )?;
    let out = guest.mount("--mount", "out")?;
    give(&out, UID)?;
    give(&guest.mount("--mount-ro", "data")?, UID)?;
    let boot = guest.boot()?.ends_with(
        0,
        &[
            "/own is 0:0",
            "/first is 1:1",
            "/second is 1001:1001",
            "/other is 65534:65534",
            "root is 0:0",
            "user is 1001:1",
            "root kept",
            "share kept",
        ],
    )?;
    let owners = (owner(&out.join("root"))?, owner(&out.join("user"))?);
    if owners != ((UID, UID), (700_000, 600_000)) {
        return Err(boot.failure(&format!("owners on the host are {owners:?}")));
    }
    if boot.messages.contains("warning") {
        return Err(boot.failure("nothing is missing, and yet there is a warning"));
    }
    boot.lacks("Kernel panic")
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    let file = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok((file.uid(), file.gid()))
}

/// The user's own files are root's still.
fn without_them_it_warns(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, "")?;
    let mut guest = stage.guest(
        "stat -c '%n is %u:%g' /own /other\n\
         cd /run/mnt/out; touch root; stat -c '%n is %u:%g' root\n\
         chown 1 root 2>/dev/null || echo no other owner\n\
         mount -o remount,rw /; (echo > /own) 2>/dev/null || echo root kept",
        &[("own", UID), ("other", 600_000)],
    )?;
    let out = guest.mount("--mount", "out")?;
    give(&out, UID)?;
    let boot = guest.boot()?.ends_with(
        0,
        &["/own is 0:0", "/other is 65534:65534", "root is 0:0", "no other owner", "root kept"],
    )?;
    if owner(&out.join("root"))? != (UID, UID) {
        return Err(boot.failure("the file is not the user's on the host"));
    }
    let expected = "no ids for vmtest in /etc/subuid and /etc/subgid; as root, run `usermod";
    if boot.messages.matches("warning").count() != 1 || !boot.messages.contains(expected) {
        return Err(boot.failure(&format!("not one warning with \"{expected}\"")));
    }
    boot.lacks("Kernel panic")
}

/// The death signal outlasts the change of credentials.
fn sigkill_ends_it(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, RANGES)?;
    let guest = stage.guest("echo is up; sleep 3600", &[])?;
    let mut running = guest.start()?;
    running.wait_for("is up")?;
    let family = family(running.pid())?;
    ensure!(family.len() >= 3, "chrootvm, QEMU and virtiofsd expected: {family:?}");
    kill(running.pid(), Signal::SIGKILL)?;
    running.finish()?;
    all_gone(&family)
}

/// As root's do: status, streams, what is written, the overlay, the network.
fn commands_run(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, RANGES)?;
    let run = stage.run("id -u; cat; echo err >&2; echo out > /new; chown 1001 /new; exit 42")?;
    let root = run.guest.root();
    fs::create_dir(root.join("etc"))?;
    fs::write(root.join("etc/resolv.conf"), "")?;
    let run = run.options(&["--rw", "--net", "user"]).input(b"in\n");
    let _guest = run.finish()?.is(42, "0\nin\n", "err\n")?;
    let owner = owner(&root.join("new"))?;
    ensure!(owner == (700_000, UID), "the owner on the host is {owner:?}");

    let mut run = stage.run("rm /bin/busybox && cd /mnt/x && echo out > new")?;
    let root = run.guest.root();
    let volume = run.guest.directory("volume")?;
    give(&volume, UID)?;
    run.volume(&volume, "/mnt/x");
    let _guest = run.options(&["--overlay"]).finish()?.is(0, "", "")?;
    ensure!(root.join("bin/busybox").exists(), "the overlay has reached the host");
    ensure!(fs::read(volume.join("new"))? == b"out\n");
    Ok(())
}

fn warnings_can_be_silenced(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, "")?;
    stage.run("echo out")?.finish()?.says(0, "out\n", &["warning: "])?;
    stage.run("echo out")?.options(&["--quiet"]).finish()?.is(0, "out\n", "").map(drop)
}
