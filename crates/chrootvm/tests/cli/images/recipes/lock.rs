//! `recipe.lock`, with a registry on loopback.

use std::fs;

use serde_json::json;

use super::{OTHER, WRONG_RECIPE, build, fails, succeeds};
use crate::images::bench::Bench;
use crate::images::layout::{self, Layout};
use crate::images::server::Server;

/// A bench, and a registry with the image `acme/app:one`, whose file `/etc/word` is `first`.
fn bench() -> (Bench, Server, String) {
    let bench = Bench::new();
    publish(&bench, &["first"]);
    let server = Server::start(&bench.path("img"), None);
    let text =
        format!("from.oci = \"{}/acme/app:one\"\n[[output]]\nfile = \"o.tar\"\n", server.address);
    (bench, server, text)
}

/// Gives the registry an image for each word, with that word in its file. The last one has the
/// tag `one`.
fn publish(bench: &Bench, words: &[&'static str]) {
    let dir = bench.path("img");
    let mut layout = Layout::new(&dir);
    for (number, word) in words.iter().enumerate() {
        let image = layout.image(&layout::arch(), json!({}), &[&[("etc/word", 0o644, 0, word)]]);
        let is_last = number + 1 == words.len();
        layout = layout.tag(if is_last { "one" } else { "before" }, image);
    }
    layout.finish();
}

/// The entry of the only image in the lock file.
fn locked(bench: &Bench) -> String {
    let text = fs::read_to_string(bench.path("recipe.lock")).unwrap();
    let digests: Vec<_> = text.lines().filter(|line| line.starts_with("digest = ")).collect();
    assert_eq!(digests.len(), 1, "{text}");
    digests[0].to_owned()
}

/// Forgets what was fetched and built.
fn forget(bench: &Bench) {
    fs::remove_dir_all(bench.path("home")).unwrap();
    fs::create_dir(bench.path("home")).unwrap();
}

fn word(bench: &Bench) -> String {
    bench.prints(&["cat", "o.tar", "/etc/word"])
}

#[test]
fn a_moved_tag_is_used_when_it_is_asked_for() {
    let (bench, server, text) = bench();
    succeeds(build(&bench, &text, &[]));
    assert_eq!(word(&bench), "first");
    let first = locked(&bench);
    publish(&bench, &["first", "second"]);
    for words in [&[][..], &["--no-cache"], &["--locked"]] {
        forget(&bench);
        succeeds(build(&bench, &text, words));
        assert_eq!(
            (word(&bench), locked(&bench)),
            ("first".to_owned(), first.clone()),
            "{words:?}"
        );
    }
    let name = format!("--update={}/acme/app:one", server.address);
    for (word_now, option) in [("second", name.as_str()), ("third", "--update")] {
        publish(&bench, &["first", word_now]);
        let before = locked(&bench);
        succeeds(build(&bench, &text, &[option]));
        assert_eq!(word(&bench), word_now, "{option}");
        assert_ne!(locked(&bench), before, "{option}");
    }
}

/// `--locked` fails closed, and changes nothing.
#[test]
fn locked_builds_need_an_entry() {
    let (bench, server, text) = bench();
    let message = fails(build(&bench, &text, &["--locked"]), OTHER);
    assert!(message.contains("has no entry for") && message.contains("acme/app:one"), "{message}");
    assert_eq!(server.requests(), 0);
    assert!(!bench.path("o.tar").exists() && !bench.path("recipe.lock").exists());
    succeeds(build(&bench, &text, &[]));
    let lock = fs::read_to_string(bench.path("recipe.lock")).unwrap();
    // An address that the lock file does not have, and one with another digest.
    let zeroes = "0".repeat(64);
    let url = format!(
        "{text}[[step]]\nurl = \"http://{}/x\"\nsha256 = \"{zeroes}\"\nto = \"/x\"\n",
        server.address
    );
    let message = fails(build(&bench, &url, &["--locked"]), OTHER);
    assert!(message.contains("has no entry for http://"), "{message}");
    let entry = format!(
        "{lock}\n[[url]]\nurl = \"http://{}/x\"\nsha256 = \"{}\"\n",
        server.address,
        "1".repeat(64)
    );
    bench.write("recipe.lock", &entry);
    let message = fails(build(&bench, &url, &["--locked"]), OTHER);
    assert!(message.contains("has another SHA-256 for http://"), "{message}");
    assert_eq!(fs::read_to_string(bench.path("recipe.lock")).unwrap(), entry);
    // A comment changes the recipe's own digest, which is no reason to fail.
    bench.write("recipe.lock", &lock);
    succeeds(build(&bench, &format!("# comment\n{text}"), &["--locked"]));
    assert_eq!(fs::read_to_string(bench.path("recipe.lock")).unwrap(), lock);
}

#[test]
fn a_failed_build_leaves_the_lock_file() {
    let (bench, _server, text) = bench();
    let failing = format!("{text}[[step]]\ntext = \"x\"\nto = \"/etc/word/x\"\n");
    fails(build(&bench, &failing, &[]), OTHER);
    assert!(!bench.path("recipe.lock").exists());
    succeeds(build(&bench, &text, &["--dry-run"]));
    assert!(!bench.path("recipe.lock").exists());
    succeeds(build(&bench, &text, &[]));
    let first = locked(&bench);
    publish(&bench, &["first", "second"]);
    fails(build(&bench, &failing, &["--update"]), OTHER);
    assert_eq!(locked(&bench), first);
}

#[test]
fn a_bad_lock_file_has_a_place() {
    let (bench, _server, text) = bench();
    for (lock, part) in [
        ("version = 1\nx = 1\n", "recipe.lock:2:1: "),
        ("version = 2\n", "recipe.lock:1:"),
        ("\u{fffd}", "recipe.lock:1:"),
    ] {
        bench.write("recipe.lock", lock);
        let message = fails(build(&bench, &text, &[]), WRONG_RECIPE);
        assert!(message.contains(part), "{lock}: {message}");
        assert_eq!(fs::read_to_string(bench.path("recipe.lock")).unwrap(), lock);
    }
    // A recipe that needs no lock file gets none.
    let bench = Bench::new();
    bench.write("base/x", "x");
    succeeds(build(&bench, "from.dir = \"base\"\n", &["-o", "o.tar"]));
    assert!(!bench.path("recipe.lock").exists());
}
