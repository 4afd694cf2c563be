//! `cargo xtask pack` and `mkvirtinitrd`: `/init` and its modules as an initrd.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use virtinitrd_init::settings;

use crate::archive::compress::{Compression, compress};
use crate::archive::{Archive, source_date_epoch};
use crate::kmod::dir::ModulesDir;
use crate::kmod::resolve::{Request, load_order};
use crate::output;
use crate::rootdir::RootDir;

/// Where `/init` looks for modules.
const MODULES_DIR: &str = "usr/lib/modules";

/// Bytes of modules, unpacked, that are packed at the most. All modules of
/// Debian 12 have 300 MB; a directory of compressed bombs must not fill the
/// host's memory.
const MODULES_MAX: usize = 1 << 30;

/// What every VM needs. virtiofs does not depend on its transport, and which
/// one a machine has only the machine knows: all that the kernel has are taken.
const DEFAULT_MODULES: &[Request<'static>] = &[
    Request::Wanted("virtio_pci"),
    Request::Wanted("virtio_mmio"),
    Request::Wanted("virtio_ccw"),
    Request::Needed("virtiofs"),
];

/// Pack /init and the modules it needs into an initrd
#[derive(Debug, clap::Args)]
pub struct Pack {
    /// The /init binary, as `cargo xtask build` makes it
    #[arg(long, value_name = "FILE", required_unless_present = "initrd")]
    init: Option<PathBuf>,
    /// Add records to this initrd instead of packing one
    #[arg(long, value_name = "FILE", hide = true)]
    initrd: Option<PathBuf>,
    /// The kernel's modules, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    /// [default: none; the kernel has virtiofs built in]
    #[arg(long, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// One more module, with all that it needs; repeatable
    #[arg(long = "module", value_name = "NAME", requires = "modules_dir")]
    modules: Vec<String>,
    /// Compress the archive
    #[arg(long, value_enum, default_value_t)]
    compress: Compression,
    /// A record for /init, as `chrootvm --dry-run` prints it; repeatable
    #[arg(long = "record", value_name = "RECORD", hide = true)]
    records: Vec<OsString>,
    /// Where to write the initrd; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Make an initrd that boots a directory over virtiofs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Modules are packed uncompressed, in load order; built-in ones are left out.\n\
                  SOURCE_DATE_EPOCH sets the time of all entries (default 0)."
)]
pub struct MkVirtInitrd {
    /// One more module, with all that it needs; repeatable
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// The /init binary
    init: PathBuf,
    /// The kernel's modules, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    modules_dir: PathBuf,
    /// Where to write the initrd; - is standard output
    output: PathBuf,
}

impl Pack {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let bytes = match (&self.initrd, &self.init) {
            (Some(file), _) => std::fs::read(file).with_context(|| read_error(file))?,
            (None, init) => self.pack(init.as_deref().context("--init is missing")?)?,
        };
        let records: Vec<_> = self.records.into_iter().map(OsString::into_vec).collect();
        let bytes = with_settings(bytes, &records)?;
        output::write(&self.output, &compress(bytes, self.compress)?)
    }

    fn pack(&self, init: &Path) -> Result<Vec<u8>> {
        let root = RootDir::open(Path::new("/"))?;
        let modules_dir = self.modules_dir.as_deref().map(absolute).transpose()?;
        let modules_dir = modules_dir.as_ref().map(|dir| (&root, dir.as_path()));
        initrd(read_init(init)?, modules_dir, &self.modules)
    }
}

fn read_error(file: &Path) -> String {
    format!("read initrd {}", file.display())
}

impl MkVirtInitrd {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let Self { modules, init, modules_dir, output } = self;
        let modules_dir = Some(modules_dir);
        let (compress, records) = (Compression::default(), Vec::new());
        let (init, initrd) = (Some(init), None);
        Pack { init, initrd, modules_dir, modules, compress, records, output }.run()
    }
}

/// The contents of the /init binary.
pub fn read_init(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read the /init binary {}", path.display()))
}

/// An uncompressed initrd. `modules_dir` is a directory as seen in a root; where
/// there is none, the kernel has all it needs built in.
pub fn initrd(
    init: Vec<u8>,
    modules_dir: Option<(&RootDir, &Path)>,
    extra_modules: &[String],
) -> Result<Vec<u8>> {
    let mtime = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let mut archive = Archive::default();
    archive.add_file("init", 0o755, init);
    if let Some((root, path)) = modules_dir {
        for (file, module) in packed_modules(root, path, extra_modules)? {
            archive.add_file(&format!("{MODULES_DIR}/{file}"), 0o644, module);
        }
    }
    let mut bytes = Vec::new();
    archive.write(&mut bytes, mtime)?;
    Ok(bytes)
}

/// `initrd` with what the guest is told beside its command line, in a segment of
/// its own: records of [`virtinitrd_init::settings`].
pub fn with_settings(mut initrd: Vec<u8>, records: &[Vec<u8>]) -> Result<Vec<u8>> {
    /// The kernel looks for the next archive where a multiple of this begins.
    const ALIGNMENT: usize = 4;
    if records.is_empty() {
        return Ok(initrd);
    }
    let text = records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
    let mut segment = Archive::default();
    // Arguments and variables are nobody else's business in the guest.
    segment.add_file(settings::FILE, 0o600, text);
    initrd.resize(initrd.len().next_multiple_of(ALIGNMENT), 0);
    segment.write(&mut initrd, 0)?;
    Ok(initrd)
}

/// File names and contents, in load order.
fn packed_modules(root: &RootDir, path: &Path, extra: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = ModulesDir::open(root, path)?;
    let requests: Vec<_> = DEFAULT_MODULES
        .iter()
        .copied()
        .chain(extra.iter().map(|name| Request::Needed(name)))
        .collect();
    let order = load_order(&dir, &requests)
        .with_context(|| format!("modules directory {}", path.display()))?;
    let names = file_names(&order);
    let mut total = 0;
    let mut packed = Vec::new();
    for (file, name) in names.into_iter().zip(&order) {
        let module = dir.read(name)?;
        total += module.len();
        ensure!(total <= MODULES_MAX, "the modules have more than {} MiB", MODULES_MAX >> 20);
        packed.push((file, module));
    }
    Ok(packed)
}

/// `001-virtio_ring.ko`: byte order of the names is load order.
fn file_names(order: &[String]) -> Vec<String> {
    /// Digits that osbuild/initrd's packager uses.
    const DIGITS: usize = 3;
    let digits = order.len().to_string().len().max(DIGITS);
    (1..).zip(order).map(|(number, name)| format!("{number:0digits$}-{name}.ko")).collect()
}

/// `path` from the root directory, links in it left alone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_of_file_names_is_load_order() {
        for count in [9, 120, 1200] {
            let order: Vec<_> =
                (0..count).map(|number| format!("m{}", number * 7919 % 1000)).collect();
            let names = file_names(&order);
            assert!(names.is_sorted(), "{count}");
        }
        assert_eq!(file_names(&["virtio_ring".into()]), ["001-virtio_ring.ko"]);
    }
}
