//! Arguments and size for mkfs.btrfs(8).
//!
//! Interface: mkfs.btrfs(8), option `--rootdir`. mkfs.btrfs extends an image that is too small
//! for the directory.

use std::ffi::OsString;
use std::path::Path;

use image::tree::{Kind, Node, Tree};

use super::super::super::options::show_uuid;
use super::{IMAGE, MkfsOptions};

/// Bytes of a sector, in which contents are stored.
const SECTOR: u64 = 4096;
/// Smallest image that mkfs.btrfs makes by default, in bytes.
const SIZE_MIN: u64 = 109 << 20;
/// Bytes of metadata of one file besides its name: inode, names in directories, extent, sums;
/// metadata is stored twice, and its blocks are half empty at worst.
const METADATA: u64 = 2 * 2 * 512;

/// Size to which the image is set before mkfs.btrfs writes it.
pub(super) fn size(tree: &Tree, options: &MkfsOptions) -> u64 {
    if let Some(size) = options.size {
        return size;
    }
    let used = tree.nodes().map(stored).fold(0, u64::saturating_add);
    let size = options.with_slack(used).saturating_add(SIZE_MIN);
    size.checked_next_multiple_of(1 << 20).unwrap_or(size)
}

/// Bytes that one file takes at most.
fn stored(node: &Node) -> u64 {
    let contents = match &node.kind {
        // Small contents are stored as metadata, twice.
        Kind::File(content) => content
            .size()
            .div_ceil(SECTOR)
            .saturating_mul(2 * SECTOR)
            .min(content.size().saturating_add(content.size() / 64).saturating_add(2 * SECTOR)),
        _ => 0,
    };
    METADATA.saturating_add(contents).saturating_add(2 * node.meta.xattrs.size() as u64)
}

/// Options of mkfs.btrfs, without the directory and the image.
pub(super) fn options(options: &MkfsOptions, uuid: [u8; 16]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["-q", "-U", &show_uuid(uuid)].map(OsString::from).into();
    if !options.label.is_empty() {
        words.extend(["-L".into(), OsString::from(&options.label)]);
    }
    words.extend(options.arguments.iter().cloned());
    words
}

/// All arguments of mkfs.btrfs: `options`, the directory and the image.
pub(super) fn arguments(options: &[OsString], directory: &Path) -> Vec<OsString> {
    let rest = ["--rootdir".into(), directory.into(), "--".into(), IMAGE.into()];
    options.iter().cloned().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::tree::{Content, Meta};

    #[test]
    fn the_size_is_given_or_has_room_for_all() {
        let mut tree = Tree::new(Meta::default());
        let kind = Kind::File(Content::Bytes(vec![1; 10 << 20].into()));
        tree.add(Tree::ROOT, b"a", Meta::default(), kind).unwrap();
        for (size_given, slack, expected) in
            [(Some(5), None, 5), (None, Some(0), 120), (None, Some(100), 130), (None, None, 137)]
        {
            let options = MkfsOptions { size: size_given, slack, ..MkfsOptions::default() };
            let expected = if expected == 5 { 5 } else { expected << 20 };
            assert_eq!(size(&tree, &options), expected, "{slack:?}");
        }
    }

    #[test]
    fn arguments_of_the_user_come_after_ours() {
        let given = MkfsOptions {
            label: "-l".into(),
            arguments: vec!["--mixed".into()],
            ..MkfsOptions::default()
        };
        let words = arguments(&options(&given, [0; 16]), Path::new("/tmp/x"));
        let uuid = "00000000-0000-0000-0000-000000000000";
        let expected =
            ["-q", "-U", uuid, "-L", "-l", "--mixed", "--rootdir", "/tmp/x", "--", IMAGE];
        assert_eq!(words, expected);
    }
}
