//! `scripts/setup` in empty roots of other distributions: a busybox, and package managers that only
//! write down what they are asked for. `scripts/fetch-kernel` in one of Debian.
//!
//! Each case has a root of its own, into which chroot(8) goes in a user namespace, so that nothing of
//! this host is found there. The tree lies at a path with a space.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use virtinitrd_vm_tests::{has, skip};

/// Package managers, and what each of them is asked to do for the stage `build`.
#[rustfmt::skip]
const MANAGERS: &[(&str, &str)] = &[
    ("apt-get", "apt-get update -qq\n\
                 apt-get install -qq --no-install-recommends gcc libc6-dev musl-tools\n"),
    ("dnf",     "dnf install -y gcc musl-gcc\n"),
    ("pacman",  "pacman -Syu --needed --noconfirm gcc musl\n"),
    ("apk",     "apk add build-base musl-dev\n"),
];

/// A program that writes down its name and arguments.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/asked\n";
/// A sudo that writes itself down, and runs the command.
const SUDO: &str = "#!/bin/sh\necho \"sudo ${1##*/}\" >>/asked\nexec \"$@\"\n";

/// Path of the script that unpacks packages of another architecture.
const FETCH_PACKAGES: &str = "a tree/scripts/fetch-packages";

/// User ids in the root.
const ROOT_USER: u32 = 0;
const ORDINARY_USER: u32 = 1000;

/// An empty root.
struct Root(tempfile::TempDir);

