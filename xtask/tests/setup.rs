//! `scripts/setup` and `scripts/fetch-kernel` in the stand-ins for distributions of
//! `cargo xtask distributions`.

use std::fs;
use std::path::Path;

use virtinitrd_vm_tests::skip;
use xtask::distributions::stand_in::{RECORDER, ROOT_USER, Root};

/// Package managers, and what each of them is asked to do for the stage `build`.
#[rustfmt::skip]
const MANAGERS: &[(&str, &str)] = &[
    ("apt-get", "apt-get update -qq\n\
                 apt-get install -qq --no-install-recommends gcc libc6-dev musl-tools\n"),
    ("dnf",     "dnf install -y gcc musl-gcc\n"),
    ("pacman",  "pacman -Syu --needed --noconfirm gcc musl\n"),
    ("apk",     "apk add build-base musl-dev\n"),
];

/// A sudo that writes itself down, and runs the command.
const SUDO: &str = "#!/bin/sh\necho \"sudo ${1##*/}\" >>/asked\nexec \"$@\"\n";

/// Path of the script that unpacks packages of another architecture.
const FETCH_PACKAGES: &str = "a tree/scripts/fetch-packages";

/// User id of an ordinary user in the root.
const ORDINARY_USER: u32 = 1000;

/// A root with the package manager `manager`; `None` if that cannot run here.
fn root_with(manager: &str) -> Option<Root> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Root::new(&tree, manager).map_err(|error| skip(&format!("{error:#}"))).ok()
}

#[test]
fn each_distribution_gets_its_packages() {
    for (manager, expected) in MANAGERS {
        let Some(root) = root_with(manager) else { return };
        let (succeeded, told) = root.setup(ROOT_USER, "build").unwrap();
        assert!(succeeded, "{manager}: {told}");
        assert_eq!(root.asked(), *expected, "{manager}");
    }
}

/// QEMU's virtiofsd needs newuidmap to run without root. The root has a busybox.
#[test]
fn an_ordinary_user_can_run_the_demo() {
    let Some(root) = root_with("apt-get") else { return };
    let (succeeded, told) = root.setup(ROOT_USER, "demo").unwrap();
    assert!(succeeded, "{told}");
    assert_eq!(
        root.asked().lines().last(),
        Some(
            "apt-get install -qq --no-install-recommends gcc libc6-dev musl-tools \
             qemu-system-x86 virtiofsd uidmap"
        )
    );
}

/// What Debian 12 lacks for an architecture is unpacked beside what it has; `--check` unpacks nothing.
#[test]
fn another_architecture_gets_its_tools_and_libraries() {
    let Some(root) = root_with("apt-get") else { return };
    root.program(FETCH_PACKAGES, RECORDER).unwrap();
    for (arch, tools) in [
        ("riscv64", "qemu-system-riscv64 opensbi gcc-riscv64-linux-gnu"),
        ("ppc64le", "qemu-system-ppc gcc-powerpc64le-linux-gnu"),
        ("s390x", "qemu-system-s390x gcc-s390x-linux-gnu"),
    ] {
        let (succeeded, told) = root.setup(ROOT_USER, &format!("--check {arch}")).unwrap();
        assert!(!succeeded && root.asked().is_empty(), "{told}");
        let (succeeded, told) = root.setup(ROOT_USER, arch).unwrap();
        assert!(succeeded, "{arch}: {told}");
        let expected = format!(
            "apt-get update -qq\n\
             apt-get install -qq --no-install-recommends {tools} rustc-web\n\
             fetch-packages trixie scripts/../target/cross/{arch} {arch} libstd-rust-web-dev musl-dev\n"
        );
        assert_eq!(root.asked(), expected);
    }
}

