//! Makes a btrfs: writes the tree as a directory, and runs `mkfs.btrfs --rootdir` on it.
//!
//! mkfs.btrfs takes owners and permissions from the directory. Root writes it directly. For
//! another user, a child of this program does the work in the user namespace in which
//! chrootvm serves directories (user_namespaces(7)): there, the user may give files to the
//! owners that a guest sees. The child reads the tree as a tar archive, and is the one who can
//! remove the directory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use files::notes::Notes;
use files::output;
use image::progress::Progress;
use image::source::{self, ReadOptions};
use image::tree::{Kind, Tree};
use image::write::tar;
use machine::doctor::packages::Tool;
use machine::isolation::userns::UserNamespace;
use nix::unistd::geteuid;

use super::staged::Staged;
use super::tool::{Program, Run};
use super::{MkfsOptions, btrfs, environment};
use crate::logger::warn_all;

/// Name of the subcommand that runs [`in_namespace`].
pub const SUBCOMMAND: &str = "make-btrfs";

/// Size of the buffer before the archive, in bytes.
const BUFFER: usize = 1 << 18;
/// Note about what is left out of every btrfs.
const DEVICES: &str = "device nodes are left out, because mkfs.btrfs loses their numbers";
/// Label of the messages of the child that are warnings.
const WARNING: &str = "warning: ";

/// Makes a btrfs of `tree` in `out`.
pub(super) fn make(
    tree: &Tree,
    options: &MkfsOptions,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let mkfs = Program::find("mkfs.btrfs", Tool::Btrfs)?;
    let words = btrfs::options(options, options.uuid(tree, "btrfs")?);
    let tree = &without_devices(tree, notes)?;
    out.set_len(btrfs::size(tree, options)).context("set the size of the image")?;
    run(tree, &mkfs, &words, options.time, out, notes, progress)?;
    let made = out.metadata()?.len();
    match options.size {
        Some(size) if made > size => {
            bail!("btrfs: --size is too small: mkfs.btrfs needs {made} bytes for these files")
        }
        _ => Ok(()),
    }
}

/// The tree without its devices: mkfs.btrfs loses their numbers.
fn without_devices(tree: &Tree, notes: &mut Notes) -> Result<Tree> {
    let mut found = Vec::new();
    tree.walk(&mut |path, id| {
        if let Kind::CharDevice(..) | Kind::BlockDevice(..) = tree.node(id).kind {
            found.push(path.to_vec());
        }
        Ok(())
    })?;
    let mut tree = tree.clone();
    for path in found {
        notes.add(DEVICES, &path);
        let at = path.iter().rposition(|&byte| byte == b'/');
        let (above, name) = path.split_at(at.map_or(0, |at| at + 1));
        let parent = tree.find(above).context("a file has no directory")?;
        tree.remove(parent, name);
    }
    Ok(tree)
}

/// Chooses who writes the directory.
fn run(
    tree: &Tree,
    mkfs: &Program,
    words: &[OsString],
    time: u32,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    if geteuid().is_root() {
        return fill(tree, mkfs, words, time, out, notes, progress);
    }
    match UserNamespace::new() {
        Ok(namespace) => {
            let lack = namespace.missing_ids();
            warn_all(lack.map(|lack| format!("only files of root keep their owner: {lack}")));
            warn_all(&namespace.left_out);
            in_child(&namespace, tree, mkfs, words, time, out, notes, progress)
        }
        Err(error) => {
            log::warn!("owners are left out: {error:#}");
            fill(tree, mkfs, words, time, out, notes, progress)
        }
    }
}

/// Writes `tree` as a directory, and makes the btrfs of it.
fn fill(
    tree: &Tree,
    mkfs: &Program,
    words: &[OsString],
    time: u32,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    output::without_signals(|| {
        let staged = Staged::new()?;
        let directory = staged.write(tree, notes, progress)?;
        let run = Run {
            program: mkfs,
            arguments: btrfs::arguments(words, &directory),
            stdin: Some(out),
            stdout: None,
            directory: None,
            environment: environment(time),
            user_namespace: None,
        };
        run.finish().map(drop)
    })
}

/// Lets a child do the work in a user namespace.
#[expect(clippy::too_many_arguments, reason = "those of `fill`, and the namespace")]
fn in_child(
    namespace: &UserNamespace,
    tree: &Tree,
    mkfs: &Program,
    words: &[OsString],
    time: u32,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let archive = tempfile::tempfile().context("make a file in $TMPDIR")?;
    let mut writer = BufWriter::with_capacity(BUFFER, progress.wrap(&archive));
    tar::write(tree, &mut writer, notes)?;
    writer.flush().context("write into $TMPDIR")?;
    drop(writer);
    let first = [SUBCOMMAND.into(), time.to_string().into(), mkfs.path().into()];
    let child = Program::own("mkfs.btrfs in a user namespace");
    let run = Run {
        program: &child,
        arguments: first.into_iter().chain(words.iter().cloned()).collect(),
        stdin: Some(&archive),
        stdout: Some(out),
        directory: None,
        environment: Vec::new(),
        user_namespace: Some(&namespace.path()),
    };
    let printed = output::without_signals(|| run.finish())?;
    let messages = String::from_utf8_lossy(&printed.messages).into_owned();
    warn_all(messages.lines().filter_map(|line| line.strip_prefix(WARNING)));
    Ok(())
}

/// Body of [`SUBCOMMAND`], with the arguments `TIME PROGRAM OPTION...`: reads a tar archive from
/// standard input, and makes a btrfs of it in standard output, which is a regular file.
///
/// # Errors
/// Bad arguments; those of making a btrfs.
pub fn in_namespace(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let time = arguments.next().and_then(|word| word.to_str()?.parse().ok());
    let time = time.context("no time given")?;
    let mkfs = Program::at(arguments.next().context("no program given")?.into());
    let words: Vec<_> = arguments.collect();
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut notes = Notes::default();
    let path = Path::new("/proc/self/fd/0");
    let options = ReadOptions { max_size: u64::MAX, ..ReadOptions::default() };
    let tree = source::open(path, &options, &mut notes)?.tree;
    fill(&tree, &mkfs, &words, time, &out, &mut notes, &Progress::hidden())?;
    warn_all(notes.lines());
    Ok(())
}
