//! OCI images of a registry on loopback: credentials, the cache, and what is printed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::images::bench::{Bench, with_input};
use crate::images::layout::{self, LAYERS};
use crate::images::server::Server;

/// A bench with a layout `img`, and a registry that serves it.
fn bench(login: Option<&str>) -> (Bench, Server, String) {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({}));
    let server = Server::start(&bench.path("img"), login);
    let word = format!("oci:{}/acme/app:one", server.address);
    (bench, server, word)
}

#[test]
fn an_image_is_fetched_once() {
    let (bench, server, word) = bench(None);
    let message = bench.messages(&["build", &word, "-o", "x.erofs"]);
    let sizes = LAYERS.map(|members| layout::tar(members).len());
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 3, "{message}");
    for number in [1, 2] {
        let line = format!("layer {number} of 2: ");
        assert!(lines.iter().any(|found| found.starts_with(&line)), "{sizes:?} {message}");
    }
    assert!(lines[2].starts_with("x.erofs: erofs, 12 files, "), "{message}");
    assert_eq!(bench.prints(&["diff", "img", &word]), "");
    let count = server.requests();
    // Without --pull, nothing is asked again; docker:// is the same.
    let same = word.replace("oci:", "docker://");
    assert_eq!(bench.prints(&["ls", &same]), bench.prints(&["ls", "img"]));
    assert_eq!(server.requests(), count);
    bench.prints(&["ls", &word, "--pull", "newer"]);
    assert!(server.requests() > count);
    // Without a server, the kept image serves, but not with --pull always.
    drop(server);
    bench.prints(&["ls", &word, "--pull=never"]);
    let output = bench.run(&["ls", &word, "--pull=newer"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && message.starts_with("warning: "), "{message}");
    bench.fails(&["ls", &word, "--pull=always"]);
    let message = bench.fails(&["ls", &word.replace(":one", ":two"), "--pull=never"]);
    assert!(message.contains("--pull=never"), "{message}");
}

#[test]
fn quiet_prints_nothing() {
    let (bench, _server, word) = bench(None);
    assert_eq!(bench.prints(&["build", "-q", &word, "-o", "x.erofs"]), "");
}

#[test]
fn credentials_come_from_the_line_a_file_or_standard_input() {
    let (bench, server, word) = bench(Some("ada:se:cret"));
    let message = bench.fails(&["ls", &word]);
    assert!(message.contains("401"), "{message}");
    let message = bench.fails(&["ls", &word, "--creds", "ada:wrong"]);
    assert!(message.contains("401") && !message.contains("wrong"), "{message}");
    for (fresh, arguments, input) in [
        ("1", vec!["ls", &word, "--creds", "ada:se:cret"], ""),
        ("2", vec!["ls", &word, "--creds", "ada"], "se:cret\nmore"),
    ] {
        let mut command = bench.command(&arguments);
        command.env("XDG_CACHE_HOME", bench.path(fresh));
        let output = with_input(command, input.as_bytes());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let auth = BASE64_STANDARD.encode("ada:se:cret");
    let auths = json!({"auths": {server.address.to_string(): {"auth": auth}}});
    bench.write("auth.json", auths.to_string());
    bench.messages(&["ls", &word, "--authfile", "auth.json"]);
    let mut command = bench.command(&["ls", &word]);
    command.env("XDG_CACHE_HOME", bench.path("3")).env("REGISTRY_AUTH_FILE", "auth.json");
    assert!(command.output().unwrap().status.success());
    // An empty line is no password.
    let mut command = bench.command(&["ls", &word, "--creds", "ada"]);
    command.env("XDG_CACHE_HOME", bench.path("4"));
    let output = with_input(command, b"\n");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("read the password"), "{message}");
}

#[test]
fn bad_options_of_registries_are_errors() {
    let (bench, _server, word) = bench(None);
    bench.write("no.pem", "x");
    for (options, expected) in [
        (&["--ca", "none.pem"][..], "none.pem"),
        (&["--ca", "no.pem"], "no.pem"),
        (&["--authfile", "none.json"], "none.json"),
        (&["--pull", "sometimes"], "sometimes"),
        (&["--platform", "a/b/c/d"], "platform"),
        (&["--creds", ":x"], "USER"),
    ] {
        let message = bench.fails(&[&["ls", &word][..], options].concat());
        assert!(message.contains(expected), "{options:?}: {message}");
    }
}
