//! Images of btrfs, xfs and vfat: checked and read back by the tools of the file systems.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tar::{EntryType, Header};
use virtinitrd_vm_tests::{has, tool};

use crate::images::bench::Bench;
use crate::script;

/// The three formats, the program that makes each, and the one that checks it.
const FORMATS: &[(&str, &str, &[&str])] = &[
    ("btrfs", "mkfs.btrfs", &["btrfs", "check"]),
    ("xfs", "mkfs.xfs", &["xfs_repair", "-n", "-f"]),
    ("vfat", "mkfs.vfat", &["fsck.vfat", "-n"]),
];

/// Kind, name, mode, owner, group, and text or target.
type Member<'a> = (EntryType, &'a str, u32, u64, u64, &'a str);

/// Name of the longest file.
fn long() -> String {
    "n".repeat(255)
}

/// Writes `root.tar`: owners, set-id bits, sticky bits, links, device nodes, a long name, and a
/// file of several MiB.
fn root(bench: &Bench) {
    let (long, big) = (format!("home/u/{}", long()), "0123456789abcdef".repeat(3 << 16));
    #[rustfmt::skip]
    let members: &[Member] = &[
        (EntryType::Directory, "tmp",       0o1777, 0,    0,    ""),
        (EntryType::Directory, "bin",       0o755,  0,    0,    ""),
        (EntryType::Regular,   "bin/su",    0o4755, 0,    0,    "set-id"),
        (EntryType::Regular,   "bin/mail",  0o2755, 7,    12,   "mail"),
        (EntryType::Link,      "bin/hard",  0o2755, 7,    12,   "bin/mail"),
        (EntryType::Symlink,   "bin/sh",    0o777,  0,    0,    "su"),
        (EntryType::Char,      "null",      0o666,  0,    0,    ""),
        (EntryType::Fifo,      "pipe",      0o600,  0,    0,    ""),
        (EntryType::Directory, "home",      0o755,  0,    0,    ""),
        (EntryType::Directory, "home/u",    0o700,  1000, 1000, ""),
        (EntryType::Regular,   &long,       0o600,  1000, 1000, "long"),
        (EntryType::Regular,   "shadow",    0,      0,    42,   "secret"),
        (EntryType::Regular,   "big",       0o644,  0,    0,    &big),
    ];
    let mut archive = tar::Builder::new(Vec::new());
    for &(kind, name, mode, uid, gid, text) in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_000_000_000);
        match kind {
            EntryType::Regular => {
                header.set_size(text.len() as u64);
                archive.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            EntryType::Link | EntryType::Symlink => {
                header.set_size(0);
                archive.append_link(&mut header, name, text).unwrap();
            }
            _ => {
                header.set_size(0);
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
                archive.append_data(&mut header, name, &[][..]).unwrap();
            }
        }
    }
    bench.write("root.tar", archive.into_inner().unwrap());
}

/// `image build root.tar` with `arguments`, and with temporary files in a directory of its own.
fn build(bench: &Bench, arguments: &[&str]) -> Command {
    let tmp = bench.path("tmp");
    fs::create_dir_all(&tmp).unwrap();
    let mut command = bench.command(&[&["build", "root.tar"][..], arguments].concat());
    command.env("TMPDIR", tmp);
    command
}

/// Runs a command, and checks that it leaves nothing in `$TMPDIR`.
fn run(bench: &Bench, mut command: Command) -> (Output, String) {
    let output = command.output().unwrap();
    assert_eq!(fs::read_dir(bench.path("tmp")).unwrap().count(), 0, "{command:?} leaves files");
    let messages = String::from_utf8(output.stderr.clone()).unwrap();
    (output, messages)
}

fn made(bench: &Bench, arguments: &[&str]) -> String {
    let (output, messages) = run(bench, build(bench, arguments));
    assert!(output.status.success(), "{arguments:?}: {messages}");
    messages
}

/// The error of a build that must fail, without a file.
fn fails(bench: &Bench, command: Command) -> String {
    let (output, messages) = run(bench, command);
    assert!(!output.status.success(), "{messages}");
    let left = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let bad: Vec<_> = left.filter(|name| name.to_string_lossy().contains("bad")).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let errors: Vec<_> = messages.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{messages}");
    errors[0].to_owned()
}

