//! Configuration files of chrootvm from outside: which settings apply, and what is refused.
//!
//! `--dry-run` shows the result; a script with the options of virtiofsd stands for QEMU,
//! virtiofsd and `/init`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use machine::kernel::vmlinux::samples::vmlinux;

use crate::script;

/// A project's directory with a root, a kernel and a volume, and the user's home directory
/// beside it.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        let program = project.path("program");
        script::write(&program, script::VIRTIOFSD);
        for dir in ["project/debian", "project/below", "project/src", "home/data", "modules"] {
            fs::create_dir_all(project.path(dir)).unwrap();
        }
        fs::write(project.path("project/vmlinux"), vmlinux(Some(0x100_0010))).unwrap();
        // A kernel with drivers built in needs no modules.
        fs::write(project.path("project/config"), "CONFIG_VIRTIO_FS=y\n").unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// Writes a file that only the user can write to.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Runs chrootvm in `directory`, without the variable that switches configuration off
    /// for all tests.
    fn chrootvm(&self, directory: &str, arguments: &[&str]) -> Output {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        chrootvm.env_remove("CHROOTVM_NO_CONFIG").env_remove("XDG_CONFIG_HOME");
        chrootvm.env_remove("SUDO_UID").env("HOME", self.path("home"));
        chrootvm.current_dir(self.path(directory)).args(arguments).output().unwrap()
    }

    /// Runs `chrootvm --dry-run ARGUMENTS ROOTFS -- true` in `directory`.
    fn dry_run(&self, directory: &str, arguments: &[&str]) -> Output {
        let program = self.path("program");
        let program = program.to_str().unwrap();
        let rootfs = self.path("project/debian");
        let given = [
            "--dry-run",
            "--pvh=never",
            "--qemu",
            program,
            "--virtiofsd",
            program,
            "--init",
            program,
        ];
        let end = [rootfs.to_str().unwrap(), "--", "true"];
        self.chrootvm(directory, &[&given[..], arguments, &end].concat())
    }

    /// The script of [`Self::dry_run`], with `DIR` for the temporary directory.
    fn script(&self, arguments: &[&str]) -> String {
        let output = self.dry_run("project/below", arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        self.shortened(&output.stdout)
    }

    /// The message with which a run fails.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.dry_run("project/below", arguments);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        self.shortened(&output.stderr)
    }

    fn shortened(&self, text: &[u8]) -> String {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.replace(self.path("").to_str().unwrap(), "DIR/")
    }
}

const PROJECT_FILE: &str = "project/.chrootvm.toml";
const USER_FILE: &str = "home/.config/virtinitrd/config.toml";

#[test]
fn a_run_takes_options_from_the_files() {
    let project = Project::new();
    project.write(
        PROJECT_FILE,
        "kernel = './vmlinux'\nvolumes = ['./src:/tmp/src']\n[root.'./debian']\ncpus = 3\n[root.'/']\ncpus = 4\n",
    );
    project.write(
        USER_FILE,
        "memory = '777M'\ncpus = 2\nvolumes = ['~/data:/tmp/data:ro']\nmodules = '/nowhere'\n",
    );
    let script = project.script(&[]);
    let expected = "\
# config: memory = 777M, from DIR/home/.config/virtinitrd/config.toml
# config: volumes = DIR/home/data:/tmp/data:ro, from DIR/home/.config/virtinitrd/config.toml
# config: kernel = DIR/project/vmlinux, from DIR/project/.chrootvm.toml
# config: volumes = DIR/project/src:/tmp/src, from DIR/project/.chrootvm.toml
# config: cpus = 3, from DIR/project/.chrootvm.toml
";
    assert!(script.starts_with(expected), "{script}");
    for part in [" -m 777M ", " -smp 3 ", " -kernel DIR/project/vmlinux "] {
        assert!(script.contains(part), "{part} in {script}");
    }
    for volume in ["'volume=ro volume0 /tmp/data'", "'volume=rw volume1 /tmp/src'"] {
        assert!(script.contains(volume), "{volume} in {script}");
    }
}

#[test]
fn options_win_over_the_files() {
    let project = Project::new();
    project.write(
        PROJECT_FILE,
        "kernel = 'vmlinux'\nmodules = '/nowhere'\noverlay = true\nmemory = '777M'\nnet = 'none'\n",
    );
    let kernel = project.path("project/vmlinux");
    let kernel = ["--kernel", kernel.to_str().unwrap()];
    for (name, arguments, absent) in [
        ("another kernel", &[][..], "config: modules"),
        ("memory", &["-m", "512"], "777M"),
        ("--rw", &["--rw"], "overlay"),
        ("--publish", &["-p", "8080:80"], "config: net"),
        ("--no-config", &["--no-config"], "config:"),
    ] {
        let script = project.script(&[&kernel, arguments].concat());
        assert!(!script.contains(absent), "{name}: {script}");
    }
}

