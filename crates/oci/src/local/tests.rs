//! Tests of layouts and archives, well-formed and hostile ones.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::*;
use crate::document::manifest::{Descriptor, Document, Manifest};
use crate::name::digest::Digest;
use crate::name::location::Location;
use crate::sample::{LayoutDir, Member, archive, file, gzip, on, tar};

const AMD64: &str = "linux/amd64";
const SIZE_MAX: u64 = 1 << 20;

fn digest(entry: &Value) -> Digest {
    entry["digest"].as_str().unwrap().parse().unwrap()
}

fn image(layout: &LayoutDir, text: &str) -> Value {
    layout.image(AMD64, &[tar(&[("a", text)])])
}

fn error<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().expect("an error"))
}

/// Opens a layout, and returns the digest of its manifest.
fn top(layout: &LayoutDir, selector: &Selector) -> Result<Digest> {
    Ok(Digest::of(&super::layout(layout.path(), selector)?.top()?.bytes))
}

#[test]
fn images_are_selected_by_tag_and_digest() {
    let mut dir = LayoutDir::new();
    assert!(error(top(&dir, &Selector::Only)).contains("has no image"));
    let (one, two, third) = (image(&dir, "1"), image(&dir, "2"), image(&dir, "3"));
    dir.enter(one.clone(), "one");
    assert_eq!(top(&dir, &Selector::Only).unwrap(), digest(&one));
    dir.enter(two.clone(), "docker.io/library/two:2.0");
    let tag = |tag: &str| Selector::Tag(tag.into());
    assert_eq!(top(&dir, &tag("one")).unwrap(), digest(&one));
    assert_eq!(top(&dir, &tag("2.0")).unwrap(), digest(&two));
    assert_eq!(top(&dir, &Selector::Digest(digest(&two))).unwrap(), digest(&two));
    // An image that the index does not name can be had by its digest.
    assert_eq!(top(&dir, &Selector::Digest(digest(&third))).unwrap(), digest(&third));
    for selector in [Selector::Only, tag("three"), Selector::Digest(Digest::of(b""))] {
        let error = error(top(&dir, &selector));
        assert!(error.contains("there is :one, :docker.io/library/two:2.0"), "{error}");
    }
}

#[test]
fn entries_of_one_image_are_an_index() {
    let mut dir = LayoutDir::new();
    for platform in [AMD64, "linux/arm64"] {
        dir.enter(on(image(&dir, platform), platform), "1.0");
    }
    for selector in [Selector::Only, Selector::Tag("1.0".into())] {
        let top = super::layout(dir.path(), &selector).unwrap().top().unwrap();
        let Document::Index(entries) = Document::parse(&top.bytes, &top.media_type).unwrap() else {
            panic!("not an index");
        };
        assert_eq!(entries.len(), 2);
    }
    // What is not an image does not count.
    let mut dir = LayoutDir::new();
    let only = image(&dir, "x");
    dir.enter(only.clone(), "");
    dir.enter(on(image(&dir, "y"), "unknown/unknown"), "");
    assert_eq!(top(&dir, &Selector::Only).unwrap(), digest(&only));
}

#[test]
fn tags_of_one_image_are_one_image() {
    let mut dir = LayoutDir::new();
    let (one, two) = (image(&dir, "1"), image(&dir, "2"));
    for tag in ["1.0", "r.example/a:latest"] {
        dir.enter(one.clone(), tag);
    }
    let latest = Selector::Tag("latest".into());
    for selector in [&Selector::Only, &latest] {
        assert_eq!(top(&dir, selector).unwrap(), digest(&one));
    }
    // The same tag of another repository is another image.
    dir.enter(two, "r.example/b:latest");
    for selector in [&Selector::Only, &latest] {
        let error = error(top(&dir, selector));
        assert!(error.contains("several images, and the name chooses none"), "{error}");
    }
    let whole = Selector::Tag("r.example/a:latest".into());
    assert_eq!(top(&dir, &whole).unwrap(), digest(&one));
}

