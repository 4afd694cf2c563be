//! Steps with mounts, run by the real program in namespaces of this host, without a machine. This
//! needs root, and the rights to mount; without them, the tests say so and do nothing.

mod isolation;
mod site;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use virtinitrd_step::report::Outcome;
use virtinitrd_step::request::{
    Access, Bind, BindAccess, Cache, Request, Secret, Tmpfs, mount_point,
};

use site::{Site, bind};

/// A bind of `/dev/vdd`.
fn of_disk(access: BindAccess, source: &str, path: &str) -> Bind {
    bind(access, &format!("{}/{source}", mount_point("/dev/vdd")), path)
}

fn cache(number: u32, path: &str) -> Cache {
    let (access, path) = (Access::ReadWrite, path.into());
    Cache { device: None, number, access, mode: 0o755, uid: 0, gid: 0, path }
}

fn tmpfs(path: &str) -> Tmpfs {
    Tmpfs { size: None, path: path.into() }
}

fn secret(path: &str, text: &str) -> Secret {
    Secret { path: path.into(), mode: 0o400, uid: 0, gid: 0, bytes: text.into() }
}

#[test]
fn no_mount_point_stays_in_the_layer() {
    let Some(mut site) = Site::new() else { return };
    symlink("/srv/deep", site.path("vdc/link")).unwrap();
    let script = "
        test $(cat /root/.npmrc) = one; test $(cat /srv/deep/a/key) = two
        test $(cat /run/secrets/three) = three; test $(stat -c %a:%u:%g /root/.npmrc) = 400:0:0
        test $(cat /opt/file) = disk; test $(cat /opt/dir/sub/file) = disk
        test -d /var/cache/x; test $(stat -c %a /tmp/t) = 1777
        for path in /root/.npmrc /opt/file /opt/dir/x; do
            (echo x > $path) 2>/dev/null && exit 9
        done
        echo left > /root/left";
    site.step(
        script,
        Request {
            binds: vec![
                of_disk(BindAccess::ReadOnly, "file", "/opt/file"),
                of_disk(BindAccess::ReadOnly, "dir", "/opt/dir"),
            ],
            caches: vec![cache(0, "/var/cache/x")],
            tmpfs: vec![tmpfs("/tmp/t")],
            secrets: vec![
                secret("/root/.npmrc", "one"),
                secret("/link/a/key", "two"),
                secret("/run/secrets/three", "three"),
            ],
            ..Request::default()
        },
    );
    site.step("test ! -e /opt; test ! -e /var; test ! -e /srv; test ! -e /tmp", Request::default());
    let left = site.run();
    left.is("1/upper", &["directory 755 0:0 root", "regular file 644 0:0 root/left"]);
    left.is("2", &["directory 755 0:0 upper"]);
}

#[test]
fn mounts_in_mounts_are_seen() {
    let Some(mut site) = Site::new() else { return };
    let script = "
        test $(cat /c/deep/key) = one; test $(cat /t/key) = two; test $(cat /t/c/file) = disk
        test $(cat /r/new/key) = three; test $(cat /r/sub/file) = disk
        (echo x > /r/x) 2>/dev/null && exit 9
        test $(cat /w/key) = four; echo x > /w/x
        echo c > /c/c; echo t > /t/t";
    site.step(
        script,
        Request {
            // Deeper paths first: the order of the request does not count.
            binds: vec![
                of_disk(BindAccess::ReadOnly, "file", "/t/c/file"),
                of_disk(BindAccess::ReadOnly, "dir", "/r"),
                of_disk(BindAccess::Scratch, "dir", "/w"),
            ],
            caches: vec![cache(0, "/c"), cache(1, "/t/c")],
            tmpfs: vec![tmpfs("/t")],
            secrets: vec![
                secret("/c/deep/key", "one"),
                secret("/t/key", "two"),
                secret("/r/new/key", "three"),
                secret("/w/key", "four"),
            ],
            ..Request::default()
        },
    );
    let again = "test $(cat /c/c) = c; test ! -e /c/deep; test -z \"$(ls -A /d)\"";
    let caches = vec![cache(0, "/c"), cache(1, "/d")];
    site.step(again, Request { caches, ..Request::default() });
    let left = site.run();
    left.is("1/upper", &[]);
    left.is("2/upper", &[]);
    left.is(
        "caches",
        &[
            "directory 755 0:0 0",
            "directory 755 0:0 0/upper",
            "directory 755 0:0 1",
            "directory 755 0:0 1/upper",
            "regular file 644 0:0 0/upper/c",
        ],
    );
}

