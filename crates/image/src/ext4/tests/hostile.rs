//! Tests with images that are damaged, or made to harm the reader.

use super::*;

/// Pseudo-random numbers (xorshift64), equal in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn bytes_of(image: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(image.metadata().unwrap().len()).unwrap()];
    image.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn refused(image: File) -> String {
    format!("{:#}", read(Arc::new(image)).map(|_| ()).unwrap_err())
}

/// A read may succeed or fail, but it must end.
#[test]
fn reading_a_damaged_image_ends() {
    /// Most bytes to read of a file: a damaged size may claim 16 TiB.
    const BYTES_MAX: u64 = 1 << 16;
    let mut tree = nasty();
    for number in 0..200 {
        let name = format!("{number:0>200}");
        tree.add(Tree::ROOT, name.as_bytes(), meta(0o644, 1), file("x")).unwrap();
    }
    let good = image(&tree, SLACK);
    let bytes = bytes_of(&good);
    let used: Vec<_> = bytes
        .chunks(64)
        .enumerate()
        .filter(|(_, chunk)| chunk.iter().any(|&byte| !matches!(byte, 0 | 9)))
        .map(|(index, _)| index as u64 * 64)
        .collect();
    let good = Arc::new(good);
    let mut random = Random(1);
    let mut survived = 0;
    for _ in 0..400 {
        let damaged: Vec<_> = (0..=random.below(3))
            .map(|_| {
                used[usize::try_from(random.below(used.len() as u64)).unwrap()] + random.below(64)
            })
            .collect();
        for &at in &damaged {
            let byte = random.below(256).to_le_bytes()[0];
            good.write_all_at(&[byte], at).unwrap();
        }
        if let Ok(tree) = read(Arc::clone(&good)) {
            survived += 1;
            let mut visit = |_: &[u8], id| {
                if let Kind::File(content) = &tree.node(id).kind {
                    // A read error is as good a result as bytes.
                    let _ =
                        std::io::copy(&mut content.open()?.take(BYTES_MAX), &mut std::io::sink());
                }
                Ok(())
            };
            tree.walk(&mut visit).unwrap();
        }
        for at in damaged {
            good.write_all_at(&bytes[usize::try_from(at).unwrap()..][..1], at).unwrap();
        }
    }
    assert!((1..400).contains(&survived), "{survived}");
}

#[test]
fn unreadable_superblocks_are_named() {
    let patches: &[(u64, &[u8], &str)] = &[
        (0x38, &[0, 0], "this is no ext4 file system"),
        (0x18, &[60], "blocks of 2^70"),
        (0x60, &[0xc6], "mount it once, or run e2fsck"),
        (0x61, &[0x04], "ea_inode"),
        (0x62, &[0x01], "encrypt"),
        (0x63, &[0x80], "unknown features 0x80000000"),
        (0x07, &[0x7f], "cut off"),
        (0x28, &[0, 0, 0, 0], "0 inodes per group"),
        (0x20, &[0, 0, 0, 0], "0 blocks per group"),
        (0x58, &[1], "257 bytes of an inode"),
        (0xfe, &[7], "7 bytes of a group descriptor"),
    ];
    for (at, patch, expected) in patches {
        let image = image(&nasty(), SLACK);
        image.write_all_at(patch, 1024 + at).unwrap();
        let error = refused(image);
        assert!(error.contains(expected), "{error}");
    }
    let short = tempfile::tempfile().unwrap();
    assert!(refused(short).contains("too short"));
}

#[test]
fn directory_loops_and_repeated_names_are_refused() {
    let mut tree = Tree::new(Meta::default());
    let outer = tree.add(Tree::ROOT, b"outer", Meta::default(), directory()).unwrap();
    let inner = tree.add(outer, b"inner", Meta::default(), directory()).unwrap();
    tree.add(inner, b"first", Meta::default(), file("x")).unwrap();
    tree.add(inner, b"other", Meta::default(), file("y")).unwrap();
    let image_of = || image(&tree, SLACK);
    let bytes = bytes_of(&image_of());
    // Position of the directory entry with this name, which starts 8 bytes before it.
    let entry = |name: &[u8]| {
        bytes.windows(name.len()).position(|window| window == name).unwrap() as u64 - 8
    };
    for (at, patch, expected) in [
        (entry(b"inner"), &12_u32.to_le_bytes()[..], "/outer/inner: a directory has one name"),
        (entry(b"inner"), &2_u32.to_le_bytes(), "/outer/inner: a directory has one name"),
        (entry(b"inner"), &8_u32.to_le_bytes(), "/outer/inner: inode 8 is reserved"),
        (entry(b"inner"), &9999_u32.to_le_bytes(), "/outer/inner: there is no inode 9999"),
        (entry(b"inner"), &40_u32.to_le_bytes(), "/outer/inner: inode 40 has the mode 0"),
        (entry(b"other") + 8, b"first", "/outer/inner/first: the directory has this name twice"),
        (entry(b"other") + 8, b"a/../", "contains '/' or NUL"),
        (entry(b"other") + 4, &[0, 0], "a directory block is damaged"),
        (entry(b"other") + 4, &[0xff, 0xff], "a directory block is damaged"),
    ] {
        let image = image_of();
        image.write_all_at(patch, at).unwrap();
        let error = refused(image);
        assert!(error.contains(expected), "{error}");
    }
}

