//! What a step sees of the machine and of the image's own directories: `/run`, `/dev`, the files
//! for the network.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chroot, symlink};
use std::path::Path;

use virtinitrd_step::request::{BindAccess, EtcFiles, Network, Request, RunDirectory};

use crate::secret;
use crate::site::{Site, bind};

/// Variable that tells the program of these tests that it runs in a step.
const IN_STEP: &str = "IN_STEP";

fn with_run(run: RunDirectory) -> Request {
    Request { run, ..Request::default() }
}

#[test]
fn run_is_that_of_the_image_on_request() {
    let Some(mut site) = Site::new() else { return };
    site.make("vdc/run/app/file", "copied\n");
    fs::set_permissions(site.path("vdc/run"), PermissionsExt::from_mode(0o755)).unwrap();
    let secrets = vec![secret("/run/secrets/key", "one")];
    for (script, request) in [
        (
            "test $(cat /run/app/file) = copied; test $(cat /run/secrets/key) = one
             test ! -e /run/lock; test ! -e /run/step; mkdir -p /run/sshd",
            Request { secrets, ..with_run(RunDirectory::Image) },
        ),
        ("test -d /run/sshd; test ! -e /run/secrets", with_run(RunDirectory::Image)),
        (
            "test \"$(ls -A /run)\" = lock; test $(stat -c %a /run/lock) = 1777; mkdir /run/new",
            with_run(RunDirectory::Fresh),
        ),
        ("test ! -e /run/new; test ! -e /run/lock", with_run(RunDirectory::Image)),
    ] {
        site.step(script, request);
    }
    let left = site.run();
    left.is("1/upper", &["directory 755 0:0 run", "directory 755 0:0 run/sshd"]);
    for unchanged in ["2/upper", "3/upper", "4/upper"] {
        left.is(unchanged, &[]);
    }
}

#[test]
fn devices_are_few_and_go_with_the_step() {
    let Some(mut site) = Site::new() else { return };
    site.make("vdc/dev/image", "hidden\n");
    let script = r#"
        test "$(echo $(ls /dev))" = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
        for row in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
            test "$(stat -c %n:%t:%T:%a:%F /dev/${row%%:*})" = "/dev/$row:666:character special file"
        done
        test $(stat -c %a /dev) = 755; test $(stat -c %a /dev/shm) = 1777
        echo x > /dev/null; (echo x > /dev/full) 2>/dev/null && exit 9
        test $(head -c 3 /dev/zero | wc -c) = 3
        test "$(echo word > /dev/stdout)" = word; test "$(echo word | cat /dev/stdin)" = word
        test "$(cat /dev/fd/3 3<<EOF
word
EOF
        )" = word
        test "$(ls /dev/pts)" = ptmx; exec 4<>/dev/ptmx; test -c /dev/pts/0
        test $(stat -c %a:%g /dev/pts/0) = 620:5; exec 4>&-
        echo x > /dev/new; echo x > /dev/shm/new; rm /dev/full"#;
    site.step(script, Request::default());
    let again = "test ! -e /dev/new; test ! -e /dev/shm/new; test -c /dev/full";
    site.step(again, Request::default());
    let left = site.run();
    left.is("1/upper", &[]);
    left.is("2/upper", &[]);
}

#[test]
fn a_shell_has_its_terminal() {
    let Some(mut site) = Site::new() else { return };
    site.step("true", Request::default());
    let script = "tty; test -t 0; stty < /dev/tty > /dev/null; echo x > /dev/tty; ls /dev/pts";
    assert_eq!(site.run_shell(script), "/dev/console\nptmx\n");
}