#[test]
fn broken_layouts_are_refused() {
    type Break = fn(&LayoutDir);
    #[rustfmt::skip]
    let rows: [(&str, Break, &str); 10] = [
        ("no version",       |dir| fs::remove_file(dir.path().join("oci-layout")).unwrap(), "not an image layout"),
        ("other version",    |dir| write(dir, "oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), "version 2.0.0"),
        ("no JSON",          |dir| write(dir, "oci-layout", "1.0.0"), "oci-layout"),
        ("large version",    |dir| write(dir, "oci-layout", &" ".repeat(5000)), "more than 4096 bytes"),
        ("no index",         |dir| fs::remove_file(dir.path().join("index.json")).unwrap(), "index.json"),
        ("index of no kind", |dir| write(dir, "index.json", "[]"), "no manifests"),
        ("negative size",    |dir| entry(dir, &json!({"digest": Digest::of(b""), "size": -1})), "-1"),
        ("path as digest",   |dir| entry(dir, &json!({"digest": "sha256:../../../etc/passwd", "size": 1})), "64 digits"),
        ("missing blob",     |dir| entry(dir, &json!({"digest": Digest::of(b"none"), "size": 4})), "No such file"),
        ("other size",       |dir| entry(dir, &json!({"digest": blob(dir, "abcd"), "size": 5})), "4 bytes instead of 5"),
    ];
    for (name, destroy, expected) in rows {
        let dir = LayoutDir::new();
        destroy(&dir);
        let error = error(top(&dir, &Selector::Only));
        assert!(error.contains(expected), "{name}: {error}");
    }
}

fn write(dir: &LayoutDir, name: &str, text: &str) {
    fs::write(dir.path().join(name), text).unwrap();
}

fn entry(dir: &LayoutDir, descriptor: &Value) {
    let mut descriptor = descriptor.clone();
    descriptor["mediaType"] = crate::sample::MANIFEST.into();
    write(dir, "index.json", &json!({ "manifests": [descriptor] }).to_string());
}

fn blob(dir: &LayoutDir, text: &str) -> Digest {
    digest(&dir.blob(text.as_bytes(), ""))
}

#[test]
fn a_blob_is_not_read_through_a_link_that_leads_out() {
    let outside = file(b"secret");
    let mut dir = LayoutDir::new();
    let entry = dir.blob(b"secret", crate::sample::MANIFEST);
    let path = dir.file(&digest(&entry));
    dir.enter(entry, "");
    for target in [outside.path().to_path_buf(), "../../../../../../etc/passwd".into()] {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
        assert!(error(top(&dir, &Selector::Only)).contains("No such file"));
    }
    // Within the layout, links are fine: some tools share blobs in this way.
    fs::remove_file(&path).unwrap();
    write(&dir, "shared", "secret");
    symlink("../../shared", &path).unwrap();
    assert_eq!(top(&dir, &Selector::Only).unwrap(), Digest::of(b"secret"));
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    assert!(error(top(&dir, &Selector::Only)).contains("not a regular file"));
}

fn make_fifo(path: &std::path::Path) {
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
}

#[test]
fn archives_of_layouts_are_read() {
    let mut dir = LayoutDir::new();
    let entry = image(&dir, "1");
    dir.enter(entry.clone(), "1");
    let plain = dir.archive();
    let packed = file(&gzip(&fs::read(plain.path()).unwrap()));
    for path in [plain.path(), packed.path()] {
        let origin = oci_archive(path, &Selector::Tag("1".into()), SIZE_MAX).unwrap();
        assert_eq!(Digest::of(&origin.top().unwrap().bytes), digest(&entry));
    }
    let error = error(oci_archive(packed.path(), &Selector::Only, 1000));
    assert!(error.contains("more than 1000 bytes"), "{error}");
    assert!(oci_archive(dir.path(), &Selector::Only, SIZE_MAX).is_err());
}

/// The layers of an archive of `docker save`, as they are read.
fn docker_layers(bytes: &[u8], name: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let archive = file(bytes);
    let origin = docker_archive(archive.path(), name, SIZE_MAX)?;
    let Manifest { config, layers, .. } = manifest(&*origin);
    config.check(&origin.document(&config)?.bytes)?;
    let read = |layer: &Descriptor| {
        let mut bytes = Vec::new();
        origin.blob(layer, 0)?.read_to_end(&mut bytes)?;
        layer.check(&bytes)?;
        Ok(bytes)
    };
    layers.iter().map(read).collect()
}

fn manifest(origin: &dyn Origin) -> Manifest {
    let top = origin.top().unwrap();
    match Document::parse(&top.bytes, &top.media_type).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    }
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|tar| Digest::of(tar)).collect();
    json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string()
        .into_bytes()
}

fn saved(config: &str, tags: &[&str], layers: &[&str]) -> Value {
    json!({ "Config": config, "RepoTags": tags, "Layers": layers })
}

/// Name, members and expected layers of an archive.
type Row<'a> = (&'a str, Vec<Member<'a>>, [&'a [u8]; 3]);

