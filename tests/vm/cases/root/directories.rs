//! Directories of the host in the guest: where they appear, and whether writes reach them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::harness::programs::numbers;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("root_is_read_only",                     root_is_read_only),
    ("rw_reaches_the_host",                   rw_reaches_the_host),
    ("overlay_is_discarded",                  overlay_is_discarded),
    ("volumes_and_tags_appear",               volumes_and_tags_appear),
    ("volume_without_a_directory_is_refused", volume_without_a_directory_is_refused),
    ("files_are_volumes",                     files_are_volumes),
    ("file_without_a_file_is_refused",        file_without_a_file_is_refused),
    ("one_static_program_is_enough",          one_static_program_is_enough),
];

/// All files below `dir`, with mode and contents. Directories have empty contents.
fn tree(dir: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut tree = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let contents = if kind.is_file() { fs::read(&path)? } else { Vec::new() };
            tree.insert(path.clone(), (entry.metadata()?.permissions().mode(), contents));
            if kind.is_dir() {
                dirs.push(path);
            }
        }
    }
    Ok(tree)
}

fn root_is_read_only(bed: &Bed) -> Result<()> {
    let script = "(echo x > /new) 2>/dev/null || echo kept; mount -o remount,rw /
                  (echo x > /new) 2>/dev/null || echo kept still
                  echo x > /tmp/x && echo x > /run/x && echo tmp and run";
    let run = bed.sh(script)?;
    let root = run.machine.root();
    let before = tree(&root)?;
    let finished = run.finish()?;
    let is_expected =
        finished.status == 0 && finished.stdout() == b"kept\nkept still\ntmp and run\n";
    let _machine =
        finished.check(is_expected, || "the root can be written to, or /tmp cannot".into())?;
    ensure!(tree(&root)? == before, "the host's directory has changed");
    Ok(())
}

