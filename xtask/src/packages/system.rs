//! The fresh system in which a package is tested: the testbed's Debian, as the lowest layer of
//! overlays in a mount namespace of its own.
//!
//! What the package depends on is a layer in between, below `target/packages-debian`. apt installs
//! it once, from what the package itself says; later tests need no network. All that a test
//! changes is on a tmpfs and ends with the namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use machine::host::run;
use machine::toolchain::output_of;

use super::build::Kind;
use super::steps::{Step, steps};
use crate::testbed;

/// Packages for the test that virtinitrd does not depend on.
const FOR_TEST: &str = "bash, busybox-static, man-db";

/// Script for a new mount namespace: `sh -c FETCH fetch DEBIAN OUTPUT DEPENDS`.
const FETCH: &str = r#"set -eu
debian=$1 output=$2 depends=$3
mkdir "$output/upper" "$output/work" "$output/root"
mount -t overlay -o "lowerdir=$debian,upperdir=$output/upper,workdir=$output/work" none "$output/root"
cd "$output/root"
mount -t proc none proc
mount --rbind /dev dev
for directory in var/lib/apt/lists var/cache/apt tmp; do
    mount -t tmpfs none "$directory"
done
chroot . apt-get update -qq
chroot . apt-get satisfy -qq --no-install-recommends "$depends"
"#;

/// Seconds until a step is killed.
const STEP_DEADLINE: u32 = 300;

/// Script for a new mount namespace: `sh -c TEST test SITE DEBIAN LAYER PACKAGE
/// KERNEL_PACKAGE DEADLINE [NAME SCRIPT]...`. It prints a line for each step, `passed NAME` or `failed NAME`, and what a
/// failed step said on standard error.
const TEST: &str = r#"set -eu
SITE=$1 debian=$2 layer=$3 PACKAGE=$4 KERNEL_PACKAGE=$5 deadline=$6
shift 6
mount -t tmpfs none "$SITE"
ROOT=$SITE/root BARE=$SITE/bare
for name in root bare; do
    lower=$debian
    [ "$name" = bare ] || lower=$layer:$debian
    mkdir "$SITE/$name" "$SITE/upper-$name" "$SITE/work-$name"
    mount -t overlay -o "lowerdir=$lower,upperdir=$SITE/upper-$name,workdir=$SITE/work-$name" none "$SITE/$name"
    mount -t proc none "$SITE/$name/proc"
    mount --rbind /dev "$SITE/$name/dev"
    mount -t tmpfs none "$SITE/$name/tmp"
    mount -t tmpfs none "$SITE/$name/run"
done
export SITE ROOT BARE PACKAGE KERNEL_PACKAGE
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin XDG_CACHE_HOME=/tmp/cache HOME=/root
# Files of the system. The databases of dpkg, rpm and man, and logs, remember packages.
functions='list_files() {
    (cd "$ROOT"; find . \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./run \
        -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/log -o -path ./var/cache/man \
        \) -prune -o -print | sort)
}
'
# In Fedora, the package filesystem has this directory.
mkdir -p "$ROOT/usr/share/licenses"
# rpm makes its database once, and keeps it.
rpm --root "$ROOT" --initdb
sh -euc "${functions}list_files" >"$SITE/before"
while [ $# -gt 0 ]; do
    if timeout --kill-after=5 "$deadline" sh -euc "$functions$2" </dev/null >"$SITE/words" 2>&1; then
        echo "passed $1"
    else
        echo "failed $1"
        cat "$SITE/words" >&2
    fi
    shift 2
done
"#;

/// Finds the layer with what `deb` depends on, or makes it.
///
/// # Errors
/// It has to be made, and there is no network, or no version of a package is the right one.
pub(super) fn layer(workspace: &Path, deb: &Path) -> Result<PathBuf> {
    let depends = output_of(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Depends"))?;
    let depends = format!("{}, {FOR_TEST}", depends.trim());
    let directory = workspace.join("target/packages-debian");
    let note = directory.join("depends");
    if fs::read_to_string(&note).is_ok_and(|known| known == depends) {
        return Ok(directory.join("upper"));
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).context("remove what an older package depends on")?;
    }
    log::info!("installing what the package depends on in {}", directory.display());
    let debian = testbed::debian(workspace)?;
    let unfinished = tempfile::Builder::new()
        .prefix("packages-debian-")
        .tempdir_in(workspace.join("target"))
        .context("make a directory")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", FETCH, "fetch"]);
    command.args([debian.as_path(), unfinished.path()]).arg(&depends);
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    run(&mut command).context("install what the package depends on")?;
    files::output::write(&unfinished.path().join("depends"), depends.as_bytes())?;
    fs::rename(unfinished.keep(), &directory)
        .with_context(|| format!("make {}", directory.display()))?;
    Ok(directory.join("upper"))
}

/// Runs the steps with `package`, and with `kernel`, the package of the small kernel, in a fresh
/// system. Returns whether each of them passed.
///
/// # Errors
/// The system cannot be made, or a tool is missing.
pub(super) fn test(
    workspace: &Path,
    layer: &Path,
    kind: Kind,
    package: &Path,
    kernel: Option<&Path>,
) -> Result<Vec<bool>> {
    let site = tempfile::tempdir().context("make a temporary directory")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", TEST, "test"]);
    command.args([site.path(), &testbed::debian(workspace)?, layer, package]);
    command.arg(kernel.unwrap_or(Path::new(""))).arg(STEP_DEADLINE.to_string());
    let steps = steps(kernel);
    for step in &steps {
        command.args([step.name, step.script(kind)]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("run unshare")?;
    ensure!(output.status.success(), "making a fresh system failed: {}", output.status);
    results(&steps, &String::from_utf8_lossy(&output.stdout))
}

/// Parses what the script printed: a line for each step, in their order.
fn results(steps: &[&Step], printed: &str) -> Result<Vec<bool>> {
    let mut lines = printed.lines();
    let one = |name: &str| {
        let line = lines.next().unwrap_or_default();
        let (verdict, told) = line.split_once(' ').unwrap_or_default();
        ensure!(told == name, "instead of a verdict on \"{name}\" there is \"{line}\"");
        Ok(verdict == "passed")
    };
    steps.iter().map(|step| step.name).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_a_verdict() {
        let line = |(number, name): (usize, &str)| match number {
            1 => format!("failed {name}\n"),
            _ => format!("passed {name}\n"),
        };
        let steps = steps(Some(Path::new("k")));
        let names = steps.iter().map(|step| step.name);
        let printed: String = names.enumerate().map(line).collect();
        let found = results(&steps, &printed).unwrap();
        assert_eq!(found.iter().filter(|passed| !**passed).count(), 1);
        assert!(!found[1]);
        let (less, _) = printed.trim_end().rsplit_once('\n').unwrap();
        assert!(results(&steps, less).is_err());
        assert!(results(&steps, "").is_err());
    }
}
