//! Directories that steps share between builds, and that are no part of the image.
//!
//! A cache is kept as an EROFS image. The steps see it as the lower layer of an overlay whose upper
//! directory is on the scratch disk; after the build, both together are kept. Two builds at the
//! same time do not disturb each other; the one that ends last is kept.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::edit::overlay::{self, RootMeta};
use image::erofs;
use image::tree::{Meta, Tree};
use step::request::{Cache, Request};

use super::super::kept::key::Key;
use super::super::kept::store::{Kind, Store, write_image};
use super::super::package::planned::{CacheUse, Command, Files, Planned, Select, Work};

/// The caches of all steps.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Caches {
    rows: Vec<Row>,
}

/// One cache.
#[derive(Debug)]
struct Row {
    key: Key,
    /// Path in the image of the first command that uses it, for messages.
    path: String,
    /// What an earlier build has kept, or what a new cache begins with.
    file: Option<File>,
    /// Device of that file in the machine.
    device: Option<String>,
}

impl Caches {
    /// The caches of the commands `missing` of `steps`.
    ///
    /// # Errors
    /// There are more than 2^32; what a new cache begins with cannot be read.
    pub(in crate::image_command::recipe) fn of(
        steps: &[Planned],
        missing: &[usize],
        store: &Store,
        select: &Select<'_>,
    ) -> Result<Self> {
        let mut rows: Vec<Row> = Vec::new();
        let steps = missing.iter().filter_map(|index| steps.get(*index));
        for cache in steps.flat_map(caches) {
            if rows.iter().any(|row| row.key == cache.key) {
                continue;
            }
            let file = match (store.open(Kind::Cache, &cache.key), &cache.seed) {
                (Some(kept), _) => Some(kept),
                (None, Some(seed)) => Some(seeded(seed, store, select)?),
                (None, None) => None,
            };
            rows.push(Row { key: cache.key, path: cache.path.clone(), file, device: None });
        }
        u32::try_from(rows.len()).context("too many caches")?;
        Ok(Self { rows })
    }

    /// The files that the machine needs as disks.
    pub(in crate::image_command::recipe) fn files(&self) -> impl Iterator<Item = &File> {
        self.rows.iter().filter_map(|row| row.file.as_ref())
    }

    /// The caches, whose files are these devices in the machine.
    pub(in crate::image_command::recipe) fn at(mut self, devices: &[String]) -> Self {
        let with_files = self.rows.iter_mut().filter(|row| row.file.is_some());
        for (row, device) in with_files.zip(devices) {
            row.device = Some(device.clone());
        }
        self
    }

    /// Adds the caches of a command, which sees `tree`, to its request.
    pub(in crate::image_command::recipe) fn add_to(
        &self,
        request: &mut Request,
        command: &Command,
        tree: &Tree,
    ) {
        for CacheUse { key, path, access, meta, .. } in &command.caches {
            let (mode, uid, gid) = meta.unwrap_or_else(|| of_directory(tree, path));
            let found = (0_u32..).zip(&self.rows).find(|(_, row)| row.key == *key);
            let Some((number, row)) = found else { continue };
            request.caches.push(Cache {
                device: row.device.clone(),
                number,
                access: *access,
                mode,
                uid,
                gid,
                path: path.clone().into_bytes(),
            });
        }
    }

    /// Keeps what the steps have left in the caches of the disk `scratch`.
    ///
    /// # Errors
    /// A cache cannot be read or written.
    pub(in crate::image_command::recipe) fn keep(
        &self,
        scratch: &Tree,
        store: &Store,
    ) -> Result<()> {
        for (number, row) in self.rows.iter().enumerate() {
            let upper = scratch.find(format!("caches/{number}/upper").as_bytes());
            let Some(at) = upper else { continue };
            if scratch.children(at).is_none_or(std::collections::BTreeMap::is_empty) {
                continue;
            }
            let mut tree = match &row.file {
                Some(file) => {
                    erofs::read(Arc::new(file.try_clone()?)).context("read a kept cache")?
                }
                None => Tree::new(Meta { permissions: 0o755, ..Meta::default() }),
            };
            overlay::apply(&mut tree, scratch, at, RootMeta::OfLayer)?;
            let kept = store.keep(Kind::Cache, &row.key, &mut |file| write_image(&tree, file));
            kept.with_context(|| format!("keep the cache {}", row.path))?;
        }
        Ok(())
    }
}

/// The caches of a step.
fn caches(step: &Planned) -> &[CacheUse] {
    match &step.work {
        Work::Command(command) => &command.caches,
        _ => &[],
    }
}

/// Permissions, user and group of the directory at `path`; 0755 and root if there is none.
fn of_directory(tree: &Tree, path: &str) -> (u16, u32, u32) {
    let found = tree.find_directory(path.as_bytes());
    found.map_or((0o755, 0, 0), |(id, _)| {
        let Meta { permissions, uid, gid, .. } = tree.node(id).meta;
        (permissions, uid, gid)
    })
}

/// An image of what a new cache begins with.
fn seeded(seed: &Files, store: &Store, select: &Select<'_>) -> Result<File> {
    let inputs = seed.inputs(select)?;
    let directory = inputs.iter().find(|input| input.is_directory);
    let directory = directory.context("a cache begins with a directory, and `from` names none")?;
    let file = store.temporary()?;
    write_image(&directory.tree, &file)?;
    Ok(file)
}
