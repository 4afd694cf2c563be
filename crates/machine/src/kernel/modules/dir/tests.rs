//! Tests with modules directories as distributions make them, and with damaged ones.

use files::root_dir::RootDir;

use super::super::file::sample;
use super::super::resolve::{ModuleRequest, load_order};
use super::*;

/// Paths in a modules directory, and the text of each.
type Listing<'a> = &'a [(&'a str, &'a str)];

/// Runs `check` in a root with these files in the modules directory [`DIR`]. The text of a
/// module is its `.modinfo`, with `;` for NUL.
fn with_files<T>(files: &[(&str, &str)], check: impl FnOnce(&dyn Files) -> T) -> T {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join(DIR);
    std::fs::create_dir_all(&dir).unwrap();
    for (path, text) in files {
        let (path, bytes) = (dir.join(path), text.as_bytes().to_vec());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = match name_of(path.to_str().unwrap()) {
            Some(_) if path.extension().is_some_and(|ending| ending == "zst") => {
                zstd::encode_all(&sample(text)[..], 1).unwrap()
            }
            Some(_) => sample(text),
            None => bytes,
        };
        std::fs::write(path, bytes).unwrap();
    }
    check(&RootDir::open(top.path()).unwrap())
}

/// Path of the modules directory.
const DIR: &str = "usr/lib/modules/6.1";

/// Load order for the required modules `names`, and the notes.
fn load(files: &[(&str, &str)], names: &[&str]) -> Result<(String, Vec<String>)> {
    with_files(files, |root| {
        let dir = ModulesDir::open(root, Path::new(DIR))?;
        let requests: Vec<_> = names.iter().map(|name| ModuleRequest::must(name)).collect();
        let order = load_order(&dir, &requests)?;
        for name in &order {
            dir.read(name)?;
        }
        let notes = dir.notes().lines().collect();
        Ok((order.join(" "), notes))
    })
}

#[test]
fn the_index_files_of_depmod_are_used() {
    let dep =
        "kernel/a-b.ko.zst: kernel/d.ko kernel/c.ko\nkernel/c.ko:\nkernel/d.ko: kernel/c.ko\n";
    let soft = "# comment\nsoftdep a_b pre: x post: y\nsoftdep gone pre: z\n";
    let mut files = vec![
        ("modules.dep", dep),
        ("modules.softdep", soft),
        ("modules.builtin", "kernel/fs/ext4/ext-4.ko\n"),
    ];
    let modules = ["kernel/a-b.ko.zst", "kernel/c.ko", "kernel/d.ko"];
    files.extend(modules.map(|path| (path, "")));
    with_files(&files, |root| {
        let dir = ModulesDir::open(root, Path::new(DIR)).unwrap();
        let Lookup::Module(module) = dir.lookup("a_b", Need::Must).unwrap() else { panic!() };
        assert_eq!(module.depends, ["c", "d"]);
        assert_eq!((module.soft_pre, module.soft_post), (vec!["x".into()], vec!["y".into()]));
        assert_eq!(dir.lookup("ext_4", Need::Must).unwrap(), Lookup::BuiltIn);
        assert_eq!(dir.lookup("gone", Need::Must).unwrap(), Lookup::Unknown);
        assert_eq!(dir.notes().lines().count(), 0);
    });
}

#[test]
fn a_bad_line_is_an_error_only_for_its_module() {
    let bad =
        "/etc/x.ko:\n../../y.ko:\nwhat is this\n\n# a comment: of ours\nkernel/z: kernel/b.ko\n";
    for (name, dep) in [
        ("before", format!("{bad}kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n")),
        ("behind", format!("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n{bad}")),
        ("CRLF", format!("{bad}kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n").replace('\n', "\r\n")),
        (
            "absolute",
            "/lib/modules/6.1/kernel/a.ko: /lib/modules/6.1/kernel/b.ko\nkernel/b.ko:".into(),
        ),
    ] {
        let files = [("modules.dep", &*dep), ("kernel/a.ko", ""), ("kernel/b.ko", "")];
        assert_eq!(load(&files, &["a"]).unwrap(), ("b a".into(), vec![]), "{name}");
        if name == "before" {
            for (module, line) in [("x", "line 1"), ("y", "line 2")] {
                let error = format!("{:#}", load(&files, &[module]).unwrap_err());
                assert!(error.contains(line) && error.contains("leads out"), "{error}");
            }
        }
    }
}

