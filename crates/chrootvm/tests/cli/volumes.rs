//! Paths of volumes that do not exist in the guest are errors before the boot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::script;

const CHROOTVM: &str = env!("CARGO_BIN_EXE_chrootvm");

/// A root with an empty file as its kernel, and a script that stands for QEMU, virtiofsd and
/// `/init`. A run fails at the kernel at the latest.
fn make_root(dir: &Path) {
    for part in ["root/usr/lib/modules/6.9.1", "root/boot", "root/srv", "root/var", "volume/in"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    fs::write(dir.join("root/boot/vmlinuz-6.9.1"), "").unwrap();
    fs::write(dir.join("root/file"), "").unwrap();
    fs::write(dir.join("volume/file"), "").unwrap();
    symlink("/run", dir.join("root/var/run")).unwrap();
    symlink("root/file", dir.join("link")).unwrap();
    mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
    let program = dir.join("program");
    script::write(&program, script::VIRTIOFSD);
}

/// Standard error of a run of `rootfs` with these `words`, in the directory `dir`.
fn errors(dir: &Path, rootfs: &str, words: &[&str]) -> String {
    let mut chrootvm = Command::new(CHROOTVM);
    for option in ["--qemu", "--virtiofsd", "--init"] {
        chrootvm.arg(option).arg(dir.join("program"));
    }
    let run = chrootvm.args(words).args([rootfs, "--", "true"]).current_dir(dir);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_path_that_the_guest_will_lack_is_refused_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_root(&dir);
    let root = dir.join("root").display().to_string();
    let lacks = |path: &str| format!("{path} does not exist in {root}: mkdir -p {root}");
    for (words, error) in [
        (&["-v", "volume:/src"][..], format!("{}/src, or give --overlay\n", lacks("/src"))),
        (&["-v", "volume:/srv/a/b"], format!("{}/srv/a/b, or give", lacks("/srv/a"))),
        (&["--rw", "-v", "volume:/src"], format!("{}/src\n", lacks("/src"))),
        (&["-v", "volume:/file"], "/file is not a directory in the guest".into()),
        (
            &["-v", "root/file:/srv"],
            format!(
                "/srv is a directory in the guest, and {root}/file is a file; give /srv/file\n"
            ),
        ),
        (&["-v", "root/file:/run"], "/run is a directory in the guest, and ".into()),
        (&["-v", "root/file:/file/x"], "/file is not a directory in the guest".into()),
        (
            &["-v", "root/file:/srv/a/b"],
            format!(
                "/srv/a does not exist in {root}: install -Dm644 /dev/null {root}/srv/a/b, or give \
                 --overlay\n"
            ),
        ),
        (
            &["--overlay", "-v", "root/file:/srv/x", "-v", "volume:/srv"],
            format!(
                "/srv/x does not exist in {0}: install -Dm644 /dev/null {0}/x\n",
                dir.join("volume").display()
            ),
        ),
        (&["-v", "no:/srv"], "open no: No such file or directory".into()),
        (&["-v", "/dev/null:/file"], "/dev/null is a character device; a volume is a".into()),
        (&["-v", "fifo:/file"], "fifo is a FIFO; a volume is a directory or a regular file".into()),
        (
            &["--overlay", "-v", "volume:/srv", "-v", "volume:/srv/x"],
            format!("/srv/x does not exist in {0}: mkdir -p {0}/x\n", dir.join("volume").display()),
        ),
    ] {
        let found = errors(&dir, "root", words);
        assert!(found.contains(&format!(": {error}")), "{words:?}: {found}");
        assert_eq!(found.matches("--volume").count(), 1, "{found}");
    }
    for words in [
        &["-v", "volume:/srv"][..],
        &["-v", "volume:/run/x"],
        &["-v", "volume:/var/run/x"],
        &["-v", "volume:/srv", "-v", "volume:/srv/in"],
        &["--overlay", "-v", "volume:/src"],
        &["--append", "rootfs=other", "-v", "volume:/src"],
        &["-v", "link:/file:ro"],
        &["-v", "root/file:/run/x"],
        &["--overlay", "-v", "root/file:/srv/a/b"],
        &["-v", "root/file:/srv/file", "-v", "volume:/srv"],
    ] {
        let found = errors(&dir, "root", words);
        assert!(found.contains("kernel") && !found.contains("--volume"), "{words:?}: {found}");
    }
}

#[test]
fn images_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_root(&dir);
    for format in ["erofs", "ext4", "squashfs", "cpio"] {
        let image = format!("image.{format}");
        let mut build = Command::new(CHROOTVM);
        build.args(["image", "build", "root", "-o", &image]).current_dir(&dir);
        assert!(build.output().unwrap().status.success(), "{format}");
        let found = errors(&dir, &image, &["-v", "volume:/src"]);
        let path = dir.join(&image);
        let error = format!("/src does not exist in {}: give --overlay", path.display());
        // The guest unpacks an archive into its memory, and makes the directory there.
        assert_eq!(found.contains(&error), format != "cpio", "{format}: {found}");
        let found = errors(&dir, &image, &["-v", "volume:/srv"]);
        assert!(!found.contains("--volume"), "{format}: {found}");
    }
}
