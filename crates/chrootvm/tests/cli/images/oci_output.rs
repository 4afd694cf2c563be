//! `image build -o FILE.oci.tar`: images that other tools take, and that keep their layers.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::images::bench::Bench;
use crate::images::layout;

fn facts(bench: &Bench, word: &str) -> Value {
    serde_json::from_str(&bench.prints(&["inspect", word, "--json"])).unwrap()
}

fn layers(bench: &Bench, word: &str) -> Vec<Value> {
    facts(bench, word)["layers"].as_array().unwrap().clone()
}

/// A bench with a directory `root` and a layout `img`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("root/etc/motd", "hello\n");
    bench.write("root/bin/app", "app");
    let config = json!({"config": {
        "Entrypoint": ["/bin/app"], "Cmd": ["x"], "Env": ["A=1"], "Labels": {"a": "b"}
    }});
    layout::image(&bench.path("img"), config);
    bench.write("new", "new");
    bench
}

#[test]
fn a_directory_becomes_an_image_of_one_layer() {
    let bench = bench();
    let options = ["-e", "A=1", "-u", "ada", "-w", "/srv", "--", "/bin/app", "*"];
    for (name, compression, options) in [
        ("gzip.oci.tar", "gzip", &[][..]),
        ("zstd.oci.tar", "zstd", &["--compress", "zstd"]),
        ("none.tar", "none", &["--format", "oci", "--compress=none"]),
        ("config.oci.tar", "gzip", &options),
    ] {
        let message = bench.messages(&[&["build", "root", "-o", name][..], options].concat());
        assert!(message.starts_with(&format!("{name}: oci, 5 files, ")), "{message}");
        assert_eq!(bench.prints(&["diff", "root", name, "--ignore", "owner"]), "", "{name}");
        let layers = layers(&bench, name);
        assert_eq!((layers.len(), &layers[0]["compression"]), (1, &json!(compression)), "{name}");
        bench.prints(&["verify", name]);
    }
    let config = &facts(&bench, "config.oci.tar")["config"];
    let expected = json!([["/bin/app", "*"], ["A=1"], "ada", "/srv"]);
    assert_eq!(
        json!([config["cmd"], config["env"], config["user"], config["working_dir"]]),
        expected
    );
    // Equal sources give equal bytes.
    bench.messages(&["build", "root", "-o", "again.oci.tar"]);
    let [a, b] = ["gzip.oci.tar", "again.oci.tar"].map(|name| fs::read(bench.path(name)).unwrap());
    assert!(a == b);
}

#[test]
fn an_image_keeps_its_layers_and_gets_one_more() {
    let bench = bench();
    let edits =
        ["--inject", "new:/opt/", "--exclude", "motd", "--entrypoint", "/bin/tool", "-e", "B=2"];
    bench.messages(&[&["build", "img", "-o", "x.oci.tar"][..], &edits].concat());
    let (old, new) = (layers(&bench, "img"), layers(&bench, "x.oci.tar"));
    assert_eq!(
        (new.len(), &new[0]["digest"], &new[1]["digest"]),
        (3, &old[0]["digest"], &old[1]["digest"])
    );
    let differences = bench.run(&["diff", "img", "x.oci.tar", "--ignore", "time"]);
    let differences = String::from_utf8(differences.stdout).unwrap();
    assert_eq!(differences, "- etc/motd\n+ opt\n");
    let config = &facts(&bench, "x.oci.tar")["config"];
    assert_eq!((&config["entrypoint"], &config["cmd"]), (&json!(["/bin/tool"]), &json!([])));
    assert_eq!((&config["env"], &config["labels"]), (&json!(["A=1", "B=2"]), &json!({"a": "b"})));
    // The same edits of the image as another format give the same files.
    bench.messages(&[
        "build",
        "img",
        "-o",
        "x.erofs",
        "--inject",
        "new:/opt/",
        "--exclude",
        "motd",
    ]);
    assert_eq!(bench.prints(&["diff", "x.oci.tar", "x.erofs", "--ignore", "time"]), "");
}

/// Other tools take the image and hand it on unchanged.
#[test]
fn skopeo_copies_the_image() {
    if !virtinitrd_vm_tests::has("skopeo") {
        return;
    }
    let bench = bench();
    for (source, name) in [("root", "root.oci.tar"), ("img", "img.oci.tar")] {
        bench.messages(&["build", source, "-o", name, "--inject", "new:/opt/"]);
        let mut skopeo = Command::new("skopeo");
        let policy = ["--insecure-policy", "copy", "--quiet"];
        skopeo.args(policy).arg(format!("oci-archive:{name}")).arg(format!("oci:{name}.dir:1"));
        let output = skopeo.current_dir(bench.path(".")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let copy = format!("{name}.dir");
        assert_eq!(bench.prints(&["ls", &copy]), bench.prints(&["ls", name]));
        assert_eq!(bench.prints(&["diff", &copy, name]), "");
        // skopeo compresses layers that are not.
        let unpacked = |word: &str| {
            let layers = layers(&bench, word);
            layers.iter().map(|layer| layer["diff_id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(unpacked(&copy), unpacked(name));
    }
}

#[test]
fn what_an_image_cannot_have_is_an_error() {
    let bench = bench();
    for (options, expected) in [
        (&["-o", "x.oci.tar", "--compress", "xz"][..], "--compress xz: not for oci"),
        (&["-o", "x.oci.tar", "--label", "x"], "btrfs, xfs and vfat, not for oci"),
        (&["-o", "x.oci.tar", "--restart", "always"], "--restart: the config of an OCI image"),
        (&["-o", "x.oci.tar", "--boot-initrd", "i"], "oci is no disk"),
    ] {
        let message = bench.fails(&[&["build", "img"][..], options].concat());
        assert!(message.contains(expected), "{options:?}: {message}");
    }
    bench.write("bad/.wh.x", "");
    let message = bench.fails(&["build", "bad", "-o", "x.oci.tar"]);
    assert!(message.contains(".wh.x"), "{message}");
}
