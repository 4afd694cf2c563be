//! Reading an image that something disturbs: another process, a kill, a full disk, a damaged or
//! read-only cache. The next run gives the right image, and no run gives a wrong one.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::site::{Reader, Site, messages};
use crate::harness::make::random::Random;
use crate::harness::make::user::UID;
use crate::harness::processes::eventually;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("two_pulls_at_once",                two_pulls_at_once),
    ("killed_pull_is_continued",         killed_pull_is_continued),
    ("full_disk_is_an_error",            full_disk_is_an_error),
    ("damaged_cache_is_mended",          damaged_cache_is_mended),
    ("read_only_cache_is_a_warning",     read_only_cache_is_a_warning),
];

/// Bytes of the file of the image. They cannot be compressed.
const SIZE: usize = 16 << 20;

/// An image in a registry, and what `image build` must make of it.
struct Pulled {
    site: Site,
    source: String,
    expected: Vec<u8>,
}

impl Pulled {
    fn new(bed: &Bed) -> Result<Self> {
        let site = Site::new(bed)?;
        let tree = site.tree("tree")?;
        tree.file("large", 0o644, 7, Random::new(1).bytes(SIZE))?;
        let image = site.image("image", &[&tree], &[])?;
        let source = site.push(&image, "large:1", &[])?;
        let undisturbed = site.reader(0)?;
        undisturbed.prints(&["build", &source, "-o", "x.erofs"])?;
        let expected = fs::read(undisturbed.path("x.erofs"))?;
        Ok(Self { site, source, expected })
    }

