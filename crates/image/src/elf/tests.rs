//! Programs that are made here, programs of this host, and damaged ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::root_dir::RootDir;
use proptest::prelude::*;

use super::samples::{NEEDED, RPATH, RUNPATH, SONAME, Sample};
use super::*;
use crate::sample::{has, skip};
use crate::tree::{HostDirectory, Meta, directory};

const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";
const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

fn meta() -> Meta {
    Meta { permissions: 0o755, ..Meta::default() }
}

/// Names of a dynamic section.
type Names<'a> = &'a [(u64, &'a str)];

/// A program for x86-64.
fn program(interpreter: Option<&str>, names: Names) -> Vec<u8> {
    Sample { machine: 62, bits: 64, interpreter, names }.bytes()
}

fn library(names: Names) -> Vec<u8> {
    program(None, names)
}

fn arm(interpreter: Option<&str>, names: Names) -> Vec<u8> {
    Sample { machine: 183, bits: 64, interpreter, names }.bytes()
}

fn x86_32(interpreter: Option<&str>, names: Names) -> Vec<u8> {
    Sample { machine: 3, bits: 32, interpreter, names }.bytes()
}

/// A tree of files; text that begins with `->` is a link.
fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new(meta());
    for (path, bytes) in files {
        let kind = match bytes.strip_prefix(b"->") {
            Some(target) => Kind::Symlink(target.into()),
            None => Kind::File(Content::Bytes(bytes.as_slice().into())),
        };
        tree.put(path.as_bytes(), meta(), kind).unwrap();
    }
    tree
}

fn amd64() -> Surroundings<'static> {
    Surroundings { machine: Machine::of_platform("amd64"), ..Surroundings::default() }
}

