//! Where Containerfiles, contexts and bases are, and what is shown of them.

use serde_json::json;

use super::{bench, build, listing, succeeds};
use crate::images::bench::with_input;
use crate::images::layout;

const COPIES: &str = "FROM scratch\nCOPY a.txt /\n";

#[test]
fn a_name_or_an_option_says_that_it_is_a_containerfile() {
    let bench = bench();
    bench.write("elsewhere/text", COPIES);
    for (name, words) in [
        ("ctx/Containerfile", &["build", "ctx/Containerfile"][..]),
        ("ctx/Dockerfile", &["build", "ctx/Dockerfile"]),
        ("ctx/prod.Dockerfile", &["build", "ctx/prod.Dockerfile"]),
        ("ctx/Containerfile.prod", &["build", "ctx/Containerfile.prod"]),
        ("ctx/any", &["build", "-f", "ctx/any", "ctx"]),
        ("elsewhere/text", &["build", "--file", "elsewhere/text", "ctx"]),
    ] {
        bench.write(name, COPIES);
        succeeds(bench.command(&[words, &["-o", "o.tar"]].concat()));
        assert!(listing(&bench, "o.tar").contains(&"-rw-r--r-- 0:0 a.txt".to_owned()), "{name}");
    }
    let command = bench.command(&["build", "-f", "-", "ctx", "-o", "p.tar"]);
    let output = with_input(command, COPIES.as_bytes());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(listing(&bench, "p.tar").len(), 2);
}

#[test]
fn a_directory_stays_a_source() {
    let bench = bench();
    bench.write("ctx/Dockerfile", "FROM scratch\n");
    bench.messages(&["build", "ctx", "-o", "o.tar"]);
    assert!(listing(&bench, "o.tar").iter().any(|line| line.ends_with(" Dockerfile")));
}

#[test]
fn bases_are_what_a_source_may_be() {
    let bench = bench();
    std::fs::create_dir(bench.path("layout")).unwrap();
    layout::image(&bench.path("layout"), json!({ "User": "ada", "Env": ["A=of the base"] }));
    bench.write("image.tar", layout::archive(&bench.path("layout")));
    bench.write("docker.tar", layout::docker_archive());
    bench.messages(&["build", "base", "-o", "base.erofs"]);
    for source in [
        "oci-layout:layout",
        "oci-layout:layout:one",
        "layout",
        "oci-archive:image.tar",
        "image.tar",
        "docker-archive:docker.tar",
        "docker.tar",
        "base",
        "base.erofs",
    ] {
        let named = format!("my/base:1={source}");
        let text = "ARG BASE=my/base\nFROM ${BASE}:1 AS first\nFROM scratch\nCOPY --from=my/base:1 /etc/passwd /one\n\
                    COPY --from=first /etc/passwd /two\n";
        succeeds(build(&bench, text, &["--build-context", &named, "-o", "o.tar"]));
        let lines = listing(&bench, "o.tar");
        assert!(lines.iter().any(|line| line.ends_with(" one")), "{source}: {lines:#?}");
        assert!(lines.iter().any(|line| line.ends_with(" two")), "{source}: {lines:#?}");
    }
}

#[test]
fn a_directory_by_name_gives_files_of_root() {
    let bench = bench();
    bench.write("other/.dockerignore", "no\n");
    bench.write("other/yes", "");
    bench.write("other/no", "");
    let text = "FROM scratch\nCOPY --from=other . /x/\n";
    succeeds(build(&bench, text, &["--build-context", "other=other", "-o", "o.tar"]));
    let mut lines = listing(&bench, "o.tar");
    lines.retain(|line| !line.ends_with('.'));
    assert_eq!(
        lines,
        ["drwxr-xr-x 0:0 x", "-rw-r--r-- 0:0 x/.dockerignore", "-rw-r--r-- 0:0 x/yes"]
    );
}

#[test]
fn dry_run_shows_the_steps_that_are_needed() {
    let bench = bench();
    let text = "FROM base AS first\nRUN   make \\\n  it\nFROM base AS other\nRUN false\nFROM first\nENV A=b\n\
                COPY a.txt /\nRUN [\"/bin/x\"]\n";
    let output = build(&bench, text, &["--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = "first 1/1: RUN make it (runs)
stage-2 2/3: COPY a.txt / (needs no machine)
stage-2 3/3: RUN [\"/bin/x\"] (runs)
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(!bench.path("o.tar").exists());
}

#[test]
fn an_unchanged_build_copies_its_output() {
    let bench = bench();
    let first = succeeds(build(&bench, COPIES, &["-o", "o.erofs"]));
    assert!(!first.contains("(kept)"), "{first}");
    let bytes = std::fs::read(bench.path("o.erofs")).unwrap();
    for name in ["o.erofs", "p.erofs"] {
        let again = succeeds(build(&bench, COPIES, &["-o", name]));
        assert!(again.contains(&format!("{name}: erofs (kept)")), "{again}");
        assert_eq!(std::fs::read(bench.path(name)).unwrap(), bytes);
    }
    for (change, words) in [
        (COPIES, &["--no-cache"][..]),
        (COPIES, &["--label", "other"]),
        ("FROM scratch\nCOPY a.txt /\nENV A=b\n", &[]),
        ("FROM scratch\nCOPY b.md /\n", &[]),
    ] {
        let again = succeeds(build(&bench, change, &[&["-o", "o.erofs"], words].concat()));
        assert!(!again.contains("(kept)"), "{change} {words:?}: {again}");
    }
    bench.write("ctx/a.txt", "changed\n");
    let again = succeeds(build(&bench, COPIES, &["-o", "o.erofs"]));
    assert!(!again.contains("(kept)"), "{again}");
}

#[test]
fn check_reads_the_text() {
    let bench = bench();
    bench.write("Containerfile", "FROM a AS b\nRUN x\nFROM b\nCOPY no-such /\n");
    assert_eq!(
        bench.prints(&["check", "Containerfile"]),
        "Containerfile: 2 stages, 4 instructions\n"
    );
    bench.write("Containerfile", "FROM a\nRUN --no-such x\n");
    let output = bench.run(&["check", "Containerfile"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(super::WRONG));
    assert!(message.contains("error: Containerfile:2:"), "{message}");
}
