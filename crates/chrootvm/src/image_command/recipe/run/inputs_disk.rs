//! The disk with the files of the packages that the commands see: `/N/inputs` and `/N/script` for
//! the command with index N, `/N/bindM` for the mount M of that command, `/N/mount` for a put step that shows
//! files during the build only.

use std::fs::File;

use anyhow::{Context, Result};
use image::edit::graft;
use image::tree::{Meta, Tree};
use recipe::{Contents, Mode, PutStep, is_pattern};
use step::request::{Bind, BindAccess, Request, mount_point};

use super::super::kept::store::{Store, write_image};
use super::super::package::inputs::Input;
use super::super::package::planned::{Command, Mount, Planned, Select, Work};
use super::super::tree::edits::Editor;

/// Where a step sees its inputs.
const INPUTS: &str = "/run/inputs";
/// Where a step sees its program, if that is a file of the package.
pub(in crate::image_command::recipe) const SCRIPT: &str = "/run/script";

/// The disk.
#[derive(Debug, Default)]
pub(in crate::image_command::recipe) struct InputsDisk {
    /// Its device in the machine.
    pub(in crate::image_command::recipe) device: String,
    rows: Vec<Row>,
}

/// A file or directory of the disk, and where steps see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// Index of the step to which it belongs.
    index: usize,
    /// Whether all later commands see it, or only that step.
    for_all: ForAll,
    /// Path on the disk, without a leading `/`.
    source: Vec<u8>,
    /// Path in the image.
    path: Vec<u8>,
    access: BindAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForAll {
    Yes,
    No,
}

impl InputsDisk {
    /// Writes the disk for the commands with the indexes `missing`.
    ///
    /// # Errors
    /// An input cannot be read; the disk cannot be written.
    pub(in crate::image_command::recipe) fn write(
        steps: &[Planned],
        missing: &[usize],
        editor: &Editor<'_>,
        store: &Store,
    ) -> Result<(File, Self)> {
        let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
        let mut disk = Self::default();
        for (index, step) in steps.iter().enumerate() {
            match &step.work {
                Work::Command(command) if missing.contains(&index) => {
                    for input in &command.inputs {
                        disk.add(&mut tree, (index, ForAll::No), input, INPUTS)?;
                    }
                    if let Some(script) = &command.script {
                        disk.add(&mut tree, (index, ForAll::No), &runnable(script), SCRIPT)?;
                    }
                    let bound = disk.bind(&mut tree, index, command, editor.select);
                    bound.with_context(|| step.place.clone())?;
                }
                Work::Mount(put, inputs) => {
                    let added = disk.mount(&mut tree, index, put, &editor.sources(put, inputs)?);
                    added.with_context(|| step.place.clone())?;
                }
                _ => {}
            }
        }
        let file = store.temporary()?;
        write_image(&tree, &file)?;
        Ok((file, disk))
    }

    /// Adds an input, which is seen in the directory `at`.
    fn add(
        &mut self,
        tree: &mut Tree,
        (index, for_all): (usize, ForAll),
        input: &Input,
        at: &str,
    ) -> Result<()> {
        let dir = format!("{index}{at}").into_bytes();
        let source = [&dir[..], b"/", &input.name].concat();
        let into = if input.is_directory { &source } else { &dir };
        graft::directory(tree, into, &input.tree)?;
        let path = [at.as_bytes(), b"/", &input.name].concat();
        self.rows.push(Row { index, for_all, source, path, access: BindAccess::ReadOnly });
        Ok(())
    }

    /// Adds what a command binds. Files of another stage or image keep their owners; those of a
    /// directory of the host belong to root already.
    fn bind(
        &mut self,
        tree: &mut Tree,
        index: usize,
        command: &Command,
        select: &Select<'_>,
    ) -> Result<()> {
        for (number, mount) in command.mounts.iter().enumerate() {
            let Mount::Files { files, path, access } = mount else { continue };
            let inputs = files.inputs(select)?;
            let input = inputs.first().with_context(|| format!("nothing to mount at {path}"))?;
            let dir = format!("{index}/bind{number}").into_bytes();
            graft::directory_with_owners(tree, &dir, &input.tree)?;
            let source = match input.is_directory {
                true => dir,
                false => [&dir[..], b"/", &input.name].concat(),
            };
            let path = path.clone().into_bytes();
            self.rows.push(Row { index, for_all: ForAll::No, source, path, access: *access });
        }
        Ok(())
    }

    /// Adds the files of a put step.
    fn mount(
        &mut self,
        tree: &mut Tree,
        index: usize,
        put: &PutStep,
        sources: &[Input],
    ) -> Result<()> {
        let is_glob = matches!(&put.contents, Contents::Files(path) if is_pattern(path));
        let is_inside = is_glob || put.to.ends_with('/');
        for source in sources {
            let dir = format!("{index}/mount").into_bytes();
            let below = [&dir[..], b"/", &source.name].concat();
            let into = if source.is_directory { &below } else { &dir };
            graft::directory(tree, into, &with_mode(source, put.mode, &put.to).tree)?;
            let path = match is_inside && (is_glob || !source.is_directory) {
                true => [put.to.trim_end_matches('/').as_bytes(), b"/", &source.name].concat(),
                false => put.to.trim_end_matches('/').as_bytes().to_vec(),
            };
            let access = BindAccess::ReadOnly;
            self.rows.push(Row { index, for_all: ForAll::Yes, source: below, path, access });
        }
        Ok(())
    }

    /// Adds what the command with this index sees to its request.
    pub(in crate::image_command::recipe) fn add_to(&self, request: &mut Request, index: usize) {
        let is_seen = |row: &&Row| match row.for_all {
            ForAll::Yes => row.index < index,
            ForAll::No => row.index == index,
        };
        request.disks.push(self.device.clone());
        for row in self.rows.iter().filter(is_seen) {
            let source = [mount_point(&self.device).as_bytes(), b"/", &row.source].concat();
            request.binds.push(Bind { source, path: row.path.clone(), access: row.access });
        }
    }
}

/// A script with execute bits, which its source may lack.
fn runnable(script: &Input) -> Input {
    let mut script = script.clone();
    for meta in script.tree.metas_mut() {
        meta.permissions |= 0o555;
    }
    script
}

/// An input whose file has the mode of its put step.
fn with_mode(input: &Input, mode: Mode, to: &str) -> Input {
    let mut input = input.clone();
    if !input.is_directory {
        for meta in input.tree.metas_mut() {
            let is_program = meta.permissions & 0o111 != 0 || is_of_programs(to);
            meta.permissions = match mode {
                Mode::Fixed(mode) => mode,
                Mode::Auto if is_program => 0o755,
                Mode::Auto => 0o644,
            };
        }
    }
    input
}

/// Whether `path` is directly in a directory of programs.
fn is_of_programs(path: &str) -> bool {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    matches!(dir.rsplit('/').next(), Some("bin" | "sbin"))
}
