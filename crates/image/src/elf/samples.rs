//! Small ELF files with headers and a dynamic section, for tests and for the fuzzer.
//!
//! Format: elf(5), little endian. The layout of a file:
//!
//! | Contents | Size |
//! |---|---|
//! | ELF header | 64, or 52 with 32 bits |
//! | program headers: load, interpreter, dynamic section | 3 × 56, or 3 × 32 |
//! | path of the interpreter, and names | as needed |
//! | dynamic section | 16 bytes an entry, or 8 |

/// Address at which the file is loaded.
const ADDRESS: u64 = 0x10_0000;

/// Description of a file.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// `e_machine`: 62 for x86-64, 3 for 32-bit x86, 183 for 64-bit Arm.
    pub machine: u16,
    /// Whether addresses have 64 or 32 bits.
    pub bits: u8,
    /// Path of the dynamic linker; `None` for a static program or a library.
    pub interpreter: Option<&'a str>,
    /// Entries of the dynamic section that are names, by their tags (`DT_NEEDED` is 1).
    pub names: &'a [(u64, &'a str)],
}

/// `DT_NEEDED`.
pub const NEEDED: u64 = 1;
/// `DT_SONAME`.
pub const SONAME: u64 = 14;
/// `DT_RPATH`.
pub const RPATH: u64 = 15;
/// `DT_RUNPATH`.
pub const RUNPATH: u64 = 29;

impl Sample<'_> {
    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let is_64 = self.bits == 64;
        let (header, entry) = if is_64 { (64, 56) } else { (52, 32) };
        let mut names = vec![0];
        let mut dynamic = Vec::new();
        for (tag, name) in self.names {
            dynamic.push((*tag, names.len() as u64));
            names.extend(name.as_bytes());
            names.push(0);
        }
        let interpreter = self.interpreter.map(|path| [path.as_bytes(), b"\0"].concat());
        let interpreter = interpreter.unwrap_or_default();
        let at_interpreter = header + 3 * entry;
        let at_names = at_interpreter + interpreter.len() as u64;
        let at_dynamic = (at_names + names.len() as u64).next_multiple_of(8);
        // DT_STRTAB, DT_STRSZ, DT_NULL.
        dynamic.extend([(5, ADDRESS + at_names), (10, names.len() as u64), (0, 0)]);
        let width = if is_64 { 16 } else { 8 };
        let size = at_dynamic + dynamic.len() as u64 * width;

        let mut out = Out { bytes: b"\x7fELF".to_vec(), is_64 };
        out.bytes.extend([if is_64 { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // Position-independent program or library: ET_DYN.
        out.halves(&[3, self.machine, 1, 0]);
        // Entry, program headers, section headers; flags; sizes and numbers.
        out.words(&[ADDRESS, header, 0]);
        out.halves(&[0, 0]);
        out.small(header);
        out.small(entry);
        out.halves(&[3, 0, 0, 0]);
        out.segment(1, 0, size);
        let kind = if self.interpreter.is_some() { 3 } else { 0 };
        out.segment(kind, at_interpreter, interpreter.len() as u64);
        let kind = if self.names.is_empty() { 0 } else { 2 };
        out.segment(kind, at_dynamic, size - at_dynamic);
        out.bytes.extend(interpreter);
        out.bytes.extend(names);
        while (out.bytes.len() as u64) < at_dynamic {
            out.bytes.push(0);
        }
        for (tag, value) in dynamic {
            out.words(&[tag, value]);
        }
        out.bytes
    }
}

struct Out {
    bytes: Vec<u8>,
    is_64: bool,
}

impl Out {
    fn halves(&mut self, numbers: &[u16]) {
        self.bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    /// A number that fits into 16 bits.
    fn small(&mut self, number: u64) {
        self.bytes.extend(number.to_le_bytes().iter().take(2));
    }

    fn words(&mut self, numbers: &[u64]) {
        let width = if self.is_64 { 8 } else { 4 };
        for number in numbers {
            self.bytes.extend(number.to_le_bytes().iter().take(width));
        }
    }

    fn segment(&mut self, kind: u16, offset: u64, size: u64) {
        // Flags are read and execute; they come last with 32 bits.
        const FLAGS: [u16; 2] = [5, 0];
        self.halves(&[kind, 0]);
        if self.is_64 {
            self.halves(&FLAGS);
        }
        self.words(&[offset, ADDRESS + offset, ADDRESS + offset, size, size]);
        if !self.is_64 {
            self.halves(&FLAGS);
        }
        self.words(&[1]);
    }
}
