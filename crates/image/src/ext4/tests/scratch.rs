//! Tests of file systems without a journal, and of scratch disks.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::{SLACK, check, described, nasty, options, read, write};
use crate::ext4::{Ext4Journal, Ext4Options, scratch};

/// Byte of the image with `s_feature_compat`; its bit 2 says that there is a journal.
const COMPAT_AT: u64 = 1024 + 0x5c;

/// Byte of the image with `s_state`; its bit 0 says that the file system was unmounted cleanly.
const STATE_AT: u64 = 1024 + 0x3a;

fn byte(image: &std::fs::File, at: u64) -> u8 {
    let mut byte = [0];
    image.read_exact_at(&mut byte, at).unwrap();
    byte[0]
}

#[test]
fn scratch_disks_are_valid_empty_and_sparse() {
    for size in [1 << 20, 100 << 20, (16 << 30) + 4096, 300 << 30] {
        let file = tempfile::tempfile().unwrap();
        scratch(size, &file).unwrap();
        check(&file);
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), size);
        assert!(meta.blocks() * 512 < (1 << 20) + size / 2000, "{size}: {} blocks", meta.blocks());
        assert_eq!(byte(&file, COMPAT_AT) & 4, 0, "{size}: has a journal");
        let tree = read(Arc::new(file)).unwrap();
        assert_eq!(described(&tree).len(), 1, "{size}: the tree is not empty");
    }
    assert!(scratch(4096, &tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn a_tree_without_a_journal_is_valid_and_read_while_it_is_mounted() {
    let tree = nasty();
    let file = tempfile::tempfile().unwrap();
    let options = Ext4Options { journal: Ext4Journal::Absent, ..options(SLACK) };
    write(&tree, &options, &file).unwrap();
    check(&file);
    assert_eq!((byte(&file, COMPAT_AT) & 4, byte(&file, STATE_AT) & 1), (0, 1));
    // A kernel that has mounted the file system clears this bit.
    file.write_all_at(&[0], STATE_AT).unwrap();
    assert_eq!(described(&read(Arc::new(file)).unwrap()), described(&tree));
}
