//! Tests of requests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Bytes that a value may have.
fn texts(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, length)
}

/// Paths below the root.
fn paths() -> impl Strategy<Value = Vec<u8>> {
    texts(1..20)
        .prop_map(|name| [b"/x", &*name].concat())
        .prop_filter("parts", |path| !path.split(|&byte| byte == b'/').any(|part| part == b".."))
}

fn devices() -> impl Strategy<Value = String> {
    "/dev/vd[b-z]{1,2}".prop_map(|text| text)
}

fn binds() -> impl Strategy<Value = Bind> {
    let accesses = prop_oneof![
        Just(BindAccess::ReadOnly),
        Just(BindAccess::ReadWrite),
        Just(BindAccess::Scratch)
    ];
    (accesses, paths(), paths()).prop_map(|(access, source, path)| Bind { access, source, path })
}

fn modes() -> impl Strategy<Value = u16> {
    0..=MODE_MAX
}

/// User and group.
fn owners() -> impl Strategy<Value = (u32, u32)> {
    (0..u32::MAX, 0..u32::MAX)
}

prop_compose! {
    fn caches()(
        device in option::of(devices()),
        number: u32,
        access in prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)],
        mode in modes(),
        (uid, gid) in owners(),
        path in paths(),
    ) -> Cache {
        Cache { device, number, access, mode, uid, gid, path }
    }
}

fn tmpfs() -> impl Strategy<Value = Tmpfs> {
    let sizes = option::of(1..=i64::MAX.cast_unsigned());
    (sizes, paths()).prop_map(|(size, path)| Tmpfs { size, path })
}

fn secrets() -> impl Strategy<Value = Vec<Secret>> {
    let values = (modes(), owners(), any::<Vec<u8>>());
    // Two paths may differ in bytes, and be the same place.
    let paths = "/[a-z][A-Z0-9 ._-]{0,9}".prop_map(String::into_bytes);
    proptest::collection::btree_map(paths, values, 0..4).prop_map(|map| {
        let secret = |(path, (mode, (uid, gid), bytes))| Secret { path, mode, uid, gid, bytes };
        map.into_iter().map(secret).collect()
    })
}

fn lowers() -> impl Strategy<Value = Vec<Lower>> {
    let steps = proptest::collection::btree_set(1..u32::MAX, 0..4);
    (proptest::collection::btree_set(devices(), 0..3), steps).prop_map(|(disks, steps)| {
        disks.into_iter().map(Lower::Disk).chain(steps.into_iter().map(Lower::Step)).collect()
    })
}

prop_compose! {
    fn requests()(
        lowers in lowers(),
        disks in vec(devices(), 0..3),
        args in vec(texts(1..20), 1..4),
        env in vec(texts(0..20).prop_map(|value| [b"NAME=", &*value].concat()), 0..4),
        user in option::of(texts(0..9)),
        cwd in paths(),
        hostname in texts(1..65),
        resolv_conf in option::of(texts(0..40)),
        run in prop_oneof![Just(RunDirectory::Fresh), Just(RunDirectory::Image)],
        etc in prop_oneof![Just(EtcFiles::Image), Just(EtcFiles::Private)],
        binds in vec(binds(), 0..4),
        caches in vec(caches(), 0..4),
        tmpfs in vec(tmpfs(), 0..4),
        secrets in secrets(),
    ) -> Request {
        let network = match resolv_conf {
            None => Network::None,
            Some(resolv_conf) => Network::User { resolv_conf },
        };
        let number = 0;
        Request {
            number, lowers, disks, args, env, user, cwd, hostname, network, run, etc, binds,
            caches, tmpfs, secrets,
        }
    }
}

proptest! {
    #[test]
    fn requests_are_read_again(request in requests()) {
        let bytes = request.to_bytes().unwrap();
        prop_assert_eq!(Request::parse(&bytes), Ok(request));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Request::parse(&bytes); // every answer is allowed
    }
}

