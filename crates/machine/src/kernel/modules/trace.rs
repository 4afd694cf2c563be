//! Removal of the calls of the function tracer from a module: it then loads in half the
//! time, but its functions cannot be traced.
//!
//! In a kernel with ftrace every function begins with a call of `__fentry__`, and the
//! section `__mcount_loc` lists these calls (kernel doc: trace/ftrace-design.rst). While a
//! module loads, the kernel makes a record of each call, looks up the function's name and
//! replaces the call by a no-op. This module replaces the calls beforehand, and turns their
//! relocations into ones that do nothing (x86-64 psABI: `R_X86_64_NONE`).

use object::Endianness;
use object::elf::{self, SectionHeader64};
use object::read::elf::SectionHeader;

/// Section that lists the calls of the tracer.
pub const CALLS: &[u8] = b"__mcount_loc";

/// Symbol of the tracer.
const TRACER: &[u8] = b"__fentry__";
/// Operation code of the instruction `call rel32`; the operand follows (x86-64 ISA).
const CALL: u8 = 0xe8;
/// No-op with the length of a call and its operand (kernel: `x86_nops[5]`).
const NO_OP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

/// Size in bytes of an `Elf64_Rela`: `r_offset`, `r_info`, `r_addend`, 8 bytes each.
const RELOCATION: usize = 24;
/// Size in bytes of an `Elf64_Sym`; its first four bytes are `st_name`.
const SYMBOL: usize = 24;

/// Header of an ELF section (`Elf64_Shdr`).
pub(super) type Section = SectionHeader64<Endianness>;

/// Replaces the calls of the tracer in `module` by no-ops. The sections must not overlap.
/// Relocations that are cut or point out of the module are left alone: the kernel reports
/// them when it loads the module.
pub fn remove_calls(module: &mut [u8], sections: &[Section], endian: Endianness) {
    let Some(tracer) = tracer(module, sections, endian) else { return };
    for section in sections.iter().filter(|section| section.sh_type(endian) == elf::SHT_RELA) {
        let code = sections.get(section.sh_info(endian) as usize);
        let (Some(range), Some(code)) = (range(section, endian), code) else { continue };
        let entries = range.step_by(RELOCATION);
        for at in entries {
            remove_call(module, at, tracer, usize_of(code.sh_offset(endian)));
        }
    }
}

/// Replaces one call by a no-op and clears its relocation, if it is a call of the symbol
/// `tracer`. `at` is the offset of the relocation, `code` the offset of the section that it
/// changes. `None` if either lies outside of the module.
fn remove_call(module: &mut [u8], at: usize, tracer: u32, code: usize) -> Option<()> {
    let field = |at: usize| module.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
    let kinds = [elf::R_X86_64_PLT32, elf::R_X86_64_PC32].map(|kind| u64::from(kind.0));
    let (operand, info) = (usize_of(field(at)?), field(at + 8)?);
    let is_call = info >> 32 == u64::from(tracer) && kinds.contains(&(info & 0xffff_ffff));
    let start = code.checked_add(operand)?.checked_sub(1)?;
    let call = module.get_mut(start..)?.first_chunk_mut::<5>()?;
    if is_call && call[0] == CALL {
        *call = NO_OP;
        let symbol_only = (info >> 32 << 32).to_le_bytes();
        *module.get_mut(at + 8..)?.first_chunk_mut()? = symbol_only;
    }
    Some(())
}

/// Index of the tracer's symbol in the symbol table.
fn tracer(module: &[u8], sections: &[Section], endian: Endianness) -> Option<u32> {
    let table = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_SYMTAB)?;
    let names = sections.get(table.sh_link(endian) as usize)?.data(endian, module).ok()?;
    let symbols = table.data(endian, module).ok()?.chunks_exact(SYMBOL);
    let is_tracer = |symbol: &[u8]| {
        let name = symbol.first_chunk().copied().map(u32::from_le_bytes)?;
        let name = names.get(name as usize..)?.strip_prefix(TRACER)?;
        (name.first() == Some(&0)).then_some(())
    };
    u32::try_from(symbols.map(is_tracer).position(|found| found.is_some())?).ok()
}

/// Byte range of a section in the file.
fn range(section: &Section, endian: Endianness) -> Option<std::ops::Range<usize>> {
    let (start, size) = section.file_range(endian)?;
    Some(usize_of(start)..usize_of(start.checked_add(size)?))
}

/// Converts a file offset; a huge one becomes `usize::MAX`, which no slice contains.
fn usize_of(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code with three operands: of a call of the tracer, of another call, of a no-op.
    const CODE: &[u8] = &[0xe8, 0, 0, 0, 0, 0xe8, 1, 0, 0, 0, 0x90, 2, 0, 0, 0];

    #[test]
    fn only_calls_of_the_tracer_are_removed() {
        let plt = u64::from(elf::R_X86_64_PLT32.0);
        for (name, operand, symbol, kind, goes) in [
            ("the call", 1, 7, plt, true),
            ("another's", 6, 8, plt, false),
            ("no call", 11, 7, plt, false),
            ("an address", 1, 7, 1, false),
            ("before the code", 0, 7, plt, false),
            ("behind it", 1000, 7, plt, false),
            ("far away", u64::MAX, 7, plt, false),
        ] {
            let mut module = CODE.to_vec();
            let entry = [operand, symbol << 32 | kind, 0].map(u64::to_le_bytes);
            module.extend(entry.as_flattened());
            let before = module.clone();
            let _ = remove_call(&mut module, CODE.len(), 7, 0); // None: it lies outside
            assert_eq!(module.starts_with(&NO_OP), goes, "{name}");
            if goes {
                let info = &module[CODE.len() + 8..CODE.len() + 16];
                assert_eq!(info, (symbol << 32).to_le_bytes(), "{name}");
                assert_eq!(module[5..CODE.len()], CODE[5..], "{name}");
            } else {
                assert_eq!(module, before, "{name}");
            }
        }
    }
}
