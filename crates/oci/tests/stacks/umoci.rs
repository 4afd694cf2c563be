//! umoci(1) on random stacks: an image layout on disk, unpacked without root.
//!
//! Format: OCI image specification, `image-layout.md`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use virtinitrd_oci::name::digest::Digest;
use virtinitrd_vm_tests::{has, tool};

use crate::stack::{self, Layer, Listed, Op, join, tar_of, with_first_names};
use crate::{merged, runner};

/// Number of stacks; umoci takes about 50 ms for each.
const STACKS: u32 = 100;

/// Writes an image layout with one image, `:latest`.
fn write_layout(at: &Path, layers: &[Layer]) {
    let blobs = at.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.parts().1), bytes).unwrap();
        let size = bytes.len();
        (
            digest.to_string(),
            format!(r#""mediaType":"{media_type}","digest":"{digest}","size":{size}"#),
        )
    };
    let layer = |layer| blob("application/vnd.oci.image.layer.v1.tar", &tar_of(layer));
    let (diff_ids, descriptors): (Vec<_>, Vec<_>) = layers.iter().map(layer).unzip();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#
    );
    let (_, config) = blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let descriptors: Vec<_> = descriptors.iter().map(|text| format!("{{{text}}}")).collect();
    let layers = descriptors.join(",");
    let manifest = format!(r#"{{"schemaVersion":2,"config":{{{config}}},"layers":[{layers}]}}"#);
    let (_, manifest) = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let name = r#""annotations":{"org.opencontainers.image.ref.name":"latest"}"#;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{{manifest},{name}}}]}}"#);
    fs::write(at.join("index.json"), index).unwrap();
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// The files of the merged layers, as umoci merges them, or what it says if it cannot.
fn unpacked(layers: &[Layer]) -> Result<Vec<Listed>, String> {
    let dir = tempfile::tempdir().unwrap();
    let (layout, root) = (dir.path().join("layout"), dir.path().join("root"));
    write_layout(&layout, layers);
    let output = tool("umoci")
        .args(["raw", "unpack", "--rootless", "--image"])
        .args([&layout, &root])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut listed = Vec::new();
    list(&root, "", &mut listed);
    Ok(with_first_names(listed))
}

fn list(root: &Path, path: &str, listed: &mut Vec<Listed>) {
    let here = root.join(path);
    let meta = fs::symlink_metadata(&here).unwrap();
    let permissions = u16::try_from(meta.mode() & 0o7777).unwrap();
    let what = match meta.file_type() {
        kind if kind.is_dir() => "directory".to_owned(),
        kind if kind.is_symlink() => format!("link to {}", fs::read_link(&here).unwrap().display()),
        _ => format!("file {}", fs::read_to_string(&here).unwrap()),
    };
    listed.push(Listed::new(path.to_owned(), what, permissions, meta.ino()));
    if meta.is_dir() {
        for entry in fs::read_dir(&here).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            list(root, &join(path, &name), listed);
        }
    }
}

/// A stack without what umoci 0.4.7 is known to get wrong: it follows links of lower layers
/// until it reads the mark that hides them, so the marks come first.
fn with_marks_first(mut layers: Vec<Layer>) -> Vec<Layer> {
    for layer in &mut layers {
        layer.sort_by_key(|op| !matches!(op, Op::Whiteout { .. } | Op::Opaque { .. }));
    }
    layers
}

/// Errors of umoci 0.4.7 for layers that are right: it does not replace a file by a directory
/// for a member below it (fixed in 0.5.0); it fails if a whiteout leads through a circle of
/// links to nothing; it removes what a hard link replaces before it looks for the target, which
/// may be the same file.
const KNOWN_ERRORS: [&str; 3] =
    ["not a directory", "too many levels of symbolic links", "unpriv.wrap target: no such file"];

#[test]
fn random_stacks_are_merged_as_umoci_does_it() {
    if !has("umoci") {
        return;
    }
    let mut runner = runner(1);
    let mut compared = 0;
    for number in 0..STACKS {
        let layers = with_marks_first(stack::one(&mut runner));
        match (merged(&layers), unpacked(&layers)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours, theirs, "stack {number}: {layers:#?}");
                compared += 1;
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => {
                let is_known = KNOWN_ERRORS.iter().any(|known| error.contains(known));
                assert!(is_known, "stack {number}: only umoci fails: {error}\n{layers:#?}");
            }
            (Err(error), Ok(_)) => {
                panic!("stack {number}: only ours fails: {error:#}\n{layers:#?}")
            }
        }
    }
    assert!(compared > STACKS / 3, "{compared} of {STACKS}");
}
