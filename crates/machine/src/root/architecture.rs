//! The architecture of a root file system, by the programs in it.
//!
//! Format: elf(5), `e_machine`.

use std::os::unix::fs::FileExt;
use std::path::Path;

use files::lookup::Files;
use image::elf::{HEADER, Machine, machine};

use crate::plan::architecture::{ARCHITECTURES, Architecture};

/// Programs that tell the architecture of a root. One of them is in every root with a shell or an
/// init.
const PROGRAMS: &[&str] = &[
    "/bin/sh",
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/bin/busybox",
    "/usr/bin/env",
    "/usr/bin/bash",
    "/init",
];

/// A program of a root, and its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProgram {
    /// Path in the root.
    pub path: &'static str,
    /// The machine for which it is.
    pub machine: Machine,
}

impl KnownProgram {
    /// The first of `PROGRAMS` in the root `files` that is an ELF program; `None` if there is
    /// none.
    #[must_use]
    pub fn of(files: &dyn Files) -> Option<Self> {
        PROGRAMS.iter().find_map(|path| {
            let file = files.file(Path::new(path)).ok()?;
            let mut head = [0; HEADER];
            file.read_exact_at(&mut head, 0).ok()?;
            Some(Self { path, machine: machine(&head)? })
        })
    }

    /// The architecture of machines that run it; this host's comes first.
    #[must_use]
    pub fn architecture(self) -> Option<&'static Architecture> {
        let runs = |row: &&Architecture| {
            Machine::of_platform(row.platform).is_some_and(|machine| machine.runs(self.machine))
        };
        ARCHITECTURES.iter().find(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;

    /// First bytes of an ELF file of 64 bits, little endian, for `machine`.
    fn elf(machine: u8) -> Vec<u8> {
        let mut head = vec![0; HEADER];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[16..20].copy_from_slice(&[2, 0, machine, 0]);
        head
    }

    #[test]
    fn the_first_program_tells_the_architecture() {
        let (arm, x86, mips) = (elf(183), elf(62), elf(8));
        for (name, programs, expected) in [
            ("nothing", &[][..], None),
            ("shell", &[("bin/sh", &arm)][..], Some(("/bin/sh", Some("aarch64")))),
            ("init", &[("sbin/init", &x86)], Some(("/sbin/init", Some("x86_64")))),
            ("both", &[("sbin/init", &x86), ("bin/sh", &arm)], Some(("/bin/sh", Some("aarch64")))),
            (
                "script",
                &[("bin/sh", &b"#!/x".to_vec()), ("init", &arm)],
                Some(("/init", Some("aarch64"))),
            ),
            ("other", &[("bin/sh", &mips)], Some(("/bin/sh", None))),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (path, bytes) in programs {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            let found = KnownProgram::of(&RootDir::open(dir.path()).unwrap());
            let found =
                found.map(|found| (found.path, found.architecture().map(|found| found.arch)));
            assert_eq!(found, expected, "{name}");
        }
    }
}
