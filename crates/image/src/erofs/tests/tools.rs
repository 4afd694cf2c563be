//! Tests against erofs-utils: we read images of mkfs.erofs(1), and fsck.erofs(1) accepts
//! ours. A test passes without a check where its tool is missing.

use super::{all_options, image, opened};
use crate::sample::{command, contents, has, nasty, text};
use crate::tree::{Kind, Tree};

#[test]
fn fsck_accepts_our_images() {
    if !has("fsck.erofs") {
        return;
    }
    for options in all_options() {
        let image = image(&nasty(), &options);
        let output = command("fsck.erofs").arg("--extract").arg(image.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn an_image_of_mkfs_reads_as_its_directory() {
    if !has("mkfs.erofs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let tree = nasty();
    for name in
        ["sizes/text-70000", "sizes/noise-8192", "sizes/mixed", "sizes/one-2101249", "sizes/sparse"]
    {
        let Kind::File(content) = &tree.node(tree.find(name.as_bytes()).unwrap()).kind else {
            continue;
        };
        std::fs::write(root.join(name.replace('/', "-")), contents(content).unwrap()).unwrap();
    }
    for number in 0..500 {
        std::fs::write(root.join(format!("file-{number}")), text(number * 41)).unwrap();
    }
    let rows: [&[&str]; 9] = [
        &[],
        &["-zlz4"],
        &["-zlz4hc", "-C65536"],
        &["-zlz4", "-Elegacy-compress"],
        &["-zlz4", "-Elegacy-compress", "-Enoinline_data"],
        &["-zlz4hc", "-Eztailpacking"],
        &["-zlz4", "-C16384", "-Eztailpacking"],
        &["-zlz4", "-Eforce-inode-compact"],
        &["--chunksize=8192"],
    ];
    for arguments in rows {
        let image = dir.path().join("image");
        let mut tool = command("mkfs.erofs");
        let output = tool.args(arguments).arg(&image).arg(&root).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let found = opened(&image).unwrap();
        let mut count = 0;
        for entry in std::fs::read_dir(&root).unwrap() {
            let entry = entry.unwrap();
            let id = found.find(entry.file_name().as_encoded_bytes()).unwrap();
            let Kind::File(content) = &found.node(id).kind else { panic!("{entry:?}") };
            let bytes =
                contents(content).map_err(|error| format!("{arguments:?}: {entry:?}: {error:#}"));
            assert!(
                bytes.unwrap() == std::fs::read(entry.path()).unwrap(),
                "{arguments:?}: {entry:?}"
            );
            count += 1;
        }
        assert_eq!(found.children(Tree::ROOT).unwrap().len(), count);
    }
}
