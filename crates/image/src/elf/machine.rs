//! The machine for which an ELF file is.
//!
//! Format: elf(5), `e_ident` and `e_machine`.

use std::fmt;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;

/// Bytes of the larger ELF header (`Elf64_Ehdr`).
pub const HEADER: usize = 64;

/// A machine: its instruction set, the size of its addresses, and the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `e_machine`.
    number: u16,
    bits: Bits,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    B32,
    B64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// A machine that has a name.
struct KnownMachine {
    machine: Machine,
    /// Its name for people.
    name: &'static str,
    /// Its name in OCI images and in Go (`GOARCH`).
    platform: &'static str,
    /// Its name in Rust (`std::env::consts::ARCH`), with which the names of targets begin.
    rust: &'static str,
    /// Names of the directories of its libraries in Debian (multiarch tuples).
    tuples: &'static [&'static str],
}

const fn of(number: elf::Machine, bits: Bits, order: Order) -> Machine {
    Machine { number: number.0, bits, order }
}

use Bits::{B32, B64};
use Order::{Big, Little};

#[rustfmt::skip]
const KNOWN: &[KnownMachine] = &[
    KnownMachine { machine: of(elf::EM_X86_64,    B64, Little), name: "x86-64",          platform: "amd64",   rust: "x86_64",      tuples: &["x86_64-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_386,       B32, Little), name: "32-bit x86",      platform: "386",     rust: "x86",         tuples: &["i386-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_AARCH64,   B64, Little), name: "64-bit Arm",      platform: "arm64",   rust: "aarch64",     tuples: &["aarch64-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_ARM,       B32, Little), name: "32-bit Arm",      platform: "arm",     rust: "arm",         tuples: &["arm-linux-gnueabihf", "arm-linux-gnueabi"] },
    KnownMachine { machine: of(elf::EM_RISCV,     B64, Little), name: "64-bit RISC-V",   platform: "riscv64", rust: "riscv64gc",   tuples: &["riscv64-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_PPC64,     B64, Little), name: "POWER, little endian", platform: "ppc64le", rust: "powerpc64le", tuples: &["powerpc64le-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_PPC64,     B64, Big),    name: "POWER, big endian", platform: "ppc64", rust: "powerpc64",   tuples: &["powerpc64-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_S390,      B64, Big),    name: "IBM Z",           platform: "s390x",   rust: "s390x",       tuples: &["s390x-linux-gnu"] },
    KnownMachine { machine: of(elf::EM_LOONGARCH, B64, Little), name: "64-bit LoongArch", platform: "loong64", rust: "loongarch64", tuples: &["loongarch64-linux-gnu"] },
];

/// The machine of this program.
#[cfg(target_endian = "little")]
const OWN_ORDER: Order = Little;
#[cfg(target_endian = "big")]
const OWN_ORDER: Order = Big;

/// The machine for which an ELF file with these first bytes is; [`HEADER`] bytes are enough.
/// `None` if they are no ELF header.
#[must_use]
pub fn machine(bytes: &[u8]) -> Option<Machine> {
    fn of<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8], bits: Bits) -> Option<Machine> {
        let header = Elf::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let order = if header.is_little_endian() { Little } else { Big };
        Some(Machine { number: header.e_machine(endian).0, bits, order })
    }
    of::<FileHeader64<Endianness>>(bytes, B64)
        .or_else(|| of::<FileHeader32<Endianness>>(bytes, B32))
}

impl Machine {
    /// The machine on which this program runs; `None` if it has no name here.
    #[must_use]
    pub fn host() -> Option<Self> {
        let is_own = |known: &&KnownMachine| {
            known.rust.starts_with(std::env::consts::ARCH) && known.machine.order == OWN_ORDER
        };
        KNOWN.iter().find(is_own).map(|known| known.machine)
    }

    /// The machine that OCI images and Go call `name`, such as `amd64`.
    #[must_use]
    pub fn of_platform(name: &str) -> Option<Self> {
        KNOWN.iter().find(|known| known.platform == name).map(|known| known.machine)
    }

    /// Whether Linux on this machine runs a program for the machine `program`. A 64-bit x86
    /// runs programs of 32 bits, and those that have 64-bit instructions with 32-bit addresses.
    #[must_use]
    pub fn runs(self, program: Self) -> bool {
        const X86: [u16; 2] = [elf::EM_386.0, elf::EM_X86_64.0];
        let is_small_x86 = program.bits == B32 && X86.contains(&program.number);
        self == program || (self.number == elf::EM_X86_64.0 && is_small_x86)
    }

    /// Names of the directories of its libraries in Debian.
    pub(super) fn tuples(self) -> &'static [&'static str] {
        self.known().map_or(&[], |known| known.tuples)
    }

    /// The target of Rust for static programs.
    pub(super) fn static_target(self) -> String {
        let rust = self.known().map_or("ARCH", |known| match known.rust {
            "x86" => "i686",
            rust => rust,
        });
        let abi = if rust == "arm" { "musleabihf" } else { "musl" };
        format!("{rust}-unknown-linux-{abi}")
    }

    fn known(self) -> Option<&'static KnownMachine> {
        KNOWN.iter().find(|known| known.machine == self)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.bits == B64 { 64 } else { 32 };
        let order = if self.order == Little { "little" } else { "big" };
        match self.known() {
            Some(known) => f.write_str(known.name),
            None => write!(f, "ELF machine {} ({bits} bits, {order} endian)", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_the_machine() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(machine(&own[..HEADER]), Machine::host());
        assert!(Machine::host().is_some());
        for bad in [&b""[..], b"#!/bin/sh", b"\x7fELF", &own[1..99], &own[..40]] {
            assert_eq!(machine(bad), None);
        }
    }

    #[test]
    fn machines_have_names_and_run_programs() {
        let named = |name| Machine::of_platform(name).unwrap_or_else(|| panic!("{name}"));
        for (machine, program, runs) in [
            ("amd64", "amd64", true),
            ("amd64", "386", true),
            ("386", "amd64", false),
            ("amd64", "arm64", false),
            ("arm64", "arm", false),
            ("ppc64", "ppc64le", false),
        ] {
            assert_eq!(named(machine).runs(named(program)), runs, "{machine} {program}");
        }
        assert_eq!(Machine::of_platform("vax"), None);
        let other = Machine { number: 75, bits: B32, order: Big };
        assert_eq!(other.to_string(), "ELF machine 75 (32 bits, big endian)");
        for (name, shown, target) in [
            ("amd64", "x86-64", "x86_64-unknown-linux-musl"),
            ("386", "32-bit x86", "i686-unknown-linux-musl"),
            ("arm", "32-bit Arm", "arm-unknown-linux-musleabihf"),
        ] {
            let machine = named(name);
            assert_eq!((machine.to_string().as_str(), &*machine.static_target()), (shown, target));
        }
    }
}