#[test]
fn a_module_missing_in_modules_dep_is_searched_for() {
    let unlisted = "modules.dep does not list a module that exists; run depmod: ";
    let elsewhere = "modules.dep has another path of a module; run depmod: ";
    #[rustfmt::skip]
    let cases: &[(&str, Listing, &str, &[&str])] = &[
        ("empty", &[("modules.dep", ""), ("kernel/a.ko.zst", "depends=b-b"), ("kernel/b-b.ko.zst", "")],
         "b_b a", &[unlisted]),
        ("empty, with an order", &[("modules.dep", ""), ("modules.order", "kernel/a.ko\n"), ("kernel/a.ko.zst", "")],
         "a", &[unlisted]),
        ("not in the order either", &[("modules.dep", ""), ("modules.order", "kernel/c.ko\n"), ("kernel/a.ko", "")],
         "a", &[unlisted]),
        ("no modules.builtin", &[("modules.dep", "kernel/c.ko:\n"), ("kernel/a.ko.zst", "")],
         "a", &[unlisted]),
        ("compressed ones left out", &[("modules.dep", "kernel/a.ko:\n"), ("kernel/a.ko", "depends=b"), ("kernel/b.ko.zst", "")],
         "b a", &[unlisted]),
        ("a dependency left out", &[("modules.dep", "kernel/a.ko: kernel/b.ko\n"), ("kernel/a.ko", ""), ("kernel/b.ko.zst", "")],
         "b a", &[unlisted]),
        ("built in since", &[("modules.dep", "kernel/a.ko:\n"), ("kernel/a.ko", "depends=b")],
         "a", &[]),
        ("compressed since", &[("modules.dep", "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n"), ("kernel/a.ko.zst", ""), ("kernel/b.ko", "")],
         "b a", &[]),
        ("unpacked since", &[("modules.dep", "kernel/a.ko.xz:\n"), ("kernel/a.ko", "")],
         "a", &[]),
        ("moved since", &[("modules.dep", "kernel/a.ko: kernel/c.ko\n"), ("extra/a.ko", "depends=b"), ("kernel/b.ko", "")],
         "b a", &[unlisted, elsewhere]),
        ("modules.dep.bin alone", &[("modules.dep.bin", "\u{1}"), ("kernel/a.ko", "")],
         "a", &[]),
    ];
    for (name, files, order, notes) in cases {
        let (found, said) = load(files, &["a"]).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(found, *order, "{name}");
        assert_eq!(said.len(), notes.len(), "{name}: {said:?}");
        for note in *notes {
            assert!(said.iter().any(|said| said.starts_with(note)), "{name}: {said:?}");
        }
    }
}

#[test]
fn updates_win_over_the_kernels_own_modules() {
    let own = ("kernel/a.ko", "");
    #[rustfmt::skip]
    let cases: &[(&str, Listing, &str)] = &[
        ("updates", &[own, ("updates/dkms/a.ko.zst", ""), ("extra/a.ko", "")], "updates/dkms/a.ko.zst"),
        ("extra", &[own, ("extra/a.ko", ""), ("weak-updates/a.ko", "")], "extra/a.ko"),
        ("others", &[own, ("weak-updates/a.ko", "")], "kernel/a.ko"),
        ("only others", &[("weak-updates/a.ko", ""), ("z/a.ko", "")], "weak-updates/a.ko"),
        ("an order", &[own, ("modules.order", "kernel/a.ko\n"), ("updates/a.ko", "")], "updates/a.ko"),
        ("an order, others", &[own, ("modules.order", "kernel/a.ko\n"), ("weak-updates/a.ko", "")], "kernel/a.ko"),
        ("over a built-in one", &[("modules.builtin", "kernel/a.ko\n"), ("updates/a.ko", "")], "updates/a.ko"),
        ("plain and compressed", &[own, ("kernel/a.ko.zst", "")], "kernel/a.ko"),
        ("modules.dep knows better", &[own, ("modules.dep", "kernel/a.ko:\n"), ("updates/a.ko", "")], "kernel/a.ko"),
    ];
    for (name, files, expected) in cases {
        with_files(files, |root| {
            let dir = ModulesDir::open(root, Path::new(DIR)).unwrap();
            let found = dir.file("a", Need::Must).unwrap();
            assert_eq!(found.as_deref(), Some(Path::new(expected)), "{name}");
        });
    }
}

