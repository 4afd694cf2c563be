//! `image build --exclude` and `--inject`, and the line at the end.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::images::bench::Bench;

/// A root file system with a merged /usr, and files to inject.
fn bench() -> Bench {
    let bench = Bench::new();
    for name in ["root/usr/bin/sh", "root/usr/share/doc/a/copyright", "root/usr/share/doc/a/news"] {
        bench.write(name, "x");
    }
    bench.write("root/etc/passwd", "root");
    symlink("usr/bin", bench.path("root/bin")).unwrap();
    symlink("/../../../outside", bench.path("root/out")).unwrap();
    let app = bench.write("app", "program");
    fs::set_permissions(app, fs::Permissions::from_mode(0o600)).unwrap();
    let secret = bench.write("conf/etc/app/secret", "1");
    fs::set_permissions(secret, fs::Permissions::from_mode(0o640)).unwrap();
    bench.write("conf/etc/app/x.pyc", "2");
    bench
}

/// `MODE UID GID PATH` of each name in the image that is built with `options`.
fn built(bench: &Bench, options: &[&str]) -> Vec<String> {
    bench.messages(&[&["build", "root", "-o", "out.tar"][..], options].concat());
    let listing = bench.prints(&["ls", "out.tar"]);
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        [words[0], words[2], words[3], words[5]].join(" ")
    };
    listing.lines().map(line).collect()
}

#[test]
fn injected_files_belong_to_root_and_go_where_links_lead() {
    let bench = bench();
    for (option, expected) in [
        ("app:/usr/bin/tool", "-rwxr-xr-x 0 0 usr/bin/tool"),
        ("app:/bin", "-rwxr-xr-x 0 0 usr/bin/app"),
        ("app:/bin/", "-rwxr-xr-x 0 0 usr/bin/app"),
        ("app:/opt/new/", "-rwxr-xr-x 0 0 opt/new/app"),
        ("app:/out/app", "-rwxr-xr-x 0 0 outside/app"),
        ("app:/init", "-rwxr-xr-x 0 0 init"),
        ("conf:/", "-rw-r----- 0 0 etc/app/secret"),
        ("conf/etc:/srv/new", "-rw-r----- 0 0 srv/new/app/secret"),
    ] {
        let lines = built(&bench, &["--inject", option]);
        assert!(lines.contains(&expected.to_owned()), "{option}: {lines:#?}");
        assert!(lines.iter().any(|line| line.ends_with(" etc/passwd")), "{option}");
    }
    assert_eq!(bench.prints(&["cat", "out.tar", "srv/new/app/secret"]), "1");
}

#[test]
fn patterns_leave_out_files_of_the_source_only() {
    let bench = bench();
    let paths = |options: &[&str]| -> Vec<String> {
        let lines = built(&bench, options);
        let path = |line: &String| line.rsplit(' ').next().unwrap().to_owned();
        lines.iter().map(path).filter(|path| path.starts_with("usr/share")).collect()
    };
    let kept = paths(&["--exclude", "/usr/share/doc/*/*", "--exclude", "!copyright"]);
    let doc = ["usr/share", "usr/share/doc", "usr/share/doc/a", "usr/share/doc/a/copyright"];
    assert_eq!(kept, doc);
    assert_eq!(paths(&["--exclude=doc/", "--exclude=!copyright"]), ["usr/share"]);
    let lines = built(&bench, &["--inject", "conf:/", "--exclude", "*.pyc", "--exclude", "passwd"]);
    assert!(lines.iter().any(|line| line.ends_with(" etc/app/x.pyc")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.ends_with(" etc/passwd")), "{lines:#?}");
}

#[test]
fn the_last_line_has_files_bytes_ratio_and_time() {
    let bench = bench();
    bench.write("root/zeros", vec![0; 1 << 20]);
    let message = bench.messages(&["build", "root", "-o", "x.cpio.zst"]);
    let known = message.starts_with("x.cpio.zst: cpio, zstd, 14 files, 1.00 MiB in, ");
    assert!(known && message.contains(" B out (0 %), ") && message.ends_with(" s\n"), "{message}");
    // The time of an injected file is limited like all others, so the bytes are equal.
    let build = |name: &str| {
        let options = ["build", "root", "-o", name, "--inject", "app:/x", "--inject", "conf:/y"];
        let mut command = bench.command(&options);
        assert!(command.env("SOURCE_DATE_EPOCH", "7").output().unwrap().status.success());
        fs::read(bench.path(name)).unwrap()
    };
    let first = build("1.erofs");
    let old = fs::File::options().write(true).open(bench.path("app")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30)).unwrap();
    assert!(first == build("2.erofs"));
}

#[test]
fn bad_edits_are_one_line_and_no_file() {
    let bench = bench();
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    for (options, expected) in [
        (["--inject", "none:/x"], "--inject none:/x: SRC does not exist"),
        (["--inject", "pipe:/x"], "SRC is a pipe, not a file or a directory"),
        (["--inject", "/dev/null:/x"], "SRC is a device or a socket"),
        (["--inject", "app:/etc/passwd/x"], "not a directory"),
        (["--inject", "conf:/etc/passwd"], "no directory in the image"),
        (["--inject", "conf:/out/../x"], "without .."),
        (["--exclude", "[z-a]"], "--exclude: pattern \"[z-a]\""),
        (["--exclude", "# all"], "a comment"),
        (["--exclude", ""], "it matches nothing"),
    ] {
        let arguments = [&["build", "root", "-o", "bad.erofs"][..], &options].concat();
        let message = bench.fails(&arguments);
        assert!(message.contains(expected), "{options:?}: {message}");
    }
}
