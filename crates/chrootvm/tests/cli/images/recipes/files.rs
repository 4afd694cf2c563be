//! Files that steps put, link and remove, and the outputs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use oci::name::digest::Digest;

use super::{OTHER, build, fails, listing, succeeds};
use crate::images::bench::Bench;
use crate::images::layout::{self, Layout};
use crate::images::server::Server;

/// A package with a base `../base`, which has users.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("base/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n");
    bench.write("base/etc/group", "root:x:0:\nstaff:x:50:\n");
    for name in ["base/usr/bin/sh", "base/doc/a/copyright", "base/doc/a/news", "base/old"] {
        bench.write(name, "base\n");
    }
    symlink("usr/bin", bench.path("base/bin")).unwrap();
    bench
}

const OUTPUT: &str = "[[output]]\nfile = \"o.tar\"\n";

#[test]
fn steps_without_commands_change_the_tree() {
    let bench = bench();
    for (name, mode) in [
        ("tool", 0o700),
        ("dir/plain", 0o600),
        ("dir/sub/run", 0o755),
        ("x.cfg", 0o644),
        ("y.cfg", 0o640),
        (".z.cfg", 0o644),
    ] {
        let path = bench.write(name, name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let text = format!(
        "from.dir = \"base\"\n{OUTPUT}{}",
        r#"
[[step]]
put = "tool"
to = "/bin/"
[[step]]
put = "tool"
to = "/opt/renamed"
owner = "app:staff"
mode = "04711"
[[step]]
put = "dir"
to = "/srv/data"
owner = "7:8"
[[step]]
put = "*.cfg"
to = "/etc/conf"
[[step]]
text = "hello\n"
to = "/etc/motd"
mode = "0600"
[[step]]
link = "../usr/bin/sh"
to = "/lib/ld"
owner = "app"
[[step]]
mkdir = "/var/lib/app"
owner = "app:staff"
mode = "02750"
[[step]]
remove = ["/doc/**", "!/doc/*/copyright", "/old"]
"#
    );
    succeeds(build(&bench, &text, &[]));
    let found = listing(&bench, "o.tar");
    for expected in [
        "-rwxr-xr-x 0:0 usr/bin/tool",
        "-rws--x--x 1000:50 opt/renamed",
        "-rw-r--r-- 7:8 srv/data/plain",
        "-rwxr-xr-x 7:8 srv/data/sub/run",
        "-rw-r--r-- 0:0 etc/conf/x.cfg",
        "-rw-r--r-- 0:0 etc/conf/y.cfg",
        "-rw------- 0:0 etc/motd",
        "lrwxrwxrwx 1000:1001 lib/ld -> ../usr/bin/sh",
        "drwxr-s--- 1000:50 var/lib/app",
        "-rw-r--r-- 0:0 doc/a/copyright",
        "lrwxrwxrwx 0:0 bin -> usr/bin",
    ] {
        assert!(found.contains(&expected.to_owned()), "{expected}: {found:#?}");
    }
    for absent in ["doc/a/news", "old", "etc/conf/.z.cfg"] {
        assert!(!found.iter().any(|line| line.ends_with(&format!(" {absent}"))), "{absent}");
    }
    assert_eq!(bench.prints(&["cat", "o.tar", "/etc/motd"]), "hello\n");
}

#[test]
fn an_empty_base_gets_directories_and_busybox() {
    let bench = Bench::new();
    bench.write("busybox", "\0[\0sh\0ls\0true\0unknown\0");
    let text = format!("{OUTPUT}[busybox]\npath = \"busybox\"\n");
    succeeds(build(&bench, &text, &[]));
    let found = listing(&bench, "o.tar");
    for expected in [
        "drwxrwxrwt 0:0 tmp",
        "dr-xr-xr-x 0:0 proc",
        "drwx------ 0:0 root",
        "-rwxr-xr-x 0:0 bin/busybox",
        "lrwxrwxrwx 0:0 bin/sh -> busybox",
        "lrwxrwxrwx 0:0 bin/[ -> busybox",
    ] {
        assert!(found.contains(&expected.to_owned()), "{expected}: {found:#?}");
    }
    assert!(!found.iter().any(|line| line.contains("unknown") || line.contains("bin/wget")));
    succeeds(build(&bench, &format!("{text}to = \"/usr/bin/bb\"\napplets = [\"ls\"]\n"), &[]));
    let found = listing(&bench, "o.tar");
    let programs: Vec<_> = found.iter().filter(|line| line.contains("bin/")).collect();
    assert_eq!(programs, ["-rwxr-xr-x 0:0 usr/bin/bb", "lrwxrwxrwx 0:0 usr/bin/ls -> bb"]);
}

#[test]
fn downloads_have_the_bytes_of_their_digest() {
    let bench = bench();
    let dir = bench.path("img");
    let layout = Layout::new(&dir);
    let image = layout.image(&layout::arch(), serde_json::json!({}), &[]);
    layout.blob(b"the download", "application/octet-stream");
    layout.tag("one", image).finish();
    let digest = Digest::of(b"the download").to_string();
    let hex = digest.strip_prefix("sha256:").unwrap().to_owned();
    let server = Server::start(&dir, None);
    let url = format!("http://{}/v2/x/blobs/{digest}", server.address);
    let text = |sha256: &str| {
        format!(
            "from.dir = \"base\"\n{OUTPUT}[[step]]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\nto = \"/opt/got\"\n"
        )
    };
    let wrong = "0".repeat(64);
    let message = fails(build(&bench, &text(&wrong), &[]), OTHER);
    assert!(message.contains("recipe.toml:5:1") && message.contains(&wrong), "{message}");
    assert!(!bench.path("o.tar").exists() && !bench.path("recipe.lock").exists());
    succeeds(build(&bench, &text(&hex), &[]));
    assert_eq!(bench.prints(&["cat", "o.tar", "/opt/got"]), "the download");
    // It is kept, and named in the lock file.
    let requests = server.requests();
    fs::remove_file(bench.path("o.tar")).unwrap();
    succeeds(build(&bench, &text(&hex), &["--no-cache", "--locked"]));
    assert_eq!(server.requests(), requests);
    let lock = fs::read_to_string(bench.path("recipe.lock")).unwrap();
    assert!(lock.contains(&url) && lock.contains(&hex), "{lock}");
    drop(server);
    fs::remove_dir_all(bench.path("home")).unwrap();
    fs::create_dir(bench.path("home")).unwrap();
    let message = fails(build(&bench, &text(&hex), &["--no-cache"]), OTHER);
    assert!(message.contains(&url), "{message}");
}

#[test]
fn several_outputs_have_their_own_files() {
    let bench = bench();
    let text = "manifest = \"m.json\"\nname = \"app\"\nfrom.dir = \"base\"\n\
        [[output]]\nfile = \"all.tar\"\n[[output]]\nfile = \"part.cpio.zst\"\ninclude = [\"/etc\"]\n\
        exclude = [\"group\"]\n[[output]]\nfile = \"small.tar\"\nexclude = [\"/etc\", \"/doc\"]\n";
    succeeds(build(&bench, text, &[]));
    let names = |image: &str| -> Vec<String> {
        let lines = listing(&bench, image).into_iter();
        lines.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(names("part.cpio.zst"), [".", "etc", "etc/passwd"]);
    assert_eq!(names("small.tar"), [".", "bin", "old", "usr", "usr/bin", "usr/bin/sh"]);
    assert!(names("all.tar").contains(&"doc/a/news".to_owned()));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.path("m.json")).unwrap()).unwrap();
    let outputs = manifest["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 3);
    for output in outputs {
        let bytes = fs::read(bench.path(output["file"].as_str().unwrap())).unwrap();
        assert_eq!(output["size"], bytes.len());
        let digest = format!("sha256:{}", output["sha256"].as_str().unwrap());
        assert_eq!(digest, Digest::of(&bytes).to_string());
    }
    assert_eq!(manifest["name"], "app");
    // Into another directory, all of them with the manifest.
    fs::create_dir(bench.path("out")).unwrap();
    fs::remove_file(bench.path("m.json")).unwrap();
    succeeds(build(&bench, text, &["-o", "out"]));
    for name in ["all.tar", "part.cpio.zst", "small.tar", "m.json"] {
        assert!(bench.path("out").join(name).exists(), "{name}");
    }
    assert!(!bench.path("m.json").exists());
    let message = fails(build(&bench, text, &["-o", "one.tar"]), OTHER);
    assert!(message.contains("has 3 outputs: name a directory that exists"), "{message}");
}

#[test]
fn times_are_limited() {
    let bench = bench();
    let step = "[[step]]\ntext = \"x\"\nto = \"/x\"\n";
    let bytes = |text: &str, epoch: Option<&str>| {
        let mut command = build(&bench, text, &[]);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        succeeds(command);
        fs::read(bench.path("o.tar")).unwrap()
    };
    let usual = format!("from.dir = \"base\"\n{OUTPUT}{step}");
    let fixed = format!("build.time = 86400\n{usual}");
    let of_recipe = bytes(&fixed, None);
    assert!(of_recipe == bytes(&usual, Some("86400")), "SOURCE_DATE_EPOCH is the same");
    assert!(of_recipe == bytes(&fixed, Some("5")), "the recipe wins");
    assert!(of_recipe != bytes(&usual, Some("86401")));
    // Times of files of the package are none of the image.
    let put = format!("{fixed}[[step]]\nput = \"file\"\nto = \"/\"\n");
    let old = bench.write("file", "x");
    let before = bytes(&put, None);
    let file = fs::File::options().write(true).open(old).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(7)).unwrap();
    assert!(before == bytes(&format!("# other\n{put}"), None));
}
