//! One module file: decompression, and its section `.modinfo`.
//!
//! Formats: the containers of [`archive::compress`]; ELF relocatable objects (elf(5));
//! `.modinfo`, which has strings `KEY=VALUE`, separated by NUL (kernel:
//! `include/linux/moduleparam.h`, `MODULE_INFO`).

use anyhow::{Context, Result, ensure};
use archive::compress::decompress_all;
use object::{Object, ObjectKind, ObjectSection};

use super::dependencies::Dependencies;
use super::name::canonical_name;

/// Size in bytes of the largest module that is accepted, compressed or unpacked. The
/// largest module of Debian 12 has 13 MB; in a kernel tree, modules also have debugging
/// information, which is many times larger. The limit keeps a compression bomb from filling
/// the host's memory.
pub const MODULE_MAX: u64 = 256 << 20;

/// Unpacks the module in `bytes`, if it is compressed, and checks that it is a whole ELF
/// object.
pub fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let module = decompress_all(&bytes, MODULE_MAX)?.unwrap_or(bytes);
    let elf = object::File::parse(&module[..]).context("no kernel module")?;
    ensure!(elf.kind() == ObjectKind::Relocatable, "no kernel module: not a relocatable object");
    for section in elf.sections() {
        section.data().context("truncated kernel module")?;
    }
    Ok(module)
}

/// The dependencies that an unpacked module names in its `.modinfo`.
pub fn modinfo(module: &[u8]) -> Result<Dependencies> {
    Ok(parse_modinfo(section(module)?))
}

/// The version of the kernel for which an unpacked module was built, and whether the module has
/// check sums of the symbols that it needs (kernel: `VERMAGIC_STRING`, `include/linux/vermagic.h`).
/// A kernel compares the version only if the module has no check sums (`same_magic()`).
#[must_use]
pub fn vermagic(module: &[u8]) -> Option<(String, SymbolVersions)> {
    let mut strings = section(module).ok()?.split(|&byte| byte == 0);
    let text = String::from_utf8_lossy(strings.find_map(|one| one.strip_prefix(b"vermagic="))?);
    let mut words = text.split_whitespace();
    let version = words.next()?.to_owned();
    let versions = match words.any(|word| word == "modversions") {
        true => SymbolVersions::Present,
        false => SymbolVersions::Absent,
    };
    Some((version, versions))
}

/// Whether a module has check sums of the symbols that it needs (`CONFIG_MODVERSIONS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolVersions {
    /// Another kernel may load the module, if it has the same symbols.
    Present,
    /// No kernel of another version loads the module.
    Absent,
}

/// The contents of `.modinfo`.
fn section(module: &[u8]) -> Result<&[u8]> {
    let elf = object::File::parse(module)?;
    let section = elf.section_by_name(".modinfo").context("no .modinfo section")?;
    Ok(section.data()?)
}

fn parse_modinfo(data: &[u8]) -> Dependencies {
    let mut module = Dependencies::default();
    for string in data.split(|&byte| byte == 0) {
        let string = String::from_utf8_lossy(string);
        match string.split_once('=') {
            Some(("depends", names)) => {
                module
                    .depends
                    .extend(names.split(',').filter(|name| !name.is_empty()).map(canonical_name));
            }
            Some(("softdep", text)) => module.add_soft(text),
            _ => {}
        }
    }
    module
}

/// Smallest module with this text as its `.modinfo`, for tests; `;` in the text stands for NUL.
#[must_use]
pub fn sample(modinfo: &str) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
    let modinfo = modinfo.replace(';', "\0");
    let section = |name: u32, kind: u32, offset: usize, size: usize| {
        let head = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        let place = [0, 0, offset as u64, size as u64, 0, 1, 0].map(u64::to_le_bytes).concat();
        [head, place].concat()
    };
    let mut elf = vec![0; 64];
    elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    elf[16] = 1; // ET_REL
    elf[18] = 62; // EM_X86_64
    elf[20] = 1; // EV_CURRENT
    elf[40] = 64; // e_shoff
    elf[52] = 64; // e_ehsize
    elf[58] = 64; // e_shentsize
    elf[60] = 3; // e_shnum
    elf[62] = 2; // e_shstrndx
    elf.extend([0; 64]);
    elf.extend(section(1, 1, 256, modinfo.len()));
    elf.extend(section(10, 3, 256 + modinfo.len(), NAMES.len()));
    elf.extend(modinfo.as_bytes());
    elf.extend(NAMES);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::compress::{Compression, compress};
    use std::io::Write;

    #[test]
    fn modinfo_names_the_dependencies() {
        let module = parse_modinfo(
            b"license=GPL\0depends=virtio-ring,fuse\0softdep=pre: a b-c post: d\0depends=\0",
        );
        assert_eq!(module.depends, ["virtio_ring", "fuse"]);
        assert_eq!(module.soft_pre, ["a", "b_c"]);
        assert_eq!(module.soft_post, ["d"]);
    }

    #[test]
    fn every_compression_is_unpacked_and_a_cut_file_is_an_error() {
        let plain = sample("");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        for (name, packed) in [
            ("gzip", gzip.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("zstd", zstd::encode_all(&plain[..], 1).unwrap()),
        ] {
            assert_eq!(unpack(packed.clone()).unwrap(), plain, "{name}");
            for length in 6..packed.len() {
                let error = unpack(packed[..length].to_vec()).expect_err(name);
                assert!(format!("{error:#}").contains(name), "{name} cut at {length}: {error:#}");
            }
        }
    }

    #[test]
    fn a_module_compressed_in_several_parts_is_unpacked_whole() {
        let plain = sample("");
        let (a, b) = plain.split_at(20);
        let gzip = |bytes: &[u8]| compress(bytes.to_vec(), Compression::Gzip).unwrap();
        let xz = |bytes: &[u8]| compress(bytes.to_vec(), Compression::Xz).unwrap();
        let zstd = |bytes: &[u8]| compress(bytes.to_vec(), Compression::Zstd).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x01\0\0\0x".to_vec();
        for (name, parts) in [
            ("zstd, as pzstd writes it", vec![skippable.clone(), zstd(a), skippable, zstd(b)]),
            ("xz with padding", vec![xz(a), vec![0; 8], xz(b), vec![0; 4]]),
            ("gzip with padding", vec![gzip(a), gzip(b), vec![0; 511]]),
        ] {
            let packed = parts.concat();
            assert_eq!(unpack(packed.clone()).unwrap(), plain, "{name}");
            let error = unpack([&packed[..], b"x"].concat()).expect_err(name);
            assert!(error.to_string().contains(&format!("offset {}", packed.len())), "{error}");
        }
    }

    #[test]
    fn the_version_of_the_kernel_is_in_the_module() {
        use SymbolVersions::{Absent, Present};
        for (modinfo, expected) in [
            ("name=x;vermagic=6.1-a SMP mod_unload modversions ;", Some(("6.1-a", Present))),
            ("vermagic=6.9.1 SMP preempt mod_unload ", Some(("6.9.1", Absent))),
            ("vermagic=;", None),
            ("depends=", None),
        ] {
            let expected = expected.map(|(version, versions)| (version.to_owned(), versions));
            assert_eq!(vermagic(&sample(modinfo)), expected, "{modinfo}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("text", b"not a module".to_vec()),
            ("cut header", sample("")[..40].to_vec()),
        ] {
            assert!(unpack(bytes).is_err(), "{name}");
        }
    }
}
