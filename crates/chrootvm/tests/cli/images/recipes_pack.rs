//! Packages of recipes: what `image pack` writes, and `image check` and `image build` of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::images::bench::Bench;

/// A recipe with every kind of reference to a file of its package.
const RECIPE: &str = r#"version = 1
name = "app"
manifest = "app.json"
from.recipe = "base/lower.toml"
[busybox]
path = "bin/busybox"
applets = ["sh"]
[init]
file = "init.sh"
[[step]]
put = "files"
to = "/srv/"
[[step]]
put = "conf/*.conf"
to = "/etc/"
[[step]]
put = "current"
to = "/usr/bin/"
[[output]]
file = "app.cpio.gz"
"#;

/// A bench with [`RECIPE`] as `r/app.toml`, with its files, and with files that it does not name.
pub(crate) fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("r/app.toml", RECIPE);
    bench.write("r/app.lock", "version = 1\n");
    bench.write("r/base/lower.toml", "version = 1\n[[step]]\nput = \"own\"\nto = \"/own\"\n");
    for (name, mode) in [
        ("r/base/own", 0o600),
        ("r/bin/busybox", 0o700),
        ("r/init.sh", 0o755),
        ("r/files/a", 0o640),
        ("r/files/sub/b", 0o744),
        ("r/conf/one.conf", 0o666),
        ("r/conf/two.conf", 0o644),
        ("r/conf/other", 0o644),
        ("r/app-1.2", 0o755),
        ("r/unnamed", 0o644),
    ] {
        let path = bench.write(name, name);
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::create_dir(bench.path("r/files/empty")).unwrap();
    symlink("../a", bench.path("r/files/sub/link")).unwrap();
    symlink("app-1.2", bench.path("r/current")).unwrap();
    bench
}

/// The members of a package: kind, permissions, path and target of a link.
fn members(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (0, 0, 0)
        );
        let target = entry.link_name().unwrap();
        let target = target.map(|target| format!(" -> {}", target.display())).unwrap_or_default();
        let path = entry.path().unwrap();
        format!("{:o} {}{target}", header.mode().unwrap(), path.display())
    });
    entries.collect()
}

#[test]
fn a_package_has_what_the_recipe_names_and_nothing_else() {
    let bench = bench();
    bench.messages(&["pack", "r/app.toml", "-o", "a.recipe.tar"]);
    assert_eq!(
        members(&bench.path("a.recipe.tar")),
        [
            "644 recipe.toml",
            "755 app-1.2",
            "755 base/",
            "644 base/lower.toml",
            "644 base/own",
            "755 bin/",
            "755 bin/busybox",
            "755 conf/",
            "644 conf/one.conf",
            "644 conf/two.conf",
            "777 current -> app-1.2",
            "755 files/",
            "644 files/a",
            "755 files/empty/",
            "755 files/sub/",
            "755 files/sub/b",
            "777 files/sub/link -> ../a",
            "755 init.sh",
            "644 recipe.lock",
        ]
    );
}

