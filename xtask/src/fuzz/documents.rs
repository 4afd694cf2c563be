//! Targets for the documents of images, and for archives with images.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, Method};
use files::notes::Notes;
use image::tree::{Content, Kind, Meta, Tree};
use oci::document::config::Config;
use oci::document::manifest::{self, Document, LAYERS_MAX};
use oci::image::{OpenOptions, open};
use oci::local::{ArchiveKind, docker, recognise_file};
use oci::name::location::{Location, Selector};
use oci::name::platform::Platform;
use oci::progress::Silent;
use oci::write::{self, ArchiveOptions};

use super::input::{Answer, in_memory};

/// A digest that has the right form.
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Most bytes that an archive of the fuzzer may unpack to.
const SIZE_MAX: u64 = 4 << 20;

/// Words of manifests and indexes.
#[rustfmt::skip]
pub(super) const MANIFEST_WORDS: &[&str] = &[
    "\"schemaVersion\":", "\"mediaType\":", "\"config\":", "\"layers\":", "\"manifests\":", "\"digest\":",
    "\"size\":", "\"platform\":", "\"os\":", "\"architecture\":", "\"variant\":", "\"annotations\":",
    "\"urls\":", "\"data\":", "\"fsLayers\":", "\"artifactType\":", "unknown", "vnd.docker.reference.type",
    "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip", "sha512:", DIGEST, "-1", "1e30",
    "18446744073709551616", "null", "{", "}", "[", "]", ",", "\"",
];

/// Words of configs.
#[rustfmt::skip]
pub(super) const CONFIG_WORDS: &[&str] = &[
    "\"os\":", "\"architecture\":", "\"created\":", "\"config\":", "\"rootfs\":", "\"type\":", "\"layers\"",
    "\"diff_ids\":", "\"history\":", "\"empty_layer\":", "\"Env\":", "\"Cmd\":", "\"Entrypoint\":",
    "\"User\":", "\"Volumes\":", "\"ExposedPorts\":", "\"Healthcheck\":", "\"Interval\":", "\"StopSignal\":",
    "2024-02-30T25:61:61.5+99:99", "=", "A=", "\\u0000", DIGEST, "-1", "null", "{", "}", "[", "]", ",", "\"",
];

/// Words of the list in archives of `docker save`.
#[rustfmt::skip]
pub(super) const SAVED_WORDS: &[&str] = &[
    "\"Config\":", "\"RepoTags\":", "\"Layers\":", "../", "/layer.tar", "blobs/sha256/", "null", "{", "}",
    "[", "]", ",", "\"", "\\u0000",
];

/// Seeds of manifests and indexes.
pub(super) fn manifests() -> Vec<Vec<u8>> {
    let of_oci = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2,"data":"e30="}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":32,"urls":["https://a.example/x"]}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":7,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}},"annotations":{{"a":"b"}}}},{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{DIGEST}","size":8}}]}}"#
    );
    vec![of_oci.into_bytes(), index.into_bytes()]
}

/// Rules for every manifest and index: bounds hold, and what is selected fits.
pub(super) fn check_manifest(input: &[u8]) -> Result<Answer> {
    for media_type in ["", "application/vnd.oci.image.index.v1+json"] {
        match Document::parse(input, media_type) {
            Ok(Document::Manifest(manifest)) => {
                ensure!(manifest.layers.len() <= LAYERS_MAX, "too many layers");
                ensure!(media_type.is_empty(), "a manifest that was called an index");
                return Ok(Answer::Accepted);
            }
            Ok(Document::Index(entries)) => {
                let wanted: Platform = "linux/arm/v7".parse()?;
                for found in manifest::select(&entries, &wanted).unwrap_or_default() {
                    let platform = found.platform.as_ref();
                    let fits = platform.is_none_or(|platform| wanted.rank(platform).is_some());
                    ensure!(fits && manifest::is_image(found), "an entry that does not fit");
                }
                return Ok(Answer::Accepted);
            }
            Err(_) => {}
        }
    }
    Ok(Answer::Refused)
}

/// Seeds of configs.
pub(super) fn configs() -> Vec<Vec<u8>> {
    let full = format!(
        r#"{{"os":"linux","architecture":"arm","variant":"v7","created":"2024-01-02T03:04:05.678+01:00","rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"history":[{{"created_by":"x"}},{{"empty_layer":true}}],"config":{{"User":"a:b","Env":["PATH=/bin","A="],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{{"/v":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"k":"v"}},"StopSignal":"3","Healthcheck":{{"Test":["NONE"],"Interval":1}}}}}}"#
    );
    vec![full.into_bytes(), b"{}".to_vec()]
}

/// Rules for every config: variables have names, each once, and each layer has at most one step.
pub(super) fn check_config(input: &[u8]) -> Result<Answer> {
    let Ok(config) = Config::parse(input) else { return Ok(Answer::Refused) };
    let names: Option<Vec<_>> =
        config.process.env.iter().map(|pair| Some(pair.split_once('=')?.0)).collect();
    let mut names = names.context("a variable without a value")?;
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == count && !names.contains(&""), "a variable twice, or without a name");
    ensure!(config.steps().count() == config.diff_ids.len(), "steps that belong to no layer");
    Ok(Answer::Accepted)
}

/// Seeds of the list in archives of `docker save`.
pub(super) fn saved() -> Vec<Vec<u8>> {
    let list = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["x/layer.tar","../y.tar"]}]"#;
    vec![list.into(), br#"[{"Config":"c.json","RepoTags":null}]"#.to_vec()]
}

/// No rule but that the reader ends.
pub(super) fn check_saved(input: &[u8]) -> Answer {
    docker::parse(input).map_or(Answer::Refused, |_| Answer::Accepted)
}

/// Seeds of archives: an image of one layer, which is not compressed, so that damage comes far.
pub(super) fn archives() -> Result<Vec<Vec<u8>>> {
    let mut tree = Tree::new(Meta::default());
    let text = Kind::File(Content::Bytes(b"text"[..].into()));
    tree.put(b"etc/a", Meta::default(), text)?;
    let method = Method { compression: Compression::None, level: None };
    let options = ArchiveOptions { method, tag: Some("app:1"), ..ArchiveOptions::default() };
    let mut bytes = Vec::new();
    write::archive(&tree, &options, &mut bytes, &mut Notes::default())?;
    Ok(vec![bytes])
}

/// Rules for every archive: it is read within bounds, and what it unpacks to is bounded.
pub(super) fn check_archive(input: &[u8]) -> Result<Answer> {
    let file = in_memory(input)?;
    let Some(kind) = recognise_file(&file, SIZE_MAX) else { return Ok(Answer::Refused) };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    let location = match kind {
        ArchiveKind::Oci => Location::OciArchive(path, Selector::Only),
        ArchiveKind::Docker => Location::DockerArchive(path, None),
    };
    let options = OpenOptions { max_size: SIZE_MAX, ..OpenOptions::default() };
    let Ok(image) = open(&location, &options) else { return Ok(Answer::Refused) };
    let Ok(tree) = image.tree(&mut Notes::default(), &Silent) else { return Ok(Answer::Refused) };
    ensure!(tree.len() < input.len().max(1), "more files than bytes");
    Ok(Answer::Accepted)
}