/// All writes are on the host when `chrootvm` has ended.
fn rw_reaches_the_host(bed: &Bed) -> Result<()> {
    let script = "mkdir /new; seq 100000 > /new/file; chmod 750 /new/file; mv /bin/sh /bin/ash
                  (sleep 0.2; echo late > /new/late) & wait; exit 6";
    let run = bed.sh(script)?.options(&["--rw"]);
    let root = run.machine.root();
    let _machine = run.finish()?.is(6, "", "")?;
    let written = fs::read_to_string(root.join("new/file"))?;
    ensure!(written == numbers(100_000), "the file has {} bytes", written.len());
    let mode = fs::metadata(root.join("new/file"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o750, "mode {mode:o}");
    ensure!(fs::read(root.join("new/late"))? == b"late\n");
    ensure!(root.join("bin/ash").is_symlink() && !root.join("bin/sh").is_symlink());
    Ok(())
}

/// Every path can be written to, up to the size of the overlay. A volume is mounted at a
/// directory that only the overlay has. The root on the host does not change.
fn overlay_is_discarded(bed: &Bed) -> Result<()> {
    let script = "echo new > /file; rm /bin/text; echo changed > /bin/kept; cat /file /bin/kept
                  cat /not/there/yet/text; echo out > /not/there/yet/out
                  head -c 16777216 /dev/zero > /big || echo no more than fits
                  size=$(wc -c < /big); [ $size -gt 4000000 ] && [ $size -le 8388608 ] && echo small";
    let mut run = bed.sh(script)?.options(&["--overlay=8m"]);
    let root = run.machine.root();
    fs::write(root.join("bin/text"), "x")?;
    fs::write(root.join("bin/kept"), "x")?;
    let volume = run.machine.directory("volume")?;
    fs::write(volume.join("text"), "volume\n")?;
    run.volume(&volume, "/not/there/yet");
    let before = tree(&root)?;
    let _machine = run.finish()?.says(
        0,
        "new\nchanged\nvolume\nno more than fits\nsmall\n",
        &["head: ", "warning: the overlay of the guest is full; make it larger: --overlay=SIZE"],
    )?;
    ensure!(tree(&root)? == before, "the host's directory has changed");
    ensure!(fs::read(volume.join("out"))? == b"out\n");
    Ok(())
}

/// Volumes and tags, writable and read-only, in one machine.
fn volumes_and_tags_appear(bed: &Bed) -> Result<()> {
    let script = "cd /run; for dir in /srv /srv/inner /run/a/b '/run/mnt/tag one' /run/mnt/two; do
                  cat \"$dir/text\"; (echo out > \"$dir/out\") 2>/dev/null || echo read-only; done";
    let mut run = bed.sh(script)?;
    fs::create_dir(run.machine.root().join("srv"))?;
    let mut sources = Vec::new();
    for name in ["outer", "inner: with a colon", "run"] {
        let dir = run.machine.directory(name)?;
        fs::write(dir.join("text"), format!("{name}\n"))?;
        sources.push(dir);
    }
    fs::create_dir(sources[0].join("inner"))?;
    run.volume(&sources[0], "/srv");
    run.volume(&sources[1], "/srv/inner:ro");
    run.volume(&sources[2], "/run/a/b");
    for (option, tag) in [("--mount", "tag one"), ("--mount-ro", "two")] {
        let dir = run.machine.mount(option, tag)?;
        fs::write(dir.join("text"), format!("{tag}\n"))?;
        sources.push(dir);
    }
    let expected = "outer\ninner: with a colon\nread-only\nrun\ntag one\ntwo\nread-only\n";
    let _machine = run.finish()?.is(0, expected, "")?;
    let written: Vec<_> = sources.iter().map(|dir| dir.join("out").exists()).collect();
    ensure!(written == [true, false, true, true, false], "{written:?}");
    Ok(())
}

/// `chrootvm` looks for the directory before the boot. If a kernel parameter may choose another
/// root, `/init` finds out.
fn volume_without_a_directory_is_refused(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo not reached")?;
    let volume = run.machine.directory("volume")?;
    run.volume(&volume, "/mnt/x");
    run.finish()?.says(
        125,
        "",
        &["error: --volume", "/mnt does not exist in ", "or give --overlay"],
    )?;
    let mut run = bed.sh("echo not reached")?.options(&["--append", "rootfs=rootfs"]);
    let volume = run.machine.directory("volume")?;
    run.volume(&volume, "/mnt/x");
    let words = "mount a volume at /mnt/x: ENOENT: the root lacks it; make it there, \
                 mount below /run, or use --overlay";
    run.finish()?.says(125, "", &[words]).map(drop)
}

/// A file of the host at a file of the root that `/init` covers too, at a path that `/init` makes,
/// and in a directory of a later `--volume`. No remount makes a read-only one writable, and the
/// share of a file has no other file of its directory.
fn files_are_volumes(bed: &Bed) -> Result<()> {
    let script = "cat /etc/resolv.conf /run/a/b /srv/sibling; echo out >> /etc/resolv.conf
                  mount -o remount,rw /run/a/b
                  (echo out > /run/a/b) 2>&1 | grep -o 'Read-only file system'
                  for n in 0 1; do
                  mkdir /m$n && mount -t virtiofs volume$n /m$n && ls -A /m$n
                  (> /m$n/new) 2>/dev/null || echo nothing new; done
                  (echo out > /m1/file) 2>/dev/null || echo read-only
                  echo out > /srv/sibling; ls /run/stage 2>/dev/null || echo no stage";
    let mut run = bed.sh(script)?.options(&["--overlay", "--net", "user"]);
    let dir = run.machine.directory("files")?;
    for name in ["a, file: of \\ mine", "kept", "target", "sibling"] {
        fs::write(dir.join(name), format!("{name}\n"))?;
    }
    symlink("target", dir.join("link"))?;
    fs::create_dir(run.machine.root().join("etc"))?;
    fs::write(run.machine.root().join("etc/resolv.conf"), "of the root\n")?;
    run.volume(&dir.join("a, file: of \\ mine"), "/etc/resolv.conf");
    run.volume(&dir.join("kept"), "/run/a/b:ro");
    run.volume(&dir.join("link"), "/srv/sibling");
    run.volume(&dir, "/srv");
    let root = run.machine.root();
    let expected = "a, file: of \\ mine\nkept\ntarget\nRead-only file system\n\
                    file\nnothing new\nfile\nnothing new\nread-only\nno stage\n";
    let _machine = run.finish()?.is(0, expected, "")?;
    let files = ["a, file: of \\ mine", "kept", "target", "link", "sibling"];
    let contents = files.map(|name| fs::read_to_string(dir.join(name)).unwrap_or_default());
    let expected = ["a, file: of \\ mine\nout\n", "kept\n", "out\n", "out\n", "sibling\n"];
    ensure!(contents == expected, "{contents:?}");
    ensure!(fs::read_dir(&dir)?.count() == files.len() && dir.join("link").is_symlink());
    ensure!(fs::read(root.join("etc/resolv.conf"))? == b"of the root\n");
    Ok(())
}

/// If a kernel parameter may choose another root, `/init` finds out what is at the path.
fn file_without_a_file_is_refused(bed: &Bed) -> Result<()> {
    for (target, words) in [
        ("/bin", "mount a volume at /bin: EINVAL: it is a directory, and the volume is a file"),
        (
            "/bin/no",
            "mount a volume at /bin/no: ENOENT: the root lacks it; make it there, mount below \
             /run, or use --overlay",
        ),
    ] {
        let mut run = bed.sh("echo not reached")?.options(&["--append", "rootfs=rootfs"]);
        let file = run.machine.path("file");
        fs::write(&file, "")?;
        run.volume(&file, target);
        run.finish()?.says(125, "", &[words])?;
    }
    Ok(())
}

/// A root with one program and no directory: nothing can be mounted there, but the program
/// runs, and has a terminal.
fn one_static_program_is_enough(bed: &Bed) -> Result<()> {
    let run =
        bed.scratch("echo /*; test -t 0 && echo a terminal; read line || echo end; exit 4")?;
    let run = run.options(&["--tty"]);
    run.finish()?.is(4, "/busybox\r\na terminal\r\nend\r\n", "").map(drop)
}
