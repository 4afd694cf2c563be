//! `image convert`: files of other tools become recipes that `image check` accepts.

use std::fs;
use std::os::unix::fs::symlink;

use crate::images::bench::Bench;

/// A static server of fledge's kind.
const FLEDGE: &str =
    "version = \"1\"\nstrategy = \"initramfs\"\n[mappings]\n\"./hello\" = \"/usr/bin/hello\"\n";

const MANIFEST: &str = "schema_version = \"v1\"\nname = \"hello\"\nversion = \"0.1.0\"\nruntime = \"hello\"\n\
                        [resources]\ncpu_cores = 1\nmemory_mb = 128\n\
                        [workload]\nentrypoint = \"/usr/bin/hello\"\n";

/// A server with a configuration.
const SERVER: &str = "version = \"1\"\nstrategy = \"initramfs\"\n[mappings]\n\
                      \"target/api\" = \"/usr/bin/api\"\n\"api.toml\" = \"/etc/api/config.toml\"\n\
                      \"static/\" = \"/srv/www/\"\n";

/// A worker that is a script.
const WORKER: &str = "version = \"1\"\nstrategy = \"initramfs\"\n[source]\n\
                      busybox_url = \"https://example.org/busybox\"\n\
                      busybox_sha256 = \"ab00000000000000000000000000000000000000000000000000000000000000\"\n\
                      [mappings]\n\"worker.sh\" = \"/usr/bin/worker\"\n";

/// A Debian of buildfs.
const BUILDFS: &str = "[filesystem]\ntype = \"Ext4\"\nsize_mib = 250\n[container]\nengine = \"Docker\"\n\
                       image = { name = \"debian\", tag = \"bookworm-slim\" }\n\
                       [[commands]]\nscript_path = \"setup.sh\"\n\
                       [[overlays]]\nsource_inline = \"nameserver 9.9.9.9\"\ndestination = \"/etc/resolv.conf\"\n\
                       [export.directories]\ninclude = [\"/bin\", \"/etc\", \"/usr\"]\ncreate = [\"/proc\"]\n";

/// The first Debian that buildfs' guide makes: everything is in the file.
const GUIDE: &str = r#"
[filesystem]
type = "Ext4"
size_mib = 250

[container]
engine = "Docker"
image = { name = "debian", tag = "bookworm-slim" }

[[commands]]
script_inline = """
apt update
apt install -y udev systemd-sysv iputils-ping curl
dropin=/etc/systemd/system/serial-getty@ttyS0.service.d
mkdir $dropin
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin root %%I\\n' > $dropin/login.conf
passwd -d root
"""

[[overlays]]
source_inline = "nameserver 9.9.9.9"
destination = "/etc/resolv.conf"

[export.directories]
include = ["/bin", "/etc", "/home", "/lib", "/lib64", "/root", "/sbin", "/usr"]
create = ["/var/lib/dpkg", "/dev", "/proc", "/sys", "/run", "/tmp", "/var/lib/systemd"]
"#;

#[test]
fn a_file_that_names_no_others_needs_none() {
    let bench = Bench::new();
    bench.write("x/build.toml", GUIDE);
    // It names no files, so it may be anywhere.
    let messages = bench.messages(&["convert", "x", "-o", "recipe.toml"]);
    assert!(messages.contains("container.engine (line 7)"), "{messages}");
    assert!(!messages.contains("the recipe names files"), "{messages}");
    let checked = bench.prints(&["check", "recipe.toml"]);
    assert!(checked.starts_with("recipe.toml: ") && checked.ends_with(" 1 outputs\n"), "{checked}");
    bench.messages(&["pack", "recipe.toml", "-o", "a.recipe.tar.gz"]);
    assert_eq!(
        bench.prints(&["check", "a.recipe.tar.gz"]),
        checked.replace("recipe.toml", "a.recipe.tar.gz")
    );
}

