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
    let accesses = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    (accesses, paths(), paths()).prop_map(|(access, source, path)| Bind { access, source, path })
}

fn caches() -> impl Strategy<Value = Cache> {
    (option::of(devices()), any::<u32>(), paths()).prop_map(|(device, number, path)| Cache {
        device,
        number,
        path,
    })
}

fn secrets() -> impl Strategy<Value = Vec<Secret>> {
    let names = proptest::collection::btree_map("[a-z][A-Z0-9._-]{0,9}", any::<Vec<u8>>(), 0..4);
    names.prop_map(|map| map.into_iter().map(|(name, bytes)| Secret { name, bytes }).collect())
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
        binds in vec(binds(), 0..4),
        caches in vec(caches(), 0..4),
        secrets in secrets(),
    ) -> Request {
        let network = match resolv_conf {
            None => Network::None,
            Some(resolv_conf) => Network::User { resolv_conf },
        };
        let number = 0;
        Request {
            number, lowers, disks, args, env, user, cwd, hostname, network, binds, caches, secrets,
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
}

#[test]
fn records_are_as_the_table_says() {
    let text = b"arg=sh\0arg=-c\0arg=\0number=3\0lower=disk:/dev/vdb\0lower=step:2\0disk=/dev/vdd\0env=A=b=c\0\
        user=app\0cwd=/srv\0hostname=build\0network=user\0resolv-conf=nameserver 10.0.2.3\n\0\
        bind=ro 4 /a b /c d\0cache=- 1 /var/cache\0cache=/dev/vdc 2 /x\0secret=key 00ff\0";
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
        binds: vec![Bind {
            access: Access::ReadOnly,
            source: b"/a b".to_vec(),
            path: b"/c d".to_vec(),
        }],
        caches: vec![
            Cache { device: None, number: 1, path: b"/var/cache".to_vec() },
            Cache { device: Some("/dev/vdc".to_owned()), number: 2, path: b"/x".to_vec() },
        ],
        secrets: vec![Secret { name: "key".to_owned(), bytes: vec![0, 255] }],
    };
    assert_eq!(Request::parse(text).unwrap(), expected);
}

#[test]
fn bad_requests_are_refused() {
    let long = format!("arg={}", "x".repeat(MAX));
    let lowers = (1..).map(|step| format!("lower=step:{step}")).take(check::LOWERS_MAX + 1);
    let lowers = lowers.collect::<Vec<_>>().join("\0");
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
        ("number=1\0arg=x\0bind=ro 2 /a /", "nothing can be mounted at the root"),
        ("number=1\0arg=x\0bind=ro 2 /a /.//", "nothing can be mounted at the root"),
        ("number=1\0arg=x\0bind=ro 2 /a b", "path of a bind \"b\""),
        ("number=1\0arg=x\0bind=ro 1 a /b", "source of a bind \"a\""),
        ("number=1\0arg=x\0bind=ro 9 /a /b", "bad record \"bind"),
        ("number=1\0arg=x\0bind=rx 2 /a /b", "bad record \"bind"),
        ("number=1\0arg=x\0cache=- x /c", "bad record \"cache"),
        ("number=1\0arg=x\0cache=vdb 1 /c", "device \"vdb\""),
        ("number=1\0arg=x\0cache=- 1 /c/../d", "path of a cache"),
        ("number=1\0arg=x\0secret=../a 00", "name of a secret"),
        ("number=1\0arg=x\0secret=.. 00", "name of a secret"),
        ("number=1\0arg=x\0secret= 00", "name of a secret"),
        ("number=1\0arg=x\0secret=a 0", "bad record \"secret=...\""),
        ("number=1\0arg=x\0secret=a 0g", "bad record \"secret=...\""),
        ("number=1\0arg=x\0secret=a 00\0secret=a 01", "secret \"a\": it is given twice"),
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
    let empty = Request { args: Vec::new(), ..good };
    for (request, expected) in [
        (nul, "it must have no NUL"),
        (resolv_conf, "it must have no NUL"),
        (long, "at most 4 MiB"),
        (empty, "the command needs a first word"),
    ] {
        let error = request.to_bytes().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let secret = Secret { name: "key".to_owned(), bytes: b"hidden".to_vec() };
    let shown = format!("{secret:?}");
    assert!(
        shown.contains("key") && !shown.contains("104") && !shown.contains("hidden"),
        "{shown}"
    );
}
