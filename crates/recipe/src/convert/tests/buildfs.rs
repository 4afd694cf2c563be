//! build.toml → recipe.

use super::*;

/// The least that buildfs takes.
const LEAST: &str = "[filesystem]\nsize_mib = 8\n[container]\nimage = { name = 'a', tag = 'b' }\n";

fn converted(text: &str) -> Converted {
    buildfs(text).unwrap_or_else(|mistake| panic!("{mistake}\n{text}"))
}

/// A Debian with systemd, as the guide of buildfs makes it.
const DEBIAN: &str = r#"
[filesystem]
type = "Ext4"
size_mib = 250

[container]
engine = "Docker"
rootful = true
wait_timeout_s = 1
image = { name = "docker.io/library/debian", tag = "bookworm-slim" }

[[commands]]
script_inline = """
#!/bin/bash
apt update
apt install -y udev systemd-sysv iputils-ping curl
rm -f /etc/systemd/system/timers.target.wants/*
dropin=/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir $dropin
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root %%I\\n' > $dropin/login.conf
passwd -d root
rm -rf /usr/share/{doc,man}
echo kernel.unprivileged_bpf_disabled=1 >> /etc/sysctl.conf
"""

[[overlays]]
source_inline = """
nameserver 9.9.9.9
nameserver 1.1.1.1
"""
destination = "/etc/resolv.conf"

[export.directories]
include = ["/bin", "/etc", "/home", "/lib", "/lib64", "/root", "/sbin", "/usr"]
create = ["/var/lib/dpkg", "/dev", "/proc", "/sys", "/run", "/tmp", "/var/lib/systemd"]
"#;

#[test]
fn debian_with_systemd() {
    let converted = converted(DEBIAN);
    assert_is(
        &converted,
        r#"
version = 1
[from]
oci = "docker.io/library/debian:bookworm-slim"
[build]
network = "user"
[[step]]
argv = ["/bin/bash", "-c", """
#!/bin/bash
apt update
apt install -y udev systemd-sysv iputils-ping curl
rm -f /etc/systemd/system/timers.target.wants/*
dropin=/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir $dropin
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root %%I\\n' > $dropin/login.conf
passwd -d root
rm -rf /usr/share/{doc,man}
echo kernel.unprivileged_bpf_disabled=1 >> /etc/sysctl.conf
"""]
[[step]]
remove = ["/var/lib/dpkg/**", "/dev/**", "/proc/**", "/sys/**", "/run/**", "/tmp/**", "/var/lib/systemd/**"]
[[step]]
mkdir = "/var/lib/dpkg"
[[step]]
mkdir = "/dev"
[[step]]
mkdir = "/proc"
[[step]]
mkdir = "/sys"
[[step]]
mkdir = "/run"
[[step]]
mkdir = "/tmp"
mode = "1777"
[[step]]
mkdir = "/var/lib/systemd"
[[step]]
text = "nameserver 9.9.9.9\nnameserver 1.1.1.1\n"
to = "/etc/resolv.conf"
[[output]]
file = "root.ext4"
format = "ext4"
size = "250M"
include = ["/bin", "/etc", "/home", "/lib", "/lib64", "/root", "/sbin", "/usr", "/var/lib/dpkg", "/dev", "/proc", "/sys", "/run", "/tmp", "/var/lib/systemd"]
"#,
    );
    assert_notes(
        &converted,
        &[
            ("container.engine (line 7): there is no engine", ""),
            ("container.rootful (line 8): ", "root in a machine of their own"),
            ("container.wait_timeout_s (line 9): ", "no container"),
            ("commands (line 12): ", "status"),
        ],
    );
    assert!(converted.to_text().contains("\n# - container.engine (line 7): there is no engine"));
}

/// Every key of buildfs 0.3.4, and some that it does not have.
const EVERY_KEY: &str = r##"
[filesystem]
type = "Xfs"
size_mib = 1024
block_size_mib = 4
dd_args = ["status=none"]
mkfs_args = ["-m", "crc=0"]
dd_block_size_mib = 2

[container]
engine = "Podman"
rootful = false
wait_timeout_s = 1
connection_uri = "unix:///run/podman.sock"
volumes = { "/srv/src" = "/src:ro,z", "/srv/out" = "/out:rw" }
env = { LANG = "C", "a-b" = "x" }
hostname = "maker"
oci_runtime = "crun"
timeout = 90
cap_add = ["SYS_ADMIN"]
cap_drop = []
[container.image]
name = "alpine"
tag = "3.20"
digest = "?"