#[test]
fn mistakes_are_refused_at_their_place() {
    let project = Project::new();
    for (text, expected) in [
        ("memry = '4G'", ":1:1: unknown key memry: did you mean memory?"),
        ("cpus = 1\nmemory = 4", ":2:10: memory has the wrong type (integer): give a string"),
        ("memory = 'much'", ":1:10: invalid value 'much' for '--memory <SIZE>': "),
        ("\nnet = 'x'", ":2:7: invalid value 'x' for '--net <NET>' [possible values: none, user]"),
        ("kernel = './absent'", ":1:10: kernel DIR/project/absent: No such file"),
        ("volumes = ['absent:/tmp/x']", ":1:11: volumes DIR/project/absent: No such file"),
        ("volumes = ['src']", ":1:11: volumes DIR/project/src: give HOST:GUEST"),
        ("[root.debian]\n[root.'../project/debian']", ":2:7: another section is for the same root"),
        ("cpus = ", ":1:8: "),
    ] {
        project.write(PROJECT_FILE, text);
        let error = project.error(&[]);
        let start = format!("error: DIR/{PROJECT_FILE}{expected}");
        assert!(error.starts_with(&start), "{text}: {error}");
    }
    let large = "#".repeat((64 << 10) + 1);
    for (name, text, part) in [
        ("large", large.as_bytes(), "it is larger than 64 KiB"),
        ("no UTF-8", b"\xff", "invalid utf-8"),
    ] {
        project.write(PROJECT_FILE, text);
        let error = project.error(&[]);
        assert!(error.contains(PROJECT_FILE) && error.contains(part), "{name}: {error}");
    }
}

/// A planted file must not share the user's directories with a guest.
#[test]
fn files_that_others_could_write_are_ignored() {
    let project = Project::new();
    project.write(PROJECT_FILE, "kernel = './vmlinux'\nmemory = '777M'\n");
    fs::set_permissions(project.path(PROJECT_FILE), fs::Permissions::from_mode(0o666)).unwrap();
    let kernel = project.path("project/vmlinux");
    let output = project.dry_run("project", &["--kernel", kernel.to_str().unwrap()]);
    let warning = project.shortened(&output.stderr);
    let expected =
        format!("warning: the configuration DIR/{PROJECT_FILE} is ignored: others can write to it");
    assert!(output.status.success() && warning.starts_with(&expected), "{warning}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("777M"), "{output:?}");
}

/// A project may come from somebody else, and its root, too. So its file cannot share other
/// directories of the user with a guest, not even by a link.
#[test]
fn a_project_shares_its_own_directory_only() {
    let project = Project::new();
    std::os::unix::fs::symlink(project.path("home"), project.path("project/link")).unwrap();
    let volume = |path: &str| format!("kernel = 'vmlinux'\nvolumes = ['{path}:/tmp/x']\n");
    for path in ["~/data", "../home/data", "./link/data", "/"] {
        project.write(PROJECT_FILE, volume(path));
        let error = project.error(&[]);
        let start = format!("error: DIR/{PROJECT_FILE}:2:11: volumes ");
        let part = ": the file of a project may share only what is below its directory";
        assert!(error.starts_with(&start) && error.contains(part), "{path}: {error}");
    }
    for path in ["./src", "below/../src", "."] {
        project.write(PROJECT_FILE, volume(path));
        assert!(project.script(&[]).contains("/tmp/x'"), "{path}");
    }
}

/// `chrootvm run` reads the files, too, and INIT stays INIT.
#[test]
fn words_after_rootfs_keep_their_meaning() {
    let project = Project::new();
    project.write(PROJECT_FILE, "kernel = 'vmlinux'\ncpus = 3\n");
    let program = project.path("program");
    let program = program.to_str().unwrap();
    let options = ["--dry-run", "--qemu", program, "--virtiofsd", program, "--init", program];
    for (name, first, words, expected) in [
        ("run", &["run"][..], &["../debian", "true"][..], "arg=true"),
        ("two words", &[], &["../debian", "uname", "-r"], "arg=-r"),
        ("INIT", &[], &["../debian", "/bin/sh"], "init=/bin/sh"),
    ] {
        let output = project.chrootvm("project/below", &[first, &options, words].concat());
        let script = project.shortened(&output.stdout);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(script.contains(" -smp 3 ") && script.contains(expected), "{name}: {script}");
    }
}

/// Neither a named pipe nor a directory makes chrootvm wait.
#[test]
fn only_files_are_read() {
    let project = Project::new();
    let path = project.path(PROJECT_FILE);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(project.error(&[]).contains("it is not a file"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(project.error(&[]).contains("it is not a file"));
}

#[test]
fn the_nearest_project_decides() {
    let project = Project::new();
    project.write(PROJECT_FILE, "memory = '777M'\nkernel = 'vmlinux'\n");
    project.write("project/below/.chrootvm.toml", "cpus = 3\nkernel = '../vmlinux'\n");
    let script = project.script(&[]);
    assert!(script.contains(" -smp 3 ") && !script.contains("777M"), "{script}");
}

#[test]
fn the_report_says_where_settings_come_from() {
    let project = Project::new();
    project.write(PROJECT_FILE, "memory = '777M'\n");
    let output = project.chrootvm("project", &["--doctor"]);
    let report = project.shortened(&output.stdout);
    let expected = format!("config     memory = 777M, from DIR/{PROJECT_FILE}");
    assert!(report.lines().next().unwrap().ends_with(&expected), "{report}");
    let output = project.chrootvm("project", &["--doctor", "--no-config"]);
    assert!(!project.shortened(&output.stdout).contains("777M"), "{output:?}");
}

/// The examples of the documents have no mistakes.
#[test]
fn documented_examples_are_read() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = fs::read_to_string(document).unwrap();
    let examples: Vec<_> = document.split("```toml\n").skip(1).collect();
    assert_eq!(examples.len(), 2, "the examples are those of a project and of a user");
    for (example, file) in examples.into_iter().zip([PROJECT_FILE, USER_FILE]) {
        let example = example.split("```").next().unwrap();
        let project = Project::new();
        for dir in ["home/modules", "home/notes", "project/modules", "project/www"] {
            fs::create_dir_all(project.path(dir)).unwrap();
        }
        project.write("project/vmlinuz", vmlinux(Some(0x100_0010)));
        project.write(file, example);
        let output = project.dry_run("project", &["--kernel-builtin"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains(".toml"), "{example}: {error}");
    }
}
