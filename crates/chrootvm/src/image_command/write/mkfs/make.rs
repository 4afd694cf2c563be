//! Makes images of xfs and vfat: stages the contents, runs the programs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use files::output;
use image::progress::Progress;
use image::tree::{Meta, Tree};
use image::write::xfs_inodes;
use machine::doctor::packages::Tool;

use super::staged::{Staged, own};
use super::tool::{Printed, Program, Run};
use super::vfat::{self, Step};
use super::{IMAGE, MkfsOptions, environment, xfs};

const LOST_XATTRS: &str =
    "extended attributes are left out, because only root can hand them to mkfs.xfs";

/// Makes an XFS.
pub(super) fn xfs(
    tree: &Tree,
    options: &MkfsOptions,
    uuid: [u8; 16],
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let mkfs = Program::find("mkfs.xfs", Tool::Xfs)?;
    output::without_signals(|| {
        let asked = run(&mkfs, vec!["-V".into()], None, None, options)?;
        let version = xfs::Version::parse(&asked.output);
        let version = version.context("mkfs.xfs -V prints no version")?;
        let plan = xfs::plan(tree, version, notes).context("xfs")?;
        let staged = Staged::new()?;
        stage_contents(tree, &plan, version, &staged, notes, progress)?;
        let protofile = staged.path().join("protofile");
        fs::write(&protofile, &plan.protofile).context("write the protofile")?;
        let geometry = plan.geometry(options);
        out.set_len(geometry.size).context("set the size of the image")?;
        let words = plan.arguments(options, geometry, uuid);
        run(&mkfs, words, Some(out), Some(staged.path()), options)?;
        output::check_signals()?;
        xfs_inodes::complete(out, uuid, &plan.inodes, options.time.into())
    })
}

/// Stages the contents of files under the names that the protofile has for them.
fn stage_contents(
    tree: &Tree,
    plan: &xfs::Plan,
    version: xfs::Version,
    staged: &Staged,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let mut contents = Tree::new(own(&image::tree::directory()));
    for (name, id) in &plan.contents {
        let node = tree.node(*id);
        let mut meta = own(&node.kind);
        if version.keeps_xattrs() {
            meta = Meta { xattrs: node.meta.xattrs.clone(), ..meta };
        }
        contents.add(Tree::ROOT, name.as_bytes(), meta, node.kind.clone())?;
    }
    let mut lost = Notes::default();
    staged.write(&contents, &mut lost, progress)?;
    if lost.lines().next().is_some() {
        let has_xattrs = |(_, id): &&(_, _)| !tree.node(*id).meta.xattrs.is_empty();
        let first = plan.contents.iter().find(has_xattrs);
        notes.add(LOST_XATTRS, &first.and_then(|(_, id)| tree.path_of(*id)).unwrap_or_default());
    }
    Ok(())
}

/// Makes a FAT.
pub(super) fn vfat(
    tree: &Tree,
    options: &MkfsOptions,
    uuid: [u8; 16],
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let mkfs = Program::find("mkfs.vfat", Tool::Fat)?;
    let [make, copy, list] = ["mmd", "mcopy", "mdir"].map(|name| Program::find(name, Tool::Mtools));
    let (make, copy, list) = (make?, copy?, list?);
    let plan = vfat::plan(tree, notes).context("vfat")?;
    let time = vfat::clamped(options.time.into());
    let options = MkfsOptions { time: u32::try_from(time)?, ..options.clone() };
    output::without_signals(|| {
        let staged = Staged::new()?;
        let files = &*staged.write(&plan.tree, notes, progress)?;
        let geometry = plan.geometry(&options)?;
        out.set_len(geometry.size).context("set the size of the image")?;
        let words = vfat::arguments(&options, geometry, uuid);
        run(&mkfs, words, Some(out), Some(files), &options)?;
        for step in vfat::steps(&plan.tree) {
            let (program, flags, words) = match step {
                Step::Directories(words) => (&make, &["-D", "s"][..], words),
                // Keep times; never ask.
                Step::Files(words) => (&copy, &["-m", "-o"][..], words),
            };
            let flags = flags.iter().chain(&["-i", IMAGE]).map(OsString::from);
            run(program, flags.chain(words).collect(), Some(out), Some(files), &options)?;
        }
        // mcopy tells nobody of a name that it leaves out.
        let words = ["-/", "-b", "-a", "-i", IMAGE, "::/"].map(OsString::from).into();
        let listed = run(&list, words, Some(out), Some(files), &options)?;
        let count = listed.output.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let (found, wanted) = (count.count(), plan.count);
        ensure!(found == wanted, "mtools has written {found} of {wanted} files");
        Ok(())
    })
}

/// Runs a program in `directory`.
fn run(
    program: &Program,
    arguments: Vec<OsString>,
    image: Option<&File>,
    directory: Option<&Path>,
    options: &MkfsOptions,
) -> Result<Printed> {
    let environment = environment(options.time);
    let run = Run {
        program,
        arguments,
        stdin: image,
        stdout: None,
        directory,
        environment,
        user_namespace: None,
    };
    run.finish()
}