/// A kernel that the mirror lacks comes from the release before. Another error ends the search.
#[test]
fn a_kernel_comes_from_the_first_release_that_has_it() {
    let lacks = |suite| format!("fetch-kernel: there is no kernel for s390x in Debian's {suite}\n");
    let Some(root) = root_with("apt-get") else { return };
    for (dir, trixie, bookworm, status, suites, told) in [
        ("newest", 0, 0, 0, &["trixie"][..], String::new()),
        ("older", 100, 0, 0, &["trixie", "bookworm"], lacks("trixie")),
        ("none", 100, 100, 1, &["trixie", "bookworm"], lacks("trixie") + &lacks("bookworm")),
        ("no-mirror", 1, 0, 1, &["trixie"], String::new()),
    ] {
        let fetch = format!(
            "{RECORDER}\
             case $1 in trixie) status={trixie} ;; *) status={bookworm} ;; esac\n\
             [ $status != 0 ] || mkdir -p \"$2/usr/lib/modules\"\n\
             exit $status\n"
        );
        root.program(FETCH_PACKAGES, &fetch).unwrap();
        let script = format!("cd '/a tree' && exec scripts/fetch-kernel /{dir} s390x");
        let output = root.shell(ROOT_USER, &script).unwrap();
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

/// Since Debian 14, image and modules of a kernel are packages of their own, and in one directory.
#[test]
fn all_packages_of_a_kernel_are_fetched() {
    let Some(root) = root_with("apt-get") else { return };
    let dpkg = "#!/bin/sh\n[ \"$1\" = -x ] || { echo amd64; exit; }\n\
                mkdir -p $3/usr/lib/modules/7.2\necho image >$3/usr/lib/modules/7.2/vmlinuz\n";
    root.program("bin/dpkg", dpkg).unwrap();
    let image = "linux-image-7.2.13+deb14-cloud-amd64";
    let modules = "linux-modules-7.2.13+deb14-cloud-amd64";
    for (of_meta, of_image, expected) in [
        (vec![image], vec!["kmod", "linux-base"], image.to_owned()),
        (
            vec!["linux-base-cloud-amd64", image],
            vec!["kmod", "linux-modules-7.2.14+deb14-cloud-amd64", modules],
            format!("{image} {modules}"),
        ),
    ] {
        let lines = |names: Vec<&str>| format!("  Depends: {}\\n", names.join("\\n  Depends: "));
        let apt_cache = format!(
            "#!/bin/sh\ncase $2 in\nlinux-image-cloud-amd64) printf '{}' ;;\n{image}) printf '{}' ;;\nesac\n",
            lines(of_meta),
            lines(of_image)
        );
        root.program("bin/apt-cache", &apt_cache).unwrap();
        let script = "set -e\n'/a tree/scripts/fetch-kernel' /kernel\ncd /kernel\n\
                      cat boot/vmlinuz-7.2 lib/modules/7.2/vmlinuz\nrm -r /kernel\n";
        let output = root.shell(ROOT_USER, script).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "image\nimage\n", "{told}");
        let asked = root.asked();
        let expected = format!("apt-get download -qq -o APT::Sandbox::User=root {expected}\n");
        assert_eq!(asked, expected);
    }
}

#[test]
fn check_names_all_and_installs_nothing() {
    let Some(root) = root_with("pacman") else { return };
    let (succeeded, told) = root.setup(ROOT_USER, "--check build").unwrap();
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
    let Some(root) = root_with("dnf") else { return };
    for tool in ["cc", "musl-gcc"] {
        root.program(&format!("bin/{tool}"), RECORDER).unwrap();
    }
    for arguments in ["build", "--check build"] {
        assert_eq!(root.setup(ROOT_USER, arguments).unwrap(), (true, String::new()));
    }
    assert_eq!(root.asked(), "");
}

#[test]
fn a_user_asks_through_sudo() {
    let Some(root) = root_with("apt-get") else { return };
    root.program("bin/sudo", SUDO).unwrap();
    let (succeeded, told) = root.setup(ORDINARY_USER, "build").unwrap();
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
    let Some(root) = root_with("dnf") else { return };
    fs::remove_file(root.path().join("bin/dnf")).unwrap();
    let (succeeded, told) = root.setup(ROOT_USER, "build").unwrap();
    assert!(!succeeded && told.contains("install the above by hand"), "{told}");
    fs::remove_file(root.path().join("bin/cargo")).unwrap();
    let (succeeded, told) = root.setup(ROOT_USER, "build").unwrap();
    assert!(!succeeded && told.contains("install a Rust toolchain"), "{told}");
}