#[test]
fn soft_dependencies_are_found_by_alias() {
    let a = ("kernel/a.ko", "softdep=pre: crypto-crc32c post: later");
    let generic = ("kernel/crc32c_generic.ko", "");
    let alias =
        ("modules.alias", "alias crypto-crc32c crc32c-intel\nalias crypto-crc32c crc32c_generic\n");
    let dep = ("modules.dep", "kernel/a.ko:\nkernel/crc32c_generic.ko:\nkernel/crc32c-intel.ko:\n");
    #[rustfmt::skip]
    let cases: &[(&str, Listing, &str)] = &[
        ("one of two exists", &[a, generic, alias, dep], "crc32c_generic a"),
        ("both", &[a, generic, alias, dep, ("kernel/crc32c-intel.ko", "")], "crc32c_intel crc32c_generic a"),
        ("built in", &[a, generic, alias, dep, ("modules.builtin.modinfo", "crc32c_generic.alias=crypto-crc32c\0")], "a"),
        ("depmod has not run", &[a, generic], "crc32c_generic a"),
        ("depmod has not run, without a prefix", &[("kernel/a.ko", "softdep=pre: crc32c"), generic], "crc32c_generic a"),
        ("depmod has not run, and nothing is found", &[("kernel/a.ko", "softdep=pre: crc32c"), ("kernel/crc32_generic.ko", "")], "a"),
        ("no module has the alias", &[a, dep, alias], "a"),
        ("of modules.softdep", &[("kernel/a.ko", ""), ("modules.softdep", "softdep a post: crypto_crc32c\n"), generic, alias, dep],
         "a crc32c_generic"),
        ("it cannot be loaded", &[a, ("kernel/crc32c_generic.ko", "depends=gone"), alias, ("modules.dep", "kernel/a.ko:\nkernel/crc32c_generic.ko: kernel/gone.ko\n")],
         "a"),
        ("weak ones are not loaded", &[("kernel/a.ko", "weakdep=crc32c_generic"), generic, dep], "a"),
    ];
    for (name, files, expected) in cases {
        let found = load(files, &["a"]);
        let (order, _) = found.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(order, *expected, "{name}");
    }
    let (order, _) = load(&[alias, generic, dep], &["crypto-crc32c"]).unwrap();
    assert_eq!(order, "crc32c_generic");
}

#[test]
fn other_directories_are_refused() {
    for (name, path, files, expected) in [
        ("empty", DIR, &[("readme", "")][..], "not a modules directory"),
        ("an empty index", DIR, &[("modules.dep", "\n")], "not a modules directory"),
        ("missing", "x", &[], "no such directory"),
        ("a file", "usr/lib/modules/6.1/x", &[("x", "")], "no such directory"),
    ] {
        let error = with_files(files, |root| ModulesDir::open(root, Path::new(path)).unwrap_err());
        assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
    }
}

