//! `cargo xtask pack` and `mkvirtinitrd`: `/init` and its modules as an initrd.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use virtinitrd_init::settings;

use crate::archive::compress::{Compression, compress, decompress_all};
use crate::archive::stream::ZSTD_MAGIC;
use crate::archive::{Archive, source_date_epoch};
use crate::files::Files;
use crate::kmod::dir::ModulesDir;
use crate::kmod::resolve::{Request, load_order};
use crate::kmod::strip::Strip;
use crate::vm::source::Source;
use crate::{output, tell};

/// Where `/init` looks for modules.
const MODULES_DIR: &str = "usr/lib/modules";

/// Bytes of modules, unpacked, that are packed at the most. All modules of
/// Debian 12 have 300 MB; a directory of compressed bombs must not fill the
/// host's memory.
const MODULES_MAX: usize = 1 << 30;

/// How virtio devices are attached to a machine. virtiofs does not depend on it,
/// and which one a machine has only the machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// q35, and what else has PCI
    Pci,
    /// microvm
    Mmio,
    /// s390
    Ccw,
}

impl Transport {
    /// Its driver. A kernel may have it built in, or not have that one at all.
    fn module(self) -> Request<'static> {
        Request::Wanted(match self {
            Transport::Pci => "virtio_pci",
            Transport::Mmio => "virtio_mmio",
            Transport::Ccw => "virtio_ccw",
        })
    }
}

/// Which modules are packed, and how.
#[derive(Debug, Default, clap::Args)]
pub struct Choice {
    /// One more module, with all that it needs; repeatable
    #[arg(long = "module", value_name = "NAME")]
    pub modules: Vec<String>,
    /// Leave out debugging information, BTF and signatures, which is quicker but taints the kernel
    /// [default: keep them; without WHICH: all]
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true,
          default_missing_value = "all")]
    pub strip: Option<Strip>,
    /// The machine's virtio transport; repeatable [default: all that the kernel has]
    #[arg(long = "transport", value_enum, value_name = "NAME")]
    pub transports: Vec<Transport>,
    /// Leave virtiofs out: the root is on a disk or in the initrd
    #[arg(long)]
    pub no_virtiofs: bool,
}

/// Pack /init and the modules it needs into an initrd
#[derive(Debug, clap::Args)]
pub struct Pack {
    /// The /init binary, as `cargo xtask build` makes it
    #[arg(long, value_name = "FILE", required_unless_present = "initrd")]
    init: Option<PathBuf>,
    /// Add records to this initrd instead of packing one
    #[arg(long, value_name = "FILE", hide = true)]
    initrd: Option<PathBuf>,
    /// Begin with this archive, a root file system; its /init gives way to ours
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "initrd")]
    archive: Option<PathBuf>,
    /// The kernel's modules, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    /// [default: none; the kernel has virtiofs built in]
    #[arg(long, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// The image that has them, at the absolute path DIR [default: they are on this host]
    #[arg(long, value_name = "IMAGE", requires = "modules_dir", hide = true)]
    image: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
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
    #[command(flatten)]
    choice: Choice,
    /// The /init binary
    init: PathBuf,
    /// The kernel's modules, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    modules_dir: PathBuf,
    /// Where to write the initrd; - is standard output
    output: PathBuf,
}

impl Choice {
    /// The options of `pack` that say so.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let modules = self.modules.iter().map(|name| option("module", name));
        let transports = self.transports.iter().map(|one| option("transport", &word(one)));
        let strip = self.strip.map(|which| option("strip", &word(&which)));
        let no_virtiofs = self.no_virtiofs.then(|| "--no-virtiofs".to_owned());
        modules.chain(transports).chain(strip).chain(no_virtiofs).collect()
    }

    /// In load order: virtiofs finds its device once the transport is there.
    fn requests(&self) -> Vec<Request<'_>> {
        let transports = match &self.transports[..] {
            [] => Transport::value_variants(),
            some => some,
        };
        let mut requests: Vec<_> = transports.iter().map(|one| one.module()).collect();
        if !self.no_virtiofs {
            requests.push(Request::Needed("virtiofs"));
        }
        requests.extend(self.modules.iter().map(|name| Request::Needed(name)));
        requests
    }
}

