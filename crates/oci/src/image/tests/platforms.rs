//! Which image of an index is taken, and documents that are bad.

use serde_json::json;

use super::*;
use crate::document::manifest::NoImage;
use crate::sample::{INDEX, MANIFEST, on, tar};

/// Opens the image for a platform, and returns the digest of its manifest.
fn found(dir: &LayoutDir, platform: &str) -> Result<Digest> {
    let options = OpenOptions { platform: Some(platform.parse().unwrap()), ..unkept() };
    Ok(open(&location(dir), &options)?.manifest_digest)
}

/// An image for a platform that differs from all others.
fn image(dir: &LayoutDir, platform: &str, text: &str) -> Value {
    dir.image(platform, &[tar(&[("a", text)])])
}

#[test]
fn the_image_that_fits_best_is_taken() {
    let mut dir = LayoutDir::new();
    let names = ["linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/amd64", "linux/arm64"];
    let images: Vec<_> = names.iter().map(|name| on(image(&dir, name, name), name)).collect();
    let mut attestation = on(image(&dir, "unknown/unknown", "x"), PLATFORM);
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let unknown = on(image(&dir, "unknown/unknown", "y"), "unknown/unknown");
    let other = json!({ "mediaType": "text/plain", "digest": digest(&unknown), "size": 1 });
    let index = dir.index(&[&[attestation, unknown, other], &images[..]].concat());
    dir.enter(index.clone(), "");
    for (wanted, number) in [
        ("linux/amd64", 3),
        ("linux/arm", 1),
        ("linux/arm/v6", 0),
        ("linux/arm/v7", 1),
        ("linux/arm/v9", 2),
        ("linux/arm64/v9", 4),
    ] {
        assert_eq!(found(&dir, wanted).unwrap(), digest(&images[number]), "{wanted}");
    }
    let opened = open(&location(&dir), &unkept()).unwrap();
    let platforms: Vec<_> = opened.platforms.iter().map(ToString::to_string).collect();
    assert_eq!(platforms, [&[PLATFORM], &names[..]].concat()[1..]);
    assert_eq!(opened.top_digest, digest(&index));
    for wanted in ["linux/arm/v5", "linux/riscv64", "windows/amd64"] {
        let error = found(&dir, wanted).unwrap_err();
        let shown = format!("{error:#}");
        assert!(
            shown.contains(&format!("no image for {wanted}: there is linux/arm/v6,")),
            "{shown}"
        );
        assert!(shown.contains("--platform"), "{shown}");
        assert_eq!(error.downcast_ref::<NoImage>().unwrap().there.len(), names.len());
    }
}

#[test]
fn indexes_in_indexes_are_followed_up_to_a_depth() {
    // A layout's own index does not count if it has one entry.
    for (depth, is_found) in [(1, true), (2, true), (4, true), (5, false)] {
        let mut dir = LayoutDir::new();
        let image = image(&dir, PLATFORM, "1");
        let mut entry = image.clone();
        for _ in 0..depth {
            entry = dir.index(&[on(self::image(&dir, "linux/arm64", "2"), "linux/arm64"), entry]);
        }
        dir.enter(entry, "");
        match found(&dir, PLATFORM) {
            Ok(found) => assert_eq!((found, is_found), (digest(&image), true), "{depth}"),
            Err(error) => {
                assert!(
                    !is_found && format!("{error:#}").contains("more than 4 indexes"),
                    "{depth}"
                );
            }
        }
    }
}

#[test]
fn an_entry_without_a_platform_is_looked_into() {
    let mut dir = LayoutDir::new();
    let (arm, amd) = (image(&dir, "linux/arm64", "1"), image(&dir, PLATFORM, "2"));
    let index = dir.index(&[arm.clone(), amd.clone()]);
    dir.enter(index, "");
    assert_eq!(found(&dir, PLATFORM).unwrap(), digest(&amd));
    assert_eq!(found(&dir, "arm64").unwrap(), digest(&arm));
    let error = error(found(&dir, "s390x"));
    assert!(error.contains("there is linux/arm64, linux/amd64"), "{error}");
}

