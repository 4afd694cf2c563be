//! fledge.toml and manifest.toml → recipe.

use super::*;

/// The least that fledge takes.
pub(super) const LEAST: &str = "version = '1'\nstrategy = 'initramfs'\n";

/// The note about the agent of a file without `[agent]`.
pub(super) const NO_AGENT: Note = ("agent: fledge adds its newest agent here", "/init starts");

/// What a recipe of an initramfs begins with, and its busybox.
pub(super) const INITRAMFS: &str = r#"
version = 1
build.time = 1704067200
init.builtin = true
busybox.url = "https://busybox.net/downloads/binaries/1.35.0-x86_64-linux-musl/busybox"
busybox.sha256 = "6e123e7f3202a8c1e9b1f94d8941580a25135382b99e8d3e34fb858bba311348"
"#;

pub(super) fn converted(text: &str, manifest: Option<&str>) -> Converted {
    fledge(text, manifest).unwrap_or_else(|mistake| panic!("{mistake}\n{text}"))
}

#[test]
fn static_http_server() {
    let converted = converted(
        r#"
version = "1"
strategy = "initramfs"
[agent]
source_strategy = "release"
version = "latest"
[mappings]
"./build/hello" = "/usr/bin/hello"
"#,
        Some(
            r#"
schema_version = "v1"
name = "hello"
version = "0.1.0"
runtime = "hello"
[resources]
cpu_cores = 1
memory_mb = 128
[workload]
entrypoint = "/usr/bin/hello"
[network]
mode = "bridged"
[[network.expose]]
port = 8080
"#,
        ),
    );
    assert_is(
        &converted,
        &format!(
            r#"name = "hello"
manifest = "manifest.json"
{INITRAMFS}
[[step]]
put = "build/hello"
to = "/usr/bin/hello"
[run]
command = ["/usr/bin/hello"]
expose = ["8080/tcp"]
labels = {{ "org.opencontainers.image.version" = "0.1.0" }}
[machine]
cpus = 1
memory = "128M"
network = "user"
[[output]]
file = "hello.cpio.gz"
compress = "gzip:9"
"#
        ),
    );
    assert_notes(
        &converted,
        &[
            ("agent (line 4): no agent is put into the image: /init starts", ""),
            ("manifest.toml: runtime (line 5): ", "no kinds of plugins"),
            ("manifest.toml: network.mode (line 12): ", "no bridge"),
        ],
    );
}

#[test]
fn server_with_a_configuration() {
    let converted = converted(
        r#"
version = "1"
strategy = "initramfs"
[source]
busybox_url = "http://127.0.0.1:8000/busybox"
busybox_sha256 = "AB00000000000000000000000000000000000000000000000000000000000000"
[mappings]
"target/x86_64-unknown-linux-musl/release/api" = "/usr/bin/api"
"config.toml" = "/etc/api/config.toml"
"static/" = "/srv/www/"
"#,
        Some(
            r#"
schema_version = "v1"
name = "api"
version = "1.2.3"
[resources]
cpu_cores = 2
memory_mb = 256
[workload]
entrypoint = "/usr/bin/api"
args = ["--config", "/etc/api/config.toml"]
[env]
RUST_LOG = "info"
[network]
mode = "dhcp"
expose = [{ port = 8443, protocol = "tcp", host_port = 443 }, { port = 53, protocol = "udp", host_port = 5353 }, { port = 1, host_port = 0 }]
"#,
        ),
    );
    assert_is(
        &converted,
        r#"
version = 1
name = "api"
manifest = "manifest.json"
build.time = 1704067200
init.builtin = true
[busybox]
url = "http://127.0.0.1:8000/busybox"
sha256 = "ab00000000000000000000000000000000000000000000000000000000000000"
[[step]]
put = "target/x86_64-unknown-linux-musl/release/api"
to = "/usr/bin/api"
[[step]]
put = "config.toml"
to = "/etc/api/config.toml"
[[step]]
put = "static"
to = "/srv/www/"
[run]
command = ["/usr/bin/api"]
args = ["--config", "/etc/api/config.toml"]
env = { RUST_LOG = "info" }
expose = ["8443/tcp", "53/udp", "1/tcp"]
labels = { "org.opencontainers.image.version" = "1.2.3" }
[machine]
cpus = 2
memory = "256M"
network = "user"
publish = ["443:8443", "5353:53/udp"]
[[output]]
file = "api.cpio.gz"
compress = "gzip:9"
"#,
    );
    assert_notes(&converted, &[NO_AGENT, ("manifest.toml: network.mode (line 14): ", "no bridge")]);
}

#[test]
fn shell_worker() {
    let converted = converted(
        &format!("{LEAST}[mappings]\n'worker.sh' = '/usr/local/bin/worker.sh'\n"),
        Some(
            "name = 'My Worker'\n[workload]\nentrypoint = '/bin/sh'\nargs = \
             ['/usr/local/bin/worker.sh']\n[network]\nmode = 'vsock'\n",
        ),
    );
    assert_is(
        &converted,
        &format!(
            "name = 'my-worker'\nmanifest = 'manifest.json'\n{INITRAMFS}
[[step]]\nput = 'worker.sh'\nto = '/usr/local/bin/worker.sh'
[run]\ncommand = ['/bin/sh']\nargs = ['/usr/local/bin/worker.sh']
[machine]\nnetwork = 'none'
[[output]]\nfile = 'my-worker.cpio.gz'\ncompress = 'gzip:9'\n"
        ),
    );
    assert_notes(
        &converted,
        &[
            NO_AGENT,
            ("manifest.toml: name (line 1): ", "\"my-worker\""),
            ("manifest.toml: network.mode (line 6): ", "ports"),
        ],
    );
}

