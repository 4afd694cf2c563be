//! Parts of a second: kept by every format that has room for them.

use super::*;

#[test]
fn nanoseconds_are_kept_where_the_format_has_room() {
    let meta = |mtime, nanoseconds| Meta { mtime, nanoseconds, ..Meta::default() };
    let times = [(0, 1), (5, 999_999_999), (-5, 500_000_000), (1 << 33, 120_000_000), (7, 0)];
    let mut tree = Tree::new(meta(3, 3));
    for (number, (seconds, nanoseconds)) in times.into_iter().enumerate() {
        tree.put(format!("f{number}").as_bytes(), meta(seconds, nanoseconds), Kind::Fifo).unwrap();
    }
    let options = || DiskOptions { mtime: 5, ..DiskOptions::default() };
    for (format, are_kept) in [
        (Format::Tar(Compression::None), true),
        (Format::Erofs, true),
        (Format::Ext4, true),
        (Format::Squashfs, false),
        (Format::Cpio(Compression::None), false),
    ] {
        let bytes = match format {
            Format::Tar(_) | Format::Cpio(_) => written(&tree, format, 0),
            _ => disk_bytes(&tree, format, options()),
        };
        let again = read(&bytes).unwrap();
        assert_equal(&format!("{format}"), &tree, &again, &[Aspect::Time]);
        let time = |tree: &Tree, name: &str| {
            let meta = &tree.node(tree.find(name.as_bytes()).unwrap()).meta;
            (meta.mtime, meta.nanoseconds)
        };
        for name in ["", "f0", "f1", "f4"] {
            let (seconds, nanoseconds) = time(&tree, name);
            let expected = (seconds, if are_kept { nanoseconds } else { 0 });
            assert_eq!(time(&again, name), expected, "{format}: {name}");
        }
        for name in ["f2", "f3"].iter().filter(|_| are_kept) {
            assert_eq!(time(&again, name), time(&tree, name), "{format}: {name}");
        }
    }
}
