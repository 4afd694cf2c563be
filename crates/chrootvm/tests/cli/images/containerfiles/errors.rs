//! Mistakes: places, statuses, and that nothing is written.

use std::process::Output;

use super::{OTHER, WRONG, bench, build};

/// A mistake in a Containerfile.
struct Row {
    text: &'static str,
    status: i32,
    says: &'static str,
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { text: "", status: WRONG, says: "ctx/Containerfile:1:1: the file has no instruction" },
    Row { text: "FROM scratch\nCOPI a /", status: WRONG, says: "ctx/Containerfile:2:1: unknown instruction \"COPI\": did you mean COPY?" },
    Row { text: "FROM scratch\nONBUILD RUN x", status: WRONG, says: "ctx/Containerfile:2:1: ONBUILD is not supported" },
    Row { text: "FROM scratch\n\nADD https://a.example/b /b", status: WRONG, says: "ctx/Containerfile:3:1: ADD \"https://a.example/b\" has no checksum" },
    Row { text: "FROM scratch\nCOPY no-such /", status: WRONG, says: "ctx/Containerfile:2:1: find no-such: no-such does not exist in" },
    Row { text: "FROM scratch\nCOPY no-such* /", status: WRONG, says: "ctx/Containerfile:2:1: no file matches; an ignore file may leave it out" },
    Row { text: "FROM scratch\nRUN --mount=type=secret,id=key,required=true x", status: WRONG, says: "ctx/Containerfile:2:1: secret key: give it as --secret" },
    Row { text: "FROM scratch\nRUN --mount=type=bind,source=no-such,target=/x x", status: WRONG, says: "ctx/Containerfile:2:1: find no-such" },
    Row { text: "FROM base\nCOPY --from=base no-such /", status: WRONG, says: "ctx/Containerfile:2:1: find no-such: no-such does not exist in" },
    Row { text: "FROM base\nCOPY --chown=nobody a.txt /", status: WRONG, says: "ctx/Containerfile:2:1: owner nobody: no such user in /etc/passwd" },
    Row { text: "FROM base\nCOPY a.txt /etc/passwd/", status: OTHER, says: "ctx/Containerfile:2:1: copy a.txt to /etc/passwd" },
    Row { text: "FROM base\nWORKDIR /etc/passwd", status: OTHER, says: "ctx/Containerfile:2:1: " },
    Row { text: "FROM ${NONE:?is needed}", status: WRONG, says: "ctx/Containerfile:1:1: " },
];

#[test]
fn mistakes_have_a_place_and_a_status() {
    let bench = bench();
    for Row { text, status, says } in ROWS {
        let output = build(&bench, text, &["-o", "o.tar"]).output().unwrap();
        let Output { status: found, stdout, stderr } = output;
        let message = String::from_utf8(stderr).unwrap();
        assert_eq!(found.code(), Some(*status), "{text}: {message}");
        assert!(message.contains(&format!("error: {says}")), "{text}: {message}");
        assert!(stdout.is_empty() && !bench.path("o.tar").exists(), "{text}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let bench = bench();
    for (words, says) in [
        (&["-o", "o.tar", "--tag", "a"][..], "--tag is for OCI archives"),
        (&["-o", "o.oci.tar", "--tag", "A B"], "A B"),
        (&["-o", "o.tar", "--locked"], "--locked is for recipes"),
        (&["-o", "o.tar", "--from-step", "1"], "--from-step is for recipes"),
        (
            &["-o", "o.tar", "--target", "x"],
            "--target x: there is no such stage; known are last, 0 to 0",
        ),
        (&["-o", "o.tar", "--build-arg", "=x"], "--build-arg =x"),
        (&["-o", "o.tar", "--build-context", "base=base"], "the name is given twice"),
        (&["-o", "o.tar", "--build-context", "x=no-such"], "--build-context x=no-such"),
        (&["-o", "o.tar", "--secret", "id=a,src=no-such"], "--secret a"),
        (&["-o", "o.unknown"], "which --format?"),
        (&[], "which file? Give -o FILE"),
    ] {
        let output = build(&bench, "FROM scratch AS last\n", words).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(OTHER), "{words:?}: {message}");
        assert!(message.contains(says), "{words:?}: {message}");
    }
    for (arguments, says) in [
        (
            &["build", "base", "--build-arg", "a=b", "-o", "o.tar"][..],
            "--build-arg is for Containerfiles, and base is none",
        ),
        (
            &["build", "-f", "ctx/Containerfile", "ctx/a.txt", "-o", "o.tar"],
            "the context ctx/a.txt is no directory",
        ),
        (&["build", "-f", "no-such", "ctx", "-o", "o.tar"], "read no-such"),
    ] {
        let output = bench.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(says), "{arguments:?}: {message}");
    }
}

#[test]
fn hostile_texts_end_with_a_message() {
    let bench = bench();
    let long = format!("FROM scratch\nENV A={}\n", "x".repeat(1 << 20));
    let deep = format!("FROM scratch\nCOPY a.txt /{}\n", "d/".repeat(3000));
    let circle = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n";
    let nul = "FROM scratch\nENV A=\0\nCOPY a.txt /\0\n";
    for text in [&*long, &deep, circle, nul, "FROM scratch\nCOPY --chown=4294967296 a.txt /\n"] {
        let output = build(&bench, text, &["-o", "o.tar"]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let start: String = text.chars().take(40).collect();
        assert!(matches!(output.status.code(), Some(WRONG | OTHER)), "{start}: {message}");
        assert!(message.contains("error: ") && !message.contains("panicked"), "{start}: {message}");
        assert!(!bench.path("o.tar").exists(), "{start}");
    }
}
