//! Packing of an initrd: `/init`, the modules that it loads, and the guest's settings.
//!
//! Interface: an initrd is a series of newc archives (kernel docs:
//! driver-api/early-userspace/buffer-format.rst); see [`archive`]. `/init` loads the modules in
//! `/usr/lib/modules` in the byte order of their names.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, ZSTD_MAGIC, decompress_all};
use archive::{Archive, source_date_epoch};
use files::lookup::Files;
use files::named::Named;
use image::elf::machine;
use proto::settings;

use super::modules::dir::ModulesDir;
use super::modules::resolve::{ModuleRequest, load_order};
use super::modules::strip::Strip;
use crate::plan::transport::Transport;

/// Subcommand of chrootvm that packs an initrd; `--dry-run` prints commands with it.
pub const SUBCOMMAND: &str = "pack-initrd";

/// Directory in the initrd in which `/init` looks for modules.
const MODULES_DIR: &str = "usr/lib/modules";

/// Most bytes of unpacked modules in an initrd. All modules of Debian 12 have 300 MB; the
/// limit keeps a directory of compression bombs from filling the host's memory.
const MODULES_MAX: usize = 1 << 30;

/// Selection of the modules that are packed, and their treatment.
#[derive(Debug, Default)]
pub struct ModuleSelection {
    /// Names of modules beside those of virtio and virtiofs; their dependencies are packed,
    /// too.
    pub modules: Vec<String>,
    /// Modules that lose debugging information, BTF and signatures; `None` for no module.
    pub strip: Option<Strip>,
    /// The machine's virtio transports; if the list is empty, all that the kernel supports.
    pub transports: Vec<Transport>,
    /// Whether virtiofs is left out, because the root is on a disk or in the initrd.
    pub no_virtiofs: bool,
}

impl ModuleSelection {
    /// The options of [`SUBCOMMAND`] that make this selection.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let modules = self.modules.iter().map(|name| option("module", name));
        let transports = self.transports.iter().map(|one| option("transport", one.name()));
        let strip = self.strip.map(|which| option("strip", which.name()));
        let no_virtiofs = self.no_virtiofs.then(|| "--no-virtiofs".to_owned());
        modules.chain(transports).chain(strip).chain(no_virtiofs).collect()
    }

    /// The requested modules. The transport comes first, because virtiofs finds its device only
    /// after the transport's driver is loaded, and does not depend on it. The driver may be
    /// missing: a kernel has only the drivers of its architecture.
    fn requests(&self) -> Vec<ModuleRequest<'_>> {
        let transports = match &self.transports[..] {
            [] => Transport::all().collect(),
            some => some.to_vec(),
        };
        let drivers = transports.into_iter().filter_map(Transport::module);
        let mut requests: Vec<_> = drivers.map(ModuleRequest::may).collect();
        if !self.no_virtiofs {
            requests.push(ModuleRequest::must("virtiofs"));
        }
        requests.extend(self.modules.iter().map(|name| ModuleRequest::must(name)));
        requests
    }
}

/// Most bytes of an initrd that is unpacked on the host. It is held in memory; the limit
/// keeps a compression bomb from filling the host's memory.
const UNPACKED_MAX: u64 = 4 << 30;

/// Reads the initrd `file`. If it begins with a skippable frame of zstd, as pzstd(1) writes
/// it, it is unpacked: the kernel refuses such a file (`lib/decompress.c`).
///
/// # Errors
/// The file cannot be read or unpacked.
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

/// Reads the `/init` binary.
///
/// # Errors
/// The file cannot be read.
pub fn read_init(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read the /init binary {}", path.display()))
}

