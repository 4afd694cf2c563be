//! Damaged templates and directories that cannot be used. Each run is right; a damaged template
//! is replaced.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Whence, geteuid, lseek};

use super::site::{Answer, MEMORY, Site, Start};
use crate::harness::make::image::build;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("damaged_templates_are_replaced", |bed| damaged_templates_are_replaced(bed, DAMAGES)),
    ("unusable_directories",           unusable_directories),
    ("read_only_directory_is_used",    read_only_directory_is_used),
];

/// Cases that run on request.
pub(crate) const MORE: &[Case] =
    &[("damaged_templates_are_replaced", |bed| damaged_templates_are_replaced(bed, MORE_DAMAGES))];

/// Damages a template, whose path it gets.
type Damage = fn(&Path) -> Result<()>;

#[rustfmt::skip]
const DAMAGES: &[(&str, Damage)] = &[
    ("a byte of the memory",     |path| flip(path, data_at(path, (16 << 20) + 4096)? + 100)),
    ("a byte of the state",      |path| flip(path, (MEMORY << 20) + 1000)),
    ("a lost end",               |path| cut(path, fs::metadata(path)?.len() - 1)),
    ("write access for all",     |path| Ok(fs::set_permissions(path, Permissions::from_mode(0o666))?)),
];

/// Damages of the same kinds.
#[rustfmt::skip]
const MORE_DAMAGES: &[(&str, Damage)] = &[
    ("first byte of the memory", |path| flip(path, data_at(path, 0)?)),
    ("last byte",                |path| flip(path, fs::metadata(path)?.len() - 1)),
    ("a lost half",              |path| cut(path, fs::metadata(path)?.len() / 2)),
    ("no bytes",                 |path| cut(path, 0)),
];

fn damaged_templates_are_replaced(bed: &Bed, damages: &[(&'static str, Damage)]) -> Result<()> {
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    site.echoes(Start::Warm)?;
    for (name, damage) in damages {
        let path = template(&site)?;
        let before = fs::metadata(&path)?.ino();
        // The old file stays open, so that no new one gets its number.
        let held = fs::File::open(&path)?;
        damage(&path)?;
        site.echoes(Start::Cold).context(*name)?;
        let after = fs::metadata(template(&site)?)?.ino();
        ensure!(before != after, "{name}: the template is still there");
        drop(held);
        site.echoes(Start::Warm).context(*name)?;
    }
    Ok(())
}

/// The only template.
fn template(site: &Site<'_>) -> Result<PathBuf> {
    let templates = site.templates()?;
    match &templates[..] {
        [template] => Ok(template.clone()),
        other => anyhow::bail!("expected: one template, got: {other:?}"),
    }
}

/// The first offset from `from` on that is no hole (lseek(2), SEEK_DATA).
fn data_at(path: &Path, from: i64) -> Result<u64> {
    let file = fs::File::open(path)?;
    Ok(u64::try_from(lseek(&file, from, Whence::SeekData)?)?)
}

fn flip(path: &Path, at: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 0x10], at)?)
}

fn cut(path: &Path, length: u64) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(path)?.set_len(length)?)
}

/// No directory can be made in `/proc`. Other users can write to the second one.
fn unusable_directories(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let open = site.path("open");
    fs::create_dir_all(open.join("virtinitrd/warm"))?;
    fs::set_permissions(open.join("virtinitrd/warm"), Permissions::from_mode(0o777))?;
    for cache in ["/proc", open.to_str().context("a path in UTF-8")?] {
        let run = |when| -> Result<_> {
            let run = site.run(&[when], &["sh", "-c", "echo right; exit 3"])?;
            run.variable("XDG_CACHE_HOME", cache).finish()
        };
        let start =
            Answer { status: 3, stdout: b"right\n", says: &[] }.check(run("--warm=auto")?)?;
        ensure!(start == Start::Cold, "{cache}: {start:?}");
        let refused = Answer { status: 125, stdout: b"", says: &["error: ", "--warm"] };
        refused.check(run("--warm=always")?).context(cache.to_owned())?;
    }
    Ok(())
}

/// A template on a read-only file system is used.
fn read_only_directory_is_used(bed: &Bed) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(()); // only root can mount
    }
    let site = Site::new(bed)?;
    site.echoes(Start::Cold)?;
    let mount = "store=$XDG_CACHE_HOME; export store; exec unshare -m sh -c '
        mount --bind \"$store\" \"$store\" && mount -o remount,ro,bind \"$store\" && exec \"$@\"
        ' sh \"$@\"";
    // QEMU cannot map a template that it cannot open for writing.
    let image = site.path("root.erofs");
    build(bed, &site.path("root"), &image, &[])?;
    let of_image = || {
        let mut run = site.sh(&[], "echo right; exit 3")?;
        run.machine.root_is(&image);
        Ok::<_, anyhow::Error>(run)
    };
    of_image()?.finish()?;
    let script = ["sh", "-c", "echo right; exit 3"];
    for (run, start) in [
        (site.run(&["--warm=auto"], &script)?, Start::Warm),
        (of_image()?, Start::Warm),
        (site.run(&["--warm=auto", "--net", "user"], &script)?, Start::Cold),
    ] {
        let run = run.through(mount);
        let found = Answer { status: 3, stdout: b"right\n", says: &[] }.check(run.finish()?)?;
        ensure!(found == start, "expected: {start:?}, got: {found:?}");
    }
    Ok(())
}
