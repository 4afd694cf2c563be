//! A kernel and modules that do not suffice: what a run and `--doctor` say about them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use machine::kernel::modules::file::sample;
use machine::kernel::vmlinux::samples::bzimage_of_version;

use crate::script;

/// Modules that guests use, as modules.builtin lists them.
const BUILT_IN: [&str; 5] = [
    "kernel/fs/fuse/virtiofs.ko",
    "kernel/drivers/virtio/virtio_pci.ko",
    "kernel/drivers/char/virtio_console.ko",
    "kernel/fs/overlayfs/overlay.ko",
    "kernel/drivers/net/virtio_net.ko",
];

/// Makes a kernel, a modules directory whose kernel has these modules built in, an empty root,
/// and a script that stands for QEMU, virtiofsd and `/init`.
fn make_kernel(dir: &Path, built_in: &[&str]) {
    fs::create_dir_all(dir.join("root")).unwrap();
    fs::create_dir_all(dir.join("6.1-a")).unwrap();
    fs::write(dir.join("kernel"), bzimage_of_version("6.1-a")).unwrap();
    fs::write(dir.join("6.1-a/modules.builtin"), built_in.join("\n")).unwrap();
    let program = dir.join("program");
    script::write(&program, script::VIRTIOFSD);
}

fn chrootvm(dir: &Path, words: &[&str]) -> Output {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    chrootvm.current_dir(dir).args(["--kernel", "kernel", "--modules", "6.1-a"]).args(words);
    chrootvm.output().unwrap()
}