/// Packs an uncompressed initrd of the `/init` binary `init` and of modules. `modules_dir` is
/// a root file system and a directory in it; without it the kernel must have everything built
/// in. Warnings about the modules are added to `notes`.
///
/// # Errors
/// A required module is missing or damaged, or `SOURCE_DATE_EPOCH` is not a number.
pub fn initrd(
    init: Vec<u8>,
    modules_dir: Option<(&dyn Files, &Path)>,
    selection: &ModuleSelection,
    notes: &mut Vec<String>,
) -> Result<Vec<u8>> {
    let mtime = source_date_epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let mut archive = Archive::default();
    let of_init = machine(&init);
    archive.add_file("init", 0o755, init);
    if let Some((root, path)) = modules_dir {
        for (file, module) in packed_modules(root, path, selection, notes)? {
            if let (Some(init), Some(of_module)) = (of_init, machine(&module)) {
                ensure!(
                    init == of_module,
                    "/init is for {init}, and the modules in {} are for {of_module}: give /init and \
                     modules of one architecture",
                    root.host_path(path).display()
                );
            }
            archive.add_file(&format!("{MODULES_DIR}/{file}"), 0o644, module);
        }
    }
    let mut bytes = Vec::new();
    archive.write(&mut bytes, mtime)?;
    Ok(bytes)
}

/// Appends `initrd` to the file `archive`, a root file system; without an archive `initrd`
/// stays as it is.
///
/// # Errors
/// The archive cannot be read.
pub fn behind(archive: Option<&Path>, initrd: Vec<u8>) -> Result<Vec<u8>> {
    let Some(file) = archive else { return Ok(initrd) };
    let mut bytes = read_initrd(file)?;
    pad(&mut bytes);
    bytes.extend(initrd);
    Ok(bytes)
}

/// Pads a segment with zeros for the next one. The kernel looks for the next archive at a
/// multiple of four bytes. After an lz4 container it reads four bytes as the length of one
/// more block, unless they are 0 ([`archive::compress`]).
fn pad(initrd: &mut Vec<u8>) {
    /// Alignment in bytes of an archive (kernel: `unpack_to_rootfs` in init/initramfs.c).
    const ALIGNMENT: usize = 4;
    /// Size in bytes of the length of an lz4 block (kernel: lib/decompress_unlz4.c).
    const LENGTH: usize = 4;
    initrd.resize((initrd.len() + LENGTH).next_multiple_of(ALIGNMENT), 0);
}

/// Appends the guest's settings to `initrd` in a segment of their own: records of
/// [`proto::settings`].
///
/// # Errors
/// The archive cannot be written.
pub fn with_settings(mut initrd: Vec<u8>, records: &[Vec<u8>]) -> Result<Vec<u8>> {
    if records.is_empty() {
        return Ok(initrd);
    }
    let text = records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
    let mut segment = Archive::default();
    // Arguments and variables may be secret, so only root in the guest can read them.
    segment.add_file(settings::FILE, 0o600, text);
    pad(&mut initrd);
    segment.write(&mut initrd, 0)?;
    Ok(initrd)
}

/// File names and contents of the selected modules, in load order.
fn packed_modules(
    root: &dyn Files,
    path: &Path,
    selection: &ModuleSelection,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = ModulesDir::open(root, path)?;
    let requests = selection.requests();
    let order = load_order(&dir, &requests)
        .with_context(|| format!("modules directory {}", root.host_path(path).display()))?;
    let names = file_names(&order);
    let mut total = 0;
    let mut packed = Vec::new();
    for (file, name) in names.into_iter().zip(&order) {
        let mut module = dir.read(name)?;
        if let Some(strip) = selection.strip {
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

/// File names such as `001-virtio_ring.ko`, so that the byte order of the names is the load
/// order.
fn file_names(order: &[String]) -> Vec<String> {
    /// Fewest digits of a number, as osbuild/initrd's packager writes them.
    const DIGITS: usize = 3;
    let digits = order.len().to_string().len().max(DIGITS);
    (1..).zip(order).map(|(number, name)| format!("{number:0digits$}-{name}.ko")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::compress::compress;
    use archive::newc::entries;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// Our reader treats the bytes after an lz4 container as the kernel does.
    #[test]
    fn segments_may_follow_a_compressed_archive_of_any_size() {
        let mut sizes = BTreeSet::new();
        let variants = Compression::all();
        for (compression, count) in
            variants.flat_map(|one| (0..16_u8).map(move |count| (one, count)))
        {
            // These bytes do not compress, so each byte makes the file one or two bytes longer.
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
                initrd(b"init".to_vec(), None, &ModuleSelection::default(), &mut Vec::new())
                    .unwrap();
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
    fn an_initrd_of_pzstd_is_unpacked_for_the_kernel() {
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