#[test]
fn few_records_are_enough() {
    let read = Request::parse(b"number=7\0arg=true\0").unwrap();
    let expected = Request { number: 7, args: vec![b"true".to_vec()], ..Request::default() };
    assert_eq!(read, expected);
    assert_eq!((&*read.cwd, &*read.hostname), (&b"/"[..], HOSTNAME));
    assert_eq!((read.run, read.etc), (RunDirectory::Fresh, EtcFiles::Image));
}

#[test]
fn records_are_as_the_table_says() {
    let text = b"arg=sh\0arg=-c\0arg=\0number=3\0lower=disk:/dev/vdb\0lower=step:2\0disk=/dev/vdd\0env=A=b=c\0\
        user=app\0cwd=/srv\0hostname=build\0network=user\0resolv-conf=nameserver 10.0.2.3\n\0\
        run=image\0etc=private\0bind=ro 4 /a b /c d\0bind=rw 2 /a /b\0bind=scratch 2 /a /b\0\
        cache=- 1 rw 755 0 0 /var/cache\0cache=/dev/vdc 2 ro 1770 5 6 /x y\0\
        tmpfs=- /t\0tmpfs=4096 /t u\0secret=400 7 8 4 /k y 00ff\0secret=0 0 0 2 /e \0";
    let expected = Request {
        number: 3,
        lowers: vec![Lower::Disk("/dev/vdb".to_owned()), Lower::Step(2)],
        disks: vec!["/dev/vdd".to_owned()],
        args: vec![b"sh".to_vec(), b"-c".to_vec(), Vec::new()],
        env: vec![b"A=b=c".to_vec()],
        user: Some(b"app".to_vec()),
        cwd: b"/srv".to_vec(),
        hostname: b"build".to_vec(),
        network: Network::User { resolv_conf: b"nameserver 10.0.2.3\n".to_vec() },
        run: RunDirectory::Image,
        etc: EtcFiles::Private,
        binds: [
            (BindAccess::ReadOnly, "/a b", "/c d"),
            (BindAccess::ReadWrite, "/a", "/b"),
            (BindAccess::Scratch, "/a", "/b"),
        ]
        .map(|(access, source, path)| Bind { access, source: source.into(), path: path.into() })
        .into(),
        caches: vec![
            Cache {
                device: None,
                number: 1,
                access: Access::ReadWrite,
                mode: 0o755,
                uid: 0,
                gid: 0,
                path: b"/var/cache".to_vec(),
            },
            Cache {
                device: Some("/dev/vdc".to_owned()),
                number: 2,
                access: Access::ReadOnly,
                mode: 0o1770,
                uid: 5,
                gid: 6,
                path: b"/x y".to_vec(),
            },
        ],
        tmpfs: vec![
            Tmpfs { size: None, path: b"/t".to_vec() },
            Tmpfs { size: Some(4096), path: b"/t u".to_vec() },
        ],
        secrets: vec![
            Secret { path: b"/k y".to_vec(), mode: 0o400, uid: 7, gid: 8, bytes: vec![0, 255] },
            Secret { path: b"/e".to_vec(), mode: 0, uid: 0, gid: 0, bytes: Vec::new() },
        ],
    };
    assert_eq!(Request::parse(text).unwrap(), expected);
}

