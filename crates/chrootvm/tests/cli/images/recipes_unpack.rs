//! Packages of recipes as input: `image unpack`, archives that somebody else made, and the directory
//! into which a build unpacks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use machine::process::signals::pass_on_defaults;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tar::{Builder, EntryType, Header};

use crate::images::bench::Bench;
use crate::images::recipes_pack::bench;

/// Longest time for a program to end, and for its directory to disappear.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn only_new_or_empty_directories_are_written() {
    let bench = bench();
    bench.messages(&["pack", "r/app.toml", "-o", "a.recipe.tar.gz"]);
    let message = bench.fails(&["unpack", "a.recipe.tar.gz", "r"]);
    assert!(message.contains("it exists already"), "{message}");
    bench.fails(&["unpack", "a.recipe.tar.gz", "none/new"]);
    let message = bench.fails(&["unpack", "r", "new"]);
    assert!(message.contains("r is a directory"), "{message}");
    let message = bench.fails(&["unpack", "r/app.toml", "new"]);
    assert!(message.contains("r/app.toml"), "{message}");
    fs::create_dir(bench.path("new")).unwrap();
    bench.prints(&["unpack", "a.recipe.tar.gz", "new"]);
    assert!(bench.path("new/files/sub/b").exists());
}

/// A member as a hostile archive has it.
fn append(archive: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str, text: &str) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(text.len() as u64);
    if let Some(header) = header.as_ustar_mut() {
        header.name[..path.len()].copy_from_slice(path.as_bytes());
        header.linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_cksum();
    archive.append(&header, text.as_bytes()).unwrap();
}

/// An archive with a recipe and then these members.
fn hostile(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    append(&mut archive, EntryType::Regular, "recipe.toml", "", "version = 1\n");
    for (kind, path, target) in members {
        let text = if *kind == EntryType::Regular { "evil" } else { "" };
        append(&mut archive, *kind, path, target, text);
    }
    archive.into_inner().unwrap()
}

#[test]
fn hostile_archives_are_refused() {
    use EntryType as Is;
    let (file, link) = (Is::Regular, Is::Symlink);
    for (members, expected) in [
        (&[(file, "../evil", "")][..], "\"..\""),
        (&[(file, "a/../../evil", "")], "\"..\""),
        (&[(link, "l", "/etc")], "l is a link to /etc"),
        (&[(link, "l", "..")], "l is a link to .."),
        (&[(link, "d/l", "../../evil")], "d/l is a link to ../../evil"),
        (&[(link, "d/s", ".."), (link, "d/l", "s/../evil")], "d/l is a link to s/../evil"),
        (&[(link, "l", ".."), (file, "l/evil", "")], "l is a link to .."),
        (&[(Is::Link, "h", "../evil")], "outside of the archive"),
        (&[(Is::Link, "h", "/etc/passwd")], "missing"),
        (&[(Is::Char, "c", "")], "c: a package has files, directories and links only"),
        (&[(Is::Block, "c", "")], "c: a package has files, directories and links only"),
        (&[(Is::Fifo, "p", "")], "p: a package has files, directories and links only"),
        (&[(link, "recipe.toml", "a"), (file, "a", "")], "a package has the file recipe.toml"),
    ] {
        let bench = Bench::new();
        bench.write("in/a.recipe.tar", hostile(members));
        for arguments in
            [&["unpack", "in/a.recipe.tar", "in/new"][..], &["check", "in/a.recipe.tar"]]
        {
            let message = bench.fails(arguments);
            assert!(message.contains(expected), "{members:?}: {message}");
            assert_eq!(fs::read_dir(bench.path("in")).unwrap().count(), 1, "{members:?}");
        }
    }
}

