//! The initrd of one machine: a file as it is, or an archive packed for the kernel.
//!
//! The same description gives the archive ([`Initrd::bytes`]) and the command that
//! `--dry-run` prints for it ([`Initrd::command`]).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::located::Located;
use super::pack::{self, ModuleSelection};
use crate::host::canonical;

/// Source of a machine's initrd.
#[derive(Debug)]
pub enum Initrd {
    /// An existing initrd, which is used unchanged.
    File(PathBuf),
    /// An initrd to be packed for the kernel.
    Packed(InitrdParts),
}

/// Parts of an initrd that is packed.
#[derive(Debug)]
pub struct InitrdParts {
    /// The `/init` binary.
    pub init: PathBuf,
    /// The kernel's directory of modules; `None` if the kernel has no modules.
    pub modules: Option<Located>,
    /// Modules that are packed, and their treatment.
    pub selection: ModuleSelection,
    /// The root file system as an archive, if the root is one. It comes first, so that our
    /// `/init` replaces an `/init` in it.
    pub archive: Option<PathBuf>,
}

impl Initrd {
    /// The archive, with the guest's settings as its last segment. Adds warnings about the
    /// modules to `notes`.
    ///
    /// # Errors
    /// A file cannot be read, or a module is missing.
    pub fn bytes(&self, records: &[Vec<u8>], notes: &mut Vec<String>) -> Result<Vec<u8>> {
        let initrd = match self {
            Initrd::File(file) => pack::read_initrd(file)?,
            Initrd::Packed(InitrdParts { init, modules, selection, archive }) => {
                let modules = modules.as_ref().map(|found| (&*found.root, found.path.as_path()));
                let initrd = pack::initrd(pack::read_init(init)?, modules, selection, notes)?;
                pack::behind(archive.as_deref(), initrd)?
            }
        };
        pack::with_settings(initrd, records)
    }

    /// The command that writes the bytes of [`Initrd::bytes`] to the file `output`;
    /// `program` is chrootvm.
    ///
    /// # Errors
    /// The directory of modules does not exist.
    pub fn command(
        &self,
        program: &Path,
        records: &[Vec<u8>],
        output: &str,
    ) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = vec![program.into(), pack::SUBCOMMAND.into()];
        match self {
            Initrd::File(file) => words.extend(["--initrd".into(), file.into()]),
            Initrd::Packed(InitrdParts { init, modules, selection, archive }) => {
                words.extend(["--init".into(), init.into()]);
                words.extend(archive.iter().flat_map(|file| ["--archive".into(), file.into()]));
                if let Some(dir) = modules {
                    let place = dir.place()?;
                    words.extend(["--modules-dir".into(), place.path.into()]);
                    words.extend(
                        place.image.into_iter().flat_map(|one| ["--image".into(), one.into()]),
                    );
                    words.extend(selection.words().into_iter().map(OsString::from));
                }
            }
        }
        for record in records {
            words.extend(["--record".into(), OsString::from_vec(record.clone())]);
        }
        words.extend(["-o".into(), output.into()]);
        Ok(words)
    }
}

/// Paths of `/init`, relative to the directory of this program: in a source tree after a
/// build, installed below the same prefix, and installed for osbuild.
const INIT_PLACES: [&str; 3] =
    ["../guest/init", "../lib/osbuild/initrd/initrd", "/usr/lib/osbuild/initrd/initrd"];

/// Finds the `/init` binary: the file `given`, or the one that belongs to this program.
///
/// # Errors
/// The file is missing.
pub fn find_init(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = given {
        ensure!(file.is_file(), "{} is missing: run `make` to build it", file.display());
        return canonical(file);
    }
    let program = std::env::current_exe().context("find this program")?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    let found = INIT_PLACES.iter().map(|place| dir.join(place)).find(|place| place.is_file());
    let found = found.with_context(|| {
        let tree = dir.join(INIT_PLACES[0]);
        format!("{} is missing: run `make` to build it", tree.display())
    })?;
    canonical(&found)
}