fn findings(tree: &Tree, path: &str) -> Vec<String> {
    let found = check_in(tree, path.as_bytes(), &amd64()).unwrap();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn programs_and_scripts_are_told_apart() {
    let script = |interpreter: &str| format!("#!{interpreter}\nexit\n").into_bytes();
    let mut tree = tree(&[
        ("bin/static", program(None, &[])),
        ("bin/linked", program(Some(LINKER), &[])),
        ("bin/arm", arm(None, &[])),
        ("bin/small", x86_32(None, &[])),
        ("bin/cut", program(None, &[])[..100].to_vec()),
        ("bin/script", script("/sbin/sh -e")),
        ("sbin", b"->bin".to_vec()),
        ("bin/sh", b"->static".to_vec()),
        ("bin/lost", script("/bin/bash")),
        ("bin/crlf", b"#!/bin/sh\r\nexit\r\n".to_vec()),
        ("bin/empty-line", b"#! \n".to_vec()),
        ("bin/text", b"exit\n".to_vec()),
        ("bin/empty", Vec::new()),
        ("bin/1", script("/bin/static")),
        ("bin/2", script("/bin/1")),
        ("bin/3", script("/bin/2")),
        ("bin/4", script("/bin/3")),
        ("bin/5", script("/bin/4")),
        ("bin/loop", script("/bin/loop")),
        ("bin/by-arm", script("/bin/arm")),
        ("bin/plain", program(None, &[])),
        ("bin/dangling", b"->none".to_vec()),
    ]);
    tree.put(b"bin/fifo", meta(), Kind::Fifo).unwrap();
    tree.put(b"bin/dir", meta(), directory()).unwrap();
    let plain = tree.find(b"bin/plain").unwrap();
    tree.node_mut(plain).meta.permissions = 0o644;
    let mut object = program(None, &[]);
    object[16] = 1;
    tree.put(b"bin/object", meta(), Kind::File(Content::Bytes(object.into()))).unwrap();
    #[rustfmt::skip]
    let cases = [
        ("/bin/static", ""),
        ("bin/static", ""),
        ("/sbin/sh", ""),
        ("/bin/small", ""),
        ("/bin/script", ""),
        ("/bin/4", ""),
        ("/bin/linked", "/bin/linked is dynamically linked and the image has no /lib64/ld-linux-x86-64.so.2: link it statically (Go: CGO_ENABLED=0; Rust: --target x86_64-unknown-linux-musl; C: -static), or put the libraries into the image"),
        ("/bin/arm", "/bin/arm is for another machine, 64-bit Arm, than the x86-64 that is needed: take or build the one for x86-64"),
        ("/bin/by-arm", "/bin/arm is for another machine, 64-bit Arm, than the x86-64 that is needed: take or build the one for x86-64"),
        ("/bin/lost", "/bin/lost is a script, and the image has no /bin/bash: correct its first line, or put the interpreter into the image"),
        ("/bin/crlf", "/bin/crlf is a script, and the image has no /bin/sh\\r: its lines end with CR LF; save it with LF alone"),
        ("/bin/cut", "/bin/cut is an ELF file with damaged headers: build or copy it again"),
        ("/bin/object", "/bin/object is an ELF file that is no program, such as an object file: link it first"),
        ("/bin/empty-line", "/bin/empty-line is a script whose first line has no interpreter after #!"),
        ("/bin/text", "/bin/text is neither an ELF program nor a script: a script begins with #! and its interpreter"),
        ("/bin/empty", "/bin/empty is neither an ELF program nor a script: a script begins with #! and its interpreter"),
        ("/bin/5", "/bin/static is a script whose interpreter is a script, and so on: the kernel follows four"),
        ("/bin/loop", "/bin/loop is a script whose interpreter is a script, and so on: the kernel follows four"),
        ("/bin/plain", "/bin/plain is not executable: give it the mode 0755"),
        ("/bin/dir", "/bin/dir is a directory, not a program"),
        ("/bin/fifo", "/bin/fifo is a special file, not a program"),
        ("/bin/none", "/bin/none is missing in the image: put it there, or correct the path"),
        ("/bin/dangling", "/bin/dangling is missing in the image: put it there, or correct the path"),
    ];
    for (path, expected) in cases {
        let expected: Vec<&str> = (!expected.is_empty()).then_some(expected).into_iter().collect();
        assert_eq!(findings(&tree, path), expected, "{path}");
    }
    assert_eq!(check_in(&tree, b"bin/arm", &Surroundings::default()).unwrap(), []);
}

#[test]
fn libraries_are_found_by_the_rules_of_the_linker() {
    /// Name of the case, files besides the linker, and the beginnings of the findings.
    type Case<'a> = (&'a str, Vec<(&'a str, Vec<u8>)>, Vec<String>);
    let a: Names = &[(NEEDED, "liba.so")];
    let usual = || ("bin/p", program(Some(LINKER), a));
    let loader = || ("lib64/ld-linux-x86-64.so.2", library(&[]));
    let with = |names: Names| ("opt/p/bin/p", program(Some(LINKER), names));
    let text = |text: &str| text.as_bytes().to_vec();
    let run = |path: &'static str| {
        let names: &[(u64, &str)] = &[(NEEDED, "liba.so"), (RUNPATH, path)];
        with(names)
    };
    let missing = |by: &str, name: &str| format!("{by} needs the library {name},");
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("missing",           vec![usual()], vec![missing("/bin/p", "liba.so")]),
        ("/usr/lib",          vec![usual(), ("usr/lib/liba.so", library(&[]))], vec![]),
        ("/lib64",            vec![usual(), ("lib64/liba.so", library(&[]))], vec![]),
        ("multiarch",         vec![usual(), ("usr/lib/x86_64-linux-gnu/liba.so", library(&[]))], vec![]),
        ("a link",            vec![usual(), ("lib/liba.so", text("->/opt/liba.so.1")), ("opt/liba.so.1", library(&[]))], vec![]),
        ("a dangling link",   vec![usual(), ("lib/liba.so", text("->liba.so.1"))], vec![missing("/bin/p", "liba.so")]),
        ("elsewhere",         vec![usual(), ("opt/liba.so", library(&[]))], vec![missing("/bin/p", "liba.so")]),
        ("configured",        vec![usual(), ("opt/liba.so", library(&[])), ("etc/ld.so.conf", text("# /x\n  /opt # y"))], vec![]),
        ("included",          vec![usual(), ("opt/liba.so", library(&[])), ("etc/ld.so.conf", text("include ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf")), ("etc/ld.so.conf.d/x.conf", text("/y:/opt=libc6\n"))], vec![]),
        ("not included",      vec![usual(), ("opt/liba.so", library(&[])), ("etc/ld.so.conf", text("include /etc/*.d/*.conf\nhwcap 1 /opt")), ("etc/ld.so.conf.d/.x.conf", text("/opt"))], vec![missing("/bin/p", "liba.so")]),
        ("another machine first", vec![usual(), ("lib64/liba.so", arm(None, &[])), ("lib/liba.so", library(&[]))], vec![]),
        ("another machine",   vec![usual(), ("lib64/liba.so", x86_32(None, &[]))], vec!["/lib64/liba.so is for another machine, 32-bit x86".into()]),
        ("a linker script",   vec![usual(), ("lib64/liba.so", text("GROUP ( /lib/liba.so.1 )"))], vec![missing("/bin/p", "liba.so")]),
        ("of a library",      vec![usual(), ("lib/liba.so", library(&[(NEEDED, "libb.so")]))], vec![missing("/lib/liba.so", "libb.so")]),
        ("in a circle",       vec![usual(), ("lib/liba.so", library(&[(NEEDED, "libb.so"), (NEEDED, "liba.so"), (NEEDED, "ld-linux-x86-64.so.2")])), ("lib/libb.so", library(a))], vec![]),
        ("by its soname",     vec![("bin/p", program(Some(LINKER), &[(NEEDED, "/opt/x.so"), (NEEDED, "libb.so")])), ("opt/x.so", library(&[(SONAME, "liba.so")])), ("lib/libb.so", library(a))], vec![]),
        ("by its path",       vec![("bin/p", program(Some(LINKER), &[(NEEDED, "/opt/none.so")]))], vec![missing("/bin/p", "/opt/none.so")]),
        ("a damaged library", vec![usual(), ("lib/liba.so", library(a)[..99].to_vec())], vec!["/lib/liba.so is an ELF file with damaged headers".into()]),
        ("runpath",           vec![run("/x:$ORIGIN/../lib"), ("opt/p/lib/liba.so", library(&[]))], vec![]),
        ("runpath by $LIB",   vec![run("${ORIGIN}/../$LIB"), ("opt/p/lib/x86_64-linux-gnu/liba.so", library(&[]))], vec![]),
        ("rpath",             vec![with(&[(NEEDED, "liba.so"), (RPATH, "/opt/p/lib")]), ("opt/p/lib/liba.so", library(&[]))], vec![]),
        ("rpath of the loader", vec![with(&[(NEEDED, "liba.so"), (RPATH, "/opt/p/lib")]), ("opt/p/lib/liba.so", library(&[(NEEDED, "libb.so")])), ("opt/p/lib/libb.so", library(&[]))], vec![]),
        ("runpath is not inherited", vec![run("/opt/p/lib"), ("opt/p/lib/liba.so", library(&[(NEEDED, "libb.so")])), ("opt/p/lib/libb.so", library(&[]))], vec![missing("/opt/p/lib/liba.so", "libb.so")]),
        ("runpath hides rpath", vec![with(&[(NEEDED, "liba.so"), (RPATH, "/opt/p/lib"), (RUNPATH, "/x")]), ("opt/p/lib/liba.so", library(&[]))], vec![missing("/opt/p/bin/p", "liba.so")]),
        ("origin of a link",  vec![run("$ORIGIN/../lib"), ("bin/p", text("->../opt/p/bin/p")), ("opt/p/lib/liba.so", library(&[]))], vec![]),
    ];
    for (name, mut files, expected) in cases {
        files.push(loader());
        let tree = tree(&files);
        let path = if tree.find(b"bin/p").is_some() { "/bin/p" } else { "/opt/p/bin/p" };
        let found = findings(&tree, path);
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }
}

