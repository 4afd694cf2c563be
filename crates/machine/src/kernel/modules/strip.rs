//! Removal of the parts of a module file that cost time at boot and that a small machine
//! does not use: signature, BTF, debugging information, calls of the tracer.
//!
//! A stock kernel runs 130 million instructions between `/init` and its payload. More than
//! 100 million of them check RSA signatures and parse `.BTF`; 10 million handle the calls
//! that [`trace`] removes.
//!
//! Formats: ELF relocatable objects (elf(5)). A signature follows the object, and its last
//! bytes are [`SIGNED`] (kernel: `include/linux/module_signature.h`).
//!
//! Invariant: sections keep their numbers, so that symbols, relocations and links stay
//! valid. The header of a dropped section becomes the header of an unused section
//! (`SHT_NULL`), which kernels skip. The contents of the other sections move together, in
//! the order of their headers; only calls of the tracer change.

use anyhow::{Context, Result, ensure};
use files::named::Named;
use object::elf::{self, FileHeader64, SectionFlags};
use object::pod::{bytes_of, bytes_of_slice};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, U32, U64};

use super::trace::{self, Section};

/// Selection of the modules that are stripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strip {
    /// All modules; they lose their signatures, which taints the kernel.
    All,
    /// Modules without a signature.
    Unsigned,
}

#[rustfmt::skip]
impl Named for Strip {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("all", Self::All, "all modules, also signed ones, which taints the kernel"),
        ("unsigned", Self::Unsigned, "only modules without a signature"),
    ];
}

/// Last bytes of a signed module (kernel: `MODULE_SIG_STRING`).
pub const SIGNED: &[u8] = b"~Module signature appended~\n";

/// Prefixes of the names of sections that no kernel reads.
const UNREAD: &[&[u8]] = &[b".debug_", b".zdebug_", b".comment", b".gnu_debug"];

/// Sections with type information for BPF programs; the kernel parses it.
const BTF: &[&[u8]] = &[b".BTF", b".BTF.base", b".BTF.ext"];

/// Section of a module that offers functions to BPF programs, as nf_conntrack does. The
/// section refers to [`BTF`]. If only BTF is removed, the kernel says "missing module BTF,
/// cannot register kfuncs", and the module may fail to load.
const BTF_USERS: &[u8] = b".BTF_ids";

/// Largest alignment in bytes of a section in the file. The kernel reads structures in
/// place, and no structure needs a larger alignment.
const ALIGNMENT_MAX: u64 = 64;

/// Header of an ELF file (`Elf64_Ehdr`).
type Header = FileHeader64<Endianness>;

impl Strip {
    /// Strips the unpacked `module`, if this selection includes it.
    ///
    /// # Errors
    /// Those of [`strip`].
    pub fn apply(self, module: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Strip::Unsigned if module.ends_with(SIGNED) => Ok(module),
            Strip::Unsigned | Strip::All => strip(&module),
        }
    }
}

