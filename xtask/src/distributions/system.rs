//! A fresh Debian: what debootstrap makes, an ordinary user who may use sudo, and a copy of the last
//! commit in that user's home, at a path with a space.
//!
//! The Rust toolchain and the crates are those of this host, mounted read-only: a newcomer gets both
//! by rustup and cargo, which do not depend on the distribution. Everything else is on a tmpfs in a
//! mount namespace, and ends with the processes in a pid namespace, however this program ends.
//! Interfaces: `pivot_root(8)`, unshare(1), setpriv(1).

use std::fs::{self, File};
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use machine::host::run;
use machine::toolchain::{host_triple, output_of, rustc};

use super::rows::CHECKS;
use crate::outcomes::Outcome;
use crate::workspace;

/// Seconds until a check is killed. The build takes most of them.
const CHECK_DEADLINE: u32 = 3600;

/// Script for new mount and pid namespaces: `sh -c SCRIPT system SITE SUITE MIRROR SYSROOT REGISTRY
/// DEADLINE [NAME WRAPPER SCRIPT]...`, with an archive of the tree as standard input. It prints a line
/// for each check: `ok`, or why it failed. What a failed check said is on standard error.
///
/// The root is entered by `pivot_root`, since Linux makes no user namespace for who is in a chroot. Its
/// `/dev` has no `/dev/kvm`: what works must not depend on this host's processor. As in CI, programs are
/// not optimized, which takes most of the time of a build.
const SCRIPT: &str = r#"set -eu
site=$1 suite=$2 mirror=$3 sysroot=$4 registry=$5 deadline=$6
shift 6
mount -t tmpfs -o mode=755 none "$site"
cd "$site"
debootstrap --variant=minbase --include=ca-certificates,make,sudo "$suite" . "$mirror" </dev/null >log 2>&1 || {
    tail -n 20 log >&2
    exit 1
}
cp /etc/resolv.conf /etc/hosts etc
apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-[A-Za-z-]+) ' >etc/apt/apt.conf.d/00host || :
user=newcomer
home=home/$user
chroot . useradd --create-home $user
echo "$user ALL=(ALL) NOPASSWD: ALL" >etc/sudoers.d/$user
mkdir -p "$home/a tree" $home/.cargo/registry opt/rust host
tar -x -C "$home/a tree"
chroot . chown -R $user: /$home
mount --bind "$sysroot" opt/rust
mount --bind "$registry" $home/.cargo/registry
mount -o remount,bind,ro opt/rust
mount -o remount,bind,ro $home/.cargo/registry
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t tmpfs -o mode=755 none dev
for node in full null random tty urandom zero; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
mount -t tmpfs none dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
pivot_root . host
umount -l host
while [ $# -gt 0 ]; do
    echo "$1" >&2
    status=0
    # shellcheck disable=SC2086 # a list of words
    timeout --kill-after=5 "$deadline" $2 setpriv --reuid $user --regid $user --init-groups \
        env -i LC_ALL=C.UTF-8 CARGO_PROFILE_RELEASE_OPT_LEVEL=0 HOME=/$home PATH=/opt/rust/bin:/usr/local/bin:/usr/bin:/bin \
        sh -euc "cd ~/'a tree'; $3" </dev/null >log 2>&1 || status=$?
    if [ $status = 0 ]; then
        echo ok
    else
        tail -n 50 log >&2
        # make has the last word, and no reason.
        echo "status $status: $(grep -v '^make: ' log | tail -n 1)"
    fi
    shift 3
done
"#;

/// Parts of a system that come from this host.
#[derive(Debug)]
pub(super) struct Parts {
    /// The tree.
    pub(super) tree: PathBuf,
    /// Its last commit, as a tar archive.
    archive: File,
    /// Directory of the Rust toolchain.
    sysroot: PathBuf,
    /// Directory with cargo's crates.
    registry: PathBuf,
    /// Address of the Debian mirror.
    mirror: String,
}

impl Parts {
    /// Finds them.
    ///
    /// # Errors
    /// The tree is no clone, its crates cannot be fetched, this host knows no mirror of Debian, or its
    /// Rust toolchain is not one of rustup.
    pub(super) fn find(tree: &Path) -> Result<Self> {
        let archive = tempfile::tempfile().context("make a temporary file")?;
        let file = archive.try_clone().context("share a file")?;
        let mut git = Command::new("git");
        run(git.arg("-C").arg(tree).args(["archive", "HEAD"]).stdout(file))?;
        let sysroot = output_of(Command::new(rustc()).args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim_end());
        ensure!(
            sysroot.join("bin/cargo").exists() && !sysroot.join("bin/sh").exists(),
            "the Rust toolchain in {} is not in a directory of its own, as those of rustup are: \
             other systems cannot have it alone",
            sysroot.display()
        );
        let mut fetch = workspace::cargo();
        fetch.current_dir(tree).args(["fetch", "--quiet", "--locked", "--target"]);
        run(fetch.arg(host_triple()?))?;
        let home = workspace::cargo_home().context("find cargo's crates: HOME is not set")?;
        let mirror = output_of(&mut Command::new(tree.join("scripts/debian-mirror")))?;
        Ok(Self {
            tree: tree.to_owned(),
            archive,
            sysroot,
            registry: home.join("registry"),
            mirror: mirror.trim_end().to_owned(),
        })
    }
}

/// Runs all checks in a fresh root of `suite`.
///
/// # Errors
/// The root cannot be made.
pub(super) fn outcomes(parts: &Parts, suite: &str) -> Result<Vec<Outcome>> {
    let mount_point = parts.tree.join("target/distributions");
    fs::create_dir_all(&mount_point).with_context(|| format!("make {}", mount_point.display()))?;
    // If this program is killed, unshare is, and all processes in the namespace with it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "sh", "-c", SCRIPT, "system"]);
    command.arg(mount_point).args([suite, &parts.mirror]);
    command.args([&parts.sysroot, &parts.registry]).arg(CHECK_DEADLINE.to_string());
    for check in CHECKS {
        command.args([check.name, check.wrapper, check.script]);
    }
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut archive = parts.archive.try_clone().context("share a file")?;
    archive.rewind().context("rewind the archive of the tree")?;
    let output = command.stdin(archive).stderr(Stdio::inherit()).output();
    let output = output.context("run setpriv")?;
    ensure!(output.status.success(), "a root of {suite} could not be made: {}", output.status);
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Parses what the script printed.
fn parse(printed: &str) -> Result<Vec<Outcome>> {
    let outcome = |line: &str| match line {
        "ok" => Outcome::Worked,
        why => Outcome::Failed(why.to_owned()),
    };
    let outcomes: Vec<_> = printed.lines().map(outcome).collect();
    ensure!(outcomes.len() == CHECKS.len(), "{} of {} checks ended", outcomes.len(), CHECKS.len());
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_line() {
        let outcomes = parse("ok\nstatus 2: no route\nok\n").unwrap();
        let failed = Outcome::Failed("status 2: no route".into());
        assert_eq!(outcomes, [Outcome::Worked, failed, Outcome::Worked]);
        for printed in ["", "ok\nok\n", "ok\nok\nok\nok\n"] {
            assert!(parse(printed).is_err(), "{printed:?}");
        }
    }
}
