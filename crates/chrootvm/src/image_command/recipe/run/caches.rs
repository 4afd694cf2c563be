//! Directories that steps share between builds, and that are no part of the image.
//!
//! A cache is kept as an EROFS image. The steps see it as the lower layer of an overlay whose upper
//! directory is on the scratch disk; after the build, both together are kept. Two builds at the
//! same time do not disturb each other; the one that ends last is kept.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::edit::overlay::{self, RootMeta};
use image::erofs;
use image::tree::{Meta, Tree};
use step::request::{Cache, Request};

use super::super::kept::key::Key;
use super::super::kept::store::{Kind, Store, write_image};
use super::super::package::Package;
use super::super::package::plan::Planned;

/// The caches of all steps.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Caches {
    rows: Vec<Row>,
}

/// One cache.
#[derive(Debug)]
struct Row {
    package: Rc<Package>,
    path: String,
    key: Key,
    /// What an earlier build has kept.
    file: Option<File>,
    /// Device of that file in the machine.
    device: Option<String>,
}

impl Caches {
    /// The caches that the packages of `steps` name.
    ///
    /// # Errors
    /// There are more than 2^32.
    pub(in crate::image_command::recipe) fn of(steps: &[Planned], store: &Store) -> Result<Self> {
        let mut rows: Vec<Row> = Vec::new();
        for step in steps {
            for path in &step.package.recipe.build.cache {
                let is_same =
                    |row: &&Row| Rc::ptr_eq(&row.package, &step.package) && row.path == *path;
                if rows.iter().any(|row| is_same(&row)) {
                    continue;
                }
                let recipe = step.package.identity();
                let key = Key::first(&[b"cache", recipe.as_os_str().as_bytes(), path.as_bytes()]);
                let file = store.open(Kind::Cache, &key);
                let package = Rc::clone(&step.package);
                rows.push(Row { package, path: path.clone(), key, file, device: None });
            }
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

    /// Adds the caches of `package` to a request.
    pub(in crate::image_command::recipe) fn add_to(
        &self,
        request: &mut Request,
        package: &Rc<Package>,
    ) {
        for (number, row) in (0_u32..).zip(&self.rows) {
            if Rc::ptr_eq(&row.package, package) {
                let (device, path) = (row.device.clone(), row.path.clone().into_bytes());
                request.caches.push(Cache { device, number, path });
            }
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
