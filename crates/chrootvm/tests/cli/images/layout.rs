//! OCI images made by hand: layouts, archives of layouts, archives of `docker save`.

use std::fs;
use std::path::Path;

use oci::name::digest::Digest;
use serde_json::{Value, json};

/// Media types of the parts of an image.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A member of a layer: path, mode, owner, and contents. A path that ends in `/` is a directory;
/// contents that begin with `->` are the target of a link.
pub(crate) type Member = (&'static str, u32, u64, &'static str);

/// The layers of [`image`].
pub(crate) const LAYERS: [&[Member]; 2] = [
    &[
        ("etc/", 0o755, 0, ""),
        ("etc/passwd", 0o644, 0, "root:x:0:0::/:/bin/sh\n"),
        ("etc/old", 0o644, 0, "old"),
        ("home/", 0o755, 0, ""),
        ("home/ada/", 0o700, 1000, ""),
        ("home/ada/notes", 0o600, 1000, "notes"),
        ("bin", 0o777, 0, "->usr/bin"),
        ("usr/bin/app", 0o4755, 0, "app"),
    ],
    &[
        ("etc/.wh.old", 0o644, 0, ""),
        ("etc/motd", 0o644, 0, "hi\n"),
        ("bin/tool", 0o755, 0, "tool"),
    ],
];

/// `MODE UID PATH` of what [`LAYERS`] become.
pub(crate) const LISTING: &[&str] = &[
    "drwxr-xr-x 0 .",
    "lrwxrwxrwx 0 bin",
    "drwxr-xr-x 0 etc",
    "-rw-r--r-- 0 etc/motd",
    "-rw-r--r-- 0 etc/passwd",
    "drwxr-xr-x 0 home",
    "drwx------ 1000 home/ada",
    "-rw------- 1000 home/ada/notes",
    "drwxr-xr-x 0 usr",
    "drwxr-xr-x 0 usr/bin",
    "-rwsr-xr-x 0 usr/bin/app",
    "-rwxr-xr-x 0 usr/bin/tool",
];

/// A tar archive of these members.
pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for &(path, mode, owner, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(5);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, target).unwrap();
            continue;
        }
        let is_directory = path.ends_with('/');
        let kind = if is_directory { tar::EntryType::Directory } else { tar::EntryType::Regular };
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A layout while it is made.
pub(crate) struct Layout<'a> {
    dir: &'a Path,
    entries: Vec<Value>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(dir: &'a Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, entries: Vec::new() }
    }

    /// Adds a blob, and returns its descriptor.
    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.dir.join("blobs/sha256").join(digest.parts().1), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": bytes.len()})
    }

    pub(crate) fn document(&self, document: &Value, media_type: &str) -> Value {
        self.blob(document.to_string().as_bytes(), media_type)
    }

    /// Adds an image with uncompressed layers, and returns the descriptor of its manifest.
    /// `config` has the members of its config besides the platform and the layers.
    pub(crate) fn image(&self, arch: &str, config: Value, layers: &[&[Member]]) -> Value {
        let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
        self.image_of(arch, config, &layers)
    }

    /// Like [`Self::image`], of archives.
    pub(crate) fn image_of(&self, arch: &str, config: Value, layers: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let mut document = config;
        document["os"] = "linux".into();
        document["architecture"] = arch.into();
        document["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(layer, LAYER)).collect();
        let config = self.document(&document, CONFIG);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers
        });
        self.document(&manifest, MANIFEST)
    }

    /// Adds an index of images, each with its platform `linux/ARCH`.
    pub(crate) fn index(&self, images: &[(&str, Value)]) -> Value {
        let entry = |(arch, image): &(&str, Value)| {
            let mut entry = image.clone();
            entry["platform"] = json!({"os": "linux", "architecture": arch});
            entry
        };
        let manifests: Vec<_> = images.iter().map(entry).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.document(&index, INDEX)
    }

    /// Names a manifest or an index.
    pub(crate) fn tag(mut self, name: &str, mut descriptor: Value) -> Self {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.entries.push(descriptor);
        self
    }

    pub(crate) fn finish(self) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries});
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// The architecture of this host, as images call it.
pub(crate) fn arch() -> String {
    oci::name::platform::Platform::host().architecture
}

/// Makes a layout of one image, called `one`, with [`LAYERS`] and this config.
pub(crate) fn image(dir: &Path, config: Value) {
    let layout = Layout::new(dir);
    let image = layout.image(&arch(), config, &LAYERS);
    layout.tag("one", image).finish();
}

/// An archive of all files in `dir`.
pub(crate) fn archive(dir: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("", dir).unwrap();
    archive.into_inner().unwrap()
}

/// An archive of `docker save` with [`LAYERS`], of an image called `acme/app:1`.
pub(crate) fn docker_archive() -> Vec<u8> {
    let layers = LAYERS.map(tar);
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "os": "linux", "architecture": arch(), "rootfs": {"type": "layers", "diff_ids": diff_ids}
    });
    let hex = |bytes: &[u8]| Digest::of(bytes).parts().1.to_owned();
    let config = config.to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let names = [&layers[0], &layers[1]].map(|layer| format!("{}/layer.tar", hex(layer)));
    let manifest = json!([{"Config": config_name, "RepoTags": ["acme/app:1"], "Layers": names}]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    add(&config_name, config.as_bytes());
    add(&names[0], &layers[0]);
    add(&names[1], &layers[1]);
    add("manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap()
}
