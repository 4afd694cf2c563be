//! Images of every format of layers, written in every format of images; TLS and passwords; two
//! users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use virtinitrd_vm_tests::tool;
use xtask::registry::RegistrySettings;

use super::site::{Site, Tree};
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case, new_directory};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("all_formats_are_one_image",        all_formats_are_one_image),
    ("two_users_get_equal_bytes",        two_users_get_equal_bytes),
    ("tls_and_passwords",                tls_and_passwords),
];

/// Formats of the layers and of the manifest: the tag, and skopeo's options.
#[rustfmt::skip]
const PUSHED: &[(&str, &[&str])] = &[
    ("gzip",    &["--format=oci"]),
    ("zstd",    &["--format=oci", "--dest-compress-format=zstd"]),
    ("chunked", &["--format=oci", "--dest-compress-format=zstd:chunked"]),
    ("docker",  &["--format=v2s2"]),
];

/// Names of the images that are written. newc cannot hold extended attributes.
const WRITTEN: &[&str] = &["x.erofs", "x.ext4", "x.squashfs", "x.tar", "x.cpio.zst"];
const NEWC: &str = "x.cpio.zst";

/// Value of `security.capability` for CAP_NET_RAW (`struct vfs_cap_data`, revision 2). Most of its
/// bytes are 0.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CAPABILITY_NAME: &str = "security.capability";

/// Mode, owner, group and path of each file of the image of [`lower`] and [`upper`].
#[rustfmt::skip]
const LISTING: &[&str] = &[
    "-rwxr-xr-x 0 0 bin/ping",
    "-rwsr-xr-x 0 0 bin/su",
    "crw-rw-rw- 0 0 dev/null",
    "drwxr-xr-x 0 0 etc",
    "-rw-r----- 0 42 etc/shadow",
    "drwx------ 1000 1000 home/app",
    "-rw------- 1000 1000 home/app/key",
    "drwx------ 5 5 root",
    "-rw-r--r-- 0 0 root/new",
    "drwxrwxrwt 0 0 tmp",
    "-rw-r--r-- 3000000000 3000000000 usr/large-id",
    "lrwxrwxrwx 0 0 usr/link",
    "drwxr-x--- 101 101 var/cache/www",
];

/// The lower layer: owners, modes, a device, an extended attribute and two names of a file.
fn lower(site: &Site) -> Result<Tree> {
    let tree = site.tree("lower")?;
    let ping = tree.file("bin/ping", 0o755, 0, "ping")?;
    setxattr(&ping, CAPABILITY_NAME, &CAPABILITY, XattrFlags::empty()).context("setxattr")?;
    tree.file("bin/su", 0o4755, 0, "su")?;
    let shadow = tree.file("etc/shadow", 0o640, 0, "")?;
    chown(&shadow, Some(0), Some(42))?;
    tree.file("etc/old", 0o644, 0, "old")?;
    tree.directory("home/app", 0o700, 1000)?;
    tree.file("home/app/key", 0o600, 1000, "key")?;
    tree.directory("root", 0o700, 5)?;
    tree.directory("tmp", 0o1777, 0)?;
    tree.directory("var/cache/www", 0o750, 101)?;
    tree.file("usr/large-id", 0o644, 3_000_000_000, "x")?;
    fs::hard_link(tree.join("usr/large-id"), tree.join("usr/other-name"))?;
    symlink("/etc/shadow", tree.join("usr/link"))?;
    tree.directory("dev", 0o755, 0)?;
    let null = tree.join("dev/null");
    mknod(&null, SFlag::S_IFCHR, Mode::empty(), makedev(1, 3)).context("mknod")?;
    fs::set_permissions(&null, fs::Permissions::from_mode(0o666))?;
    Ok(tree)
}

/// The upper layer deletes a file and adds one. It has the attributes of the directory again.
fn upper(site: &Site) -> Result<Tree> {
    let tree = site.tree("upper")?;
    tree.file("etc/.wh.old", 0o644, 0, "")?;
    tree.directory("root", 0o700, 5)?;
    tree.file("root/new", 0o644, 0, "new")?;
    Ok(tree)
}

/// The name of the image, for skopeo.
fn image(site: &Site) -> Result<String> {
    let (lower, upper) = (lower(site)?, upper(site)?);
    site.image("image", &[&lower, &upper], &["--config.cmd=/bin/su"])
}

/// Mode, owner, group and path of each line of `image ls`.
fn attributes(listing: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        // A device has two numbers instead of a size, and a link has a target.
        let path = words.iter().skip(5).find(|word| word.parse::<u32>().is_err());
        Some([*words.first()?, words.get(2)?, words.get(3)?, path?].join(" "))
    };
    listing.lines().filter_map(line).collect()
}