#[test]
fn equal_files_give_equal_packages_and_images() {
    let bench = bench();
    let read = |name: &str| fs::read(bench.path(name)).unwrap();
    bench.messages(&["pack", "r/app.toml", "-o", "a.recipe.tar.gz"]);
    // Other times, other permissions of the group, and another directory.
    fs::write(bench.path("r/files/a"), "r/files/a").unwrap();
    fs::set_permissions(bench.path("r/files/a"), PermissionsExt::from_mode(0o600)).unwrap();
    bench.messages(&["pack", "r/app.toml", "-o", "b.recipe.tar.gz"]);
    assert!(read("a.recipe.tar.gz") == read("b.recipe.tar.gz"), "packed twice");
    bench.prints(&["unpack", "a.recipe.tar.gz", "new"]);
    assert_eq!(fs::read_to_string(bench.path("new/recipe.toml")).unwrap(), RECIPE);
    assert_eq!(bench.path("new/files/sub/b").metadata().unwrap().mode() & 0o7777, 0o755);
    bench.messages(&["pack", "new/recipe.toml", "-o", "c.recipe.tar.gz"]);
    assert!(read("a.recipe.tar.gz") == read("c.recipe.tar.gz"), "packed again");

    bench.messages(&["build", "r/app.toml"]);
    bench.messages(&["build", "a.recipe.tar.gz"]);
    assert!(read("r/app.cpio.gz") == read("app.cpio.gz"), "the images differ");
    assert_eq!(read("r/app.json"), read("app.json"));
    let listed = bench.prints(&["ls", "app.cpio.gz"]);
    for name in [" srv/sub/link", " etc/one.conf", " usr/bin/current", " own", " init"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    let checked = bench.prints(&["check", "a.recipe.tar.gz"]);
    assert!(checked.starts_with("a.recipe.tar.gz: 5 steps, 1 outputs"), "{checked}");
}

/// A package that is in a directory which the recipe names is no part of the next one.
#[test]
fn a_package_does_not_pack_itself() {
    let bench = Bench::new();
    bench.write("recipe.toml", "version = 1\n[[step]]\nput = \".\"\nto = \"/\"\n");
    for _ in 0..2 {
        bench.messages(&["pack", "recipe.toml", "-o", "a.recipe.tar"]);
        let members = members(&bench.path("a.recipe.tar"));
        assert_eq!(members, ["644 recipe.toml", "755 home/"]);
    }
}

#[test]
fn what_a_package_cannot_have_is_an_error() {
    for (text, link, expected) in [
        ("[[step]]\nput = \"none\"\nto = \"/x\"", "x", "r/recipe.toml:2:1: find none"),
        ("[[step]]\nput = \"*.none\"\nto = \"/x/\"", "x", "no file matches *.none"),
        ("[[step]]\nscript = \"none\"", "x", "none"),
        ("[[step]]\nscript = \"dir\"", "x", "script dir is a directory"),
        ("[[step]]\nrun = \"true\"\ninputs = [\"none\"]", "x", "none"),
        ("init.file = \"none\"", "x", "init.file"),
        ("init.file = \"dir\"", "x", "init.file: dir is no file"),
        ("busybox.path = \"none\"", "x", "[busybox]"),
        ("from.recipe = \"none.toml\"", "x", "from.recipe: none.toml"),
        (
            "[[step]]\nput = \"link\"\nto = \"/x\"",
            "../secret",
            "leads out of the directory of the recipe",
        ),
        (
            "[[step]]\nput = \"dir\"\nto = \"/x\"",
            "x",
            "dir/out is a link to /etc: the links of a package",
        ),
        ("[[step]]\nput = \"link/../dir/a\"\nto = \"/x\"", "x", ".."),
        ("from.recipe = \"other/up.toml\"", "x", "b.txt"),
        ("[[step]]\nput = \"recipe.lock\"\nto = \"/x\"", "x", "TOML"),
        ("wrong = 1", "x", "r/recipe.toml:2:1: "),
    ] {
        let bench = Bench::new();
        bench.write("r/recipe.toml", format!("version = 1\n{text}\n"));
        bench.write("r/dir/a", "a");
        bench.write("r/other/up.toml", "version = 1\n[[step]]\nput = \"b.txt\"\nto = \"/x\"\n");
        bench.write("secret", "secret");
        symlink("/etc", bench.path("r/dir/out")).unwrap();
        symlink(link, bench.path("r/link")).unwrap();
        if expected == "TOML" {
            bench.write("r/recipe.lock", "no lock file");
            let message = bench.fails(&["pack", "r/recipe.toml", "-o", "a.recipe.tar"]);
            assert!(message.contains("r/recipe.lock:1:"), "{message}");
            continue;
        }
        let message = bench.fails(&["pack", "r/recipe.toml", "-o", "a.recipe.tar"]);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn names_of_packages_have_endings() {
    let bench = bench();
    bench.write("r/recipe.toml", "another recipe");
    fs::write(bench.path("r/app.toml"), "version = 1\n[[step]]\nput = \".\"\nto = \"/\"\n")
        .unwrap();
    for (arguments, expected) in [
        (["r/app.toml", "-o", "a.tar.gz"], "ends in .recipe.tar.gz or .recipe.tar"),
        (["r/app.toml", "-o", "-"], "ends in .recipe.tar.gz"),
        (["a.recipe.tar", "-o", "b.recipe.tar"], "a.recipe.tar is a package already"),
        (
            ["r/app.toml", "-o", "b.recipe.tar"],
            "recipe.toml is another file than that of the recipe",
        ),
    ] {
        let message = bench.fails(&[&["pack"], &arguments[..]].concat());
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_stays_behind_is_named() {
    let bench = Bench::new();
    bench.write("r/recipe.toml", "version = 1\nfrom.dir = \"../root\"\n[build]\nsecrets.a = { file = \"/k\" }\nvolumes = { \"/v\" = { path = \"v\" } }\n[[output]]\nfile = \"o.tar\"\n");
    bench.write("root/file", "of the host");
    let messages = bench.messages(&["pack", "r/recipe.toml", "-o", "a.recipe.tar"]);
    for expected in
        ["from.dir: ../root is not in the package", "secrets: /k is not", "volumes: v is not"]
    {
        assert!(messages.contains(expected), "{messages}");
    }
    assert_eq!(members(&bench.path("a.recipe.tar")), ["644 recipe.toml"]);
    // The current directory takes the place of the recipe's directory.
    let mut build = bench.command(&["build", "../a.recipe.tar"]);
    let output = build.current_dir(bench.path("r")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let listed = bench.prints(&["ls", "r/o.tar"]);
    assert!(listed.ends_with(" file\n"), "{listed}");
}

#[test]
fn the_lock_file_of_a_package_stays_as_it_is() {
    let bench = Bench::new();
    bench.write(
        "recipe.toml",
        "version = 1\n[[step]]\ntext = \"x\"\nto = \"/x\"\n[[output]]\nfile = \"o.tar\"\n",
    );
    let digest = "0".repeat(64);
    bench.write(
        "recipe.lock",
        format!("version = 1\n[[url]]\nurl = \"https://a/b\"\nsha256 = \"{digest}\"\n"),
    );
    bench.messages(&["pack", "recipe.toml", "-o", "a.recipe.tar"]);
    let before = fs::read(bench.path("a.recipe.tar")).unwrap();
    fs::remove_file(bench.path("recipe.lock")).unwrap();
    let messages = bench.messages(&["build", "a.recipe.tar"]);
    assert!(
        messages.contains("a.recipe.tar/recipe.lock is not written, and would change"),
        "{messages}"
    );
    assert!(!bench.path("recipe.lock").exists());
    assert_eq!(fs::read(bench.path("a.recipe.tar")).unwrap(), before);
}