[[commands]]
command = "apk add  curl"
uid = 1000
gid = 100
working_dir = "/srv/"
privileged = true
env = { A = "1" }

[[commands]]
script_path = "/scripts/setup.sh"
uid = 7

[[commands]]
script_inline = "#!/bin/sh\nfalse\necho done\n"
gid = 8
privileged = false
shell = "x"

[[overlays]]
source = "/files/app.conf"
destination = "/etc/app.conf"

[[overlays]]
source = "/files/www"
destination = "/srv/"
is_directory = true

[[overlays]]
source_inline = "deb x y z\n"
destination = "etc/apt/sources.list"
mounted = true

[export.directories]
include = ["/usr", "/var/lib/apk"]
create = ["/var", "/usr/empty", "/root"]
exclude = []
[export.files]
include = ["/etc/passwd", "/usr/bin/true"]
create = ["/etc/fstab", "/usr/made"]
[other]
"##;

#[test]
fn every_key_is_translated_or_named() {
    let converted = converted(EVERY_KEY);
    assert_is(
        &converted,
        r#"
version = 1
[from]
oci = "alpine:3.20"
[build]
network = "user"
timeout = "90s"
hostname = "maker"
env = { LANG = "C" }
volumes = { "/src" = { path = "/srv/src", writable = false }, "/out" = { path = "/srv/out", writable = true } }
[[step]]
text = "deb x y z\n"
to = "/etc/apt/sources.list"
mount = true
[[step]]
argv = ["apk", "add", "curl"]
user = "1000:100"
workdir = "/srv"
env = { A = "1" }
[[step]]
script = "scripts/setup.sh"
user = "7"
[[step]]
run = "set +eu\nfalse\necho done\n"
user = "0:8"
[[step]]
remove = ["/var/**", "!/var/lib/apk", "!/var/lib/apk/**", "/root/**"]
[[step]]
mkdir = "/var"
[[step]]
mkdir = "/usr/empty"
[[step]]
mkdir = "/root"
mode = "0700"
[[step]]
text = ""
to = "/etc/fstab"
[[step]]
text = ""
to = "/usr/made"
[[step]]
put = "files/app.conf"
to = "/etc/app.conf"
[[step]]
put = "files/www"
to = "/srv/www"
[[output]]
file = "root.xfs"
format = "xfs"
size = "1G"
mkfs-args = ["-m", "crc=0"]
include = ["/usr", "/var/lib/apk", "/etc/passwd", "/var", "/root", "/etc/fstab", "/etc/app.conf", "/srv/www"]
"#,
    );
    assert_notes(
        &converted,
        &[
            ("filesystem.block_size_mib (line 5): ", "dd"),
            ("filesystem.dd_args (line 6): ", "dd"),
            ("filesystem.dd_block_size_mib (line 8): unknown key", ""),
            ("container.engine (line 11): there is no engine", ""),
            ("container.rootful (line 12): ", ""),
            ("container.wait_timeout_s (line 13): ", ""),
            ("container.connection_uri (line 14): ", "no engine"),
            ("container.volumes.\"/srv/src\" (line 15): read-only", "writable = true"),
            ("container.env.a-b (line 16): left out", ""),
            ("container.oci_runtime (line 18): ", "no runtime"),
            ("container.timeout (line 19): ", "each step"),
            ("container.cap_add (line 20): ", "all capabilities"),
            ("container.cap_drop (line 21): ", "`user`"),
            ("container.image.digest (line 25): unknown key", ""),
            ("commands (line 27): ", "status"),
            ("commands[0].privileged (line 32): ", "all privileges"),
            ("commands[2].gid (line 41): ", "without uid"),
            ("commands[2].shell (line 43): unknown key", ""),
            ("overlays[1].destination (line 51): ", "/srv/www"),
            ("overlays[2].mounted (line 57): ", "repeat the step"),
            ("export.directories.exclude (line 62): unknown key", ""),
            ("other (line 66): unknown key", ""),
        ],
    );
}

