//! Manifests, indexes and configs.

use super::server::{End, Reply, Server};
use super::{MANIFEST, MANIFEST_TYPE, layer, open, options, options_with, text};
use crate::document::manifest::Descriptor;
use crate::name::digest::Digest;
use crate::origin::Origin;

fn manifest() -> Reply {
    Reply::new(200, MANIFEST).with("Content-Type", MANIFEST_TYPE)
}

#[test]
fn a_manifest_is_read_by_tag() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v2/a/b/manifests/1" => manifest(),
        _ => Reply::new(404, ""),
    });
    let registry = open(&format!("{}/a/b:1", server.authority()), &options());
    let document = registry.top().unwrap();
    assert_eq!(document.bytes, MANIFEST.as_bytes());
    assert_eq!(document.media_type, MANIFEST_TYPE);
    let seen = server.seen();
    let accept = seen[0].header("accept").unwrap();
    for kind in ["oci.image.manifest.v1", "oci.image.index.v1", "manifest.v2", "manifest.list.v2"] {
        assert!(accept.contains(kind), "{accept}");
    }
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen.len(), 1, "a request that needs nothing else is one request");
}

#[test]
fn other_contents_than_asked_are_an_error() {
    let other = Digest::of(b"other");
    let shown = Digest::of(MANIFEST.as_bytes());
    let told = other.to_string();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/v2/a/manifests/lies" => manifest().with("Docker-Content-Digest", &told),
        "/v2/a/manifests/sha512" => {
            manifest().with("Docker-Content-Digest", format!("sha512:{}", "0".repeat(128)))
        }
        "/v2/a/manifests/odd" => manifest().with("Docker-Content-Digest", "md5:1"),
        _ => manifest(),
    });
    let top = |rest: &str| open(&format!("{}/a{rest}", server.authority()), &options()).top();
    let error = text(top(&format!("@{other}")));
    assert!(error.contains(other.as_str()) && error.contains(shown.as_str()), "{error}");
    assert!(text(top(":lies")).contains("what the registry says"));
    assert!(text(top(":sha512")).contains("sha512:"));
    assert!(top(":odd").is_ok(), "a header of another form says nothing");
    assert!(top(&format!("@{shown}")).is_ok());
    assert!(top(&format!(":other-tag@{shown}")).is_ok());
}

#[test]
fn documents_have_a_limit() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v2/a/manifests/told" => Reply::new(200, vec![b' '; 5 << 20]),
        _ => Reply::new(200, vec![b' '; 5 << 20]).without_length(),
    });
    for tag in ["told", "untold"] {
        let registry = open(&format!("{}/a:{tag}", server.authority()), &options());
        let error = text(registry.top());
        assert!(error.contains("more than 4194304"), "{tag}: {error}");
    }
}

#[test]
fn a_document_whose_connection_breaks_is_read_again() {
    let server = Server::start(|seen| match seen.path.contains("always") {
        true => manifest().ending(End::CutAt(10)),
        false => manifest(),
    });
    let registry = open(&format!("{}/a:always", server.authority()), &options());
    assert!(registry.top().is_err());
    assert_eq!(server.count("/v2/a/manifests/always"), 3);
}

#[test]
fn the_digest_of_a_tag_is_had_without_the_document() {
    let digest = Digest::of(MANIFEST.as_bytes());
    let told = digest.to_string();
    let server = Server::start(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("HEAD", "/v2/a/manifests/yes") => manifest().with("Docker-Content-Digest", &told),
        ("HEAD", "/v2/a/manifests/silent") => manifest(),
        ("HEAD", "/v2/a/manifests/no-head") => Reply::new(405, ""),
        _ => Reply::new(404, ""),
    });
    let of = |rest: &str| open(&format!("{}/a{rest}", server.authority()), &options()).top_digest();
    assert_eq!(of(":yes").unwrap(), Some(digest.clone()));
    assert_eq!(of(":silent").unwrap(), None);
    assert_eq!(of(":no-head").unwrap(), None);
    assert!(text(of(":missing")).contains("404"));
    let before = server.seen().len();
    assert_eq!(of(&format!("@{digest}")).unwrap(), Some(digest));
    assert_eq!(server.seen().len(), before);
}

#[test]
fn configs_are_blobs_and_manifests_are_not() {
    let server = Server::start(|seen| match seen.path.starts_with("/v2/a/blobs/sha256:") {
        true => Reply::new(200, "{}").with("Content-Type", "application/octet-stream"),
        false => manifest(),
    });
    let registry = open(&format!("{}/a", server.authority()), &options());
    let descriptor = |media_type: &str, contents: &[u8]| Descriptor {
        media_type: media_type.to_owned(),
        ..layer(contents)
    };
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let found = registry.document(&config).unwrap();
    assert_eq!((found.bytes.as_slice(), found.media_type.as_str()), (&b"{}"[..], ""));
    let other = descriptor("application/vnd.oci.image.config.v1+json", b"[]");
    assert!(text(registry.document(&other)).contains("has the digest"));
    let entry = descriptor(MANIFEST_TYPE, MANIFEST.as_bytes());
    assert_eq!(registry.document(&entry).unwrap().bytes, MANIFEST.as_bytes());
}

#[test]
fn mirrors_are_asked_first_and_the_registry_last() {
    let own = Server::start(|seen| match seen.path.contains("/r/") {
        true => manifest().with("From", "own"),
        false => Reply::new(404, ""),
    });
    let damaged = Server::start(|_| Reply::new(200, "damaged"));
    let empty = Server::start(|_| Reply::new(404, ""));
    let good = Server::start(|seen| match seen.path.as_str() {
        "/v2/hub/r/manifests/rewritten" => manifest(),
        _ => Reply::new(404, ""),
    });
    let gone = {
        let server = Server::start(|_| Reply::new(404, ""));
        server.authority()
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("registries.conf");
    let hub = format!("{}/hub", good.authority());
    let mirrors = [gone, damaged.authority(), empty.authority(), hub]
        .map(|location| format!("[[registry.mirror]]\nlocation = \"{location}\"\n"))
        .concat();
    let own_name = own.authority();
    std::fs::write(&conf, format!("[[registry]]\nprefix = \"{own_name}\"\n{mirrors}")).unwrap();
    let options = options_with(&[("CONTAINERS_REGISTRIES_CONF", conf.into())], dir.path());

    let digest = Digest::of(MANIFEST.as_bytes());
    let registry = open(&format!("{own_name}/r:rewritten"), &options);
    assert_eq!(registry.top().unwrap().bytes, b"damaged", "a tag says nothing about contents");
    assert_eq!(registry.name(), format!("{own_name}/r:rewritten"));

    let registry = open(&format!("{own_name}/r@{digest}"), &options);
    assert_eq!(registry.top().unwrap().bytes, MANIFEST.as_bytes());
    assert_eq!((damaged.seen().len(), empty.seen().len(), own.seen().len()), (2, 1, 1));

    let registry = open(&format!("{own_name}/x@{digest}"), &options);
    let error = text(registry.top());
    assert!(error.starts_with(&own_name) && error.contains("404"), "{error}");
}
