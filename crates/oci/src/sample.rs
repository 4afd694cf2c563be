//! Samples for tests: layers, layouts and archives, made by hand.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::name::digest::Digest;

/// Media types.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A tar archive of regular files.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// `bytes`, compressed.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layout in a temporary directory.
#[derive(Debug)]
pub(crate) struct LayoutDir {
    dir: tempfile::TempDir,
    entries: Vec<Value>,
}

impl LayoutDir {
    /// A layout without images.
    pub(crate) fn new() -> Self {
        let layout = Self { dir: tempfile::tempdir().unwrap(), entries: Vec::new() };
        fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout.write_index();
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The file of a blob.
    pub(crate) fn file(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs").join(digest.parts().0).join(digest.parts().1)
    }

    /// Adds a blob; returns its descriptor.
    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.file(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Adds a config for a platform, with this `config` object and these tar archives as layers.
    pub(crate) fn config(&self, platform: &str, process: &Value, layers: &[Vec<u8>]) -> Value {
        let mut parts = platform.split('/');
        let mut config = json!({
            "os": parts.next(),
            "architecture": parts.next(),
            "config": process,
            "created": "2024-01-02T03:04:05Z",
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>(),
            },
        });
        if let Some(variant) = parts.next() {
            config["variant"] = variant.into();
        }
        self.blob(config.to_string().as_bytes(), CONFIG)
    }

    /// Adds an image, but not to the index; returns the descriptor of its manifest.
    pub(crate) fn image(&self, platform: &str, layers: &[Vec<u8>]) -> Value {
        let config = self.config(platform, &json!({ "Cmd": ["/hello"] }), layers);
        let layers: Vec<_> = layers.iter().map(|tar| self.blob(&gzip(tar), LAYER)).collect();
        self.manifest(&config, &layers)
    }

    /// Adds a manifest.
    pub(crate) fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.blob(manifest.to_string().as_bytes(), MANIFEST)
    }

    /// Adds an index.
    pub(crate) fn index(&self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(index.to_string().as_bytes(), INDEX)
    }

    /// Adds an entry to the index of the layout; an empty tag is none.
    pub(crate) fn enter(&mut self, mut entry: Value, tag: &str) {
        if !tag.is_empty() {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        }
        self.entries.push(entry);
        self.write_index();
    }

    fn write_index(&self) {
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// The layout as a tar archive.
    pub(crate) fn archive(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(File::create(file.path()).unwrap());
        builder.append_dir_all(".", self.path()).unwrap();
        builder.finish().unwrap();
        file
    }
}

/// `entry` of an index, for a platform.
pub(crate) fn on(mut entry: Value, platform: &str) -> Value {
    let mut parts = platform.split('/');
    entry["platform"] = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        entry["platform"]["variant"] = variant.into();
    }
    entry
}

/// A member of an archive: a file, or a link if the text begins with `->`.
pub(crate) type Member<'a> = (&'a str, &'a [u8]);

/// An archive of these members.
pub(crate) fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        match bytes.strip_prefix(b"->") {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                let target = std::str::from_utf8(target).unwrap();
                builder.append_link(&mut header, path, target).unwrap();
            }
            None => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, *bytes).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// A temporary file with these contents.
pub(crate) fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

/// Runs a program of the host; `None` if the host does not have it.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    match std::process::Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => Some(output.unwrap()),
    }
}
