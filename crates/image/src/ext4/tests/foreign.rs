//! Tests against e2fsprogs: we read images of mke2fs(8), and debugfs(8) reads ours. A test
//! passes without a check where its tool is missing.

use super::*;

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    if !has(program) {
        return None;
    }
    let output = command(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    Some(said)
}

#[test]
fn images_of_mke2fs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let large = source.join("large");
    std::fs::create_dir_all(&large).unwrap();
    for number in 0..500 {
        std::fs::write(large.join(format!("{number:0>100}")), format!("{number}")).unwrap();
    }
    std::fs::write(source.join("small"), [1; 100]).unwrap();
    let mut bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 1000).to_le_bytes()[0]).collect();
    bytes[100_000..1_000_000].fill(0);
    std::fs::write(source.join("file"), &bytes).unwrap();
    std::os::unix::fs::symlink("x".repeat(59), source.join("fast")).unwrap();
    std::os::unix::fs::symlink("y".repeat(900), source.join("slow")).unwrap();
    let hole = File::create(source.join("hole")).unwrap();
    hole.write_all_at(b"end", 90_000_000).unwrap();
    // With the feature inline_data, this file lies in its inode and stores no bytes.
    File::create(source.join("only a hole")).unwrap().set_len(70_001).unwrap();
    for features in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum"],
        &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
        &["-t", "ext4", "-O", "inline_data"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext4", "-b", "65536"],
        &["-t", "ext3"],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext2", "-r", "0"],
    ] {
        let path = dir.path().join("image");
        let (path, source) = (path.to_str().unwrap(), source.to_str().unwrap());
        let arguments = [features, &["-q", "-F", "-d", source, path, "200M"]].concat();
        if run("mke2fs", &arguments).is_none() {
            return;
        }
        let tree = read(Arc::new(File::open(path).unwrap())).unwrap();
        let contents = |path: &str| {
            let Kind::File(content) = &tree.node(tree.find(path.as_bytes()).unwrap()).kind else {
                panic!("{path}");
            };
            let mut bytes = Vec::new();
            content.open().unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert!(contents("file") == bytes, "{features:?}");
        assert_eq!(contents("small"), [1; 100], "{features:?}");
        assert!(contents("only a hole") == vec![0; 70_001], "{features:?}");
        let (start, end) = (vec![0; 90_000_000], b"end");
        assert!(contents("hole") == [&start[..], end].concat(), "{features:?}");
        for number in 0..500 {
            assert_eq!(contents(&format!("large/{number:0>100}")), number.to_string().as_bytes());
        }
        for (name, expected) in [("fast", "x".repeat(59)), ("slow", "y".repeat(900))] {
            let node = tree.node(tree.find(name.as_bytes()).unwrap());
            let Kind::Symlink(target) = &node.kind else { panic!("{name}") };
            assert_eq!(**target, *expected.as_bytes(), "{features:?}");
        }
        assert!(tree.find(b"lost+found").is_none());
        std::fs::remove_file(path).unwrap();
    }
}

/// debugfs(8) shows every part of an image that we write.
#[test]
fn debugfs_reads_our_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let out = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    write(&nasty(), &options(SLACK), &out).unwrap();
    for (command, expected) in [
        ("cat /file", "hello"),
        ("stat /new", "4095:1048575"),
        ("stat /old", "01:03"),
        ("stat /empty", "2242"),
        ("stat /slow", "Type: symlink"),
        ("ea_get -x /capable security.capability", "01 01 01 01"),
        ("ea_list /much", "trusted.b (3000)"),
        ("ls -l /tmp", "40700"),
        ("htree_dump /", "Not a hash-indexed directory"),
        ("stats", "Journal inode:            8"),
        ("logdump", "Journal starts at block 0"),
    ] {
        let Some(said) = run("debugfs", &["-R", command, path.to_str().unwrap()]) else { return };
        assert!(said.contains(expected), "{command}: {said}");
    }
}
