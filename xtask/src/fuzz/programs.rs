//! Target for programs of images: ELF files, scripts, and the configuration of the dynamic
//! linker, all in one tree.

use anyhow::{Result, ensure};
use image::elf::samples::{NEEDED, RPATH, RUNPATH, SONAME, Sample};
use image::elf::{Surroundings, check_in};
use image::tree::{Content, Kind, Meta, Tree};

use super::input::Answer;

/// Words of lists of directories, of scripts and of the configuration.
pub(super) const WORDS: &[&str] =
    &["$ORIGIN", "${LIB}", ":", "/", "..", "\0", "#!", "/p", "include ", "*.conf", "liba.so", "\n"];

/// Paths at which the tree of an input has the whole input: the program, libraries of it, and
/// the configuration that its dynamic linker reads.
const PATHS: &[&str] = &[
    "p",
    "lib/liba.so",
    "x/lib/libb.so",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d/a.conf",
    "etc/ld-musl-x86_64.path",
];
/// Dynamic linkers of the tree.
const LINKERS: &[&str] = &["lib64/ld-linux-x86-64.so.2", "lib/ld-musl-x86_64.so.1"];

/// Seeds: programs for glibc and musl, of 64 and 32 bits, and a script.
pub(super) fn programs() -> Vec<Vec<u8>> {
    let linked = |interpreter, names| Sample { machine: 62, bits: 64, interpreter, names };
    let names: &[(u64, &str)] = &[
        (NEEDED, "liba.so"),
        (NEEDED, "libb.so"),
        (NEEDED, "/lib/../lib/liba.so"),
        (SONAME, "libc.so"),
        (RPATH, "/none:$ORIGIN/x/$LIB"),
    ];
    let runpath: &[(u64, &str)] =
        &[(NEEDED, "libb.so"), (RUNPATH, "$ORIGIN/x/lib:${ORIGIN}/../x/lib")];
    vec![
        linked(Some("/lib64/ld-linux-x86-64.so.2"), names).bytes(),
        linked(Some("/lib64/ld-linux-x86-64.so.2"), runpath).bytes(),
        linked(Some("/lib/ld-musl-x86_64.so.1"), names).bytes(),
        linked(None, &[]).bytes(),
        Sample { machine: 3, bits: 32, interpreter: Some("/p"), names }.bytes(),
        b"#!/p\ninclude /etc/ld.so.conf.d/*.conf ld.so.*\n/x/lib:/lib=libc6\n".to_vec(),
    ]
}

/// Checks an input as a program. The check must end, whatever it finds.
pub(super) fn check(bytes: &[u8]) -> Result<Answer> {
    let meta = || Meta { permissions: 0o755, ..Meta::default() };
    let mut tree = Tree::new(meta());
    for path in PATHS {
        tree.put(path.as_bytes(), meta(), Kind::File(Content::Bytes(bytes.into())))?;
    }
    let linker = Sample { machine: 62, bits: 64, interpreter: None, names: &[] }.bytes();
    for path in LINKERS {
        let content = Content::Bytes(linker.as_slice().into());
        tree.put(path.as_bytes(), meta(), Kind::File(content))?;
    }
    Ok(match check_in(&tree, b"/p", &Surroundings::default()) {
        Ok(findings) => {
            let mut lines = findings.iter().map(ToString::to_string);
            let steers = lines.any(|line| line.contains(char::is_control));
            ensure!(!steers, "a line that steers a terminal");
            Answer::Accepted
        }
        Err(_) => Answer::Refused,
    })
}
