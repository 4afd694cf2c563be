//! The parts of an ELF file that decide how it is started: headers, interpreter, and the names
//! in its dynamic section.
//!
//! Format: elf(5); kernel `fs/binfmt_elf.c` for the limits of program headers and interpreter.
//! The file is not trusted. Only these parts are read, each of a bounded size, and the bytes
//! that are passed over on the way count, too ([`Budget`]).

use std::io::Read;

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::pod::slice_from_bytes;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use super::machine::HEADER;
use crate::tree::{Content, PATH_MAX};

/// Most bytes that reading of the files of one program may pass over.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes of a file that the kernel looks at to choose how to start it (`BINPRM_BUF_SIZE`,
/// `include/uapi/linux/binfmts.h`).
const HEAD: u64 = 256;
const _: () = assert!(HEAD >= HEADER as u64);
/// Most bytes of program headers that the kernel reads (`load_elf_phdrs`).
const HEADERS_MAX: usize = 1 << 16;
/// Most bytes of a dynamic section; that of a large program has 1 KiB.
const DYNAMIC_MAX: u64 = 1 << 20;
/// Most bytes of names that are read to find one; those of large libraries have 10 MiB.
const NAMES_MAX: u64 = 64 << 20;
/// Most libraries that one file may need.
const NEEDED_MAX: usize = 1024;
/// Most bytes of a list of directories.
const SEARCH_MAX: usize = 1 << 14;

/// Reason why a file is refused by the kernel or the dynamic linker.
pub(super) type Fault = &'static str;

const DAMAGED: Fault = "an ELF file with damaged headers: build or copy it again";
const NO_PROGRAM: Fault = "an ELF file that is no program, such as an object file: link it first";
const TOO_LARGE: Fault = "an ELF file with larger headers than any program has";

/// The bytes that may still be read or passed over.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BYTES_MAX }
    }
}

/// An ELF program or library.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// `PT_INTERP`: path of the dynamic linker.
    pub(super) interpreter: Option<Vec<u8>>,
    /// `DT_NEEDED`: names of libraries.
    pub(super) needed: Vec<Vec<u8>>,
    /// `DT_SONAME`: name by which others need it.
    pub(super) soname: Option<Vec<u8>>,
    /// `DT_RPATH`: directories of libraries, separated by colons.
    pub(super) rpath: Option<Vec<u8>>,
    /// `DT_RUNPATH`: likewise, with another rank.
    pub(super) runpath: Option<Vec<u8>>,
}

/// Reads up to `length` bytes from byte `at` on; fewer at the end of the file.
pub(super) fn part(
    content: &Content,
    at: u64,
    length: u64,
    budget: &mut Budget,
) -> Result<Vec<u8>> {
    let at = at.min(content.size());
    let length = length.min(content.size() - at);
    let cost = match content {
        Content::Stored(_) => at.saturating_add(length),
        _ => length,
    };
    let left = budget.left.checked_sub(cost);
    budget.left = left.context("its libraries have more than 1 GiB to read")?;
    let mut bytes = Vec::new();
    content.open_at(at)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads an ELF file, of which `head` has the first bytes.
///
/// # Errors
/// Contents that cannot be read; no budget.
pub(super) fn object(
    content: &Content,
    head: &[u8],
    budget: &mut Budget,
) -> Result<Result<Object, Fault>> {
    let mut file = ElfFile { content, budget };
    let is_64 = FileHeader64::<Endianness>::parse(head).is_ok();
    match is_64 {
        true => file.read::<FileHeader64<Endianness>>(head),
        false => file.read::<FileHeader32<Endianness>>(head),
    }
}

struct ElfFile<'a> {
    content: &'a Content,
    budget: &'a mut Budget,
}

/// Where a segment is: offset and size in the file, and address.
#[derive(Clone, Copy)]
struct Segment {
    kind: elf::ProgramType,
    offset: u64,
    size: u64,
    address: u64,
}

/// Entries of a dynamic section: offsets in the table of names.
#[derive(Default)]
struct Dynamic {
    /// Address of the table of names, and its size.
    names: Option<u64>,
    size: u64,
    needed: Vec<u64>,
    soname: Option<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
}

