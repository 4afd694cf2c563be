//! Tests of written archives: read again by this program, skopeo and umoci. A check by another
//! program is left out where that program is missing.

mod steps;

use std::path::Path;
use std::sync::Arc;

use archive::compress::{Compression, Method};
use image::compare::compare;
use image::source::{self, ReadOptions};
use image::tree::{Content, Kind, Meta, directory};

use super::*;
use crate::document::config::Process;
use crate::image::{Image, OpenOptions, open};
use crate::name::location::{Location, Selector};
use crate::progress::Silent;
use crate::sample::{LayoutDir, file, run, tar};

const PLATFORM: &str = "linux/amd64";
const TIME: i64 = 1_700_000_000;

fn options() -> OpenOptions {
    OpenOptions { platform: Some(PLATFORM.parse().unwrap()), ..OpenOptions::default() }
}

fn meta(permissions: u16) -> Meta {
    Meta { permissions, uid: 7, gid: 8, mtime: TIME, ..Meta::default() }
}

fn contents(text: &str) -> Kind {
    Kind::File(Content::Bytes(Arc::from(text.as_bytes())))
}

/// A tree with all kinds of files that a layer can express.
fn sample() -> Tree {
    let mut tree = Tree::new(meta(0o750));
    let mut put = |path: &str, meta: Meta, kind| tree.put(path.as_bytes(), meta, kind).unwrap();
    put("etc", meta(0o755), directory());
    put("home", meta(0o700), directory());
    put("home/empty", meta(0o1777), directory());
    let first = put("etc/a", meta(0o4755), contents("first"));
    put("etc/b", meta(0o644), contents("second"));
    put("etc/link", meta(0o777), Kind::Symlink(b"/etc/a"[..].into()));
    put("etc/null", meta(0o666), Kind::CharDevice(1, 3));
    put("etc/fifo", meta(0o600), Kind::Fifo);
    put("etc/gone", meta(0o644), contents("gone"));
    put("dir/x/y", meta(0o644), contents("y"));
    put("file", meta(0o644), contents("file"));
    tree.put_link(b"home/hard", first).unwrap();
    tree
}

fn written(tree: &Tree, options: &ArchiveOptions<'_>) -> (tempfile::NamedTempFile, Written) {
    let mut bytes = Vec::new();
    let mut notes = Notes::default();
    let written = archive(tree, options, &mut bytes, &mut notes).unwrap();
    assert_eq!(notes.lines().collect::<Vec<_>>(), [""; 0]);
    (file(&bytes), written)
}

fn read(path: &Path) -> Image {
    open(&Location::OciArchive(path.to_path_buf(), Selector::Only), &options()).unwrap()
}

fn differences(a: &Tree, b: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    compare(a, b, &[], &mut |change| found.push(change.to_string())).unwrap();
    found
}

fn tree_of(image: &Image) -> Tree {
    let mut notes = Notes::default();
    let tree = image.tree(&mut notes, &Silent).unwrap();
    assert_eq!(notes.lines().collect::<Vec<_>>(), [""; 0]);
    tree
}

#[test]
fn places_of_a_foreign_layer_stay() {
    let value = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": Digest::of(b""),
        "size": 0,
    });
    let with_urls = {
        let mut value = value.clone();
        value["urls"] = json!(["https://a.example/layer"]);
        value
    };
    for value in [value, with_urls] {
        let blob: Descriptor = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(descriptor_value(&blob), value);
    }
}

#[test]
fn a_tree_becomes_an_image_of_one_layer() {
    let process = Process {
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["a b".into(), "*".into()],
        env: vec!["A=".into()],
        user: "7:8".into(),
        working_dir: "/etc".into(),
        stop_signal: Some("SIGQUIT".into()),
        volumes: vec!["/data".into()],
        exposed_ports: vec!["80/tcp".into()],
        labels: [("k".into(), "v".into())].into(),
        shell: vec!["/bin/ash".into(), "-c".into()],
        on_build: vec!["RUN a".into()],
        health: Some(crate::document::config::Healthcheck {
            test: vec!["CMD".into(), "true".into()],
            interval: 5,
            retries: 3,
            ..Default::default()
        }),
    };
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = ArchiveOptions {
            process: Some(&process),
            platform: PLATFORM.parse().unwrap(),
            method: Method { compression, level: None },
            tag: Some("localhost/app:1.0"),
            time: TIME,
            ..ArchiveOptions::default()
        };
        let (file, written) = written(&sample(), &options);
        let image = read(file.path());
        assert_eq!(image.manifest_digest, written.manifest, "{compression}");
        assert_eq!(image.config_digest, written.config, "{compression}");
        assert_eq!(
            image.manifest.layers.iter().map(|it| it.size).sum::<u64>(),
            written.layers_size
        );
        assert_eq!(image.config.process, process, "{compression}");
        assert_eq!(image.config.created, TIME, "{compression}");
        assert_eq!(image.config.history[0].created_by, "chrootvm image build");
        assert_eq!(differences(&sample(), &tree_of(&image)), [""; 0], "{compression}");
        // Equal trees and options give equal bytes.
        let again = self::written(&sample(), &options).0;
        assert!(std::fs::read(file.path()).unwrap() == std::fs::read(again.path()).unwrap());
        others_read(file.path(), &sample(), "1.0");
    }
}