#[test]
fn converted_files_are_recipes() {
    for (name, text, manifest, files, warning) in [
        ("fledge.toml", FLEDGE, Some(MANIFEST), &["hello"][..], "runtime (line 4)"),
        (
            "fledge.toml",
            SERVER,
            Some(MANIFEST),
            &["target/api", "api.toml", "static/index"],
            "agent",
        ),
        ("fledge.toml", WORKER, None, &["worker.sh"], "agent"),
        (
            "build.toml",
            BUILDFS,
            None,
            &["setup.sh"],
            "container.engine (line 5): there is no engine",
        ),
    ] {
        let bench = Bench::new();
        bench.write(&format!("x/{name}"), text);
        if let Some(manifest) = manifest {
            bench.write("x/manifest.toml", manifest);
        }
        for file in files {
            bench.write(&format!("x/{file}"), "x");
        }
        let messages = bench.messages(&["convert", &format!("x/{name}"), "-o", "x/recipe.toml"]);
        assert!(messages.contains("warning: ") && messages.contains(warning), "{messages}");
        let written = fs::read_to_string(bench.path("x/recipe.toml")).unwrap();
        assert!(written.contains("# - ") && written.contains(warning), "{written}");
        assert_eq!(written.contains("\nname = \"hello\""), manifest.is_some(), "{written}");
        bench.prints(&["check", "x/recipe.toml"]);
        // The directory, and standard output.
        let printed = bench.run(&["convert", "x"]);
        assert!(printed.status.success(), "{printed:?}");
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), written);
        assert_eq!(String::from_utf8(printed.stderr).unwrap(), messages);
        for file in files {
            fs::remove_file(bench.path(&format!("x/{file}"))).unwrap();
        }
        bench.fails(&["check", "x/recipe.toml"]);
    }
}

#[test]
fn a_manifest_may_be_elsewhere() {
    let bench = Bench::new();
    bench.write("fledge.toml", FLEDGE);
    bench.write("other.toml", MANIFEST);
    let printed = bench.run(&["convert", "fledge.toml"]).stdout;
    assert!(!String::from_utf8(printed).unwrap().contains("name = \"hello\""));
    let printed = bench.run(&["convert", "fledge.toml", "--manifest", "other.toml"]).stdout;
    assert!(String::from_utf8(printed).unwrap().contains("name = \"hello\""));
}

#[test]
fn a_file_is_not_replaced_unasked() {
    let bench = Bench::new();
    bench.write("fledge.toml", FLEDGE);
    bench.messages(&["convert", "fledge.toml", "-o", "recipe.toml"]);
    bench.messages(&["convert", "fledge.toml", "-o", "recipe.toml"]);
    let text = fs::read_to_string(bench.path("recipe.toml")).unwrap();
    bench.write("recipe.toml", "mine");
    bench.write("dir/file", "");
    symlink("nowhere", bench.path("dangling")).unwrap();
    for name in ["recipe.toml", "dangling", "dir"] {
        let message = bench.fails(&["convert", "fledge.toml", "-o", name]);
        assert!(message.contains("--force"), "{message}");
    }
    assert_eq!(fs::read_to_string(bench.path("recipe.toml")).unwrap(), "mine");
    bench.messages(&["convert", "fledge.toml", "--force", "-o", "recipe.toml"]);
    assert_eq!(fs::read_to_string(bench.path("recipe.toml")).unwrap(), text);
    bench.messages(&["convert", "fledge.toml", "-o", "/dev/null"]);
    bench.fails(&["convert", "fledge.toml", "-o", "none/recipe.toml"]);
    // The recipe would not find its files there.
    let messages = bench.messages(&["convert", "fledge.toml", "-o", "dir/recipe.toml"]);
    assert!(messages.contains("dir/recipe.toml: the recipe names files"), "{messages}");
}

#[test]
fn other_files_are_refused() {
    let bench = Bench::new();
    bench.write("fledge.toml", FLEDGE);
    bench.write("build.toml", BUILDFS);
    bench.write("wrong/build.toml", "[filesystem]\nsize_mib = 1\n[container]\nimage = 1\n");
    bench.write("wrong/manifest.toml", "name = 1\n");
    bench.write("recipe.toml", "version = 1\n");
    bench.write("other.toml", "[package]\nname = \"x\"\n");
    bench.write("text.toml", "a\nb");
    bench.write("bytes.toml", [0xff; 10]);
    bench.write("large.toml", vec![b'#'; (1 << 20) + 1]);
    bench.write("none/x", "");
    for (arguments, status, expected) in [
        (
            &["other.toml"][..],
            2,
            "strategy, mappings, agent, nor buildfs' build.toml, which has one of container",
        ),
        (&["recipe.toml"], 125, "recipe.toml is a recipe already"),
        (&["text.toml"], 2, "text.toml:1:2: "),
        (&["wrong/build.toml"], 2, "wrong/build.toml:4:9: "),
        (&["fledge.toml", "--manifest", "wrong/manifest.toml"], 2, "wrong/manifest.toml:1:8: "),
        (&["build.toml", "--manifest", "recipe.toml"], 125, "--manifest is for fledge.toml only"),
        (&["bytes.toml"], 125, "not UTF-8"),
        (&["large.toml"], 125, "more than 1048576 bytes"),
        (&["missing.toml"], 125, "read missing.toml"),
        (&["none"], 125, "none has neither fledge.toml nor build.toml"),
        (&["."], 125, ". has both fledge.toml and build.toml"),
        (&["fledge.toml", "--force"], 125, "--output"),
    ] {
        let output = bench.run(&[&["convert"], arguments].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}