impl Root {
    /// A root with a busybox, a cargo, and `manager`; `None` if that cannot run here.
    fn new(manager: &str) -> Option<Self> {
        if !has("busybox") {
            return None;
        }
        let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap();
        let busybox = String::from_utf8(busybox.stdout).unwrap();
        let root = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::create_dir_all(root.path().join("a tree/scripts")).unwrap();
        fs::copy(busybox.trim(), root.path().join("bin/busybox")).unwrap();
        for applet in
            ["sh", "awk", "paste", "grep", "id", "env", "cat", "uname", "dirname", "mkdir", "ln"]
        {
            symlink("busybox", root.path().join("bin").join(applet)).unwrap();
        }
        // A file does: what is written there is read by nobody.
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/null"), "").unwrap();
        for script in ["setup", "fetch-kernel"] {
            let script = Path::new("scripts").join(script);
            let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&script);
            fs::copy(original, root.path().join("a tree").join(script)).unwrap();
        }
        root.program("cargo", "#!/bin/sh\n");
        root.program("rustc", "#!/bin/sh\necho /usr/lib/no-such-target\n");
        root.program("apt-cache", "#!/bin/sh\n");
        root.program(manager, RECORDER);
        let output = root.shell(ROOT_USER, "exit 7");
        if output.status.code() != Some(7) {
            skip(&format!("no user namespace: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        Some(root)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Installs a program.
    fn program(&self, name: &str, text: &str) {
        self.script(Path::new("bin").join(name), text);
    }

    /// Writes the script `path` of the root.
    fn script(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.path().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script in the root.
    fn shell(&self, user: u32, script: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", &format!("--map-user={user}"), "--root"]).arg(self.path());
        command.args(["--wd", "/", "/bin/sh", "-c", script]).env_clear();
        command.env("PATH", "/usr/bin:/bin").output().unwrap()
    }

    /// Runs `scripts/setup` as root. Returns whether it succeeded, and standard error.
    fn setup(&self, arguments: &str) -> (bool, String) {
        self.setup_as(ROOT_USER, arguments)
    }

    /// Runs `scripts/setup` as a user.
    fn setup_as(&self, user: u32, arguments: &str) -> (bool, String) {
        let output = self.shell(user, &format!("cd '/a tree' && exec scripts/setup {arguments}"));
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    /// What the package manager was asked for since the last time.
    fn asked(&self) -> String {
        let path = self.path().join("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path); // nothing was asked
        text
    }
}

#[test]
fn each_distribution_gets_its_packages() {
    for (manager, expected) in MANAGERS {
        let Some(root) = Root::new(manager) else { return };
        let (succeeded, told) = root.setup("build");
        assert!(succeeded, "{manager}: {told}");
        assert_eq!(root.asked(), *expected, "{manager}");
    }
}

/// What Debian 12 lacks for an architecture is unpacked beside what it has; `--check` unpacks nothing.
#[test]
fn another_architecture_gets_its_tools_and_libraries() {
    let Some(root) = Root::new("apt-get") else { return };
    root.script(FETCH_PACKAGES, RECORDER);
    for (arch, debian, tools) in [
        ("riscv64", "riscv64", "qemu-system-misc opensbi gcc-riscv64-linux-gnu"),
        ("ppc64le", "ppc64el", "qemu-system-ppc gcc-powerpc64le-linux-gnu"),
        ("s390x", "s390x", "qemu-system-misc gcc-s390x-linux-gnu"),
    ] {
        let (succeeded, told) = root.setup(&format!("--check {arch}"));
        assert!(!succeeded && root.asked().is_empty(), "{told}");
        let (succeeded, told) = root.setup(arch);
        assert!(succeeded, "{arch}: {told}");
        let expected = format!(
            "apt-get update -qq\n\
             apt-get install -qq --no-install-recommends {tools} rustc-web\n\
             fetch-packages trixie scripts/../target/cross/{arch} {debian} libstd-rust-web-dev musl-dev\n"
        );
        assert_eq!(root.asked(), expected);
    }
}

/// A kernel that the mirror lacks comes from the release before. Another error ends the search.
#[test]
fn a_kernel_comes_from_the_first_release_that_has_it() {
    let lacks = |suite| format!("fetch-kernel: there is no kernel for s390x in Debian's {suite}\n");
    let Some(root) = Root::new("apt-get") else { return };
    for (dir, trixie, bookworm, status, suites, told) in [
        ("newest", 0, 0, 0, &["trixie"][..], String::new()),
        ("older", 100, 0, 0, &["trixie", "bookworm"], lacks("trixie")),
        ("none", 100, 100, 1, &["trixie", "bookworm"], lacks("trixie") + &lacks("bookworm")),
        ("no-mirror", 1, 0, 1, &["trixie"], String::new()),
    ] {
        root.script(
            FETCH_PACKAGES,
            &format!(
                "{RECORDER}\
                 case $1 in trixie) status={trixie} ;; *) status={bookworm} ;; esac\n\
                 [ $status != 0 ] || mkdir -p \"$2/usr/lib/modules\"\n\
                 exit $status\n"
            ),
        );
        let script = format!("cd '/a tree' && exec scripts/fetch-kernel /{dir} s390x");
        let output = root.shell(ROOT_USER, &script);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), told, "{dir}");
        assert_eq!(output.status.code(), Some(status), "{dir}");
        let modules = root.path().join(dir).join("lib/modules");
        assert_eq!(modules.is_dir(), status == 0, "{dir}");
        let asked = |suite: &&str| {
            format!("fetch-packages {suite} /{dir} s390x linux-image-s390x busybox-static\n")
        };
        assert_eq!(root.asked(), suites.iter().map(asked).collect::<String>(), "{dir}");
    }
}

#[test]
fn check_names_all_and_installs_nothing() {
    let Some(root) = Root::new("pacman") else { return };
    let (succeeded, told) = root.setup("--check build");
    assert!(!succeeded);
    assert_eq!(
        told,
        "setup: packages are missing: gcc musl\n\
         setup: install them, or run `scripts/setup build`, which installs them\n"
    );
    assert_eq!(root.asked(), "");
}

#[test]
fn the_second_run_asks_for_nothing() {
    let Some(root) = Root::new("dnf") else { return };
    for tool in ["cc", "musl-gcc"] {
        root.program(tool, RECORDER);
    }
    for arguments in ["build", "--check build"] {
        assert_eq!(root.setup(arguments), (true, String::new()));
    }
    assert_eq!(root.asked(), "");
}

#[test]
fn a_user_asks_through_sudo() {
    let Some(root) = Root::new("apt-get") else { return };
    root.program("sudo", SUDO);
    let (succeeded, told) = root.setup_as(ORDINARY_USER, "build");
    assert!(succeeded, "{told}");
    let asked = root.asked();
    let lines: Vec<_> = asked.lines().collect();
    assert_eq!(
        lines,
        [
            "sudo apt-get",
            "apt-get update -qq",
            "sudo env",
            "apt-get install -qq --no-install-recommends gcc libc6-dev musl-tools",
        ]
    );
}

#[test]
fn without_cargo_or_a_manager_it_says_what_to_do() {
    let Some(root) = Root::new("dnf") else { return };
    fs::remove_file(root.path().join("bin/dnf")).unwrap();
    let (succeeded, told) = root.setup("build");
    assert!(!succeeded && told.contains("install the above by hand"), "{told}");
    fs::remove_file(root.path().join("bin/cargo")).unwrap();
    let (succeeded, told) = root.setup("build");
    assert!(!succeeded && told.contains("install a Rust toolchain"), "{told}");
}
