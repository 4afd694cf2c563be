//! The interpreter of a program, from the program's first bytes.
//!
//! Formats: `#!` lines (kernel: fs/binfmt_script.c) and ELF in this machine's byte order (elf(5)).
//! The interpreter is checked before the boot becomes irreversible, because ENOENT and ENOEXEC of
//! execve(2) do not name the missing file.

/// Bytes of a program to pass to [`interpreter`]. The kernel reads 256 for a `#!` line;
/// linkers put the name of an ELF interpreter right after the program headers.
pub const HEAD: usize = 4096;

/// ELF machines (`e_machine`) that a kernel of x86_64 executes: `EM_X86_64`, `EM_386`.
#[cfg(target_arch = "x86_64")]
const MACHINES: &[u16] = &[62, 3];
/// ELF machines that a kernel of aarch64 executes: `EM_AARCH64`, `EM_ARM`.
#[cfg(target_arch = "aarch64")]
const MACHINES: &[u16] = &[183, 40];
/// ELF machines that a kernel of riscv64 executes: `EM_RISCV`.
#[cfg(target_arch = "riscv64")]
const MACHINES: &[u16] = &[243];
/// ELF machines that a kernel of powerpc64 executes: `EM_PPC64`.
#[cfg(target_arch = "powerpc64")]
const MACHINES: &[u16] = &[21];
/// ELF machines that a kernel of s390x executes: `EM_S390`.
#[cfg(target_arch = "s390x")]
const MACHINES: &[u16] = &[22];

/// Values of `EI_DATA`, the byte order of an ELF file: `ELFDATA2LSB`, `ELFDATA2MSB`.
const LITTLE: u8 = 1;
const BIG: u8 = 2;
/// The byte order of this machine, and what a program with the other one is.
const ORDER: (u8, &str) = if cfg!(target_endian = "little") {
    (LITTLE, "it is a big-endian program: wrong architecture")
} else {
    (BIG, "it is a little-endian program: wrong architecture")
};

/// The path of the interpreter of the program that starts with `head`. `None`: the program
/// needs none.
///
/// # Errors
/// The reason why no kernel of this machine can run the program.
pub fn interpreter(head: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    match head {
        [] => Err("it is empty"),
        [b'#', b'!', line @ ..] => script_interpreter(line).map(Some),
        [0x7f, b'E', b'L', b'F', ..] => elf_interpreter(head),
        _ => Err("it is no program: neither ELF nor a script that starts with #!"),
    }
}

fn script_interpreter(line: &[u8]) -> Result<&[u8], &'static str> {
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    line.split(is_blank).find(|word| !word.is_empty()).ok_or("its #! line names no interpreter")
}

fn elf_interpreter(head: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    const TRUNCATED: &str = "its ELF header is truncated";
    const PT_INTERP: usize = 3;
    let is_64 = match head.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Err("its ELF class is unknown"),
    };
    if head.get(5) != Some(&ORDER.0) {
        return Err(ORDER.1);
    }
    let machine = number(head, 18, 2).ok_or(TRUNCATED)?;
    if !MACHINES.iter().any(|&known| usize::from(known) == machine) {
        return Err("it is a program for another architecture");
    }
    // Offsets of e_phoff, e_phentsize, e_phnum; of p_offset and p_filesz; and
    // the width of an address (elf(5)).
    let (phoff, phentsize, phnum, p_offset, p_filesz, word) =
        if is_64 { (32, 54, 56, 8, 32, 8) } else { (28, 42, 44, 4, 16, 4) };
    let table = number(head, phoff, word).ok_or(TRUNCATED)?;
    let size = number(head, phentsize, 2).ok_or(TRUNCATED)?;
    let count = number(head, phnum, 2).ok_or(TRUNCATED)?;
    for index in 0..count {
        let entry = index.checked_mul(size).and_then(|offset| offset.checked_add(table));
        // The header lies beyond `head`; execve(2) decides.
        let Some(segment) = entry.and_then(|entry| head.get(entry..)) else { return Ok(None) };
        if number(segment, 0, 4) == Some(PT_INTERP) {
            let range = number(segment, p_offset, word).zip(number(segment, p_filesz, word));
            let text = range.and_then(|(offset, length)| head.get(offset..)?.get(..length));
            return Ok(text.map(|text| text.strip_suffix(b"\0").unwrap_or(text)));
        }
    }
    Ok(None)
}

/// The number of `width` bytes at `offset`, in the byte order of this machine.
fn number(bytes: &[u8], offset: usize, width: usize) -> Option<usize> {
    let digits = bytes.get(offset..)?.get(..width)?;
    let add = |value: u64, &byte: &u8| Some(value.checked_mul(256)? | u64::from(byte));
    let value = if ORDER.0 == LITTLE {
        digits.iter().rev().try_fold(0, add)
    } else {
        digits.iter().try_fold(0, add)
    };
    usize::try_from(value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn scripts() {
        for (head, expected) in [
            ("#!/bin/sh\necho", Ok("/bin/sh")),
            ("#! \t/usr/bin/env  python3\n", Ok("/usr/bin/env")),
            ("#!/bin/sh", Ok("/bin/sh")),
            ("#!\n/bin/sh", Err("its #! line names no interpreter")),
            ("echo", Err("it is no program: neither ELF nor a script that starts with #!")),
            ("", Err("it is empty")),
        ] {
            let expected = expected.map(|path| Some(path.as_bytes()));
            assert_eq!(interpreter(head.as_bytes()), expected, "{head}");
        }
    }

    /// This test program is a dynamic one, whose interpreter the host has.
    #[test]
    fn elf_programs() {
        let mut head = std::fs::read("/proc/self/exe").unwrap();
        head.truncate(HEAD);
        let path = interpreter(&head).unwrap().unwrap();
        assert!(std::path::Path::new(std::str::from_utf8(path).unwrap()).exists());

        head[18] = 8; // EM_MIPS
        assert_eq!(interpreter(&head), Err("it is a program for another architecture"));
        head[5] = 2;
        assert_eq!(interpreter(&head), Err("it is a big-endian program: wrong architecture"));
        assert_eq!(interpreter(&head[..5]), Err("it is a big-endian program: wrong architecture"));
        head[4] = 9;
        assert_eq!(interpreter(&head), Err("its ELF class is unknown"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            as_elf: bool,
        ) {
            if as_elf {
                let magic: Vec<u8> = [&b"\x7fELF\x02\x01"[..], &bytes].concat();
                bytes = magic;
            }
            let _ = interpreter(&bytes);
        }
    }
}