impl Pack {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let bytes = match (&self.initrd, &self.init) {
            (Some(file), _) => read_initrd(file)?,
            (None, init) => self.pack(init.as_deref().context("--init is missing")?)?,
        };
        let records: Vec<_> = self.records.into_iter().map(OsString::into_vec).collect();
        let bytes = with_settings(bytes, &records)?;
        output::write(&self.output, &compress(bytes, self.compress)?)
    }

    fn pack(&self, init: &Path) -> Result<Vec<u8>> {
        let root = Source::open(self.image.as_deref().unwrap_or(Path::new("/")))?.files()?;
        let modules_dir = self.modules_dir.as_deref().map(absolute).transpose()?;
        ensure!(
            modules_dir.is_some() || self.choice.modules.is_empty(),
            "--module takes a --modules-dir"
        );
        let modules_dir = modules_dir.as_ref().map(|dir| (&*root, dir.as_path()));
        let mut notes = Vec::new();
        let initrd = initrd(read_init(init)?, modules_dir, &self.choice, &mut notes)?;
        warn(&notes);
        behind(self.archive.as_deref(), initrd)
    }
}

/// What is typed for a value.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Most bytes of an initrd that is unpacked here. It is held in memory, here and in the
/// guest; a compression bomb must not fill the host's memory.
const UNPACKED_MAX: u64 = 4 << 30;

/// Reads the initrd `file`. If it begins with a skippable frame of zstd, as pzstd
/// writes it, it is unpacked here: the kernel refuses such a file (`lib/decompress.c`).
pub fn read_initrd(file: &Path) -> Result<Vec<u8>> {
    let context = || format!("read initrd {}", file.display());
    let bytes = std::fs::read(file).with_context(context)?;
    let is_skipped = Compression::of(&bytes) == Compression::Zstd && !bytes.starts_with(ZSTD_MAGIC);
    if !is_skipped {
        return Ok(bytes);
    }
    let unpacked = decompress_all(&bytes, UNPACKED_MAX).with_context(context)?;
    Ok(unpacked.unwrap_or(bytes))
}

impl MkVirtInitrd {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let Self { choice, init, modules_dir, output } = self;
        let modules_dir = Some(modules_dir);
        let (compress, records) = (Compression::default(), Vec::new());
        let (init, initrd, archive, image) = (Some(init), None, None, None);
        Pack { init, initrd, archive, modules_dir, image, choice, compress, records, output }.run()
    }
}

/// The contents of the /init binary.
pub fn read_init(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read the /init binary {}", path.display()))
}

/// Prints the notes of [`initrd`] as warnings.
pub fn warn(notes: &[String]) {
    for note in notes {
        tell::warning(note);
    }
}

