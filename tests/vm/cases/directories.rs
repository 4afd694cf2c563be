//! What the guest may write to, what of it reaches the host, and where
//! directories appear.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::Case;
use crate::harness::Bed;
use crate::streams::numbers;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("the_root_is_read_only",      the_root_is_read_only),
    ("rw_reaches_the_host",        rw_reaches_the_host),
    ("overlay_is_forgotten",       overlay_is_forgotten),
    ("shares_appear",              shares_appear),
    ("volume_without_a_directory", volume_without_a_directory),
    ("volume_of_a_file",           volume_of_a_file),
    ("scratch_is_enough",          scratch_is_enough),
];

/// All files below `dir`, with mode and contents; directories have none.
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

fn the_root_is_read_only(bed: &Bed) -> Result<()> {
    let script = "(echo x > /new) 2>/dev/null || echo kept; mount -o remount,rw /
                  (echo x > /new) 2>/dev/null || echo kept still
                  echo x > /tmp/x && echo x > /run/x && echo tmp and run";
    let run = bed.sh(script)?;
    let root = run.guest.root();
    let before = tree(&root)?;
    let finished = run.finish()?;
    let is_it = finished.status == 0 && finished.stdout() == b"kept\nkept still\ntmp and run\n";
    let _guest = finished.check(is_it, || "the root can be written to, or /tmp cannot".into())?;
    ensure!(tree(&root)? == before, "the host's directory has changed");
    Ok(())
}

/// All is there when chrootvm has ended.
fn rw_reaches_the_host(bed: &Bed) -> Result<()> {
    let script = "mkdir /new; seq 100000 > /new/file; chmod 750 /new/file; mv /bin/sh /bin/ash
                  (sleep 0.2; echo late > /new/late) & wait; exit 6";
    let run = bed.sh(script)?.options(&["--rw"]);
    let root = run.guest.root();
    let _guest = run.finish()?.is(6, "", "")?;
    let numbers = numbers(100_000);
    ensure!(fs::read_to_string(root.join("new/file"))? == numbers, "what was written is not there");
    let mode = fs::metadata(root.join("new/file"))?.permissions().mode() & 0o7777;
    ensure!(mode == 0o750, "mode {mode:o}");
    ensure!(fs::read(root.join("new/late"))? == b"late\n");
    ensure!(root.join("bin/ash").is_symlink() && !root.join("bin/sh").is_symlink());
    Ok(())
}

/// Anything can be written, as much as fits, and a volume lies at a directory
/// that only the overlay has; the host keeps nothing of it.
fn overlay_is_forgotten(bed: &Bed) -> Result<()> {
    let script = "echo new > /file; rm /bin/text; echo changed > /bin/kept; cat /file /bin/kept
                  cat /not/there/yet/text; echo out > /not/there/yet/out
                  head -c 16777216 /dev/zero > /big || echo no more than fits
                  size=$(wc -c < /big); [ $size -gt 4000000 ] && [ $size -le 8388608 ] && echo small";
    let mut run = bed.sh(script)?.options(&["--overlay=8m"]);
    let root = run.guest.root();
    fs::write(root.join("bin/text"), "x")?;
    fs::write(root.join("bin/kept"), "x")?;
    let volume = run.guest.directory("volume")?;
    fs::write(volume.join("text"), "volume\n")?;
    run.volume(&volume, "/not/there/yet");
    let before = tree(&root)?;
    let _guest =
        run.finish()?.says(0, "new\nchanged\nvolume\nno more than fits\nsmall\n", &["head: "])?;
    ensure!(tree(&root)? == before, "the host's directory has changed");
    ensure!(fs::read(volume.join("out"))? == b"out\n");
    Ok(())
}

/// Volumes and tags, for writing and not, in one machine.
fn shares_appear(bed: &Bed) -> Result<()> {
    let script = "cd /run; for dir in /srv /srv/inner /run/a/b '/run/mnt/tag one' /run/mnt/two; do
                  cat \"$dir/text\"; (echo out > \"$dir/out\") 2>/dev/null || echo read-only; done";
    let mut run = bed.sh(script)?;
    fs::create_dir(run.guest.root().join("srv"))?;
    let mut sources = Vec::new();
    for name in ["outer", "inner: with a colon", "run"] {
        let dir = run.guest.directory(name)?;
        fs::write(dir.join("text"), format!("{name}\n"))?;
        sources.push(dir);
    }
    fs::create_dir(sources[0].join("inner"))?;
    run.volume(&sources[0], "/srv");
    run.volume(&sources[1], "/srv/inner:ro");
    run.volume(&sources[2], "/run/a/b");
    for (option, tag) in [("--mount", "tag one"), ("--mount-ro", "two")] {
        let dir = run.guest.mount(option, tag)?;
        fs::write(dir.join("text"), format!("{tag}\n"))?;
        sources.push(dir);
    }
    let expected = "outer\ninner: with a colon\nread-only\nrun\ntag one\ntwo\nread-only\n";
    let _guest = run.finish()?.is(0, expected, "")?;
    let written: Vec<_> = sources.iter().map(|dir| dir.join("out").exists()).collect();
    ensure!(written == [true, false, true, true, false], "{written:?}");
    Ok(())
}

fn volume_without_a_directory(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo not reached")?;
    let volume = run.guest.directory("volume")?;
    run.volume(&volume, "/mnt/x");
    let words = "mount a volume at /mnt/x: ENOENT: no such directory in the root; make it there, \
                 mount below /run, or use --overlay";
    run.finish()?.says(125, "", &[words]).map(drop)
}

fn volume_of_a_file(bed: &Bed) -> Result<()> {
    let mut run = bed.sh("echo not reached")?;
    let file = run.guest.path("file");
    fs::write(&file, "")?;
    run.volume(&file, "/tmp");
    run.finish()?.says(125, "", &["error: --volume", "is not a directory"]).map(drop)
}

/// One program, no directory: nothing can be mounted, and yet it runs, with a
/// terminal too.
fn scratch_is_enough(bed: &Bed) -> Result<()> {
    let run =
        bed.scratch("echo /*; test -t 0 && echo a terminal; read line || echo end; exit 4")?;
    let run = run.options(&["--tty"]);
    run.finish()?.is(4, "/busybox\r\na terminal\r\nend\r\n", "").map(drop)
}