#[test]
fn file_systems() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[Note])] = &[
        ("",                    "file = 'root.ext4'\nformat = 'ext4'\nsize = '8M'",   &[]),
        ("type = 'Btrfs'",      "file = 'root.btrfs'\nformat = 'btrfs'\nsize = '8M'", &[]),
        ("type = 'Vfat'",       "file = 'root.vfat'\nformat = 'vfat'\nsize = '8M'",   &[]),
        ("type = 'Squashfs'",   "file = 'root.squashfs'\nformat = 'squashfs'",        &[("filesystem.size_mib (line 2): ", "contents")]),
        ("mkfs_args = ['-L', 'x']", "file = 'root.ext4'\nformat = 'ext4'\nsize = '8M'", &[("filesystem.mkfs_args (line 3): mkfs is not used for ext4", "label")]),
        ("mkfs_args = []",      "file = 'root.ext4'\nformat = 'ext4'\nsize = '8M'",   &[]),
    ];
    for (lines, output, notes) in cases {
        let text = LEAST.replace("[container]", &format!("{lines}\n[container]"));
        let converted = converted(&text);
        assert_is(
            &converted,
            &format!(
                "version = 1\nfrom.oci = 'a:b'\nbuild.network = 'user'\n[[output]]\n{output}\n"
            ),
        );
        let mut expected = vec![("export: ", "everything")];
        expected.extend(*notes);
        assert_notes(&converted, &expected);
    }
}

#[test]
fn scripts_keep_their_interpreter() {
    let long = format!("#!/bin/bash\n{}", "echo\n".repeat(20_000));
    let long_without = "echo\n".repeat(20_000);
    let file = |text: &str| {
        format!(
            "[[step]]\ntext = '''\n{text}'''\nto = '/run/buildfs/line-5'\nmode = '0755'\nmount = \
             true\n[[step]]\nargv = ['/run/buildfs/line-5']"
        )
    };
    let argv = |words: &[&str]| format!("[[step]]\nargv = {words:?}");
    #[rustfmt::skip]
    let cases: &[(&str, String)] = &[
        ("echo a\n",                          "[[step]]\nrun = \"echo a\\n\"".into()),
        ("#!/bin/sh\nexit 3",                 "[[step]]\nrun = \"set +eu\\nexit 3\"".into()),
        ("#!/bin/sh",                         "[[step]]\nrun = \"set +eu\\n\"".into()),
        ("#! /bin/sh -ex\nls",                argv(&["/bin/sh", "-ex", "-c", "#! /bin/sh -ex\nls"])),
        ("#!/usr/bin/env bash\nls",           argv(&["/usr/bin/env", "bash", "-c", "#!/usr/bin/env bash\nls"])),
        ("#!/usr/bin/env -S bash -e\nls",     argv(&["/usr/bin/env", "-S bash -e", "-c", "#!/usr/bin/env -S bash -e\nls"])),
        ("#!/usr/bin/python3\nprint(1)",      argv(&["/usr/bin/python3", "-c", "#!/usr/bin/python3\nprint(1)"])),
        ("#!/usr/bin/perl -w\nprint 1;",      argv(&["/usr/bin/perl", "-w", "-e", "#!/usr/bin/perl -w\nprint 1;"])),
        ("#!/usr/bin/lua\nprint(1)\n",        file("#!/usr/bin/lua\nprint(1)\n")),
        ("#!\nx\n",                           file("#!\nx\n")),
        (&long,                               file(&long)),
        (&long_without,                       file(&format!("#!/bin/sh -eu\n{long_without}"))),
    ];
    for (script, steps) in cases {
        let text = format!("{LEAST}[[commands]]\nscript_inline = '''\n{script}'''");
        let expected = format!(
            "version = 1\nfrom.oci = 'a:b'\nbuild.network = 'user'\n{steps}\n[[output]]\nfile = \
             'root.ext4'\nformat = 'ext4'\nsize = '8M'\n"
        );
        assert_is(&converted(&text), &expected);
    }
}

#[test]
fn files_outside_of_the_package_are_named() {
    let text = format!(
        "{LEAST}[[commands]]\nscript_path = '/../bin/a'\n[[overlays]]\nsource = '/x/../../y/.'\n\
         destination = '/y'\n[[overlays]]\nsource = '/a[1]'\ndestination = '/.'\nis_directory = \
         true"
    );
    let converted = converted(&text);
    let note = |part: &str| converted.notes.iter().any(|note| note.contains(part));
    assert!(note("commands[0].script_path (line 6): /../bin/a is outside"), "{converted:#?}");
    assert!(note("copy it there, to y"), "{converted:#?}");
    assert!(note("overlays[1].source (line 11): a recipe reads * ? ["), "{converted:#?}");
    let text = converted.to_text();
    assert!(text.contains("\"/a[1]\"") || text.contains("'/a[1]'"), "{text}");
}