impl ElfFile<'_> {
    fn read<Elf>(&mut self, head: &[u8]) -> Result<Result<Object, Fault>>
    where
        Elf: FileHeader<Endian = Endianness>,
    {
        let Ok(header) = Elf::parse(head) else { return Ok(Err(DAMAGED)) };
        let Ok(endian) = header.endian() else { return Ok(Err(DAMAGED)) };
        if ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(endian)) {
            return Ok(Err(NO_PROGRAM));
        }
        let count = usize::from(header.e_phnum(endian));
        let size = count * size_of::<Elf::ProgramHeader>();
        if size > HEADERS_MAX {
            return Ok(Err(TOO_LARGE));
        }
        let table = self.part(header.e_phoff(endian).into(), size as u64)?;
        let Ok((table, _)) = slice_from_bytes::<Elf::ProgramHeader>(&table, count) else {
            return Ok(Err(DAMAGED));
        };
        let segments: Vec<_> = table.iter().map(|entry| segment(entry, endian)).collect();
        let mut object = Object::default();
        let of_kind = |kind| segments.iter().find(|segment| segment.kind == kind).copied();
        if let Some(Segment { offset, size, .. }) = of_kind(elf::PT_INTERP) {
            let bytes = self.part(offset, size.min(PATH_MAX as u64 + 1))?;
            match until_nul(&bytes) {
                Some(path) if !path.is_empty() => object.interpreter = Some(path.to_vec()),
                _ => return Ok(Err(DAMAGED)),
            }
        }
        let Some(Segment { offset, size, .. }) = of_kind(elf::PT_DYNAMIC) else {
            return Ok(Ok(object));
        };
        if size > DYNAMIC_MAX {
            return Ok(Err(TOO_LARGE));
        }
        let bytes = self.part(offset, size)?;
        let count = bytes.len() / size_of::<Elf::Dyn>();
        let Ok((entries, _)) = slice_from_bytes::<Elf::Dyn>(&bytes, count) else {
            return Ok(Err(DAMAGED));
        };
        let dynamic = dynamic(entries, endian);
        Ok(self.names(&dynamic, &segments, &mut object)?.map(|()| object))
    }

    /// Looks the names of a dynamic section up.
    fn names(
        &mut self,
        dynamic: &Dynamic,
        segments: &[Segment],
        object: &mut Object,
    ) -> Result<Result<(), Fault>> {
        let Dynamic { soname, rpath, runpath, .. } = *dynamic;
        let all = dynamic.needed.iter().copied().chain(soname).chain(rpath).chain(runpath);
        let Some(last) = all.max() else { return Ok(Ok(())) };
        if dynamic.needed.len() > NEEDED_MAX || last > NAMES_MAX {
            return Ok(Err(TOO_LARGE));
        }
        let Some(offset) = dynamic.names.and_then(|address| offset_of(address, segments)) else {
            return Ok(Err(DAMAGED));
        };
        let names = self.part(offset, dynamic.size.min(last + SEARCH_MAX as u64))?;
        let name = |at: u64, length_max: usize| {
            let rest = names.get(usize::try_from(at).ok()?..)?;
            until_nul(rest).filter(|name| name.len() <= length_max).map(<[u8]>::to_vec)
        };
        let needed = dynamic.needed.iter().map(|&at| name(at, PATH_MAX));
        let Some(needed) = needed.collect() else { return Ok(Err(DAMAGED)) };
        object.needed = needed;
        object.soname = soname.and_then(|at| name(at, PATH_MAX));
        object.rpath = rpath.and_then(|at| name(at, SEARCH_MAX));
        object.runpath = runpath.and_then(|at| name(at, SEARCH_MAX));
        Ok(Ok(()))
    }

    fn part(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        part(self.content, at, length, self.budget)
    }
}

fn segment<P: ProgramHeader<Endian = Endianness>>(entry: &P, endian: Endianness) -> Segment {
    let (offset, size) = entry.file_range(endian);
    Segment { kind: entry.p_type(endian), offset, size, address: entry.p_vaddr(endian).into() }
}

fn dynamic<D: Dyn<Endian = Endianness>>(entries: &[D], endian: Endianness) -> Dynamic {
    let mut found = Dynamic::default();
    for entry in entries {
        let value = entry.val(endian);
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => found.needed.push(value),
            elf::DT_STRTAB => found.names = Some(value),
            elf::DT_STRSZ => found.size = value,
            elf::DT_SONAME => found.soname = Some(value),
            elf::DT_RPATH => found.rpath = Some(value),
            elf::DT_RUNPATH => found.runpath = Some(value),
            _ => {}
        }
    }
    found
}

/// Offset in the file of what is loaded at `address`.
fn offset_of(address: u64, segments: &[Segment]) -> Option<u64> {
    let inside = |segment: &Segment| {
        let into = address.checked_sub(segment.address)?;
        (segment.kind == elf::PT_LOAD && into < segment.size).then_some(into)?;
        segment.offset.checked_add(into)
    };
    segments.iter().find_map(inside)
}

/// The bytes before the first NUL; `None` if there is none.
fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    bytes.get(..end)
}

/// The first bytes of a file, enough for its ELF header and the first line of a script.
pub(super) fn head(content: &Content, budget: &mut Budget) -> Result<Vec<u8>> {
    part(content, 0, HEAD, budget)
}
