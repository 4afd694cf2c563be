//! The initrd of one machine: a file as it is, or an archive packed for the kernel.
//!
//! The same description gives the archive ([`Initrd::bytes`]) and the command that
//! `--dry-run` prints for it ([`Initrd::command`]).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use archive::compress::LZ4_FRAME_MAGIC;
use archive::newc;

use super::located::Located;
use super::pack::{self, ModuleSelection};
use super::vmlinux::decompress;
use crate::host::canonical;
use crate::plan::architecture::HOST;

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
            Initrd::File(file) => {
                let bytes = pack::read_initrd(file)?;
                check(&bytes).with_context(|| format!("--initrd {}", file.display()))?;
                bytes
            }
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

/// First bytes of the archives that a kernel unpacks (`init/initramfs.c`). It also unpacks those
/// that are compressed like a kernel ([`decompress::tool`]; `lib/decompress.c`).
const STARTS: &[&[u8]] = &[newc::MAGIC, newc::MAGIC_CHECKED, OLD_GZIP_MAGIC];

/// First bytes of a file of gzip before version 1.0 (`lib/decompress.c`).
const OLD_GZIP_MAGIC: &[u8] = &[0x1f, 0x9e];

/// Checks the start of an initrd: the kernel only says that it found no `/init`.
fn check(initrd: &[u8]) -> Result<()> {
    ensure!(!initrd.is_empty(), "it is empty");
    ensure!(
        !initrd.starts_with(LZ4_FRAME_MAGIC),
        "no kernel unpacks lz4's frame format; compress it with lz4 -l"
    );
    // The kernel skips zeros between archives, and before the first one.
    let zeros = initrd.iter().take_while(|&&byte| byte == 0).count();
    let start = initrd.get(zeros..).unwrap_or_default();
    ensure!(
        STARTS.iter().any(|magic| start.starts_with(magic)) || decompress::tool(start).is_some(),
        "it is no initrd: neither a newc archive nor one in gzip, bzip2, lzma, xz, lzo, lz4 or zstd"
    );
    Ok(())
}

/// Paths of `/init`, relative to the directory of this program: in a source tree after a
/// build, installed below the same prefix, and installed for osbuild.
const INIT_PLACES: [&str; 3] =
    ["../guest/init", "../lib/osbuild/initrd/initrd", "/usr/lib/osbuild/initrd/initrd"];

/// Paths of the program that runs the steps of recipes, relative to the directory of this
/// program: in a source tree after a build, installed below the same prefix, and installed in
/// `/usr`.
const STEP_PLACES: [&str; 3] =
    ["../guest/step", "../lib/virtinitrd/step", "/usr/lib/virtinitrd/step"];

/// Finds the `/init` binary for this host's architecture: the file `given`, or the one that
/// belongs to this program.
///
/// # Errors
/// The file is missing.
pub fn find_init(given: Option<&Path>) -> Result<PathBuf> {
    find_init_for(HOST, given)
}

/// Finds the `/init` binary for the architecture `arch`: the file `given`, or the one that belongs
/// to this program.
///
/// # Errors
/// The file is missing.
pub fn find_init_for(arch: &str, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = given {
        ensure!(file.is_file(), "--init {}: no such file", file.display());
        return canonical(file);
    }
    let program = std::env::current_exe().context("find this program")?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    if arch == HOST {
        return canonical(&first_of(dir, &INIT_PLACES)?);
    }
    let places = init_places_of(arch);
    let found = places.iter().map(|place| dir.join(place)).find(|place| place.is_file());
    canonical(&found.with_context(|| {
        let [tree, beside, system] = places.map(|place| normal(&dir.join(place)));
        format!(
            "/init for {arch} is missing: it is neither {}, nor {}, nor {}; build it in the source \
             tree with `cargo xtask build --target {arch}` (before, `scripts/setup {arch}` installs \
             its compiler), or give --init FILE",
            tree.display(),
            beside.display(),
            system.display()
        )
    })?)
}

/// Paths of `/init` for an architecture other than this host's, as [`INIT_PLACES`].
fn init_places_of(arch: &str) -> [String; 3] {
    [
        format!("../guest-{arch}/init"),
        format!("../lib/osbuild/initrd/initrd.{arch}"),
        format!("/usr/lib/osbuild/initrd/initrd.{arch}"),
    ]
}

/// `path` without `NAME/..`, for people.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => _ = path.pop(),
            part => path.push(part),
        }
        path
    })
}

/// Finds the static program that runs the steps of recipes in their machine.
///
/// # Errors
/// The file is missing.
pub fn find_step() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    canonical(&first_of(program.parent().unwrap_or(Path::new("/")), &STEP_PLACES)?)
}

/// The first of `places`, relative to `dir`, that is a file.
fn first_of(dir: &Path, places: &[&str; 3]) -> Result<PathBuf> {
    let found = places.iter().map(|place| dir.join(place)).find(|place| place.is_file());
    found.with_context(|| {
        let tree = dir.join(places[0]);
        format!("{} is missing: run `make` to build it", tree.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_beside_a_build_or_an_installation() {
        for places in [INIT_PLACES, STEP_PLACES] {
            let dir = tempfile::tempdir().unwrap();
            let bin = dir.path().join("bin");
            std::fs::create_dir(&bin).unwrap();
            let error = first_of(&bin, &[places[0], places[1], "none"]).unwrap_err().to_string();
            assert!(error.contains("run `make` to build it"), "{error}");
            for place in [places[1], places[0]] {
                let file = bin.join(place);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, "").unwrap();
                assert_eq!(first_of(&bin, &places).unwrap(), file);
            }
        }
    }

    #[test]
    fn a_missing_init_of_another_architecture_can_be_built() {
        let error = find_init_for("vax", None).unwrap_err().to_string();
        for part in ["/init for vax is missing", "guest-vax/init", "initrd.vax", "--target vax"] {
            assert!(error.contains(part) && !error.contains(".."), "{part}: {error}");
        }
    }

    #[test]
    fn only_archives_that_a_kernel_unpacks_are_initrds() {
        for (name, bytes, error) in [
            ("newc", &b"070701"[..], ""),
            ("newc with checksums", b"070702", ""),
            ("zeros first", b"\x00\x00\x00\x00070701", ""),
            ("gzip", b"\x1f\x8b\x08", ""),
            ("old gzip", b"\x1f\x9e\x08", ""),
            ("bzip2", b"BZh9", ""),
            ("lzma", b"\x5d\0\0\x80", ""),
            ("lzo", b"\x89LZO\0\r\n\x1a\n", ""),
            ("lz4", b"\x02\x21\x4c\x18", ""),
            ("lz4's frames", b"\x04\x22\x4d\x18", "lz4 -l"),
            ("ELF", b"\x7fELF", "it is no initrd"),
            ("old cpio", b"070707", "it is no initrd"),
            ("zeros", b"\0\0\0\0", "it is no initrd"),
            ("nothing", b"", "it is empty"),
        ] {
            let found = check(bytes).map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found.is_empty(), error.is_empty(), "{name}: {found}");
            assert!(found.contains(error), "{name}: {found}");
        }
    }
}