#[test]
fn private_network_files_are_dropped() {
    let Some(mut site) = Site::new() else { return };
    site.make("vdc/etc/hosts", "10.0.0.1 image\n");
    symlink("../var/names", site.path("vdc/etc/resolv.conf")).unwrap();
    site.make("vdc/var/names", "nameserver 10.0.0.2\n");
    fs::set_permissions(site.path("vdc/etc"), PermissionsExt::from_mode(0o755)).unwrap();
    let user = || Network::User { resolv_conf: b"nameserver 10.0.0.3\n".to_vec() };
    let request = |etc, network| Request { etc, network, ..Request::default() };
    let write = "echo x >> /etc/hosts; echo x >> /etc/resolv.conf";
    for (checks, request) in [
        (
            "grep image /etc/hosts; grep 0.2 /etc/resolv.conf",
            request(EtcFiles::Private, Network::None),
        ),
        ("grep image /etc/hosts; grep 0.3 /etc/resolv.conf", request(EtcFiles::Private, user())),
    ] {
        site.step(&format!("{checks}; {write}"), request);
    }
    // Of the image, they are changed.
    site.step(
        &format!("grep -q x /etc/hosts /etc/resolv.conf && exit 9; {write}"),
        request(EtcFiles::Image, Network::None),
    );
    let empty = "rm -f /etc/hosts /etc/resolv.conf /var/names";
    site.step(empty, request(EtcFiles::Image, Network::None));
    let made = "grep localhost /etc/hosts; test -f /etc/resolv.conf; test ! -s /etc/resolv.conf";
    site.step(&format!("{made}; {write}"), request(EtcFiles::Private, Network::None));
    let left = site.run();
    left.is("1/upper", &[]);
    left.is("2/upper", &[]);
    left.is("5/upper", &[]);
}

#[test]
fn network_files_may_be_links() {
    let Some(mut site) = Site::new() else { return };
    symlink("/dev/null", site.path("vdc/etc/hosts")).unwrap();
    symlink("../run/resolve/conf", site.path("vdc/etc/resolv.conf")).unwrap();
    let script = "
        echo x > /etc/hosts; test ! -s /dev/null; test -c /dev/null
        test \"$(cat /etc/resolv.conf)\" = server; echo x > /etc/resolv.conf";
    for run in [RunDirectory::Fresh, RunDirectory::Image] {
        for etc in [EtcFiles::Image, EtcFiles::Private] {
            let network = Network::User { resolv_conf: b"server\n".to_vec() };
            site.step(script, Request { run, etc, network, ..Request::default() });
        }
    }
    let left = site.run();
    for unchanged in ["1/upper", "2/upper", "3/upper", "4/upper"] {
        left.is(unchanged, &[]);
    }
}

/// The step runs this test again, in the image.
#[test]
fn root_cannot_leave_the_image() {
    if env::var_os(IN_STEP).is_some() {
        return leave();
    }
    let Some(mut site) = Site::new() else { return };
    let program = env::current_exe().unwrap();
    let request = Request {
        binds: vec![bind(BindAccess::ReadOnly, program.to_str().unwrap(), "/test")],
        env: vec![format!("{IN_STEP}=1").into_bytes()],
        ..Request::default()
    };
    let name = "isolation::root_cannot_leave_the_image";
    let script = format!("/test --exact {name} --nocapture | grep '1 passed'; rm -r /new");
    site.step(&script, request);
    let left = site.run();
    left.is("1/upper", &[]);
}

/// Tries to find the root of the machine: by the root of the first process, and above a root that
/// is not above the working directory (chroot(2), notes).
fn leave() {
    let is_machine = |root: &Path| root.join("run/step").exists();
    assert!(Path::new("/proc/1/root/etc/passwd").exists());
    assert!(!is_machine(Path::new("/proc/1/root")), "by the first process");
    assert!(!is_machine(Path::new("/proc/1/cwd")), "by the first process");
    fs::create_dir("/new").unwrap();
    chroot("/new").unwrap();
    for _ in 0..100 {
        env::set_current_dir("..").unwrap();
    }
    chroot(".").unwrap();
    assert!(Path::new("/etc/passwd").exists() && Path::new("/new").exists());
    assert!(!is_machine(Path::new("/")), "by the working directory");
}
