//! Layers that are odd or wrong.

use serde_json::json;

use super::*;
use crate::sample::{gzip, tar};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[test]
fn layers_are_applied_in_order() {
    let mut dir = LayoutDir::new();
    let layers = [
        tar(&[("etc/a", "1"), ("etc/b", "1")]),
        tar(&[("etc/a", "2"), ("etc/.wh.b", "")]),
        tar(&[("etc/c", "3")]),
    ];
    let image = dir.image(PLATFORM, &layers);
    dir.enter(image, "");
    let cache = tempfile::tempdir().unwrap();
    for round in ["cold", "warm"] {
        let image = open(&location(&dir), &options(cache.path())).unwrap();
        assert_eq!(image.config.process.cmd, ["/hello"]);
        let mut notes = Notes::default();
        let tree = image.tree(&mut notes, &Silent).unwrap();
        assert_eq!(notes.lines().collect::<Vec<_>>(), [""; 0], "{round}");
        assert_eq!((text(&tree, "etc/a"), text(&tree, "etc/c")), ("2".into(), "3".into()));
        assert!(tree.find(b"etc/b").is_none(), "{round}");
        assert_eq!(tree.node(Tree::ROOT).meta.mtime, 1_704_164_645);
        // With all layers in the cache, the blobs are not needed.
        if round == "cold" {
            for blob in &image.manifest.layers {
                std::fs::remove_file(dir.file(&blob.digest)).unwrap();
            }
        }
    }
}

/// A layout with one image of these layers: blob and unpacked archive of each.
fn layout(layers: &[(Vec<u8>, Vec<u8>)]) -> LayoutDir {
    let mut dir = LayoutDir::new();
    let unpacked: Vec<_> = layers.iter().map(|layer| layer.1.clone()).collect();
    let blobs: Vec<_> = layers.iter().map(|layer| dir.blob(&layer.0, GZIP)).collect();
    let config = dir.config(PLATFORM, &json!({}), &unpacked);
    let manifest = dir.manifest(&config, &blobs);
    dir.enter(manifest, "");
    dir
}

#[test]
fn empty_and_repeated_layers_are_fine() {
    let empty = vec![0; 1024];
    let layer = |tar: &Vec<u8>| (gzip(tar), tar.clone());
    let (a, b) = (tar(&[("a", "1")]), tar(&[("a", "2"), ("b", "2")]));
    let numbers: Vec<_> = (0..127).map(|n| tar(&[("n", &n.to_string())])).collect();
    for (name, layers, expected) in [
        ("no layer", vec![], vec![]),
        ("an empty layer", vec![layer(&empty)], vec![]),
        (
            "one layer three times",
            vec![layer(&a), layer(&b), layer(&a), layer(&empty), layer(&a)],
            vec![("a", "1"), ("b", "2")],
        ),
        ("127 layers", numbers.iter().map(layer).collect(), vec![("n", "126")]),
    ] {
        for options in [unkept(), options(tempfile::tempdir().unwrap().path())] {
            let dir = layout(&layers);
            let tree = tree(&open(&location(&dir), &options).unwrap());
            let tree = tree.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let found: Vec<_> =
                expected.iter().map(|(path, _)| (*path, text(&tree, path))).collect();
            let expected: Vec<_> = expected.iter().map(|row| (row.0, row.1.to_owned())).collect();
            assert_eq!(found, expected, "{name}");
            assert_eq!(tree.nodes().count(), expected.len() + 1, "{name}");
        }
    }
}

