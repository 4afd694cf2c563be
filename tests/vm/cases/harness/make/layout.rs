//! Layouts of OCI images with one layer, made byte by byte.
//!
//! Format: OCI image specification, `image-layout.md`, `manifest.md`, `config.md`. The layer is
//! a plain tar archive whose members have any owner, so no root is needed to make it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use oci::name::digest::Digest;
use oci::name::platform::Platform;

use crate::harness::{Bed, Machine};

/// A member of the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    /// A directory with this mode and owner, which is also the group.
    Directory(&'a str, u32, u64),
    /// A file with this mode, owner and text.
    File(&'a str, u32, u64, &'a str),
}

/// Programs that are links to busybox.
const APPLETS: &[&str] = &["cat", "echo", "env", "id", "ls", "nc", "pwd", "sh", "stat"];

/// Makes a layout at `at`: busybox with its links, some accounts, and `members`. `config` is the
/// JSON of the member `config` of the image's config.
pub(crate) fn make(bed: &Bed, at: &Path, members: &[Member<'_>], config: &str) -> Result<()> {
    let layer = layer(bed, members)?;
    let platform = Platform::host();
    let config = format!(
        r#"{{"architecture":"{}","os":"{}","config":{config},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        platform.architecture,
        platform.os,
        Digest::of(&layer)
    );
    let config = blob(at, "image.config.v1+json", config.as_bytes())?;
    let layer = blob(at, "image.layer.v1.tar", &layer)?;
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    let manifest = blob(at, "image.manifest.v1+json", manifest.as_bytes())?;
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
    fs::write(at.join("index.json"), index).context("write the index of a layout")
}

/// Writes a blob, and returns its descriptor.
fn blob(at: &Path, media_type: &str, bytes: &[u8]) -> Result<String> {
    let digest = Digest::of(bytes);
    let (algorithm, digits) = digest.parts();
    let dir = at.join("blobs").join(algorithm);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(digits), bytes).context("write a blob")?;
    let size = bytes.len();
    Ok(format!(
        r#"{{"mediaType":"application/vnd.oci.{media_type}","digest":"{digest}","size":{size}}}"#
    ))
}

fn layer(bed: &Bed, members: &[Member<'_>]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, owner: u64, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, path, data).with_context(|| format!("add {path}"))
    };
    let busybox = fs::read(&bed.busybox)?;
    add("bin", tar::EntryType::Directory, 0o755, 0, b"")?;
    add("bin/busybox", tar::EntryType::Regular, 0o755, 0, &busybox)?;
    add("etc", tar::EntryType::Directory, 0o755, 0, b"")?;
    let accounts = [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:101:102::/srv:/bin/sh\n"),
        ("etc/group", "root:x:0:\nwww:x:102:\nlog:x:7:www\n"),
    ];
    for (path, text) in accounts {
        add(path, tar::EntryType::Regular, 0o644, 0, text.as_bytes())?;
    }
    for member in members {
        match *member {
            Member::Directory(path, mode, owner) => {
                add(path, tar::EntryType::Directory, mode, owner, b"")?;
            }
            Member::File(path, mode, owner, text) => {
                add(path, tar::EntryType::Regular, mode, owner, text.as_bytes())?;
            }
        }
    }
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    archive.into_inner().context("write a layer")
}

impl Bed {
    /// A machine whose root is a layout beside it, made as by [`make`].
    pub(crate) fn layout_machine(&self, members: &[Member<'_>], config: &str) -> Result<Machine> {
        let mut machine = self.bare_machine()?;
        let layout = machine.path("layout");
        make(self, &layout, members, config)?;
        machine.root_is(Path::new(&format!("oci-layout:{}", layout.display())));
        Ok(machine)
    }
}
