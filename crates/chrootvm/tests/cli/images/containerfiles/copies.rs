//! What COPY, ADD and WORKDIR make of a context.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{bench, build, listing, succeeds};
use crate::images::bench::Bench;
use crate::images::layout::tar;

/// Instructions on an empty image, and what it has then, without its root.
struct Row {
    name: &'static str,
    text: &'static str,
    has: &'static [&'static str],
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "file to a name", text: "COPY a.txt /x", has: &["-rw-r--r-- 0:0 x"] },
    Row { name: "file into a directory", text: "COPY a.txt /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/a.txt"] },
    Row { name: "relative to WORKDIR", text: "WORKDIR /w\nWORKDIR v\nCOPY a.txt .", has: &["drwxr-xr-x 0:0 w", "drwxr-xr-x 0:0 w/v", "-rw-r--r-- 0:0 w/v/a.txt"] },
    Row { name: "contents of a directory", text: "COPY dir /x", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/c.txt", "drwxr-xr-x 0:0 x/deep", "-rw-r--r-- 0:0 x/deep/d.md"] },
    Row { name: "pattern", text: "COPY *.txt dir/*.txt /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/a.txt", "-rw-r--r-- 0:0 x/c.txt"] },
    Row { name: "pattern that matches nothing beside another file", text: "COPY a.txt nothing* /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/a.txt"] },
    Row { name: "several files into a directory that is missing", text: "COPY a.txt b.md /x", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/a.txt", "-rw-r--r-- 0:0 x/b.md"] },
    Row { name: "numbers of owners", text: "COPY --chown=7:8 dir /x/", has: &["drwxr-xr-x 7:8 x", "-rw-r--r-- 7:8 x/c.txt", "drwxr-xr-x 7:8 x/deep", "-rw-r--r-- 7:8 x/deep/d.md"] },
    Row { name: "octal mode", text: "COPY --chmod=0640 a.txt /x", has: &["-rw-r----- 0:0 x"] },
    Row { name: "symbolic mode", text: "COPY --chmod=u=rwX,go=rX,a+x a.txt /x", has: &["-rwxr-xr-x 0:0 x"] },
    Row { name: "exclude", text: "COPY --exclude=*.md --exclude=**/d.* --exclude=*.tar . /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/Containerfile", "-rw-r--r-- 0:0 x/a.txt", "drwxr-xr-x 0:0 x/dir", "-rw-r--r-- 0:0 x/dir/c.txt", "drwxr-xr-x 0:0 x/dir/deep"] },
    Row { name: "here-document", text: "COPY <<one <<two /x/\n1\none\n2\ntwo", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/one", "-rw-r--r-- 0:0 x/two"] },
    Row { name: "a name with a space", text: "COPY [\"a.txt\", \"/x y\"]", has: &["-rw-r--r-- 0:0 x y"] },
    Row { name: "never out of the context", text: "COPY ../../a.txt /x", has: &["-rw-r--r-- 0:0 x"] },
    Row { name: "archives are unpacked by ADD", text: "ADD files.tar /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r----- 5:5 x/in", "drwx------ 6:6 x/sub"] },
    Row { name: "and stay archives with --unpack=false", text: "ADD --unpack=false files.tar /x/", has: &["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/files.tar"] },
    Row { name: "and by COPY", text: "COPY files.tar /x", has: &["-rw-r--r-- 0:0 x"] },
    Row { name: "ADD of another file", text: "ADD a.txt /x", has: &["-rw-r--r-- 0:0 x"] },
    Row { name: "an argument in a path", text: "ARG NAME=a\nCOPY ${NAME}.txt /${NAME:+x}", has: &["-rw-r--r-- 0:0 x"] },
    Row { name: "stage", text: "COPY a.txt /x\nFROM scratch\nCOPY --from=0 /x /y", has: &["-rw-r--r-- 0:0 y"] },
    Row { name: "a stage keeps owners", text: "COPY --chown=3:4 a.txt /x\nFROM scratch\nCOPY --from=0 /x /y", has: &["-rw-r--r-- 3:4 y"] },
    Row { name: "stage on a stage", text: "COPY a.txt /x\nFROM scratch AS other\nCOPY nothing /\nFROM 0\nCOPY b.md /y", has: &["-rw-r--r-- 0:0 x", "-rw-r--r-- 0:0 y"] },
    Row { name: "link", text: "COPY --link a.txt /x", has: &["-rw-r--r-- 0:0 x"] },
];