/// Standard output of a tool that must succeed.
fn prints(bench: &Bench, words: &[&str]) -> String {
    let output = tool(words[0]).args(&words[1..]).current_dir(bench.path("")).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn every_format_passes_its_checker() {
    let bench = Bench::new();
    root(&bench);
    for (format, mkfs, check) in FORMATS {
        if !has(mkfs) || !has(check[0]) || (*format == "vfat" && !has("mcopy")) {
            continue;
        }
        let name = format!("root.{format}");
        made(&bench, &["-o", &name, "--label", "NAME"]);
        prints(&bench, &[check, &[&*name][..]].concat());
        assert!(prints(&bench, &["blkid", "-p", &name]).contains("LABEL=\"NAME\""), "{format}");
        let inspected = bench.path(&name).metadata().unwrap().len();
        assert!(inspected > 3 << 20, "{format}");
        // A size that is given is kept.
        let size = "512M";
        made(&bench, &["-o", &name, "--size", size]);
        prints(&bench, &[check, &[&*name][..]].concat());
        assert_eq!(bench.path(&name).metadata().unwrap().len(), 512 << 20, "{format}");
        // The largest option of all is an argument of the program itself.
        let uuid = "12345678-9abc-4def-8123-456789abcdef";
        made(&bench, &["-o", &name, "--uuid", uuid, "--slack", "50"]);
        let found = prints(&bench, &["blkid", "-p", &name]);
        let expected = if *format == "vfat" { "\"1234-5678\"" } else { uuid };
        assert!(found.contains(expected), "{format}: {found}");
    }
}

#[test]
fn equal_trees_give_equal_bytes() {
    let bench = Bench::new();
    root(&bench);
    for (format, mkfs) in [("xfs", "mkfs.xfs"), ("vfat", "mkfs.vfat")] {
        if !has(mkfs) || !has("mcopy") {
            continue;
        }
        let [first, second] = ["1", "2"].map(|number| format!("{number}.{format}"));
        made(&bench, &["-o", &first]);
        made(&bench, &["-o", &second]);
        prints(&bench, &["cmp", &first, &second]);
    }
    if has("mkfs.vfat") && has("mcopy") {
        // Times of a FAT have two seconds, so two builds may agree by chance.
        let listing = prints(&bench, &["mdir", "-/", "-i", "1.vfat", "::/"]);
        let files = listing.lines().filter(|line| line.contains(':') && line.contains('-'));
        for line in files.filter(|line| !line.starts_with('.')) {
            assert!(["1980-01-01 ", "2001-09-09 "].iter().any(|day| line.contains(day)), "{line}");
        }
    }
}

/// Values of fields of the inode at `path`.
fn xfs_fields(bench: &Bench, path: &str, fields: &str) -> Vec<String> {
    let (path, fields) = (format!("path {path}"), format!("print {fields}"));
    let text = prints(bench, &["xfs_db", "-r", "-c", &path, "-c", &fields, "root.xfs"]);
    text.lines().map(|line| line.split_once(" = ").unwrap().1.to_owned()).collect()
}

#[test]
fn xfs_has_modes_owners_and_times() {
    let bench = Bench::new();
    root(&bench);
    if !has("mkfs.xfs") || !has("xfs_db") {
        return;
    }
    let messages = made(&bench, &["-o", "root.xfs"]);
    assert!(messages.contains("hard links become copies"), "{messages}");
    let long = format!("/home/u/{}", long());
    for (path, expected) in [
        ("/tmp", ["041777", "0", "0"]),
        ("/bin/su", ["0104755", "0", "0"]),
        ("/bin/mail", ["0102755", "7", "12"]),
        ("/bin/hard", ["0102755", "7", "12"]),
        ("/home/u", ["040700", "1000", "1000"]),
        (&long, ["0100600", "1000", "1000"]),
        ("/shadow", ["0100000", "0", "42"]),
        ("/null", ["020666", "0", "0"]),
        ("/pipe", ["010600", "0", "0"]),
    ] {
        assert_eq!(xfs_fields(&bench, path, "core.mode core.uid core.gid"), expected, "{path}");
        let [time, ..] = &xfs_fields(&bench, path, "core.mtime.sec")[..] else { panic!("{path}") };
        assert!(time.contains("Sep  9 ") && time.ends_with("2001"), "{path}: {time}");
    }
}

#[test]
fn btrfs_has_modes_owners_links_and_contents() {
    let bench = Bench::new();
    root(&bench);
    if !has("mkfs.btrfs") {
        return;
    }
    let messages = made(&bench, &["-o", "root.btrfs"]);
    assert!(messages.contains("device nodes are left out"), "{messages}");
    let words = ["btrfs", "inspect-internal", "dump-tree", "-t", "5", "root.btrfs"];
    let dump = prints(&bench, &words);
    let mut expected = vec!["mode 41777 links 1 uid 0 gid 0", "mode 120777 links 1 uid 0 gid 0"];
    if is_root() {
        expected.extend([
            "mode 104755 links 1 uid 0 gid 0",
            "mode 102755 links 2 uid 7 gid 12",
            "mode 40700 links 1 uid 1000 gid 1000",
            "mode 100000 links 1 uid 0 gid 42",
        ]);
    }
    for line in expected {
        assert!(dump.contains(line), "{line}\n{dump}");
    }
    assert!(dump.contains("mtime 1000000000.0"), "{dump}");
    fs::create_dir(bench.path("out")).unwrap();
    prints(&bench, &["btrfs", "restore", "root.btrfs", "out"]);
    assert_eq!(fs::read(bench.path("out/bin/su")).unwrap(), b"set-id");
    assert_eq!(fs::read(bench.path("out/big")).unwrap().len(), 3 << 20);
}

#[test]
fn vfat_has_files_and_says_what_it_lacks() {
    let bench = Bench::new();
    root(&bench);
    if !has("mkfs.vfat") || !has("mcopy") {
        return;
    }
    let messages = made(&bench, &["-o", "root.fat", "--slack", "0"]);
    for part in ["owners", "permissions", "symbolic links", "hard links", "device nodes, FIFOs"] {
        assert!(messages.contains(part), "{part}: {messages}");
    }
    let listing = prints(&bench, &["mdir", "-/", "-b", "-i", "root.fat", "::/"]);
    assert!(listing.contains(&format!("::/home/u/{}", long())), "{listing}");
    assert_eq!(prints(&bench, &["mtype", "-i", "root.fat", "::/bin/hard"]), "mail");
    assert_eq!(prints(&bench, &["mtype", "-i", "root.fat", "::/big"]).len(), 3 << 20);
    let inspected = bench.fails(&["inspect", "root.fat"]);
    assert!(inspected.contains("vfat is not read here"), "{inspected}");
}

#[test]
fn bad_options_and_outputs_are_refused() {
    let bench = Bench::new();
    root(&bench);
    for (arguments, expected) in [
        (&["-o", "bad.ext4", "--mkfs-arg=-K"][..], "--mkfs-arg is for btrfs, xfs and vfat, not"),
        (&["-o", "bad.tar", "--label", "x"], "--label is for erofs, ext4, btrfs, xfs and vfat"),
        (&["-o", "bad.xfs", "--compress", "gzip"], "--compress gzip: not for xfs"),
        (&["-o", "/dev/null", "--format", "xfs"], "a pipe or a device"),
        (&["-o", "-", "--format", "vfat"], "a pipe or a device"),
    ] {
        let error = fails(&bench, build(&bench, arguments));
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    if has("mkfs.xfs") && has("mkfs.btrfs") && has("mcopy") {
        for (arguments, expected) in [
            (["-o", "bad.xfs", "--mkfs-arg=--none-such"], "mkfs.xfs has failed: exit status 1: "),
            (["-o", "bad.xfs", "--size=4M"], "mkfs.xfs has failed"),
            (["-o", "bad.btrfs", "--size=4M"], "--size is too small"),
            (["-o", "bad.vfat", "--size=1M"], "Disk full"),
            (["-o", "bad.vfat", "--label=longer than eleven"], "mkfs.vfat has failed"),
        ] {
            let error = fails(&bench, build(&bench, &arguments));
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let bench = Bench::new();
    root(&bench);
    for (format, program, package) in [
        ("btrfs", "mkfs.btrfs", "btrfs-progs"),
        ("xfs", "mkfs.xfs", "xfsprogs"),
        ("vfat", "mkfs.vfat", "dosfstools"),
    ] {
        let mut command = build(&bench, &["-o", &format!("bad.{format}")]);
        command.env("PATH", bench.path("nowhere/bin"));
        let error = fails(&bench, command);
        assert!(error.contains(program) && error.contains(package), "{error}");
    }
}

/// Puts a shell script in the place of mkfs.xfs. Returns PATH.
fn stand_in(bench: &Bench, script: &str) -> String {
    let version = "[ $1 = -V ] && echo mkfs.xfs version 6.1.0 && exit";
    let path = bench.path("bin/mkfs.xfs");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    script::write(&path, &format!("#!/bin/sh\n{version}\n{script}\n"));
    let own = path.parent().unwrap().to_str().unwrap().to_owned();
    format!("{own}:{}", std::env::var("PATH").unwrap())
}

#[test]
fn a_program_that_fails_is_told_with_its_last_lines() {
    let bench = Bench::new();
    root(&bench);
    for (script, expected) in [
        (
            "echo first >&2; echo no room >&2; exit 3",
            "mkfs.xfs has failed: exit status 3: first; no room",
        ),
        ("kill -9 $$", "mkfs.xfs has failed without a message: signal 9"),
        ("exit 0", "mkfs.xfs made no XFS"),
    ] {
        let mut command = build(&bench, &["-o", "bad.xfs"]);
        command.env("PATH", stand_in(&bench, script));
        let error = fails(&bench, command);
        assert!(error.contains(expected), "{script}: {error}");
    }
}

/// A signal ends the program first, and leaves nothing; so does the death of the builder.
#[test]
fn a_signal_leaves_nothing() {
    let bench = Bench::new();
    root(&bench);
    let marker: PathBuf = bench.path("started");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60", marker.display());
    for signal in ["TERM", "INT", "HUP"] {
        let mut command = build(&bench, &["-o", "bad.xfs"]);
        command.env("PATH", stand_in(&bench, &script)).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while !marker.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it has ended early");
            std::thread::yield_now();
        }
        let pid = fs::read_to_string(&marker).unwrap();
        fs::remove_file(&marker).unwrap();
        let words = [format!("-{signal}"), child.id().to_string()];
        assert!(Command::new("kill").args(words).status().unwrap().success());
        assert!(!child.wait().unwrap().success());
        assert_eq!(fs::read_dir(bench.path("tmp")).unwrap().count(), 0, "{signal}");
        assert!(!bench.path("bad.xfs").exists());
        let proc = PathBuf::from("/proc").join(pid.trim());
        assert!(!proc.exists(), "{signal}: the program still runs");
    }
}