#[test]
fn musl_has_rules_of_its_own() {
    let names: Names =
        &[(NEEDED, "libc.musl-x86_64.so.1"), (NEEDED, "libpthread.so.0"), (NEEDED, "libz.so.1")];
    let path: Names = &[(NEEDED, "libz.so.1"), (RUNPATH, "/opt")];
    let loader = || ("lib/ld-musl-x86_64.so.1", library(&[]));
    let p = |names| ("bin/p", program(Some(MUSL), names));
    let needs_b: Names = &[(NEEDED, "libb.so")];
    #[rustfmt::skip]
    let cases = [
        ("missing",        vec![p(names)], 1),
        ("/usr/local/lib", vec![p(names), ("usr/local/lib/libz.so.1", library(&[]))], 0),
        ("/lib64",         vec![p(names), ("lib64/libz.so.1", library(&[]))], 1),
        ("configured",     vec![p(names), ("x/libz.so.1", library(&[])), ("etc/ld-musl-x86_64.path", b"/y:/z\n/x\n".to_vec())], 0),
        ("runpath is inherited", vec![p(path), ("opt/libz.so.1", library(needs_b)), ("opt/libb.so", library(&[]))], 0),
    ];
    for (name, mut files, count) in cases {
        files.push(loader());
        let found = findings(&tree(&files), "/bin/p");
        assert_eq!(found.len(), count, "{name}: {found:?}");
    }
}