/// Checks that skopeo finds `tag` in an archive and copies it, and that umoci unpacks the same files
/// from its layout.
fn others_read(archive: &Path, tree: &Tree, tag: &str) {
    let dir = tempfile::tempdir().unwrap();
    let copy = format!("oci:{}:copy", dir.path().join("copy").display());
    let source = format!("oci-archive:{}", archive.display());
    let tagged = format!("{source}:{tag}");
    for arguments in [
        &["--insecure-policy", "copy", &source, &copy][..],
        &["inspect", &source],
        &["inspect", "--config", &tagged],
    ] {
        let Some(output) = run("skopeo", arguments) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let is_zstd = read(archive).manifest.layers.iter().any(|it| it.media_type.ends_with("zstd"));
    // umoci 0.4 knows no zstd, and restores owners and devices as root only.
    if is_zstd || !rustix::process::geteuid().is_root() {
        return;
    }
    let layout = dir.path().join("layout");
    ::tar::Archive::new(std::fs::File::open(archive).unwrap()).unpack(&layout).unwrap();
    let image = format!("{}:{tag}", layout.display());
    let bundle = dir.path().join("bundle");
    for arguments in [
        &["stat", "--image", &image][..],
        &["raw", "unpack", "--image", &image, bundle.to_str().unwrap()],
    ] {
        let Some(output) = run("umoci", arguments) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let found = source::open(&bundle, &ReadOptions::default(), &mut Notes::default()).unwrap();
    assert_eq!(differences(tree, &found.tree), [""; 0]);
}

/// A layout with a base of two layers.
fn base() -> LayoutDir {
    let mut dir = LayoutDir::new();
    let mut bytes = Vec::new();
    image::write::tar::write(&sample(), &mut bytes, &mut Notes::default()).unwrap();
    let entry = dir.image(PLATFORM, &[bytes, tar(&[("second", "2")])]);
    dir.enter(entry, "");
    dir
}

/// A layout with a base of one layer, whose config has these further members.
fn base_with_config(members: &Value) -> LayoutDir {
    let mut dir = LayoutDir::new();
    let layer = tar(&[("a", "1")]);
    let mut config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
    });
    config.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let config = dir.blob(config.to_string().as_bytes(), CONFIG);
    let layer = dir.blob(&layer, "application/vnd.docker.image.rootfs.diff.tar");
    let entry = dir.manifest(&config, &[layer]);
    dir.enter(entry, "");
    dir
}

/// The image of a layout.
fn image_of(dir: &LayoutDir) -> Image {
    open(&Location::Layout(dir.path().to_path_buf(), Selector::Only), &options()).unwrap()
}

/// A change of a tree.
type Change = fn(&mut Tree);

fn take(tree: &mut Tree, parent: &str, name: &str) {
    let parent = tree.find(parent.as_bytes()).unwrap();
    tree.remove(parent, name.as_bytes());
}

fn put(tree: &mut Tree, path: &str, kind: Kind) {
    tree.put(path.as_bytes(), meta(0o640), kind).unwrap();
}

