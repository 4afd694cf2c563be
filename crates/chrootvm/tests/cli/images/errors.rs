//! What goes wrong with OCI images: one line, a status, and no file.

use std::fs;

use serde_json::json;

use crate::images::bench::Bench;
use crate::images::layout::{self, LAYERS, Layout, arch};

/// Replaces the bytes of the largest blob of the layout `img`, a layer, and keeps their number.
fn damage(bench: &Bench) {
    let blobs = fs::read_dir(bench.path("img/blobs/sha256")).unwrap();
    let size = |path: &std::path::PathBuf| path.metadata().unwrap().len();
    let largest = blobs.map(|blob| blob.unwrap().path()).max_by_key(size).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(largest, bytes).unwrap();
}

#[test]
fn names_that_are_no_image_have_hints() {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({}));
    bench.write("empty/file", "x");
    bench.write("text.tar", "x".repeat(2000));
    for (word, expected) in [
        ("docker:debian", "an image in a registry is oci:debian or docker://debian"),
        ("oci-dir:img", "an image layout is oci-layout:DIR[:TAG]"),
        ("oci-layuot:img", "did you mean oci-layout:"),
        ("debian:12", "an image in a registry is oci:debian:12"),
        ("none", "none does not exist: an image in a registry is oci:none"),
        ("none.erofs", "none.erofs"),
        ("./img:one", "did you mean oci-layout:./img:one?"),
        ("text.tar:one", "did you mean oci-archive:text.tar:one?"),
        ("oci:Debian", "lower case"),
        ("oci:./img", "oci-layout:./img"),
        ("oci:", "the name is empty"),
        ("oci-layout:none", "none"),
        ("oci-layout:empty", "empty"),
        ("oci-layout:img:two", "no image has the tag two"),
        ("oci-layout:img@sha256:12", "digest"),
        ("oci-archive:none.tar", "none.tar"),
        ("oci-archive:text.tar", "text.tar"),
        ("docker-archive:text.tar", "text.tar"),
    ] {
        for arguments in [&["ls", word][..], &["build", word, "-o", "x.erofs"], &["layers", word]] {
            let message = bench.fails(arguments);
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
    let message = bench.fails(&["layers", "empty"]);
    assert!(message.contains("not an OCI image"), "{message}");
}

#[test]
fn one_of_several_images_must_be_named() {
    let bench = Bench::new();
    let dir = bench.path("img");
    let layout = Layout::new(&dir);
    let image = |name| layout.image(&arch(), json!({}), &[&[(name, 0o644, 0, "")]]);
    let (a, b) = (image("a"), image("b"));
    layout.tag("1", a).tag("2", b).finish();
    let message = bench.fails(&["ls", "oci-layout:img"]);
    assert!(message.contains(":1") && message.contains(":2"), "{message}");
    let differences = bench.run(&["diff", "oci-layout:img:1", "oci-layout:img:2"]);
    assert_eq!(differences.status.code(), Some(1));
    assert_eq!(differences.stdout, b"- a\n+ b\n");
}

/// A damaged layer is never taken, whatever the cache has; the message names image and layer.
#[test]
fn a_damaged_image_is_refused() {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({}));
    bench.prints(&["verify", "img"]);
    damage(&bench);
    for arguments in [&["build", "img", "-o", "x.erofs"][..], &["ls", "img"]] {
        let message = bench.fails(arguments);
        for part in ["img", "layer", "sha256:"] {
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
    }
    // Documents alone are right.
    bench.prints(&["inspect", "img"]);
    let archive = layout::archive(&bench.path("img"));
    bench.write("cut.tar", &archive[..archive.len() / 2]);
    bench.fails(&["build", "oci-archive:cut.tar", "-o", "x.erofs"]);
}

/// A cache that has a layer does not hide that the image is damaged.
#[test]
fn verify_reads_everything_anew() {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({}));
    bench.messages(&["build", "img", "-o", "x.erofs"]);
    damage(&bench);
    let output = bench.run(&["verify", "img"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(output.stdout, b"img: OCI image, damaged\n");
    assert!(message.contains("sha256:") && message.lines().count() == 1, "{message}");
}

#[test]
fn a_hostile_layer_stays_inside() {
    let bench = Bench::new();
    for (name, members) in [
        ("up", &[("../../outside", 0o644, 0, "x")][..]),
        ("whiteout", &[("etc/.wh.", 0o644, 0, "")]),
        ("loop", &[("a", 0o777, 0, "->b"), ("b", 0o777, 0, "->a"), ("a/x", 0o644, 0, "x")]),
    ] {
        let dir = bench.path(name);
        let layout = Layout::new(&dir);
        let image = match name {
            // The crate tar refuses to write such a name.
            "up" => {
                let mut layer = layout::tar(&[("aa/aa/outside", 0o644, 0, "x")]);
                layer[..5].copy_from_slice(b"../..");
                let sum: u32 = layer[..512]
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                    .sum();
                layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                layout.image_of(&arch(), json!({}), &[layer])
            }
            _ => layout.image(&arch(), json!({}), &[LAYERS[0], members]),
        };
        layout.tag("one", image).finish();
        let message = bench.fails(&["build", name, "-o", "x.erofs"]);
        assert!(message.contains("sha256:"), "{name}: {message}");
        assert!(!bench.path("outside").exists() && !bench.path("../outside").exists());
    }
    // A link that leads out leads to the image's own root.
    let dir = bench.path("out");
    let layout = Layout::new(&dir);
    let members: [&[_]; 2] =
        [&[("out", 0o777, 0, "->../../../..")], &[("out/inside", 0o644, 0, "x")]];
    let image = layout.image(&arch(), json!({}), &members);
    layout.tag("one", image).finish();
    assert_eq!(bench.prints(&["cat", "out", "/inside"]), "x");
}