#[test]
fn scratch_binds_are_dropped() {
    let Some(mut site) = Site::new() else { return };
    chown(site.path("vdd/file"), Some(5), Some(6)).unwrap();
    fs::set_permissions(site.path("vdd/file"), PermissionsExt::from_mode(0o751)).unwrap();
    fs::set_permissions(site.path("vdd/dir"), PermissionsExt::from_mode(0o1770)).unwrap();
    site.make("vdd/odd:name,x=\\y/file", "odd\n");
    let script = "
        test $(stat -c %a:%u:%g /f) = 751:5:6; test $(stat -c %a:%u:%g /d) = 1770:0:0
        echo x >> /f; test \"$(cat /f)\" = \"$(printf 'disk\\nx')\"
        rm -r /d/sub; echo y > /d/new; test $(ls /d) = new
        test $(cat /o/file) = odd; echo z > /o/file";
    let binds = || {
        vec![
            of_disk(BindAccess::Scratch, "file", "/f"),
            of_disk(BindAccess::Scratch, "dir", "/d"),
            of_disk(BindAccess::Scratch, "odd:name,x=\\y", "/o"),
        ]
    };
    for _ in 0..2 {
        site.step(script, Request { binds: binds(), ..Request::default() });
    }
    let left = site.run();
    left.is("1", &["directory 755 0:0 upper"]);
    left.is("2", &["directory 755 0:0 upper"]);
    assert_eq!(fs::read_to_string(site.path("vdd/file")).unwrap(), "disk\n");
    assert!(site.path("vdd/dir/sub/file").exists());
}

#[test]
fn attributes_are_those_of_the_request() {
    let Some(mut site) = Site::new() else { return };
    let new = Cache { mode: 0o2750, uid: 5, gid: 6, ..cache(0, "/new") };
    let kept = Cache { device: Some("/dev/vde".to_owned()), ..cache(1, "/kept") };
    let read = Cache { access: Access::ReadOnly, ..cache(2, "/read") };
    let key = Secret { mode: 0o640, uid: 7, gid: 8, ..secret("/key", "one") };
    site.make("vde/file", "kept\n");
    fs::set_permissions(site.path("vde"), PermissionsExt::from_mode(0o711)).unwrap();
    let script = "
        test $(stat -c %a:%u:%g /new) = 2750:5:6; test $(stat -c %a:%u:%g /key) = 640:7:8
        test $(stat -c %a /kept) = 711; test $(cat /kept/file) = kept
        (echo x > /read/x) 2>/dev/null && exit 9
        dd if=/dev/zero of=/small/x bs=1k count=64
        (dd if=/dev/zero of=/small/x bs=1k count=65) 2>/dev/null && exit 9
        rm /kept/file";
    site.step(
        script,
        Request {
            caches: vec![new, kept, read],
            tmpfs: vec![Tmpfs { size: Some(1 << 16), path: b"/small".to_vec() }],
            secrets: vec![key],
            ..Request::default()
        },
    );
    let left = site.run();
    left.is("1/upper", &[]);
    left.is("caches/0", &["directory 2750 5:6 upper"]);
    left.is("caches/1", &["character special file 0 0:0 upper/file", "directory 711 0:0 upper"]);
}