/// Two thousand inodes share one attribute block, and memory holds its attributes once.
#[test]
fn a_shared_attribute_block_is_kept_once() {
    const FILES: usize = 2000;
    let mut tree = Tree::new(meta(0o755, 1));
    for number in 0..FILES {
        let meta = with_xattrs(&[("user.a", &[7; 3000])]);
        tree.add(Tree::ROOT, number.to_string().as_bytes(), meta, Kind::Fifo).unwrap();
    }
    let image = image(&tree, SLACK);
    let bytes = bytes_of(&image);
    let inodes = bytes.chunks(inode::SIZE).enumerate();
    let with_block: Vec<_> = inodes
        .filter(|(_, inode)| bytes::get16(inode, 0) == 0o010_644 && bytes::get32(inode, 0x68) > 0)
        .map(|(index, inode)| ((index * inode::SIZE) as u64, bytes::get32(inode, 0x68)))
        .collect();
    assert_eq!(with_block.len(), FILES);
    for (at, _) in &with_block {
        image.write_all_at(&with_block[0].1.to_le_bytes(), at + 0x68).unwrap();
    }
    let found = read(Arc::new(image)).unwrap();
    let sets: std::collections::BTreeSet<_> =
        found.nodes().filter_map(|node| node.meta.xattrs.address()).collect();
    assert_eq!(sets.len(), 1);
    assert_eq!(described(&found), described(&tree));
}

/// All extents of the file point to the same blocks, so it has more data than the image.
#[test]
fn a_file_with_more_data_than_the_image_is_refused() {
    let mut tree = Tree::new(meta(0o755, 1));
    tree.add(Tree::ROOT, b"file", meta(0o640, 1), file([7; 8192])).unwrap();
    let image = image(&tree, SLACK);
    let bytes = bytes_of(&image);
    let (index, inode) = bytes
        .chunks(inode::SIZE)
        .enumerate()
        .find(|(_, inode)| bytes::get16(inode, 0) == 0o100_640)
        .unwrap();
    let at = (index * inode::SIZE) as u64;
    let start = bytes::get32(inode, 0x28 + 12 + 8);
    // Fill the holes of the image file: a reader may skip them.
    for (index, block) in bytes.chunks(bytes::BLOCK).enumerate().skip(start as usize) {
        if block.iter().all(|&byte| byte == 0) {
            image.write_all_at(&[1; bytes::BLOCK], (index * bytes::BLOCK) as u64).unwrap();
        }
    }
    // Four extents, each with all blocks from the first data block to the end.
    let blocks = u32::try_from(bytes.len() / bytes::BLOCK).unwrap() - start;
    image.write_all_at(&4_u16.to_le_bytes(), at + 0x28 + 2).unwrap();
    for extent in 0..4 {
        let entry = [extent * blocks, blocks, start].map(u32::to_le_bytes).concat();
        image.write_all_at(&entry, at + 0x28 + 12 + u64::from(extent) * 12).unwrap();
    }
    let size = u64::from(4 * blocks) * bytes::BLOCK as u64;
    image.write_all_at(&bytes::low32(size).to_le_bytes(), at + 4).unwrap();
    let found = read(Arc::new(image)).unwrap();
    let Kind::File(content) = &found.node(found.find(b"file").unwrap()).kind else { panic!() };
    let error = crate::tree::holes::for_parts(content, &mut |_| Ok(())).unwrap_err();
    assert!(format!("{error:#}").contains("more data than the image"), "{error:#}");
}