#[test]
fn changes_become_a_layer_upon_those_of_the_base() {
    #[rustfmt::skip]
    let rows: &[(&str, Change, &[&str])] = &[
        ("nothing",            |_| (),                                        &[]),
        ("new file",           |tree| put(tree, "new/dir/file", contents("n")), &["new", "new/dir", "new/dir/file"]),
        ("other contents",     |tree| put(tree, "etc/b", contents("SECOND")), &["etc", "etc/b"]),
        ("file removed",       |tree| take(tree, "etc", "gone"),              &["etc", "etc/.wh.gone"]),
        ("directory removed",  |tree| take(tree, "", "dir"),                  &[".wh.dir"]),
        ("attributes of a directory", |tree| put(tree, "dir/x", directory()), &["dir", "dir/x"]),
        ("attributes of the root", |tree| tree.node_mut(Tree::ROOT).meta = meta(0o711), &[]),
        ("directory becomes a file", |tree| { take(tree, "", "dir"); put(tree, "dir", contents("d")); }, &["dir"]),
        ("file becomes a directory", |tree| { take(tree, "", "file"); put(tree, "file/x", contents("x")); }, &["file", "file/x"]),
        ("one more name",      |tree| { let id = tree.find(b"etc/b").unwrap(); tree.put_link(b"home/b", id).unwrap(); }, &["etc", "etc/b", "home", "home/b"]),
        ("one name less",      |tree| take(tree, "home", "hard"),             &["etc", "etc/a", "home", "home/.wh.hard"]),
        ("no longer one file", |tree| { take(tree, "home", "hard"); put(tree, "home/hard", contents("first")); }, &["etc", "etc/a", "home", "home/hard"]),
        ("device",             |tree| put(tree, "etc/null", Kind::CharDevice(1, 5)), &["etc", "etc/null"]),
        ("target of a link",   |tree| put(tree, "etc/link", Kind::Symlink(b"b"[..].into())), &["etc", "etc/link"]),
        ("all",                |tree| { for name in ["etc", "home", "dir", "file", "second"] { take(tree, "", name); } },
            &[".wh.dir", ".wh.etc", ".wh.file", ".wh.home", ".wh.second"]),
    ];
    let dir = base();
    let image = image_of(&dir);
    let base_tree = tree_of(&image);
    for (name, change, expected) in rows {
        let mut tree = base_tree.clone();
        change(&mut tree);
        let layer = layer(&base_tree, &tree).unwrap();
        let mut paths = Vec::new();
        if let Some(layer) = &layer {
            let mut visit = |path: &[u8], _| {
                paths.push(String::from_utf8_lossy(path).into_owned());
                Ok(())
            };
            layer.walk(&mut visit).unwrap();
        }
        let below_root: Vec<_> = paths.iter().skip(1).collect();
        assert_eq!(below_root, *expected, "{name}");
        let options = ArchiveOptions {
            base: Some(&image),
            base_tree: Some(&base_tree),
            time: TIME,
            tag: Some("app:t"),
            ..ArchiveOptions::default()
        };
        let (file, _) = written(&tree, &options);
        let found = read(file.path());
        let layers = if *name == "nothing" { 2 } else { 3 };
        assert_eq!(found.manifest.layers.len(), layers, "{name}");
        assert_eq!(found.manifest.layers[0].digest, image.manifest.layers[0].digest, "{name}");
        assert_eq!(found.config.process, image.config.process, "{name}");
        assert_eq!(differences(&tree, &tree_of(&found)), [""; 0], "{name}");
        if *name == "nothing" || *name == "one name less" {
            others_read(file.path(), &tree, "t");
        }
    }
}

#[test]
fn what_a_layer_cannot_express_is_refused() {
    let mut tree = sample();
    tree.put(b"etc/.wh.x", meta(0o644), contents("x")).unwrap();
    let fails = |tree: &Tree, options: &ArchiveOptions<'_>| {
        let result = archive(tree, options, &mut Vec::new(), &mut Notes::default());
        format!("{:#}", result.unwrap_err())
    };
    assert!(fails(&tree, &ArchiveOptions::default()).contains("etc/.wh.x"));
    let method = Method { compression: Compression::Xz, level: None };
    let error = fails(&sample(), &ArchiveOptions { method, ..ArchiveOptions::default() });
    assert!(error.contains("choose none, gzip or zstd"), "{error}");

    // A layer of the base is damaged after it was read.
    let dir = base();
    let image = image_of(&dir);
    let base_tree = tree_of(&image);
    let path = dir.file(&image.manifest.layers[1].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let options = ArchiveOptions {
        base: Some(&image),
        base_tree: Some(&base_tree),
        ..ArchiveOptions::default()
    };
    assert!(fails(&base_tree, &options).contains("damaged or replaced"));
    std::fs::write(&path, &bytes[..20]).unwrap();
    assert!(fails(&base_tree, &options).contains("too early"));
}

#[test]
fn the_config_of_the_base_is_kept() {
    let dir = base_with_config(&json!({
        "author": "nobody", "x.unknown": [1], "config": { "Cmd": ["/a"], "ArgsEscaped": true },
        "history": [{ "created_by": "one" }, { "created_by": "two", "empty_layer": true }],
    }));
    let image = image_of(&dir);
    let base_tree = tree_of(&image);
    let mut tree = base_tree.clone();
    put(&mut tree, "new", contents("n"));
    let options = ArchiveOptions {
        base: Some(&image),
        base_tree: Some(&base_tree),
        time: TIME,
        created_by: "three",
        ..ArchiveOptions::default()
    };
    let found = read(written(&tree, &options).0.path());
    let config: Value = serde_json::from_slice(&found.config_bytes).unwrap();
    assert_eq!((&config["author"], &config["x.unknown"]), (&json!("nobody"), &json!([1])));
    assert_eq!(config["config"], json!({ "Cmd": ["/a"], "ArgsEscaped": true }));
    let steps: Vec<_> = found.config.history.iter().map(|step| &*step.created_by).collect();
    assert_eq!(steps, ["one", "two", "three"]);
    assert_eq!(found.manifest.layers[0].media_type, "application/vnd.oci.image.layer.v1.tar");
}