#[test]
fn a_cache_is_one_at_several_paths() {
    let Some(mut site) = Site::new() else { return };
    site.make("vde/file", "kept\n");
    let kept = |path| Cache { device: Some("/dev/vde".to_owned()), ..cache(0, path) };
    let read = |cache| Cache { access: Access::ReadOnly, ..cache };
    let script = "
        test $(cat /b/file) = kept; echo x > /b/new; test $(cat /a/new) = x; test $(cat /c/new) = x
        for dir in /a /c /e; do (echo y > $dir/y) 2>/dev/null && exit 9; done
        echo z > /d/z; test $(cat /e/z) = z";
    let caches =
        vec![read(kept("/a")), kept("/b"), read(kept("/c")), cache(1, "/d"), read(cache(1, "/e"))];
    site.step(script, Request { caches, ..Request::default() });
    let left = site.run();
    left.is("1/upper", &[]);
    left.is("caches/0/upper", &["regular file 644 0:0 new"]);
    left.is("caches/1/upper", &["regular file 644 0:0 z"]);
}

#[test]
fn working_directories_are_made() {
    let Some(mut site) = Site::new() else { return };
    symlink("../../../srv/app", site.path("vdc/link")).unwrap();
    for (cwd, expected) in [
        ("/a/b", "/a/b"),
        ("/link/x", "/srv/app/x"),
        ("/t/in", "/t/in"),
        ("/root", "/root"),
        ("/proc/self", "/proc/*"),
    ] {
        let script = format!("case $(pwd -P) in {expected}) ;; *) pwd; exit 9 ;; esac");
        let (cwd, tmpfs) = (cwd.into(), vec![tmpfs("/t")]);
        site.step(&script, Request { cwd, tmpfs, ..Request::default() });
    }
    let left = site.run();
    left.is("1/upper", &["directory 755 0:0 a", "directory 755 0:0 a/b"]);
    left.is(
        "2/upper",
        &["directory 755 0:0 srv", "directory 755 0:0 srv/app", "directory 755 0:0 srv/app/x"],
    );
    for unchanged in ["3/upper", "4/upper", "5/upper"] {
        left.is(unchanged, &[]);
    }
}

#[test]
fn faults_name_the_mount() {
    let Some(mut site) = Site::new() else { return };
    symlink("/etc/passwd", site.path("vdd/out")).unwrap();
    symlink("..", site.path("vdc/etc/root")).unwrap();
    let with = |binds| Request { binds, ..Request::default() };
    let rows = [
        (with(vec![of_disk(BindAccess::ReadOnly, "none", "/x")]), "none: ENOENT"),
        // A link in an image does not lead out of it.
        (with(vec![of_disk(BindAccess::ReadOnly, "out", "/x")]), "disk-vdd/etc/passwd: ENOENT"),
        (with(vec![bind(BindAccess::Scratch, "/dev/zero", "/x")]), "it is no regular file"),
        (
            Request { secrets: vec![secret("/root", "hidden")], ..Request::default() },
            "a file cannot be mounted on a directory",
        ),
        (
            Request { tmpfs: vec![tmpfs("/etc/root")], ..Request::default() },
            "mount at /etc/root: it is the root of the image",
        ),
        (
            Request { cwd: b"/etc/passwd/x".to_vec(), ..Request::default() },
            "make the working directory /etc/passwd/x: ENOTDIR",
        ),
        (
            Request { cwd: b"/etc/passwd".to_vec(), ..Request::default() },
            "enter the working directory /etc/passwd: ENOTDIR",
        ),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    for request in requests {
        site.step("exit 9", request);
    }
    let left = site.run();
    for (report, expected) in left.reports.iter().zip(expected) {
        let Outcome::Fault(text) = &report.outcome else { panic!("{expected}: {report:?}") };
        assert!(text.contains(expected) && !text.contains("hidden"), "{expected}: {text}");
    }
}