#[test]
fn a_missing_module_has_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_kernel(&dir, &BUILT_IN[1..]);
    let program = "./program";
    let programs = ["--qemu", program, "--virtiofsd", program, "--init", program];
    let output =
        chrootvm(&dir, &[&programs[..], &["--pvh", "never", "root", "--", "true"]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    let here = dir.display();
    for part in [
        format!("modules directory {here}/6.1-a: unknown module \"virtiofs\": it is neither"),
        "install the rest of that kernel's modules".into(),
        "give another kernel with --kernel and --modules".into(),
        format!("chrootvm --doctor --kernel {here}/kernel --modules {here}/6.1-a {here}/root says"),
    ] {
        assert!(error.contains(&part), "{part} in {error}");
    }
}

#[test]
fn a_kernel_without_modules_is_noticed_before_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_kernel(&dir, &BUILT_IN);
    let program = "./program";
    let words = ["--qemu", program, "--virtiofsd", program, "--init", program, "--pvh", "never"];
    let here = dir.display();
    let warning = format!(
        "warning: {here}/root has no modules of kernel {here}/vmlinuz-6.1-a: give --modules DIR, \
         unless the kernel has its drivers built in\n"
    );
    fs::rename(dir.join("kernel"), dir.join("vmlinuz-6.1-a")).unwrap();
    for (name, config, expected) in [
        ("unknown", None, &*warning),
        ("a module", Some("CONFIG_VIRTIO_FS=m\n"), &warning),
        ("built in", Some("CONFIG_VIRTIO_FS=y\n"), ""),
    ] {
        if let Some(text) = config {
            fs::write(dir.join("config-6.1-a"), text).unwrap();
        }
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        chrootvm.current_dir(&dir).args(["--dry-run", "--kernel", "vmlinuz-6.1-a"]);
        let output = chrootvm.args(words).args(["root", "--", "true"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{name}");
        assert_eq!(output.status.code(), Some(0), "{name}");
    }
}

/// A workload in an archive needs the same modules as in any other root.
#[test]
fn volumes_of_an_archive_get_the_module_overlay() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_kernel(&dir, &BUILT_IN[..3]);
    let module = "kernel/fs/overlayfs/overlay.ko";
    fs::create_dir_all(dir.join("6.1-a/kernel/fs/overlayfs")).unwrap();
    fs::write(dir.join("6.1-a").join(module), sample("depends=")).unwrap();
    fs::write(dir.join("6.1-a/modules.dep"), format!("{module}:\n")).unwrap();
    for name in ["run", "dev", "proc", "sys", "tmp", "etc/virtinit"] {
        fs::create_dir_all(dir.join("root").join(name)).unwrap();
    }
    fs::write(dir.join("root/etc/hosts"), "").unwrap();
    let programs = ["--qemu", "./program", "--init", "./program", "--pvh", "never"];
    for (run, is_packed) in [("arg=a\0image-volume=/data\0", true), ("arg=a\0", false)] {
        fs::write(dir.join("root/etc/virtinit/run"), run).unwrap();
        let mut build = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        build.current_dir(&dir).args(["image", "build", "root", "-o", "root.cpio"]);
        assert!(build.output().unwrap().status.success());
        let output = chrootvm(&dir, &[&["--dry-run"], &programs[..], &["root.cpio"]].concat());
        let script = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(script.contains("--module=overlay"), is_packed, "{script}");
    }
}

#[test]
fn the_doctor_judges_the_given_kernel() {
    for (name, built_in, line) in [
        ("all", &BUILT_IN[..], "kernel: built in virtiofs, virtio_pci,"),
        ("no network", &BUILT_IN[..4], "kernel: lacks virtio_net (the network); built in"),
        ("no virtiofs", &BUILT_IN[1..], "kernel: cannot be booted: no virtiofs for the root"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        make_kernel(dir.path(), built_in);
        let output = chrootvm(dir.path(), &["--doctor", "root"]);
        let report = String::from_utf8(output.stdout).unwrap();
        let mut kernels =
            report.lines().filter(|line| line.split_whitespace().nth(1) == Some("kernel"));
        let first = kernels.next().unwrap_or_default();
        assert!(first.contains(line), "{name}: {report}");
        assert_eq!(first.starts_with("missing"), name == "no virtiofs", "{name}: {report}");
        let missing = report.lines().any(|line| line.starts_with("missing"));
        assert_eq!(output.status.code(), Some(i32::from(missing)), "{name}: {report}");
    }
    let dir = tempfile::tempdir().unwrap();
    make_kernel(dir.path(), &BUILT_IN);
    fs::remove_file(dir.path().join("kernel")).unwrap();
    let output = chrootvm(dir.path(), &["--doctor"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

/// A kernel tree is given as it is: its image, its modules and its configuration are found there.
#[test]
fn a_kernel_tree_brings_its_modules() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    make_kernel(&dir, &BUILT_IN);
    let tree = dir.join("linux");
    let here = dir.display();
    let program = "./program";
    let words = ["--qemu", program, "--virtiofsd", program, "--init", program, "--pvh", "never"];
    let run = |kernel: &str| {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        chrootvm.current_dir(&dir).args(["--dry-run", "--kernel", kernel]).args(words);
        chrootvm.args(["root", "--", "true"]).output().unwrap()
    };
    let write = |name: &str, contents: &[u8]| {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), contents).unwrap();
    };
    write("Makefile", b"");
    write(".config", b"CONFIG_X86=y\n");
    let error = String::from_utf8(run("linux").stderr).unwrap();
    let expected = format!("--kernel {here}/linux: the kernel was not built: there is neither ");
    assert!(error.contains(&expected), "{error}");
    write("arch/x86/boot/bzImage", &bzimage_of_version("6.1-a"));
    write("modules.builtin", BUILT_IN.join("\n").as_bytes());
    let output = run("linux");
    let script = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let image = format!(" -kernel {here}/linux/arch/x86/boot/bzImage ");
    assert!(script.contains(&image), "{script}");
    assert!(script.contains(&format!("--modules-dir {here}/linux ")), "{script}");
    // All missing options at once.
    let head = "# Automatically generated file; DO NOT EDIT.\nCONFIG_X86=y\nCONFIG_64BIT=y\n";
    write(".config", head.as_bytes());
    let output = run("linux");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    for part in [
        "CONFIG_BLK_DEV_INITRD (/init,",
        "CONFIG_VIRTIO_CONSOLE (the streams of a COMMAND)",
        "CONFIG_VIRTIO_FS (directories of the host); `chrootvm kernel config` prints",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = String::from_utf8(run("root").stderr).unwrap();
    assert!(error.contains(&format!("--kernel {here}/root: it is neither")), "{error}");
}