/// An uncompressed initrd. `modules_dir` is a directory as seen in a root; where there
/// is none, the kernel has all it needs built in. Warnings about its index files are
/// added to `notes`.
pub fn initrd(
    init: Vec<u8>,
    modules_dir: Option<(&dyn Files, &Path)>,
    choice: &Choice,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>> {
    let mtime = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let mut archive = Archive::default();
    archive.add_file("init", 0o755, init);
    if let Some((root, path)) = modules_dir {
        for (file, module) in packed_modules(root, path, choice, notes)? {
            archive.add_file(&format!("{MODULES_DIR}/{file}"), 0o644, module);
        }
    }
    let mut bytes = Vec::new();
    archive.write(&mut bytes, mtime)?;
    Ok(bytes)
}

/// `initrd` behind the archive of a root file system, which it adds to.
pub fn behind(archive: Option<&Path>, initrd: Vec<u8>) -> Result<Vec<u8>> {
    let Some(file) = archive else { return Ok(initrd) };
    let mut bytes = read_initrd(file)?;
    pad(&mut bytes);
    bytes.extend(initrd);
    Ok(bytes)
}

/// Ends a segment: the kernel looks for the next archive where a multiple of four
/// bytes begins, and behind lz4 it takes the next four bytes for the length of a block
/// unless they are 0 ([`crate::archive::lz4`]).
fn pad(initrd: &mut Vec<u8>) {
    /// Where an archive may begin (`unpack_to_rootfs`, `init/initramfs.c`).
    const ALIGNMENT: usize = 4;
    /// Bytes of a length (`lib/decompress_unlz4.c`).
    const LENGTH: usize = 4;
    initrd.resize((initrd.len() + LENGTH).next_multiple_of(ALIGNMENT), 0);
}

/// `initrd` with what the guest is told beside its command line, in a segment of
/// its own: records of [`virtinitrd_init::settings`].
pub fn with_settings(mut initrd: Vec<u8>, records: &[Vec<u8>]) -> Result<Vec<u8>> {
    if records.is_empty() {
        return Ok(initrd);
    }
    let text = records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
    let mut segment = Archive::default();
    // Arguments and variables are nobody else's business in the guest.
    segment.add_file(settings::FILE, 0o600, text);
    pad(&mut initrd);
    segment.write(&mut initrd, 0)?;
    Ok(initrd)
}

/// File names and contents, in load order.
fn packed_modules(
    root: &dyn Files,
    path: &Path,
    choice: &Choice,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = ModulesDir::open(root, path)?;
    let requests = choice.requests();
    let order = load_order(&dir, &requests)
        .with_context(|| format!("modules directory {}", path.display()))?;
    let names = file_names(&order);
    let mut total = 0;
    let mut packed = Vec::new();
    for (file, name) in names.into_iter().zip(&order) {
        let mut module = dir.read(name)?;
        if let Some(strip) = choice.strip {
            let stripped = strip.apply(module);
            module = stripped.with_context(|| format!("strip module {name}"))?;
        }
        total += module.len();
        ensure!(total <= MODULES_MAX, "the modules have more than {} MiB", MODULES_MAX >> 20);
        packed.push((file, module));
    }
    notes.extend(dir.notes().lines());
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
    use crate::archive::read::entries;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// As the kernel does, our reader takes the bytes behind lz4 for a length.
    #[test]
    fn segments_follow_compressed_ones_of_any_size() {
        let mut sizes = BTreeSet::new();
        let variants = Compression::value_variants().iter();
        for (&compression, count) in
            variants.flat_map(|one| (0..16_u8).map(move |count| (one, count)))
        {
            // Does not compress: each byte more is one more in the file, or two.
            let filler = (0..count).map(|number| number.wrapping_mul(167) ^ 0x5a).collect();
            let mut root = Archive::default();
            root.add_file("root", 0o644, filler);
            if compression != Compression::Lz4 && count > 1 {
                continue;
            }
            let mut bytes = Vec::new();
            root.write(&mut bytes, 0).unwrap();
            let bytes = compress(bytes, compression).unwrap();
            if compression == Compression::Lz4 {
                sizes.insert(bytes.len() % 4);
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, bytes).unwrap();
            let initrd =
                initrd(b"init".to_vec(), None, &Choice::default(), &mut Vec::new()).unwrap();
            let all = behind(Some(file.path()), initrd).unwrap();
            let all = with_settings(all, &[b"record".to_vec()]).unwrap();
            std::fs::write(&file, &all).unwrap();
            let entries = entries(&Arc::new(file.into_file())).unwrap();
            let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
            let expected = ["root", "init", settings::FILE];
            assert!(expected.iter().all(|name| names.contains(name)), "{compression}: {names:?}");
        }
        assert_eq!(sizes.len(), 4, "{sizes:?}");
    }

    #[test]
    fn what_pzstd_wrote_is_unpacked_for_the_kernel() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let zstd = |bytes: &[u8]| compress(bytes.to_vec(), Compression::Zstd).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0size";
        let parts = [&skippable[..], &zstd(b"07"), skippable, &zstd(b"0701")].concat();
        for (bytes, expected) in [(parts, b"070701".to_vec()), (zstd(b"x"), zstd(b"x"))] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(read_initrd(file.path()).unwrap(), expected);
        }
    }

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
