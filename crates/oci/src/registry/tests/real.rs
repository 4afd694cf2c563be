//! A real registry: docker-registry(1), to which skopeo(1) copies an image.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use virtinitrd_vm_tests::{has, tool};

use super::pki::Authority;
use super::{noise, open, options, options_with, text};
use crate::document::manifest::{Document, Manifest};
use crate::name::digest::Digest;
use crate::origin::Origin;
use crate::registry::{RegistryOptions, UserPassword};

/// `user:pass` for htpasswd(1), by bcrypt.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n";
/// Longest time until the registry listens.
const START_TIME: Duration = Duration::from_secs(60);
/// What the registry logs when it listens.
const LISTENING: &str = "listening on ";

/// A registry that runs as long as this exists.
struct RealRegistry {
    child: Child,
    authority: String,
}

impl RealRegistry {
    /// Starts a registry that keeps its images in `dir`. `more` are further settings.
    fn start(dir: &Path, http: &str, more: &str) -> Self {
        let config = dir.join("config.yml");
        let store = dir.join("store").display().to_string();
        let settings = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {store}}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: test{http}}}\n{more}"
        );
        fs::write(&config, settings).unwrap();
        let mut command = tool("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, authority: String::new() };
        let (sender, receiver) = channel();
        // Reads to the end, so that the registry never waits for its log.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut lines = Vec::new();
        while running.authority.is_empty() {
            let line = receiver.recv_timeout(START_TIME);
            lines.push(line.unwrap_or_else(|error| panic!("docker-registry: {error}: {lines:?}")));
            let found = lines.last().and_then(|line| line.split_once(LISTENING));
            if let Some((_, rest)) = found {
                let is_end = |c: char| !(c.is_ascii_digit() || ".:".contains(c));
                running.authority = rest.split(is_end).next().unwrap().to_owned();
            }
        }
        running
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a layout with one image of one layer, and returns the layer.
fn write_layout(dir: &Path) -> Vec<u8> {
    let layer = noise(100_000);
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let write = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.parts().1), bytes).unwrap();
        serde_json::json!({ "digest": digest, "size": bytes.len() })
    };
    let typed = |mut descriptor: serde_json::Value, media_type: &str| {
        descriptor["mediaType"] = media_type.into();
        descriptor
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
    });
    let config = write(config.to_string().as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": super::MANIFEST_TYPE,
        "config": typed(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [typed(write(&layer), "application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = typed(write(manifest.to_string().as_bytes()), super::MANIFEST_TYPE);
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layer
}

/// Copies the layout in `dir` to a registry.
fn push(dir: &Path, name: &str, more: &[&str]) {
    let output = tool("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"])
        .args(more)
        .arg(format!("oci:{}", dir.display()))
        .arg(format!("docker://{name}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Reads everything of an image and compares it.
fn read(name: &str, options: &RegistryOptions, layer: &[u8]) {
    let registry = open(name, options);
    let top = registry.top().unwrap();
    let digest = Digest::of(&top.bytes);
    assert_eq!(registry.top_digest().unwrap(), Some(digest.clone()));
    let Document::Manifest(Manifest { config, layers }) =
        Document::parse(&top.bytes, &top.media_type).unwrap()
    else {
        panic!("not a manifest");
    };
    assert_eq!(Digest::of(&registry.document(&config).unwrap().bytes), config.digest);
    for offset in [0, 70_000] {
        let mut bytes = Vec::new();
        registry.blob(&layers[0], offset).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == layer[usize::try_from(offset).unwrap()..], "from {offset}");
    }
    let by_digest = name.rsplit_once(':').unwrap().0;
    let top = open(&format!("{by_digest}@{digest}"), options).top().unwrap();
    assert_eq!(Digest::of(&top.bytes), digest);
    let error = text(open(&format!("{by_digest}:missing"), options).top());
    assert!(error.contains("404 Not Found: MANIFEST_UNKNOWN"), "{error}");
}

#[test]
fn an_image_is_read_by_http() {
    if !(has("docker-registry") && has("skopeo")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layer = write_layout(&dir.path().join("layout"));
    let registry = RealRegistry::start(dir.path(), "", "");
    let name = format!("{}/acme/app:1", registry.authority);
    push(&dir.path().join("layout"), &name, &["--dest-tls-verify=false"]);
    read(&name, &options(), &layer);
}

#[test]
fn an_image_is_read_by_https_with_a_password() {
    if !(has("docker-registry") && has("skopeo") && has("openssl")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layer = write_layout(&dir.path().join("layout"));
    let authority = Authority::new(dir.path());
    let (certificate, key) = authority.certify("server", "IP:127.0.0.1");
    let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
    let users = dir.path().join("htpasswd");
    fs::write(&users, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    let registry = RealRegistry::start(dir.path(), &tls, &auth);
    let name = format!("{}/acme/app:1", registry.authority);
    let layout = dir.path().join("layout");
    push(&layout, &name, &["--dest-tls-verify=false", "--dest-creds=user:pass"]);

    let ca = vec![authority.file()];
    let credentials = Some(UserPassword { user: "user".into(), password: "pass".into() });
    let by_flag = RegistryOptions { ca: ca.clone(), credentials, ..options() };
    read(&name, &by_flag, &layer);

    let file = dir.path().join("auth.json");
    let stored = r#"{"auth":"dXNlcjpwYXNz"}"#;
    fs::write(&file, format!(r#"{{"auths":{{"{}/acme":{stored}}}}}"#, registry.authority)).unwrap();
    let variables = [("REGISTRY_AUTH_FILE", file.into())];
    let by_file = RegistryOptions { ca: ca.clone(), ..options_with(&variables, dir.path()) };
    read(&name, &by_file, &layer);

    let nobody = RegistryOptions { ca, ..options() };
    let error = text(open(&name, &nobody).top());
    assert!(error.contains("401") && error.contains("--creds"), "{error}");
    let credentials = Some(UserPassword { user: "user".into(), password: "wrong".into() });
    let wrong = RegistryOptions { credentials, ..by_file };
    let error = text(open(&name, &wrong).top());
    assert!(error.contains("401"), "{error}");
}