/// What `text` makes of an empty image.
fn made(bench: &Bench, text: &str) -> Vec<String> {
    succeeds(build(
        bench,
        &format!("FROM scratch AS first\n{text}\n").replace("FROM 0", "FROM first"),
        &["-o", "o.tar"],
    ));
    let mut lines = listing(bench, "o.tar");
    lines.retain(|line| !line.ends_with(" ."));
    lines
}

#[test]
fn files_are_where_the_reference_says() {
    let bench = bench();
    let archive = tar(&[("in", 0o640, 5, "in"), ("sub/", 0o700, 6, "")]);
    bench.write("ctx/files.tar", archive);
    for Row { name, text, has } in ROWS {
        assert_eq!(made(&bench, text), *has, "{name}");
    }
}

#[test]
fn modes_links_and_texts_of_the_context_are_kept() {
    let bench = bench();
    let mode = |name: &str, mode| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("ctx/a.txt", 0o4751);
    mode("ctx/dir/deep", 0o1770);
    symlink("c.txt", bench.path("ctx/dir/link")).unwrap();
    symlink("dir/c.txt", bench.path("ctx/outer")).unwrap();
    let text = "COPY a.txt outer dir/ /x/\nCOPY <<A <<\"B\" /y/\n$HOME ${HOME:-none}\nA\n$HOME\nB";
    let expected = [
        "drwxr-xr-x 0:0 x",
        "-rwsr-x--x 0:0 x/a.txt",
        "-rw-r--r-- 0:0 x/c.txt",
        "drwxrwx--T 0:0 x/deep",
        "-rw-r--r-- 0:0 x/deep/d.md",
        "lrwxrwxrwx 0:0 x/link -> c.txt",
        "-rw-r--r-- 0:0 x/outer",
        "drwxr-xr-x 0:0 y",
        "-rw-r--r-- 0:0 y/A",
        "-rw-r--r-- 0:0 y/B",
    ];
    assert_eq!(made(&bench, text), expected);
    for (path, expected) in [("x/outer", "c\n"), ("y/A", " none\n"), ("y/B", "$HOME\n")] {
        assert_eq!(bench.prints(&["cat", "o.tar", path]), expected, "{path}");
    }
}

#[test]
fn owners_are_those_of_the_image() {
    let bench = bench();
    let text = "FROM base\nUSER app\nWORKDIR /srv/app\nCOPY a.txt .\nCOPY --chown=app:staff b.md .\nCOPY --chown=app dir sub/\n";
    succeeds(build(&bench, text, &["-o", "o.tar"]));
    let lines = listing(&bench, "o.tar");
    for line in [
        "drwxr-xr-x 1000:1001 srv/app",
        "-rw-r--r-- 0:0 srv/app/a.txt",
        "-rw-r--r-- 1000:50 srv/app/b.md",
        "drwxr-xr-x 1000:1001 srv/app/sub",
        "-rw-r--r-- 1000:1001 srv/app/sub/c.txt",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
    }
}

#[test]
fn ignore_files_count_for_the_context_only() {
    let bench = bench();
    bench.write("ctx/.dockerignore", "**/*.md\n!dir/deep/d.md\nContainerfile\n.dockerignore\n");
    let expected = [
        "-rw-r--r-- 0:0 a.txt",
        "drwxr-xr-x 0:0 dir",
        "-rw-r--r-- 0:0 dir/c.txt",
        "drwxr-xr-x 0:0 dir/deep",
        "-rw-r--r-- 0:0 dir/deep/d.md",
    ];
    assert_eq!(made(&bench, "COPY . /"), expected);
    bench.write("ctx/Containerfile.dockerignore", "*\n!b.md\n");
    assert_eq!(made(&bench, "COPY . /"), ["-rw-r--r-- 0:0 b.md"]);
}

#[test]
fn the_output_is_no_part_of_the_context() {
    let bench = bench();
    for _ in 0..2 {
        succeeds(build(&bench, "FROM scratch\nCOPY . /\n", &["-o", "ctx/out.tar", "--no-cache"]));
        let lines = listing(&bench, "ctx/out.tar");
        assert!(!lines.iter().any(|line| line.contains("out.tar")), "{lines:#?}");
    }
}