#[test]
fn modules_order_avoids_a_search() {
    let files = [
        ("modules.order", "kernel/fs/fuse.ko\nkernel/net/gone.ko\nkernel/fs/b-c.ko\n../x.ko\n"),
        ("modules.builtin", "kernel/fs/ext4/ext4.ko\n"),
        ("kernel/fs/fuse.ko", ""),
        ("kernel/fs/b-c.ko.zst", ""),
        ("kernel/fs/unlisted.ko", ""),
        ("updates/dkms/extra.ko", ""),
    ];
    with_files(&files, |root| {
        let dir = ModulesDir::open(root, Path::new(DIR)).unwrap();
        let file =
            |name, need| dir.file(name, need).unwrap().map(|path| path.display().to_string());
        assert_eq!(file("fuse", Need::Must).as_deref(), Some("kernel/fs/fuse.ko"));
        assert_eq!(file("b_c", Need::Must).as_deref(), Some("kernel/fs/b-c.ko.zst"));
        assert_eq!(dir.lookup("ext4", Need::Must).unwrap(), Lookup::BuiltIn);
        assert_eq!(file("extra", Need::May).as_deref(), Some("updates/dkms/extra.ko"));
        assert_eq!(file("unlisted", Need::May), None);
        assert!(dir.own.get().is_none(), "there was no search yet");
        assert_eq!(file("unlisted", Need::Must).as_deref(), Some("kernel/fs/unlisted.ko"));
        assert_eq!(dir.lookup("gone", Need::Must).unwrap(), Lookup::Unknown);
    });
}

#[test]
fn modules_are_found_without_index_files() {
    let files = [("kernel/fs/fuse.ko", ""), ("updates/extra.ko.zst", ""), ("../../not.ko", "")];
    with_files(&files, |root| {
        let top = root.path().join(DIR);
        std::os::unix::fs::symlink("../..", top.join("build")).unwrap();
        std::os::unix::fs::symlink(".", top.join("kernel/loop")).unwrap();
        let dir = ModulesDir::open(root, Path::new(DIR)).unwrap();
        assert_eq!(dir.outside().unwrap().keys().collect::<Vec<_>>(), ["extra"]);
        assert_eq!(dir.own().unwrap().keys().collect::<Vec<_>>(), ["fuse"]);
        std::fs::write(top.join("kernel/fs/fuse.ko"), "no module").unwrap();
        let error = dir.lookup("fuse", Need::Must).unwrap_err();
        assert!(format!("{error:#}").contains("kernel/fs/fuse.ko"), "{error:#}");
    });
}

#[test]
fn the_modules_of_a_tree_are_beside_their_sources() {
    let tree = [(".config", "CONFIG_X86=y\n"), ("Makefile", "x")];
    let builtin = ("modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    let modules = [
        ("fs/fuse/fuse.ko", "name=fuse;depends="),
        ("fs/fuse/virtiofs.ko", "name=virtiofs;depends=fuse,virtio-ring;softdep=pre: x"),
        ("drivers/virtio/virtio_ring.ko", "name=virtio_ring"),
        // Not listed: a module of an earlier configuration.
        ("drivers/net/dummy.ko", "name=dummy"),
    ];
    let names = ["fs/fuse/fuse", "fs/fuse/virtiofs", "drivers/virtio/virtio_ring", "lib/gone"];
    let order = |start: &str, end: &str| -> String {
        names.map(|name| [start, name, end, "\n"].concat()).concat()
    };
    for (name, order) in [
        ("Linux 5.10", order("kernel/", ".ko")),
        ("Linux 6.1", order("", ".ko")),
        ("Linux 6.12", order("", ".o")),
    ] {
        let files = [&tree[..], &modules, &[builtin, ("modules.order", order.as_str())]].concat();
        let (found, notes) = load(&files, &["ext4", "virtiofs"]).unwrap();
        assert_eq!((found.as_str(), notes.len()), ("fuse virtio_ring virtiofs", 0), "{name}");
        for (module, expected) in [
            ("gone", "modules.order lists "),
            ("gone", "lib/gone.ko, which is missing; run `make modules`"),
            ("dummy", "unknown module \"dummy\""),
        ] {
            let error = format!("{:#}", load(&files, &[module]).unwrap_err());
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
    let error = format!("{:#}", load(&tree, &["ext4"]).unwrap_err());
    assert!(error.contains("run `make` there"), "{error}");
    let (found, _) = load(&[&tree[..], &[builtin]].concat(), &["ext4"]).unwrap();
    assert_eq!(found, "", "a kernel without modules");
}
