//! Every form in which an OCI image can be named, with every subcommand.

use std::fs;

use archive::compress::{Compression, compress};
use serde_json::json;

use crate::images::bench::Bench;
use crate::images::layout::{self, LAYERS, LISTING, Layout};

/// A layout `img` with one image, and the same image as archives.
fn bench() -> Bench {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({}));
    let archive = layout::archive(&bench.path("img"));
    bench.write("img.tar.gz", compress(archive.clone(), Compression::Gzip).unwrap());
    bench.write("img.tar", archive);
    bench.write("docker.tar", layout::docker_archive());
    bench
}

/// The digest of the image in the layout `img`.
fn digest(bench: &Bench) -> String {
    let index = fs::read(bench.path("img/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

/// `MODE UID PATH` of each line of `image ls`.
fn short(listing: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        [words[0], words[2], words[5]].join(" ")
    };
    listing.lines().map(line).collect()
}

#[test]
fn every_form_is_the_same_image() {
    let bench = bench();
    let by_digest = format!("oci-layout:img@{}", digest(&bench));
    let absolute = format!("oci-layout:{}:one", bench.path("img").display());
    let words = [
        "oci-layout:img",
        "oci-layout:img:one",
        &by_digest,
        &absolute,
        "img",
        "./img/",
        "oci-archive:img.tar",
        "oci-archive:img.tar:one",
        "oci-archive:img.tar.gz",
        "img.tar",
        "img.tar.gz",
        "docker-archive:docker.tar",
        "docker-archive:docker.tar:acme/app:1",
        "docker.tar",
    ];
    for word in words {
        assert_eq!(short(&bench.prints(&["ls", word])), LISTING, "{word}");
        assert_eq!(bench.prints(&["cat", word, "/bin/tool"]), "tool", "{word}");
        assert_eq!(bench.prints(&["diff", "img", word]), "", "{word}");
        let verified = bench.prints(&["verify", word]);
        let expected = format!("{word}: OCI image, {} files, ", LISTING.len());
        assert!(verified.starts_with(&expected), "{verified}");
        assert!(bench.prints(&["inspect", word]).contains("\nlayers       2, "), "{word}");
        assert_eq!(bench.prints(&["layers", word]).lines().count(), 3, "{word}");
    }
}

#[test]
fn standard_input_is_recognised_too() {
    let bench = bench();
    for (word, file) in [
        ("-", "img.tar"),
        ("-", "img.tar.gz"),
        ("-", "docker.tar"),
        ("oci-archive:-", "img.tar"),
        ("docker-archive:-", "docker.tar"),
    ] {
        let bytes = fs::read(bench.path(file)).unwrap();
        let output = bench.run_with_input(&["ls", word], &bytes);
        assert!(output.status.success(), "{word} {file}: {output:?}");
        assert_eq!(short(&String::from_utf8(output.stdout).unwrap()), LISTING, "{word} {file}");
        // A file as standard input is not copied.
        let mut command = bench.command(&["ls", word]);
        let output = command.stdin(fs::File::open(bench.path(file)).unwrap()).output().unwrap();
        assert_eq!(short(&String::from_utf8(output.stdout).unwrap()), LISTING, "{word} {file}");
    }
    // A root file system stays one.
    let output = bench.run_with_input(&["inspect", "-"], &layout::tar(LAYERS[0]));
    assert!(output.stdout.starts_with(b"format       tar\n"), "{output:?}");
    let bytes = fs::read(bench.path("img.tar")).unwrap();
    for arguments in [&["diff", "-", "-"][..], &["ls", "-", "--creds", "ada"]] {
        let output = bench.run_with_input(arguments, &bytes);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

/// The image has the same files in every format that can hold them.
#[test]
fn an_image_becomes_every_format() {
    let bench = bench();
    for name in ["x.erofs", "x.ext4", "x.squashfs", "x.cpio.zst", "x.tar.gz"] {
        let message = bench.messages(&["build", "oci-layout:img", "-o", name]);
        assert!(message.starts_with(&format!("{name}: ")) && message.lines().count() == 1);
        assert_eq!(short(&bench.prints(&["ls", name])), LISTING, "{name}");
        assert_eq!(bench.prints(&["diff", "img", name]), "", "{name}");
    }
    // The output does not depend on the form of the source.
    bench.messages(&["build", "docker.tar", "-o", "y.erofs"]);
    let [x, y] = ["x.erofs", "y.erofs"].map(|name| fs::read(bench.path(name)).unwrap());
    assert!(x == y);
    let quiet = bench.prints(&["--quiet", "build", "img", "-o", "z.erofs"]);
    assert_eq!(quiet + &bench.prints(&["build", "-q", "img", "-o", "z.erofs"]), "");
}

#[test]
fn a_platform_is_chosen() {
    let bench = Bench::new();
    let dir = bench.path("multi");
    let layout = Layout::new(&dir);
    let of = |arch: &str, name| {
        (arch.to_owned(), layout.image(arch, json!({}), &[&[(name, 0o644, 0, "")]]))
    };
    let (own, other) = (layout::arch(), if layout::arch() == "s390x" { "arm64" } else { "s390x" });
    let (own, other) = (of(&own, "own"), of(other, "other"));
    let index = layout.index(&[(&own.0, own.1), (&other.0, other.1)]);
    layout.tag("one", index).finish();
    let paths = |options: &[&str]| {
        let listing = bench.prints(&[&["ls", "multi"][..], options].concat());
        short(&listing)[1].rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(paths(&[]), "own");
    assert_eq!(paths(&["--platform", &other.0]), "other");
    assert_eq!(paths(&["--platform", &format!("linux/{}", own.0)]), "own");
    let facts = bench.prints(&["inspect", "multi"]);
    assert!(facts.contains(&format!("\nalso for     linux/{}\n", other.0)), "{facts}");
    let message = bench.fails(&["ls", "multi", "--platform", "sparc64"]);
    for part in ["no image for linux/sparc64", &format!("linux/{}", own.0), &other.0] {
        assert!(message.contains(part), "{message}");
    }
}

/// `--keep-dirlinks` and `--max-size` reach the layers.
#[test]
fn options_reach_the_layers() {
    let bench = Bench::new();
    let dir = bench.path("img");
    let layout = Layout::new(&dir);
    let layers: [&[_]; 2] = [
        &[("bin", 0o777, 0, "->usr/bin"), ("usr/bin/sh", 0o755, 0, "sh")],
        &[("bin/", 0o755, 0, ""), ("bin/tool", 0o755, 0, "tool")],
    ];
    let image = layout.image(&layout::arch(), json!({}), &layers);
    layout.tag("one", image).finish();
    let output = bench.run(&["ls", "img"]);
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(listing.contains(" bin/tool") && !output.stderr.is_empty(), "{listing}");
    let listing = bench.prints(&["ls", "img", "--keep-dirlinks"]);
    assert!(listing.contains(" usr/bin/tool") && listing.contains(" bin -> usr/bin"), "{listing}");
    let message = bench.fails(&["build", "img", "-o", "x.erofs", "--max-size", "1k"]);
    assert!(message.contains("--max-size"), "{message}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_chrootvm"))
        .args(["oci-layout:img", "--dry-run", "--max-size", "1k", "--", "true"])
        .current_dir(bench.path(""))
        .env("XDG_CACHE_HOME", bench.path("cache"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("--max-size SIZE"), "{message}");
}