#[test]
fn a_member_with_an_absolute_path_stays_inside() {
    let bench = Bench::new();
    let outside = bench.path("evil");
    let path = outside.to_str().unwrap();
    bench.write("a.recipe.tar", hostile(&[(EntryType::Regular, path, "")]));
    bench.prints(&["unpack", "a.recipe.tar", "new"]);
    assert!(!outside.exists());
    let inside = bench.path("new").join(path.trim_start_matches('/'));
    // The archive says 4777: nothing of that is left.
    assert_eq!(inside.metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn archives_have_limits() {
    let bench = Bench::new();
    // A sparse file of 16 GiB in a few bytes.
    let mut archive = Builder::new(Vec::new());
    append(&mut archive, EntryType::Regular, "recipe.toml", "", "version = 1\n");
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"big"),
        ("GNU.sparse.realsize", b"17179869184"),
    ];
    archive.append_pax_extensions(records).unwrap();
    let map = format!("{:\0<512}", "1\n17179869184\n0\n");
    append(&mut archive, EntryType::Regular, "GNUSparseFile.0/big", "", &map);
    bench.write("big.recipe.tar", archive.into_inner().unwrap());
    let message = bench.fails(&["unpack", "big.recipe.tar", "new"]);
    assert!(message.contains("its files have 17179869196 bytes"), "{message}");
    let cut = hostile(&[(EntryType::Regular, "a", "")]);
    bench.write("cut.recipe.tar", &cut[..1024]);
    let message = bench.fails(&["unpack", "cut.recipe.tar", "new"]);
    assert!(message.contains("if it was cut, members are missing"), "{message}");
    bench.write("none.recipe.tar", [0; 10240]);
    let message = bench.fails(&["build", "none.recipe.tar"]);
    assert!(message.contains("a package has the file recipe.toml"), "{message}");
}

/// Names of the directories into which packages are unpacked.
fn unpacked(tmp: &Path) -> usize {
    let entries = fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter(|name| name.to_string_lossy().starts_with("virtinitrd-")).count()
}

/// Waits until `is_so`, and says whether it was in time.
fn wait_until(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn the_directory_of_a_build_is_gone_however_it_ends() {
    // The build must not ignore what the caller of this test ignores.
    pass_on_defaults(Signal::iterator()).unwrap();
    let bench = Bench::new();
    let text = "version = 1\n[[step]]\ntext = \"x\"\nto = \"/x\"\n[[output]]\nfile = \"o\"\nformat = \"tar\"\n";
    bench.write("recipe.toml", text);
    bench.messages(&["pack", "recipe.toml", "-o", "a.recipe.tar"]);
    let tmp = bench.path("tmp");
    fs::create_dir(&tmp).unwrap();
    // A build waits for the reader of a pipe, while it has the package unpacked.
    let pipe = bench.path("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for signal in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGKILL]
    {
        let mut build = bench.command(&["build", "--no-cache", "a.recipe.tar", "-o", "pipe"]);
        build.env("TMPDIR", &tmp).stdout(Stdio::null()).stderr(Stdio::null());
        let mut build = build.spawn().unwrap();
        let is_unpacked = || {
            let mut entries = fs::read_dir(&tmp).unwrap();
            entries.any(|entry| entry.unwrap().path().join("package/recipe.toml").exists())
        };
        assert!(wait_until(is_unpacked), "{signal}");
        kill(Pid::from_raw(i32::try_from(build.id()).unwrap()), signal).unwrap();
        assert!(!build.wait().unwrap().success());
        assert!(wait_until(|| unpacked(&tmp) == 0), "{signal}");
    }
    for (arguments, is_good) in [
        (&["build", "a.recipe.tar"][..], true),
        (&["build", "a.recipe.tar", "--check"], true),
        (&["check", "a.recipe.tar"], true),
        (&["build", "a.recipe.tar", "-o", "none/x.tar"], false),
    ] {
        let output = bench.command(arguments).env("TMPDIR", &tmp).output().unwrap();
        assert_eq!(output.status.success(), is_good, "{arguments:?}: {output:?}");
        assert_eq!(unpacked(&tmp), 0, "{arguments:?}");
    }
}