#[test]
fn wrong_layers_are_errors_that_keep_nothing() {
    let a = tar(&[("a", "1")]);
    let padded = [&a[..], &[0; 10240]].concat();
    let mut last_byte = padded.clone();
    *last_byte.last_mut().unwrap() = 1;
    let cut = gzip(&a)[..40].to_vec();
    let hostile = {
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.as_mut_bytes()[..7].copy_from_slice(b"../../x");
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    for (name, blob, unpacked, expected) in [
        ("diff_id, in the padding", gzip(&last_byte), &padded, "diff_id"),
        ("diff_id, without the padding", gzip(&a), &padded, "diff_id"),
        ("cut", cut, &a, "layer"),
        ("no archive", gzip(b"text"), &b"text".to_vec(), "layer"),
        ("member that climbs", gzip(&hostile), &hostile, "../../x"),
    ] {
        let good = tar(&[("good", "1")]);
        let dir = layout(&[(gzip(&good), good), (blob.clone(), unpacked.clone())]);
        let cache = tempfile::tempdir().unwrap();
        let image = open(&location(&dir), &options(cache.path())).unwrap();
        let found = error(tree(&image));
        assert!(found.contains(expected), "{name}: {found}");
        assert!(found.contains(&Digest::of(&blob).to_string()), "{name}: {found}");
        assert!(found.starts_with("image oci-layout:/"), "{name}: {found}");
        // A member is only found to be wrong in an archive that is what its digest says.
        let is_kept = image.source.cache.find_layer(&image.config.diff_ids[1]).unwrap().is_some();
        assert_eq!(is_kept, *unpacked == hostile || unpacked == b"text", "{name}");
    }
    let good = layout(&[(gzip(&padded), padded.clone())]);
    assert!(tree(&open(&location(&good), &unkept()).unwrap()).is_ok());
}

#[test]
fn a_blob_of_another_size_or_digest_is_an_error() {
    let a = tar(&[("a", "1")]);
    let other = gzip(&tar(&[("a", "2")]));
    let packed = gzip(&a);
    assert_eq!(other.len(), packed.len());
    for (name, bytes) in [
        ("replaced", other),
        ("shorter", packed[..packed.len() - 1].to_vec()),
        ("longer", [&packed[..], &[0]].concat()),
    ] {
        let dir = layout(&[(packed.clone(), a.clone())]);
        std::fs::write(dir.file(&Digest::of(&packed)), bytes).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let image = open(&location(&dir), &options(cache.path())).unwrap();
        let found = error(tree(&image));
        assert!(found.contains("blob"), "{name}: {found}");
        assert!(image.source.cache.list().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn all_unpacked_layers_together_are_bounded() {
    let layers: Vec<_> = (0..5).map(|n| tar(&[(&n.to_string(), &"x".repeat(5000))])).collect();
    let total: u64 = layers.iter().map(|tar| tar.len() as u64).sum();
    let dir = layout(&layers.iter().map(|tar| (gzip(tar), tar.clone())).collect::<Vec<_>>());
    let cache = tempfile::tempdir().unwrap();
    // Twice: layers in the cache count, too.
    for max_size in [total, total - 1, total / 5 - 1, total, total - 1] {
        let options = OpenOptions { max_size, ..options(cache.path()) };
        let result = tree(&open(&location(&dir), &options).unwrap());
        match max_size == total {
            true => assert!(result.is_ok()),
            false => {
                let limit = result.unwrap_err().downcast_ref().copied();
                assert!(
                    limit.is_some_and(|found: archive::spool::TooLarge| found.limit <= max_size)
                );
            }
        }
    }
}

#[test]
fn equal_images_give_equal_trees() {
    use image::compare::compare;
    let layers: Vec<_> = (0..8)
        .map(|n| {
            let size = 100_000 * (8 - n);
            tar(&[("same", &n.to_string()), (&format!("f{n}"), &"x".repeat(size))])
        })
        .map(|tar| (gzip(&tar), tar))
        .collect();
    let dir = layout(&layers);
    let caches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let trees = caches
        .each_ref()
        .map(|cache| tree(&open(&location(&dir), &options(cache.path())).unwrap()).unwrap());
    let bytes = trees.each_ref().map(|tree| {
        let mut bytes = Vec::new();
        image::write::tar::write(tree, &mut bytes, &mut Notes::default()).unwrap();
        bytes
    });
    assert_eq!(text(&trees[0], "same"), "7");
    assert!(bytes[0] == bytes[1]);
    let mut changes = 0;
    compare(&trees[0], &trees[1], &[], &mut |_| changes += 1).unwrap();
    assert_eq!(changes, 0);
}