/// Strips debugging information, BTF, the signature and calls of the tracer from `module`.
///
/// # Errors
/// `module` is not a whole 64-bit relocatable object.
pub fn strip(module: &[u8]) -> Result<Vec<u8>> {
    let mut header = *Header::parse(module).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    ensure!(header.e_type(endian) == elf::ET_REL, "not a relocatable object");
    ensure!(header.e_phnum(endian) == 0, "a relocatable object has no program headers");
    let mut sections = header.section_headers(endian, module)?.to_vec();
    let strings = header.section_strings(endian, module, &sections)?;
    let names: Vec<_> = sections
        .iter()
        .map(|section| section.name(endian, strings).context("a section's name is cut"))
        .collect::<Result<_>>()?;

    let calls = if header.e_machine(endian) == elf::EM_X86_64 { &[trace::CALLS][..] } else { &[] };
    let dropped = dropped(&names, &sections, endian, calls);

    let mut stripped = bytes_of(&header).to_vec();
    let mut kept = 0;
    for (section, is_dropped) in sections.iter_mut().zip(dropped) {
        if is_dropped {
            *section = unused();
        }
        if section.sh_type(endian) == elf::SHT_NULL {
            continue;
        }
        let data = section.data(endian, module).context("a section is cut")?;
        kept += data.len();
        ensure!(kept <= module.len(), "sections overlap");
        align(&mut stripped, section.sh_addralign(endian));
        section.sh_offset.set(endian, stripped.len() as u64);
        stripped.extend_from_slice(data);
    }
    if !calls.is_empty() {
        trace::remove_calls(&mut stripped, &sections, endian);
    }
    align(&mut stripped, ALIGNMENT_MAX);
    header.e_shoff.set(endian, stripped.len() as u64);
    stripped.extend_from_slice(bytes_of_slice(&sections));
    stripped[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
    Ok(stripped)
}

/// Tells for each section, by index, whether it is dropped. Sections named in `more` are
/// dropped, and so are the relocations of dropped sections.
fn dropped(names: &[&[u8]], sections: &[Section], endian: Endianness, more: &[&[u8]]) -> Vec<bool> {
    let needs_btf = names.contains(&BTF_USERS);
    let mut dropped: Vec<_> = names
        .iter()
        .zip(sections)
        .map(|(name, section)| {
            let is_loaded = section.sh_flags(endian).contains(elf::SHF_ALLOC);
            let is_unread = UNREAD.iter().any(|start| name.starts_with(start));
            is_unread && !is_loaded || BTF.contains(name) && !needs_btf || more.contains(name)
        })
        .collect();
    for (index, section) in sections.iter().enumerate() {
        if matches!(section.sh_type(endian), elf::SHT_REL | elf::SHT_RELA) {
            let target = usize::try_from(section.sh_info(endian)).ok();
            let goes = target.and_then(|target| dropped.get(target).copied());
            dropped[index] |= goes.unwrap_or_default();
        }
    }
    dropped
}

/// Header of an unused section (`SHT_NULL`).
fn unused() -> Section {
    let zero = U32::new(Endianness::Little, 0);
    let zeros = U64::new(Endianness::Little, 0);
    Section {
        sh_name: zero,
        sh_type: U32::new(Endianness::Little, elf::SHT_NULL),
        sh_flags: U64::new(Endianness::Little, SectionFlags::default()),
        sh_addr: zeros,
        sh_offset: zeros,
        sh_size: zeros,
        sh_link: zero,
        sh_info: zero,
        sh_addralign: zeros,
        sh_entsize: zeros,
    }
}

/// Pads `bytes` with zeros up to a multiple of `alignment`. An alignment of 0 means 1, and
/// a larger one than [`ALIGNMENT_MAX`] is reduced to it.
fn align(bytes: &mut Vec<u8>, alignment: u64) {
    let alignment = usize::try_from(alignment.clamp(1, ALIGNMENT_MAX)).unwrap_or(1);
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::{SHF_ALLOC, SHT_NOBITS, SHT_PROGBITS, SHT_RELA, SHT_STRTAB, SectionType};
    use proptest::prelude::*;

    const LOADED: SectionFlags = SHF_ALLOC;
    const UNLOADED: SectionFlags = SectionFlags(0);

    /// One section: name, type, flags, `sh_info`, contents.
    type SectionRow = (&'static str, SectionType, SectionFlags, u32, &'static [u8]);

    #[rustfmt::skip]
    const ROWS: &[SectionRow] = &[
        ("",                          elf::SHT_NULL, UNLOADED, 0, b""),
        (".text",                     SHT_PROGBITS,  LOADED,   0, b"code"),
        (".rela.text",                SHT_RELA,      UNLOADED, 1, b"relocations of the code "),
        (".debug_info",               SHT_PROGBITS,  UNLOADED, 0, b"debug"),
        (".rela.debug_info",          SHT_RELA,      UNLOADED, 3, b"relocations of debugging"),
        (".modinfo",                  SHT_PROGBITS,  LOADED,   0, b"license=GPL\0depends=\0"),
        (".comment",                  SHT_PROGBITS,  UNLOADED, 0, b"GCC"),
        ("__mcount_loc",              SHT_PROGBITS,  LOADED,   0, b"where functions begin"),
        (".BTF",                      SHT_PROGBITS,  UNLOADED, 0, b"types"),
        (".gnu.linkonce.this_module", SHT_PROGBITS,  LOADED,   0, b"struct module"),
        (".bss",                      SHT_NOBITS,    LOADED,   0, b""),
        (".shstrtab",                 SHT_STRTAB,    UNLOADED, 0, b""),
    ];

    /// Signed module with these sections; the last section gets the names of all.
    fn module(rows: &[SectionRow]) -> Vec<u8> {
        const LITTLE: Endianness = Endianness::Little;
        let mut file = vec![0; size_of::<Header>()];
        let mut names = Vec::new();
        let mut headers = Vec::new();
        for (name, kind, flags, info, data) in rows {
            let mut header = unused();
            header.sh_name.set(LITTLE, u32::try_from(names.len()).unwrap());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            let data = if *kind == SHT_STRTAB { &names[..] } else { data };
            header.sh_type.set(LITTLE, *kind);
            header.sh_flags.set(LITTLE, *flags);
            header.sh_info.set(LITTLE, *info);
            header.sh_addralign.set(LITTLE, 8);
            align(&mut file, 8);
            header.sh_offset.set(LITTLE, file.len() as u64);
            header.sh_size.set(LITTLE, data.len() as u64);
            file.extend_from_slice(data);
            headers.push(header);
        }
        align(&mut file, 8);
        let at = file.len();
        file.extend_from_slice(bytes_of_slice(&headers));
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        let number = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
        for (offset, value) in [
            (16, 1),
            (18, 62),
            (20, 1),
            (40, at),
            (52, 64),
            (58, 64),
            (60, rows.len()),
            (62, rows.len() - 1),
        ] {
            file[offset..offset + 2].copy_from_slice(&number(value));
        }
        file.extend_from_slice(b"PKCS#7 and its length");
        file.extend_from_slice(SIGNED);
        file
    }

    fn headers(file: &[u8]) -> Vec<Section> {
        let header = Header::parse(file).unwrap();
        header.section_headers(header.endian().unwrap(), file).unwrap().to_vec()
    }

    /// Names of the sections that `strip` drops. Checks that the other sections keep their
    /// contents, and their headers apart from the offset.
    fn dropped_of(rows: &[SectionRow]) -> Vec<&'static str> {
        const LITTLE: Endianness = Endianness::Little;
        let before = module(rows);
        let after = strip(&before).unwrap();
        assert!(after.len() < before.len());
        assert_eq!(strip(&after).unwrap(), after, "a second time");
        let (old, new) = (headers(&before), headers(&after));
        assert_eq!(old.len(), new.len());
        let mut dropped = Vec::new();
        for ((old, new), row) in old.iter().zip(&new).skip(1).zip(&rows[1..]) {
            if bytes_of(new) == bytes_of(&unused()) {
                dropped.push(row.0);
                continue;
            }
            assert_eq!(old.data(LITTLE, &before[..]), new.data(LITTLE, &after[..]), "{}", row.0);
            let mut moved = *old;
            moved.sh_offset = new.sh_offset;
            assert_eq!(bytes_of(&moved), bytes_of(new), "{}", row.0);
            assert_eq!(new.sh_offset.get(LITTLE) % 8, 0, "{}", row.0);
        }
        dropped
    }

    #[test]
    fn sections_that_no_kernel_needs_are_dropped() {
        let dropped = dropped_of(ROWS);
        assert_eq!(
            dropped,
            [".debug_info", ".rela.debug_info", ".comment", "__mcount_loc", ".BTF"]
        );
    }

    #[test]
    fn btf_stays_if_another_section_refers_to_it() {
        let mut rows = ROWS.to_vec();
        rows[5] = (".BTF_ids", SHT_PROGBITS, LOADED, 0, b"ids");
        assert_eq!(
            dropped_of(&rows),
            [".debug_info", ".rela.debug_info", ".comment", "__mcount_loc"]
        );
    }

    #[test]
    fn only_all_removes_signatures() {
        let signed = module(ROWS);
        let unsigned = signed[..signed.len() - SIGNED.len()].to_vec();
        let stripped = strip(&signed).unwrap();
        assert!(!stripped.windows(6).any(|part| part == b"PKCS#7"));
        assert_eq!(Strip::Unsigned.apply(signed.clone()).unwrap(), signed);
        assert_eq!(Strip::Unsigned.apply(unsigned).unwrap(), stripped);
        assert_eq!(Strip::All.apply(signed).unwrap(), stripped);
    }

    #[test]
    fn a_cut_or_wrong_object_is_an_error() {
        let good = module(ROWS);
        let whole = good.len() - SIGNED.len() - b"PKCS#7 and its length".len();
        for length in 0..whole {
            assert!(strip(&good[..length]).is_err(), "cut at {length}");
        }
        for (name, offset, byte, expected) in [
            ("32 bits", 4, 1, "not a 64-bit ELF file"),
            ("a program", 16, 2, "not a relocatable object"),
            ("program headers", 56, 1, "no program headers"),
        ] {
            let mut bad = good.clone();
            bad[offset] = byte;
            let error = strip(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        // Each of 12 sections claims the whole file: the output must not be 12 times as large.
        let mut sections = headers(&good);
        for section in &mut sections[1..11] {
            section.sh_type.set(Endianness::Little, SHT_PROGBITS);
            section.sh_offset.set(Endianness::Little, 0);
            section.sh_size.set(Endianness::Little, good.len() as u64);
        }
        let mut bad = good.clone();
        let at = whole - size_of_val(&sections[..]);
        bad[at..whole].copy_from_slice(bytes_of_slice(&sections));
        assert_eq!(strip(&bad).unwrap_err().to_string(), "sections overlap");
    }

    proptest! {
        /// Any input is an error, or becomes a module of at most about twice its size:
        /// sections may share bytes with headers.
        #[test]
        fn hostile_modules_do_no_harm(
            changes in prop::collection::vec((0_usize..1200, any::<u8>()), 1..20)
        ) {
            let mut bytes = module(ROWS);
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(stripped) = strip(&bytes) {
                let slack = ROWS.len() * usize::try_from(ALIGNMENT_MAX).unwrap();
                prop_assert!(stripped.len() <= 2 * bytes.len() + slack);
            }
        }
    }
}