#[test]
fn bad_requests_are_refused() {
    let long = format!("arg={}", "x".repeat(MAX));
    let lowers = (1..).map(|step| format!("lower=step:{step}")).take(check::LOWERS_MAX + 1);
    let lowers = lowers.collect::<Vec<_>>().join("\0");
    let mounts = vec!["tmpfs=- /x"; check::MOUNTS_MAX + 1].join("\0");
    for (records, expected) in [
        ("number=1", "the command needs a first word"),
        ("number=1\0arg=", "the command needs a first word"),
        ("arg=x", "number= is missing"),
        ("number=1\0number=1\0arg=x", "bad record \"number=1"),
        ("number=4294967296\0arg=x", "bad record \"number=4294967296"),
        ("number=-1\0arg=x", "bad record \"number=-1"),
        ("number=1\0arg=x\0other=1", "bad record \"other=1"),
        ("number=1\0arg=x\0word", "bad record \"word"),
        ("number=1\0\0arg=x", "bad record \"\\x00\""),
        ("number=1\0arg=x\0env=A", "variable \"A\": it must be NAME=VALUE"),
        ("number=1\0arg=x\0env==b", "variable \"=b\""),
        ("number=1\0arg=x\0lower=disk:vdb", "it must be a disk such as /dev/vdb"),
        ("number=1\0arg=x\0lower=disk:/dev/vdb,upperdir=x", "it must be a disk"),
        ("number=1\0arg=x\0lower=disk:/dev/../x", "it must be a disk"),
        ("number=1\0arg=x\0lower=disk:/dev/", "it must be a disk"),
        ("number=1\0arg=x\0lower=file:/dev/vdb", "bad record \"lower=file"),
        ("number=1\0arg=x\0lower=step:1", "a step is not its own lower layer"),
        ("number=1\0arg=x\0lower=step:2\0lower=step:2", "it is given twice"),
        (&*format!("number=0\0arg=x\0{lowers}"), "layers are too many"),
        ("number=1\0arg=x\0cwd=srv", "cwd \"srv\": it must be absolute"),
        ("number=1\0arg=x\0cwd=/a/../b", "without .."),
        ("number=1\0arg=x\0hostname=", "1 to 64 bytes"),
        ("number=1\0arg=x\0network=host", "bad record \"network=host"),
        ("number=1\0arg=x\0resolv-conf=x", "network=user for resolv-conf= is missing"),
        ("number=1\0arg=x\0network=none\0resolv-conf=x", "network=user for resolv-conf"),
        ("number=1\0arg=x\0run=fresh\0run=fresh", "bad record \"run=fresh"),
        ("number=1\0arg=x\0run=private", "bad record \"run=private"),
        ("number=1\0arg=x\0run=", "bad record \"run="),
        ("number=1\0arg=x\0etc=image\0etc=private", "bad record \"etc=private"),
        ("number=1\0arg=x\0etc=fresh", "bad record \"etc=fresh"),
        ("number=1\0arg=x\0bind=ro 2 /a /", "nothing can be mounted at the root"),
        ("number=1\0arg=x\0bind=ro 2 /a /.//", "nothing can be mounted at the root"),
        ("number=1\0arg=x\0bind=ro 2 /a b", "path of a bind \"b\""),
        ("number=1\0arg=x\0bind=ro 1 a /b", "source of a bind \"a\""),
        ("number=1\0arg=x\0bind=ro 9 /a /b", "bad record \"bind"),
        ("number=1\0arg=x\0bind=rx 2 /a /b", "bad record \"bind"),
        ("number=1\0arg=x\0bind=ro 2 /a /proc/x", "nothing can be mounted in /proc"),
        (&*format!("number=0\0arg=x\0{mounts}"), "mounts are too many"),
        (&*format!("number=0\0arg=x\0tmpfs=- /{}", "x".repeat(4000)), "longer than 4000 bytes"),
        ("number=1\0arg=x\0cache=- x rw 755 0 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 scratch 755 0 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 rw 780 0 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 rw +75 0 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 rw 200000 0 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 rw 10000 0 0 /c", "mode of a cache \"10000\""),
        ("number=1\0arg=x\0cache=- 1 rw 755 4294967296 0 /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=- 1 rw 755 4294967295 0 /c", "owner of a cache"),
        ("number=1\0arg=x\0cache=vdb 1 rw 755 0 0 /c", "device \"vdb\""),
        ("number=1\0arg=x\0cache=- 1 rw 755 0 0 /c/../d", "path of a cache"),
        ("number=1\0arg=x\0tmpfs=/t", "bad record \"tmpfs"),
        ("number=1\0arg=x\0tmpfs=1k /t", "bad record \"tmpfs"),
        ("number=1\0arg=x\0tmpfs=0 /t", "size of a tmpfs \"0\""),
        ("number=1\0arg=x\0tmpfs=9223372036854775808 /t", "less than 2^63"),
        ("number=1\0arg=x\0tmpfs=- t", "path of a tmpfs \"t\""),
        ("number=1\0arg=x\0tmpfs=- /", "nothing can be mounted at the root"),
        ("number=1\0arg=x\0secret=400 0 0 1 a 00", "path of a secret \"a\""),
        ("number=1\0arg=x\0secret=400 0 0 5 /../a 00", "without .."),
        ("number=1\0arg=x\0secret=400 0 0 0  00", "path of a secret \"\""),
        ("number=1\0arg=x\0secret=10000 0 0 2 /a 00", "mode of a secret"),
        ("number=1\0arg=x\0secret=400 0 4294967295 2 /a 00", "owner of a secret"),
        ("number=1\0arg=x\0secret=400 0 0 2 /a 0", "bad record \"secret=...\""),
        ("number=1\0arg=x\0secret=400 0 0 2 /a 0g", "bad record \"secret=...\""),
        ("number=1\0arg=x\0secret=400 0 0 9 /a 00", "bad record \"secret=...\""),
        ("number=1\0arg=x\0secrets 1234", "bad record \"secret=...\""),
        (
            "number=1\0arg=x\0secret=400 0 0 2 /a 00\0secret=400 0 0 4 //a/ 01",
            "secret \"//a/\": it is given twice",
        ),
        (&*long, "at most 4 MiB"),
    ] {
        let text = format!("{records}\0");
        let error = Request::parse(text.as_bytes()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = Request::parse(b"number=1\0arg=x").unwrap_err().to_string();
    assert!(error.contains("bad record \"arg=x\""), "{error}");
}

#[test]
fn requests_that_cannot_be_read_are_not_written() {
    let good = Request { args: vec![b"x".to_vec()], ..Request::default() };
    assert!(good.to_bytes().is_ok());
    let nul = Request { args: vec![b"x\0y".to_vec()], ..good.clone() };
    let network = Network::User { resolv_conf: b"\0".to_vec() };
    let resolv_conf = Request { network, ..good.clone() };
    let long = Request { args: vec![vec![b'x'; MAX]], ..good.clone() };
    let tmpfs = Tmpfs { size: None, path: b"/a\0b".to_vec() };
    let tmpfs = Request { tmpfs: vec![tmpfs], ..good.clone() };
    let secret = |path: &[u8], mode| {
        let secret = Secret { path: path.to_vec(), mode, uid: 0, gid: 0, bytes: Vec::new() };
        Request { secrets: vec![secret], ..good.clone() }
    };
    let (nul_secret, wide_secret) = (secret(b"/a\0b", 0o400), secret(b"/a", MODE_MAX + 1));
    let empty = Request { args: Vec::new(), ..good };
    for (request, expected) in [
        (nul, "it must have no NUL"),
        (resolv_conf, "it must have no NUL"),
        (tmpfs, "it must have no NUL"),
        (nul_secret, "it must have no NUL"),
        (wide_secret, "mode of a secret \"10000\""),
        (long, "at most 4 MiB"),
        (empty, "the command needs a first word"),
    ] {
        let error = request.to_bytes().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let path = b"/run/key".to_vec();
    let secret = Secret { path, mode: 0o400, uid: 0, gid: 0, bytes: b"hidden".to_vec() };
    let shown = format!("{secret:?}");
    assert!(
        shown.contains("/run/key") && !shown.contains("104") && !shown.contains("hidden"),
        "{shown}"
    );
}