#[test]
fn a_single_image_of_another_platform_is_an_error() {
    let mut dir = LayoutDir::new();
    let image = image(&dir, "linux/arm64/v8", "1");
    dir.enter(image.clone(), "");
    let error = error(found(&dir, PLATFORM));
    let expected = "no image for linux/amd64: there is linux/arm64/v8 (--platform)";
    assert!(error.contains(expected), "{error}");
    assert_eq!(found(&dir, "arm64").unwrap(), digest(&image));
    // An image that names no platform serves all.
    let mut dir = LayoutDir::new();
    let nameless = dir.blob(br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#, "");
    let image = dir.manifest(&nameless, &[]);
    dir.enter(image, "");
    found(&dir, "s390x").unwrap();
}

#[test]
fn many_documents_for_one_image_are_refused() {
    let mut dir = LayoutDir::new();
    let arm = image(&dir, "linux/arm64", "1");
    let inner = dir.index(&vec![arm; 60]);
    let index = dir.index(&vec![inner; 60]);
    dir.enter(index, "");
    assert!(error(found(&dir, PLATFORM)).contains("more than 64 documents"));
}

/// Makes an entry of an index.
type Make<'a> = Box<dyn Fn(&LayoutDir) -> Value + 'a>;

#[test]
fn bad_documents_are_refused() {
    let good = |dir: &LayoutDir| image(dir, PLATFORM, "1");
    let with = |dir: &LayoutDir, change: &dyn Fn(&mut Value)| {
        let path = dir.file(&digest(&good(dir)));
        let mut manifest = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        change(&mut manifest);
        dir.blob(manifest.to_string().as_bytes(), MANIFEST)
    };
    let changed = |change: fn(&mut Value)| -> Make<'_> { Box::new(move |dir| with(dir, &change)) };
    let foreign_config = |dir: &LayoutDir| {
        let layer = dir.blob(b"x", "application/vnd.oci.image.layer.v1.tar");
        let config = dir.config(PLATFORM, &json!({}), &[]);
        dir.manifest(&config, &[layer])
    };
    let renamed = |dir: &LayoutDir| {
        let mut entry = good(dir);
        entry["mediaType"] = INDEX.into();
        entry
    };
    let replaced = |dir: &LayoutDir| {
        let entry = good(dir);
        let path = dir.file(&digest(&entry));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("schemaVersion\":2", "schemaVersion\":3")).unwrap();
        entry
    };
    #[rustfmt::skip]
    let rows: Vec<(&str, Make<'_>, &str)> = vec![
        ("another kind than its descriptor says", Box::new(renamed), "another kind"),
        ("replaced",                 Box::new(replaced),   "damaged or replaced"),
        ("layers and manifests",     changed(|it| it["manifests"] = json!([])), "another kind"),
        ("another kind in the body", changed(|it| it["mediaType"] = INDEX.into()), "another kind"),
        ("negative size",            changed(|it| it["config"]["size"] = json!(-1)), "-1"),
        ("size of a petabyte",       changed(|it| it["config"]["size"] = json!(1_u64 << 50)), "at most 4 MiB"),
        ("size beyond 64 bits",      changed(|it| it["layers"][0]["size"] = json!(1e30)), "floating point"),
        ("path as digest",           changed(|it| it["config"]["digest"] = json!("sha256:../../x")), "64 digits"),
        ("another version",          changed(|it| it["schemaVersion"] = json!(3)), "schema version 3"),
        ("first format of Docker",   changed(|it| *it = json!({"schemaVersion": 1, "fsLayers": []})), "first format of Docker"),
        ("artifact",                 changed(|it| it["config"]["mediaType"] = json!("application/x.helm")), "application/x.helm"),
        ("encrypted",                changed(|it| it["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")), "encrypted"),
        ("other number of layers",   Box::new(foreign_config), "1 layers, and the config 0"),
        ("config in the index",      changed(|it| *it = json!({"schemaVersion": 2})), "no image"),
    ];
    for (name, make, expected) in rows {
        let mut dir = LayoutDir::new();
        let entry = make(&dir);
        dir.enter(entry, "");
        let error = error(found(&dir, PLATFORM));
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.starts_with("image oci-layout:/"), "{name}: {error}");
    }
}

#[test]
fn documents_of_docker_and_embedded_ones_are_read() {
    let mut dir = LayoutDir::new();
    let layer = dir.blob(&tar(&[("a", "1")]), "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let mut config = dir.config(PLATFORM, &json!({}), &[tar(&[("a", "1")])]);
    config["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    // The config is in its descriptor only.
    let path = dir.file(&digest(&config));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    config["data"] = base64(&bytes).into();
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = |config: &Value| json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    let entry = on(dir.blob(manifest(&config).to_string().as_bytes(), kind), PLATFORM);
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = json!({ "schemaVersion": 2, "mediaType": list, "manifests": [entry] });
    let index = dir.blob(index.to_string().as_bytes(), list);
    dir.enter(index, "");
    let image = open(&location(&dir), &unkept()).unwrap();
    assert_eq!(image.config_bytes, bytes);
    assert_eq!(text(&tree(&image).unwrap(), "a"), "1");

    config["data"] = base64(b"{}").into();
    let mut dir = LayoutDir::new();
    let entry = dir.blob(manifest(&config).to_string().as_bytes(), kind);
    dir.enter(entry, "");
    assert!(error(open(&location(&dir), &unkept())).contains("2 bytes instead of"));
}