#[test]
fn interpreters_and_the_environment_count() {
    let p = || ("bin/p", program(Some(LINKER), &[(NEEDED, "liba.so")]));
    let other = tree(&[p(), ("lib64/ld-linux-x86-64.so.2", arm(None, &[]))]);
    assert!(findings(&other, "bin/p")[0].starts_with("/lib64/ld-linux-x86-64.so.2 is for another"));
    let text = tree(&[p(), ("lib64/ld-linux-x86-64.so.2", b"#!/bin/p".to_vec())]);
    assert!(findings(&text, "bin/p")[0].contains("neither an ELF program nor a script"));
    let tree = tree(&[
        p(),
        ("lib64/ld-linux-x86-64.so.2", library(&[])),
        ("opt/lib/liba.so", library(&[])),
    ]);
    assert_eq!(findings(&tree, "bin/p").len(), 1);
    let surroundings = Surroundings { library_path: b":/x:/opt/lib", ..amd64() };
    assert_eq!(check_in(&tree, b"bin/p", &surroundings).unwrap(), []);
}

/// The libraries of this host, by reference, and the program at `path`.
fn tree_of_host(path: &Path) -> Tree {
    let root = Arc::new(RootDir::open("/".as_ref()).unwrap());
    let mut tree = Tree::new(meta());
    let mut add = |from: &Path| {
        let Ok(metadata) = from.symlink_metadata() else { return };
        let kind = if metadata.is_symlink() {
            use std::os::unix::ffi::OsStrExt;
            Kind::Symlink(std::fs::read_link(from).unwrap().as_os_str().as_bytes().into())
        } else if metadata.is_file() {
            let above = from.parent().unwrap().strip_prefix("/").unwrap();
            let directory = HostDirectory { root: Arc::clone(&root), path: above.into() };
            let name = from.file_name().unwrap().as_encoded_bytes().into();
            Kind::File(Content::Host { directory: Arc::new(directory), name, size: metadata.len() })
        } else {
            return;
        };
        tree.put(from.as_os_str().as_encoded_bytes(), meta(), kind).unwrap();
    };
    let list = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    for above in ["/lib", "/lib64", "/usr", "/usr/lib", "/usr/lib64"] {
        add(above.as_ref());
    }
    let libraries = ["/usr/lib", "/usr/lib64", "/lib", "/lib64"].map(PathBuf::from);
    let tuples = Machine::host().unwrap().tuples();
    let tuples = tuples.iter().flat_map(|tuple| libraries.clone().map(|above| above.join(tuple)));
    let real = libraries.iter().cloned().chain(tuples).filter_map(|path| path.canonicalize().ok());
    for directory in real {
        for file in list(&directory) {
            if file.as_os_str().as_encoded_bytes().windows(3).any(|part| part == b".so") {
                add(&file);
            }
        }
    }
    add("/etc/ld.so.conf".as_ref());
    for path in list("/etc/ld.so.conf.d".as_ref()) {
        add(&path);
    }
    add(path);
    tree
}

