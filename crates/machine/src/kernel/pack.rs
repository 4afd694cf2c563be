//! `/init` and the modules it needs as an initrd.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, ZSTD_MAGIC, decompress_all};
use archive::{Archive, source_date_epoch};
use files::lookup::Files;
use files::named::Named;
use virtinitrd_proto::settings;

use crate::kernel::modules::dir::ModulesDir;
use crate::kernel::modules::resolve::{Request, load_order};
use crate::kernel::modules::strip::Strip;

/// Name of the subcommand of this program that packs an initrd, for the commands that
/// `--dry-run` prints.
pub const SUBCOMMAND: &str = "pack-initrd";

/// Where `/init` looks for modules.
const MODULES_DIR: &str = "usr/lib/modules";

/// Bytes of modules, unpacked, that are packed at the most. All modules of
/// Debian 12 have 300 MB; a directory of compressed bombs must not fill the
/// host's memory.
const MODULES_MAX: usize = 1 << 30;

/// How virtio devices are attached to a machine. virtiofs does not depend on it,
/// and which one a machine has only the machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// q35, and what else has PCI
    Pci,
    /// microvm
    Mmio,
    /// s390
    Ccw,
}

#[rustfmt::skip]
impl Named for Transport {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("pci", Self::Pci, "q35, and what else has PCI"),
        ("mmio", Self::Mmio, "microvm"),
        ("ccw", Self::Ccw, "s390"),
    ];
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
#[derive(Debug, Default)]
pub struct Choice {
    /// Modules beside those of virtio and virtiofs; what they need is packed, too.
    pub modules: Vec<String>,
    /// Which modules lose debugging information, BTF and signatures.
    pub strip: Option<Strip>,
    /// The machine's virtio transports; if there are none, all that the kernel has.
    pub transports: Vec<Transport>,
    /// Whether virtiofs is left out: the root is on a disk or in the initrd.
    pub no_virtiofs: bool,
}

impl Choice {
    /// The options of `pack` that say so.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let modules = self.modules.iter().map(|name| option("module", name));
        let transports = self.transports.iter().map(|one| option("transport", one.name()));
        let strip = self.strip.map(|which| option("strip", which.name()));
        let no_virtiofs = self.no_virtiofs.then(|| "--no-virtiofs".to_owned());
        modules.chain(transports).chain(strip).chain(no_virtiofs).collect()
    }

    /// In load order: virtiofs finds its device once the transport is there.
    fn requests(&self) -> Vec<Request<'_>> {
        let mut requests: Vec<_> = match &self.transports[..] {
            [] => Transport::all().map(Transport::module).collect(),
            some => some.iter().map(|one| one.module()).collect(),
        };
        if !self.no_virtiofs {
            requests.push(Request::Needed("virtiofs"));
        }
        requests.extend(self.modules.iter().map(|name| Request::Needed(name)));
        requests
    }
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

/// The contents of the /init binary.
pub fn read_init(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read the /init binary {}", path.display()))
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
/// unless they are 0 ([`archive::compress`]).
fn pad(initrd: &mut Vec<u8>) {
    /// Where an archive may begin (`unpack_to_rootfs`, `init/initramfs.c`).
    const ALIGNMENT: usize = 4;
    /// Bytes of a length (`lib/decompress_unlz4.c`).
    const LENGTH: usize = 4;
    initrd.resize((initrd.len() + LENGTH).next_multiple_of(ALIGNMENT), 0);
}

/// `initrd` with what the guest is told beside its command line, in a segment of
/// its own: records of [`virtinitrd_proto::settings`].
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
    use archive::compress::compress;
    use archive::newc::entries;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// As the kernel does, our reader takes the bytes behind lz4 for a length.
    #[test]
    fn segments_follow_compressed_ones_of_any_size() {
        let mut sizes = BTreeSet::new();
        let variants = Compression::all();
        for (compression, count) in
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