/// Every key of fledge.toml for a disk, and some that fledge does not have.
const EVERY_KEY: &str = r#"
version = "1"
strategy = "oci_rootfs"
extra = 1
[agent]
source_strategy = "http"
version = "v2"
path = "kestrel"
url = "https://a.example/kestrel"
checksum = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
mirror = "x"
[init]
path = "/sbin/x"
none = false
[source]
dockerfile = "docker/app.Dockerfile"
context = "a b"
target = "final"
build_args = { VERSION = "1.2", NOTE = "it's" }
busybox_url = "https://a.example/busybox"
busybox_sha256 = "x"
[filesystem]
type = "squashfs"
compression_level = 19
overlay_size = "50%"
size_buffer_mb = 10
preallocate = true
[mappings]
"/opt/vendor/tool" = "/usr/bin/tool"
"../shared/" = "/srv/shared"
"#;

/// Every key of manifest.toml.
const EVERY_KEY_OF_THE_MANIFEST: &str = r#"
schema_version = "v1"
name = "app"
version = ""
runtime = "app"
[resources]
cpu_cores = 4
memory_mb = 1024
disk = 1
[workload]
entrypoint = ["/usr/bin/tool", "serve"]
args = []
user = "x"
[env]
"A" = "1"
"B.C" = "2"
[network]
mode = "bridged"
dns = "x"
[[network.expose]]
port = 80
protocol = "tcp"
host_port = 8080
name = "web"
[actions.reload]
path = "/reload"
method = "POST"
[cloud_init]
datasource = "nocloud"
[devices]
pci_passthrough = ["0000:01:00.0"]
usb = []
"#;

#[test]
fn every_key_is_translated_or_named() {
    let converted = converted(EVERY_KEY, Some(EVERY_KEY_OF_THE_MANIFEST));
    assert_is(
        &converted,
        r#"
version = 1
name = "app"
manifest = "manifest.json"
[from]
oci-archive = "base.oci.tar"
[[step]]
url = "https://a.example/kestrel"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
to = "/bin/kestrel"
mode = "0755"
[[step]]
put = "opt/vendor/tool"
to = "/usr/bin/tool"
[[step]]
put = "shared"
to = "/srv/shared"
[run]
command = ["/usr/bin/tool", "serve"]
env = { A = "1" }
expose = ["80/tcp"]
[machine]
cpus = 4
memory = "1G"
network = "user"
publish = ["8080:80"]
[[output]]
file = "app.squashfs"
format = "squashfs"
compress = "zstd:19"
"#,
    );
    assert_notes(
        &converted,
        &[
            ("extra (line 4): unknown key", ""),
            ("agent (line 5): the agent is in the image, but nothing starts it", ""),
            ("agent.version (line 7): ", "means nothing"),
            ("agent.path (line 8): ", "means nothing"),
            ("agent.mirror (line 11): unknown key", ""),
            ("init.path (line 13): ", "initramfs only"),
            (
                "source.dockerfile (line 16): a recipe reads no Dockerfile; make base.oci.tar: ",
                "docker buildx build -o type=oci,dest=base.oci.tar -f docker/app.Dockerfile \
                 --target final --build-arg VERSION=1.2 --build-arg 'NOTE=it'\\''s' 'a b'",
            ),
            ("source.busybox_url (line 20): ", "[busybox]"),
            ("source.busybox_sha256 (line 21): ", "[busybox]"),
            ("filesystem.overlay_size (line 25): ", "virtinit.overlay"),
            ("filesystem.size_buffer_mb (line 26): ", "contents"),
            ("filesystem.preallocate (line 27): ", "contents"),
            ("mappings.\"/opt/vendor/tool\" (line 29): ", "copy it there, to opt/vendor/tool"),
            ("mappings.\"../shared/\" (line 30): ", "copy it there, to shared"),
            ("manifest.toml: runtime (line 5): ", ""),
            ("manifest.toml: resources.disk (line 9): unknown key", ""),
            ("manifest.toml: workload.user (line 13): unknown key", ""),
            ("manifest.toml: env.\"B.C\" (line 16): left out", ""),
            ("manifest.toml: network.mode (line 18): ", ""),
            ("manifest.toml: network.dns (line 19): unknown key", ""),
            ("manifest.toml: network.expose[0].name (line 24): unknown key", ""),
            ("manifest.toml: actions (line 25): ", "HTTP"),
            ("manifest.toml: cloud_init (line 28): ", "nothing reads it"),
            ("manifest.toml: devices.pci_passthrough (line 31): ", "--qemu-arg"),
            ("manifest.toml: devices.usb (line 32): unknown key", ""),
        ],
    );
}
