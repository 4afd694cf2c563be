//! `chrootvm` as a user who is not root.
//!
//! The user is made up. It exists, and has subordinate ids, only in a mount namespace
//! (mount_namespaces(7)) in which other files cover those of /etc, so nothing has to be
//! undone. The user runs copies of the programs, for it may not look into a tree below /root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::harness::command_run::CommandRun;
use crate::harness::make::initrd;
use crate::harness::{Bed, Machine, new_directory};

/// Whether these tests can run: only root can become another user.
pub(crate) fn can_run() -> bool {
    geteuid().is_root()
}

/// The user's id, outside every distribution's ranges of system and login users.
pub(crate) const UID: u32 = 54321;

/// Two ranges of subordinate ids, one by the user's name and one by its number: 1 in the
/// guest is 600000 on the host, and 1001 is 700000. Half of the first range and the user's
/// own id come twice, as in a file that several tools have written.
pub(crate) const RANGES: &str =
    "vmtest:600000:1000\nvmtest:600500:500\n54321:700000:64536\n54321:54320:3\n";

/// A testbed whose `chrootvm` runs as the user. The user can read all of it.
pub(crate) struct UserBed {
    pub(crate) bed: Bed,
    _directory: TempDir,
}

impl UserBed {
    /// A testbed for a user with these lines in /etc/subuid and /etc/subgid.
    pub(crate) fn new(bed: &Bed, ranges: &str) -> Result<Self> {
        let directory = new_directory()?;
        let at = directory.path();
        open_to_all(at)?;
        for name in ["etc", "scripts", "target/release", "target/guest"] {
            fs::create_dir_all(at.join(name))?;
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        fs::write(at.join("etc/passwd"), format!("{passwd}vmtest:x:{UID}:{UID}::/:/bin/sh\n"))?;
        fs::write(at.join("etc/subuid"), ranges)?;
        fs::write(at.join("etc/subgid"), ranges)?;
        for program in ["target/release/chrootvm", "target/guest/init", "target/guest/step"] {
            fs::copy(bed.workspace.join(program), at.join(program))?;
        }
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
             {dir}/target/release/chrootvm --init {dir}/target/guest/init \"$@\"' chrootvm \"$@\"\n",
            dir = at.display()
        );
        fs::write(&script, text)?;
        open_to_all(&script)?;
        let mut bed = Bed { workspace: at.to_path_buf(), ..bed.with_kernel_image(image) };
        if let Some(program) = &mut bed.virtiofsd {
            let copy = at.join("virtiofsd");
            fs::copy(&*program, &copy)?;
            *program = copy;
        }
        Ok(Self { bed, _directory: directory })
    }

    /// A script for the shell of a root that the user owns.
    pub(crate) fn run(&self, script: &str) -> Result<CommandRun> {
        let run = self.bed.sh(script)?;
        let root = run.machine.root();
        open_to_all(root.parent().context("no directory")?)?;
        give_all(&root)?;
        Ok(run)
    }

    /// A machine whose root the user owns. The files `others` in it have other owners.
    pub(crate) fn machine(&self, body: &str, others: &[(&str, u32)]) -> Result<Machine> {
        let mut machine = self.bed.machine(body)?;
        let root = machine.root();
        open_to_all(root.parent().context("no directory")?)?;
        machine.initrd(&initrd::default(&self.bed)?)?;
        give(&root, UID)?;
        for (name, owner) in others {
            fs::write(root.join(name), "")?;
            give(&root.join(name), *owner)?;
        }
        Ok(machine)
    }
}

/// Lets every user read a file or directory.
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Makes `owner` the owner and the group of a file.
pub(crate) fn give(path: &Path, owner: u32) -> Result<()> {
    chown(path, Some(owner), Some(owner)).with_context(|| format!("chown {}", path.display()))
}

/// Makes the user the owner of all files below `dir`. Owners of links do not matter.
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

/// User and group that own a file.
pub(crate) fn owner(path: &Path) -> Result<(u32, u32)> {
    let file = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok((file.uid(), file.gid()))
}