#[test]
fn programs_of_this_host_run_with_its_libraries() {
    let ls = Path::new("/bin/ls").canonicalize().unwrap();
    let mut tree = tree_of_host(&ls);
    let path = ls.as_os_str().as_encoded_bytes();
    assert_eq!(check(&tree, path).unwrap(), []);
    assert_eq!(check(&tree, b"/none").unwrap().len(), 1);
    // This test is dynamically linked with glibc or musl, and has no libraries of its own.
    let own = std::fs::read("/proc/self/exe").unwrap();
    tree.put(b"own", meta(), Kind::File(Content::Bytes(own.into()))).unwrap();
    assert_eq!(check(&tree, b"/own").unwrap(), []);
    let mut bare = Tree::new(meta());
    let Kind::File(content) = tree.node(tree.find(path).unwrap()).kind.clone() else { panic!() };
    bare.put(b"ls", meta(), Kind::File(content)).unwrap();
    let found = check(&bare, b"/ls").unwrap();
    assert!(matches!(found[..], [Finding::MissingInterpreter { .. }]), "{found:?}");
    let other = Surroundings { machine: Machine::of_platform("s390x"), ..Surroundings::default() };
    assert!(matches!(check_in(&bare, b"/ls", &other).unwrap()[..], [Finding::OtherMachine { .. }]));
}

/// Programs that need nothing: the guest's own, if it is built, and one of the C compiler.
#[test]
fn static_programs_need_nothing() {
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/init");
    let dir = tempfile::tempdir().unwrap();
    let compiled = dir.path().join("static");
    let mut programs = vec![init];
    if has("musl-gcc") {
        let source = dir.path().join("x.c");
        std::fs::write(&source, "int main(void) { return 0; }").unwrap();
        let mut gcc = std::process::Command::new("musl-gcc");
        gcc.arg("-static").arg("-o").arg(&compiled).arg(&source);
        assert!(gcc.status().unwrap().success());
        programs.push(compiled);
    }
    programs.retain(|path| path.exists());
    if programs.is_empty() {
        return skip("there is no static program");
    }
    for path in programs {
        let bytes = std::fs::read(&path).unwrap();
        let tree = tree(&[("program", bytes)]);
        assert_eq!(check(&tree, b"/program").unwrap(), [], "{}", path.display());
    }
}

#[test]
fn the_search_is_bounded() {
    let names: Vec<String> = (0..1000).map(|number| format!("lib{number}.so")).collect();
    let needed: Vec<(u64, &str)> = names.iter().map(|name| (NEEDED, name.as_str())).collect();
    let with = |path: &str, more: usize| {
        let needed = needed.iter().copied().chain(needed[..more].iter().copied());
        let names: Vec<_> = needed.chain([(RUNPATH, path)]).collect();
        let program = program(Some(LINKER), &names);
        let tree = tree(&[("p", program), ("lib64/ld-linux-x86-64.so.2", library(&[]))]);
        check_in(&tree, b"p", &amd64()).map(|found| found.len())
    };
    assert_eq!(with("/x", 24).unwrap(), 1000);
    // A program with more libraries than any has is refused.
    assert_eq!(with("/x", 25).unwrap(), 1);
    for path in ["/x:".repeat(20), "$ORIGIN/${LIB}:".repeat(30)] {
        let error = format!("{:#}", with(&path, 0).unwrap_err());
        assert_eq!(error, "/p: its libraries are looked for in too many directories", "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damage of any kind is a finding, or an error, or nothing; the check ends.
    #[test]
    fn damaged_programs_are_refused_or_checked(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        is_64 in any::<bool>(),
    ) {
        let names: Names = &[(NEEDED, "liba.so"), (RPATH, "$ORIGIN:/x"), (RUNPATH, "/lib:$LIB")];
        let (machine, bits) = if is_64 { (62, 64) } else { (3, 32) };
        let mut bytes = Sample { machine, bits, interpreter: Some(LINKER), names }.bytes();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let tree = tree(&[
            ("bin/p", bytes.clone()),
            ("lib/liba.so", bytes),
            ("lib64/ld-linux-x86-64.so.2", library(&[])),
        ]);
        let _ = check_in(&tree, b"/bin/p", &Surroundings::default());
    }
}