/// All formats of layers are the same image, and so are all formats in which it is written.
fn all_formats_are_one_image(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let image = image(&site)?;
    let mut expected = None;
    for (number, (tag, options)) in (0..).zip(PUSHED) {
        let source = site.push(&image, &format!("test:{tag}"), options)?;
        let reader = site.reader(number)?;
        let listing = reader.prints(&["ls", &source])?;
        let found = attributes(&listing);
        let missing = LISTING.iter().find(|line| !found.contains(&(**line).to_owned()));
        ensure!(missing.is_none(), "{tag}: {missing:?} is missing in {listing}");
        ensure!(!listing.contains("etc/old") && !listing.contains(".wh."), "{tag}: {listing}");
        reader.prints(&["build", &source, "-o", "x.erofs"])?;
        let bytes = fs::read(reader.path("x.erofs"))?;
        let (first, first_bytes) = expected.get_or_insert_with(|| (listing.clone(), bytes.clone()));
        ensure!(listing == *first, "{tag}: {listing} instead of {first}");
        ensure!(bytes == *first_bytes, "{tag}: the bytes differ");
    }
    let (listing, _) = expected.context("no formats")?;
    let (reader, source) = (site.reader(0)?, site.word("test:gzip"));
    for written in WRITTEN {
        reader.prints(&["build", &source, "-o", written])?;
        let found = reader.prints(&["ls", written])?;
        ensure!(found == listing, "{written}: {found} instead of {listing}");
        if *written != NEWC {
            let differences = reader.prints(&["diff", &source, written])?;
            ensure!(differences.is_empty(), "{written}: {differences}");
        }
    }
    // The attribute and the names as tar(1) sees them.
    let tree = site.tree("out")?;
    let mut tar = tool("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "-xf"]).arg(reader.path("x.tar"));
    stdout_of(tar.arg("-C").arg(tree.join("")))?;
    let mut value = [0; 64];
    let length = getxattr(tree.join("bin/ping"), CAPABILITY_NAME, &mut value[..])?;
    ensure!(value[..length] == CAPABILITY, "{:?}", &value[..length]);
    let names = ["usr/large-id", "usr/other-name"].map(|name| fs::metadata(tree.join(name)));
    let [first, second] = names;
    ensure!(first?.ino() == second?.ino(), "the two names are two files");
    Ok(())
}

/// Neither the user, nor the home directory, nor TMPDIR, nor what is in the cache already changes
/// a byte.
fn two_users_get_equal_bytes(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let source = site.push(&image(&site)?, "test:1", &[])?;
    let (first, second) = (site.reader(0)?, site.reader(1)?);
    second.prints(&["ls", &source])?;
    for name in WRITTEN {
        first.prints(&["build", &source, "-o", name])?;
        let mut other = second.image(&["build", &source, "-o", name]);
        stdout_of(other.env("TZ", "Asia/Tokyo").env("LC_ALL", "C"))?;
        let [one, two] = [&first, &second].map(|reader| fs::read(reader.path(name)));
        ensure!(one? == two?, "{name}: the bytes differ");
    }
    Ok(())
}

/// `user:pass` for htpasswd(1), by bcrypt.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n";
/// What openssl(1) makes: an authority, and a certificate for 127.0.0.1.
const CERTIFICATES: &str = "set -e
    new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30'
    $new -subj /CN=authority -keyout ca.key -out ca.crt -addext keyUsage=critical,keyCertSign
    $new -subj /CN=server -keyout server.key -out server.crt -CA ca.crt -CAkey ca.key \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE
    chmod a+r ca.crt";

fn tls_and_passwords(bed: &Bed) -> Result<()> {
    needs(&["openssl"])?;
    let directory = new_directory()?;
    let path = |name: &str| directory.path().join(name);
    stdout_of(Command::new("sh").args(["-c", CERTIFICATES]).current_dir(directory.path()))?;
    fs::write(path("users"), HTPASSWD)?;
    let (certificate, key, users) = (path("server.crt"), path("server.key"), path("users"));
    let settings = RegistrySettings { tls: Some((&certificate, &key)), htpasswd: Some(&users) };
    let ca = path("ca.crt").display().to_string();
    let site = Site::in_directory(bed, directory, &settings)?;
    let tree = site.tree("tree")?;
    tree.file("file", 0o644, 7, "x")?;
    let image = site.image("image", &[&tree], &[])?;
    let source = site.push(&image, "test:1", &["--dest-creds=user:pass"])?;
    let reader = site.reader(0)?;
    let build = ["build", &source, "-o", "x.tar"];
    let fails = |options: &[&str], expected: &str| {
        let message = reader.fails(&[&build[..], options].concat(), "x.tar")?;
        ensure!(message.contains(expected), "{options:?}: {message}");
        Ok(())
    };
    fails(&[], "--ca")?;
    fails(&["--ca", &ca], "--creds")?;
    fails(&["--ca", &ca, "--creds", "user:wrong"], "401")?;
    reader.prints(&["ls", &source, "--ca", &ca, "--creds", "user:pass"])?;

    // As podman login writes it.
    let login = reader.path(".config/containers/auth.json");
    fs::create_dir_all(login.parent().context("a directory")?)?;
    let host = source.strip_prefix("oci:").and_then(|name| name.split_once('/'));
    let (host, _) = host.context("a name with a host")?;
    fs::write(&login, format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpwYXNz"}}}}}}"#))?;
    // What is kept needs no registry.
    fs::remove_dir_all(reader.cache())?;
    fails(&[], "--ca")?;
    reader.prints(&[&build[..], &["--ca", &ca]].concat())?;
    let listing = reader.prints(&["ls", "x.tar"])?;
    ensure!(attributes(&listing).contains(&"-rw-r--r-- 7 7 file".to_owned()), "{listing}");
    Ok(())
}