    /// The command that makes `file`, in the home directory of the user.
    fn build(&self, reader: &Reader<'_>, file: &str) -> Command {
        let mut command = reader.image(&["build", &self.source, "-o", file]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The image is built, and its bytes are right. Returns the messages.
    fn succeeds(&self, reader: &Reader<'_>, mut command: Command, file: &str) -> Result<String> {
        let output = command.output().context("start chrootvm")?;
        ensure!(output.status.success(), "{}", messages(&output));
        ensure!(fs::read(reader.path(file))? == self.expected, "{file} is wrong");
        Ok(messages(&output))
    }
}

/// Sizes and paths of all files below a directory.
fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let mut directories = vec![dir.to_path_buf()];
    while let Some(dir) = directories.pop() {
        // A file may vanish while chrootvm works.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => found.push((metadata.len(), entry.path())),
                Err(_) => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The largest file below a directory.
fn largest(dir: &Path) -> Result<PathBuf> {
    let found = files(dir)?.pop();
    found.map(|(_, path)| path).with_context(|| format!("nothing in {}", dir.display()))
}

fn two_pulls_at_once(bed: &Bed) -> Result<()> {
    let pulled = Pulled::new(bed)?;
    let reader = pulled.site.reader(1)?;
    let names = ["1.erofs", "2.erofs", "3.erofs"];
    let start = |name: &&str| pulled.build(&reader, name).spawn().context("start chrootvm");
    let children: Vec<_> = names.iter().map(start).collect::<Result<_>>()?;
    for (child, name) in children.into_iter().zip(names) {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{name}: {}", messages(&output));
        ensure!(fs::read(reader.path(name))? == pulled.expected, "{name} is wrong");
    }
    let large = files(&reader.cache().join("blobs"))?;
    let large: Vec<_> = large.iter().filter(|(size, _)| *size >= SIZE as u64).collect();
    ensure!(large.len() == 1, "the blob is there more than once: {large:?}");
    Ok(())
}

/// SIGKILL at several moments, told by the bytes in the cache: the next run gives the right image.
fn killed_pull_is_continued(bed: &Bed) -> Result<()> {
    let pulled = Pulled::new(bed)?;
    for (number, bytes) in (1..).zip([0, 1, SIZE / 4, SIZE, SIZE * 3 / 2, SIZE * 2]) {
        let reader = pulled.site.reader(number)?;
        let mut child = pulled.build(&reader, "x.erofs").spawn().context("start chrootvm")?;
        let total = || files(&reader.cache()).map(|all| all.iter().map(|file| file.0).sum::<u64>());
        eventually("the cache grows, or the program ends", || {
            let is_over = total()? >= bytes as u64 || child.try_wait()?.is_some();
            Ok(is_over.then_some(()))
        })?;
        child.kill().context("kill chrootvm")?;
        child.wait()?;
        if reader.path("x.erofs").exists() {
            ensure!(fs::read(reader.path("x.erofs"))? == pulled.expected, "{bytes}: it is wrong");
        }
        pulled.succeeds(&reader, pulled.build(&reader, "x.erofs"), "x.erofs")?;
        reader.prints(&["build", &pulled.source, "-o", "x.erofs", "--pull=never"])?;
        ensure!(
            fs::read(reader.path("x.erofs"))? == pulled.expected,
            "{bytes}: the cache is wrong"
        );
    }
    Ok(())
}

/// The cache is a small tmpfs, in a mount namespace of its own.
fn full_disk_is_an_error(bed: &Bed) -> Result<()> {
    let pulled = Pulled::new(bed)?;
    let reader = pulled.site.reader(1)?;
    fs::create_dir_all(reader.path("cache"))?;
    let direct = pulled.build(&reader, "x.erofs");
    // Full while the blob is written, and while the layer is unpacked.
    for size in [SIZE / 2, SIZE * 3 / 2] {
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700,uid={},gid={} none \"$0\" && exec \"$@\"",
            UID + 1,
            UID + 1
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(reader.path("cache"));
        command.arg(direct.get_program()).args(direct.get_args()).current_dir(reader.path(""));
        command.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.stdin(Stdio::null()).output()?;
        let message = messages(&output);
        ensure!(!output.status.success(), "the image has room in {size} bytes");
        let errors = message.lines().filter(|line| line.starts_with("error: "));
        ensure!(errors.count() == 1, "{message}");
        ensure!(message.contains("space") || message.contains("ENOSPC"), "{message}");
        ensure!(!reader.path("x.erofs").exists(), "it leaves a file");
    }
    nix::unistd::chown(&reader.path("cache"), Some((UID + 1).into()), Some((UID + 1).into()))?;
    pulled.succeeds(&reader, direct, "x.erofs").map(drop)
}

/// A byte of a blob, or of an unpacked layer, has changed: it is made again.
fn damaged_cache_is_mended(bed: &Bed) -> Result<()> {
    let pulled = Pulled::new(bed)?;
    let reader = pulled.site.reader(0)?;
    for (kind, unpacked) in [("blobs", "layers"), ("layers", "images")] {
        let path = largest(&reader.cache().join(kind))?;
        let file = fs::File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, SIZE as u64 / 2)?;
        file.write_all_at(&[byte[0] ^ 1], SIZE as u64 / 2)?;
        drop(file);
        // So that the damaged file is read.
        let unpacked = reader.cache().join(unpacked);
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        let message = pulled.succeeds(&reader, pulled.build(&reader, "x.erofs"), "x.erofs")?;
        ensure!(kind != "blobs" || message.contains("damaged"), "{message}");
        pulled.succeeds(&reader, pulled.build(&reader, "x.erofs"), "x.erofs")?;
    }
    // What is shorter than it was is not used either.
    fs::File::options().write(true).open(largest(&reader.cache().join("layers"))?)?.set_len(5)?;
    pulled.succeeds(&reader, pulled.build(&reader, "x.erofs"), "x.erofs").map(drop)
}

fn read_only_cache_is_a_warning(bed: &Bed) -> Result<()> {
    let pulled = Pulled::new(bed)?;
    let reader = pulled.site.reader(1)?;
    let cache = reader.path("cache");
    fs::create_dir_all(&cache)?;
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o555))?;
    let message = pulled.succeeds(&reader, pulled.build(&reader, "x.erofs"), "x.erofs")?;
    ensure!(message.contains("images are not kept"), "{message}");
    ensure!(fs::read_dir(&cache)?.next().is_none(), "something was kept");
    Ok(())
}
