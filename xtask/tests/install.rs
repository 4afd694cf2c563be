//! `make install` into directories whose names have spaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use virtinitrd_vm_tests::has;

/// Files of a build that `make install` takes.
const BUILT: &[&str] = &[
    "target/guest/init",
    "target/guest/step",
    "target/guest-riscv64/init",
    "target/release/chrootvm",
    "target/release/mkvirtinitrd",
    "target/completions/bash/chrootvm",
    "target/completions/zsh/_chrootvm",
    "target/completions/fish/chrootvm.fish",
];

/// Files below DESTDIR that each come from another rule of the Makefile.
const INSTALLED: &[&str] = &[
    "opt/c d/lib/osbuild/initrd/initrd",
    "opt/c d/lib/osbuild/initrd/initrd.riscv64",
    "opt/c d/lib/virtinitrd/step",
    "opt/c d/bin/chrootvm",
    "opt/c d/bin/mkvirtinitrd",
    "opt/c d/share/man/man1/chrootvm.1",
    "opt/c d/share/man/man5/recipe.toml.5",
    "opt/c d/share/man/man7/virtinitrd.7",
    "opt/c d/share/bash-completion/completions/chrootvm",
    "opt/c d/share/zsh/site-functions/_chrootvm",
    "opt/c d/share/fish/vendor_completions.d/chrootvm.fish",
];

#[test]
fn directories_may_have_spaces_in_their_names() {
    if !has("make") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in ["Makefile", "man"] {
        symlink(workspace.join(name), dir.path().join(name)).unwrap();
    }
    for name in BUILT {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let destination = dir.path().join("a b");
    let mut make = Command::new("timeout");
    make.args(["60", "make", "install", "PREFIX=/opt/c d"]).current_dir(dir.path());
    make.arg(format!("DESTDIR={}", destination.display())).env_remove("MAKEFLAGS");
    let output = make.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in INSTALLED {
        assert!(destination.join(name).is_file(), "{name}");
    }
    // A word of a name with a space would be a directory of its own.
    let names = fs::read_dir(&destination).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["opt"]);
}