#[test]
fn both_generations_of_docker_save_are_read() {
    let (a, b) = (tar(&[("a", "1")]), tar(&[("b", "2")]));
    let packed = gzip(&b);
    let twice = config(&[&a, &b, &a]);
    let blob = format!("blobs/sha256/{}", Digest::of(&a).parts().1);
    let list =
        |layers: &[&str]| json!([saved("c.json", &["debian:12"], layers)]).to_string().into_bytes();
    // Directories of layers are called by 64 digits.
    let layer = |digit: &str| format!("{}/layer.tar", digit.repeat(64));
    let [l1, l2, l3, l4] = ["1", "2", "3", "4"].map(layer);
    let old = list(&[&l1, &l2, &l3]);
    let to_first = format!("->../{l1}");
    let detour = format!("{}/../{l2}", "1".repeat(64));
    let climbing = list(&[&l1, &detour, &l4]);
    let mixed = list(&[&blob, "2.tar.gz", &blob]);
    let (index, version) = (&br#"{"schemaVersion":2,"manifests":[]}"#[..], &b"{}"[..]);
    #[rustfmt::skip]
    let rows: [Row<'_>; 3] = [
        ("links between layers", vec![
            (&l1, &a), (&l2, &b), (&l3, to_first.as_bytes()),
            ("c.json", &twice), ("manifest.json", &old),
        ], [&a, &b, &a]),
        ("links that climb, and targets at the root", vec![
            (&l1, b"->../../../base.tar"), ("base.tar", &a), (&l2, &b),
            (&l4, b"->/base.tar"), ("c.json", &twice), ("manifest.json", &climbing),
        ], [&a, &b, &a]),
        ("blobs, an index without layers, one layer compressed", vec![
            (&blob, &a), ("2.tar.gz", &packed), ("c.json", &twice),
            ("index.json", index), ("oci-layout", version), ("manifest.json", &mixed),
        ], [&a, &packed, &a]),
    ];
    for (name, members, expected) in rows {
        let bytes = archive(&members);
        let found = docker_layers(&bytes, None).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(found, expected, "{name}");
        // Compressed, and found by name: both names are completed alike.
        docker_layers(&gzip(&bytes), Some("docker.io/library/debian:12")).unwrap();
        let found = file(&bytes);
        let docker = Location::DockerArchive(found.path().to_path_buf(), None);
        assert_eq!(recognise(found.path(), SIZE_MAX).unwrap(), Some(docker), "{name}");
    }
}

#[test]
fn bad_archives_of_docker_save_are_refused() {
    let a = tar(&[("a", "1")]);
    let config = config(&[&a]);
    let list = |images: Value| images.to_string().into_bytes();
    let one = |layers: &[&str]| list(json!([saved("c.json", &["x:1"], layers)]));
    let two = [saved("c.json", &["x:1"], &["a.tar"]), saved("c.json", &["y:1"], &["a.tar"])];
    let many: Vec<_> = (0..2000).map(|_| "a.tar").collect();
    #[rustfmt::skip]
    let rows: [(&str, Vec<u8>, Option<&str>, &str); 10] = [
        ("no list",            b"{}".to_vec(),               None,        "docker save"),
        ("no image",           b"[]".to_vec(),               None,        "has no image"),
        ("several",            list(json!(two)),             None,        "there is x:1, y:1"),
        ("wrong name",         list(json!(two)),             Some("z:1"), "there is x:1, y:1"),
        ("missing layer",      one(&["b.tar"]),              None,        "b.tar"),
        ("link in a circle",   one(&["loop"]),               None,        "loop"),
        ("link that leads out", one(&["out"]),               None,        "out"),
        ("directory as layer", one(&["d"]),                  None,        "not a regular file"),
        ("other number",       one(&["a.tar", "a.tar"]),     None,        "2 layers, and the config 1"),
        ("thousands",          one(&many),                   None,        "more than 512"),
    ];
    for (name, manifest, image, expected) in rows {
        let bytes = archive(&[
            ("a.tar", &a),
            ("c.json", &config),
            ("loop", b"->loop"),
            ("out", b"->../../../../../etc/passwd"),
            ("d/x", b""),
            ("manifest.json", &manifest),
        ]);
        let error = error(docker_layers(&bytes, image));
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert!(error(docker_layers(&a, None)).contains("not an archive of docker save"));
    assert!(error(docker_layers(b"text", None)).contains("read "));
}

#[test]
fn images_are_recognised_by_content() {
    let mut dir = LayoutDir::new();
    let entry = image(&dir, "1");
    dir.enter(entry, "");
    let layout = Location::Layout(dir.path().to_path_buf(), Selector::Only);
    assert_eq!(recognise(dir.path(), SIZE_MAX).unwrap(), Some(layout));
    let plain = dir.archive();
    let packed = file(&gzip(&fs::read(plain.path()).unwrap()));
    for path in [plain.path(), packed.path()] {
        let location = Location::OciArchive(path.to_path_buf(), Selector::Only);
        assert_eq!(recognise(path, SIZE_MAX).unwrap(), Some(location));
    }
    let root = tar(&[("bin/sh", "x"), ("oci-layout", "{}"), ("index.json", "{}")]);
    let half = tar(&[("index.json", "{}")]);
    let cut = &fs::read(plain.path()).unwrap()[..700];
    for (name, bytes) in [
        ("root file system", &root[..]),
        ("compressed root file system", &gzip(&root)),
        ("one of the files", &half),
        ("cut archive", cut),
        ("empty file", b""),
        ("text", b"text"),
        ("zeros", &[0; 2000]),
    ] {
        assert_eq!(recognise(file(bytes).path(), SIZE_MAX).unwrap(), None, "{name}");
    }
    assert_eq!(recognise(std::env::temp_dir().as_path(), SIZE_MAX).unwrap(), None);
    assert!(recognise(&dir.path().join("missing"), SIZE_MAX).is_err());
}
