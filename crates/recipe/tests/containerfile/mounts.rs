//! RUN --mount.

use virtinitrd_recipe::containerfile::{Access, Mount, Need, Origin};

use crate::mounts;

/// Cache that has only a target.
fn cache(id: &str, target: &str) -> Mount {
    Mount::Cache {
        id: id.to_owned(),
        target: target.to_owned(),
        access: Access::ReadWrite,
        from: None,
        source: "/".to_owned(),
        mode: 0o755,
        uid: 0,
        gid: 0,
    }
}

fn secret(id: &str, target: Option<&str>, env: Option<&str>, need: Need) -> Mount {
    Mount::Secret {
        id: id.to_owned(),
        target: target.map(ToOwned::to_owned),
        env: env.map(ToOwned::to_owned),
        need,
        mode: 0o400,
        uid: 0,
        gid: 0,
    }
}

fn bind(origin: Origin, source: &str, target: &str, access: Access) -> Mount {
    Mount::Bind { origin, source: source.to_owned(), target: target.to_owned(), access }
}

fn tmpfs(target: &str, size: Option<u64>) -> Mount {
    Mount::Tmpfs { target: target.to_owned(), size }
}

#[test]
fn mounts_have_defaults() {
    use Access::{ReadOnly, ReadWrite};
    let image = || Origin::Image("img".to_owned());
    let rows = [
        ("cache", "type=cache,target=/c", cache("/c", "/c")),
        ("cache, relative", "type=cache,target=c/../d/", cache("/w/d", "/w/d")),
        ("cache with a name", "type=cache,id=n,dst=/c,sharing=locked", cache("n", "/c")),
        ("cache in other case", "TYPE=Cache,Target=/c", cache("/c", "/c")),
        ("cache from scratch", "type=cache,target=/c,from=scratch", cache("/c", "/c")),
        ("cache with a variable", "type=cache,target=/$BASE,id=x-$BASE", cache("x-base", "/base")),
        ("secret", "type=secret,id=s", secret("s", Some("/run/secrets/s"), None, Need::May)),
        (
            "secret by its path",
            "type=secret,id=a/s",
            secret("a/s", Some("/run/secrets/s"), None, Need::May),
        ),
        (
            "secret by its target",
            "type=secret,target=/x/s",
            secret("s", Some("/x/s"), None, Need::May),
        ),
        (
            "secret with a target",
            "type=secret,id=s,target=t",
            secret("s", Some("/w/t"), None, Need::May),
        ),
        ("secret as a variable", "type=secret,id=s,env=S", secret("s", None, Some("S"), Need::May)),
        (
            "secret as both",
            "type=secret,id=s,env=S,dst=/t",
            secret("s", Some("/t"), Some("S"), Need::May),
        ),
        (
            "needed secret",
            "type=secret,id=s,required",
            secret("s", Some("/run/secrets/s"), None, Need::Must),
        ),
        (
            "needed by value",
            "type=secret,src=s,required=true",
            secret("s", Some("/run/secrets/s"), None, Need::Must),
        ),
        (
            "not needed",
            "type=secret,id=s,required=0",
            secret("s", Some("/run/secrets/s"), None, Need::May),
        ),
        ("bind without a type", "target=/b", bind(Origin::Context, "/", "/b", ReadOnly)),
        (
            "bind of a part",
            "type=bind,source=a/../b,target=.,ro",
            bind(Origin::Context, "/b", "/w", ReadOnly),
        ),
        (
            "bind of an image",
            "type=bind,from=img,src=/a,target=/b,rw",
            bind(image(), "/a", "/b", ReadWrite),
        ),
        (
            "bind not read-only",
            "target=/b,readonly=false",
            bind(Origin::Context, "/", "/b", ReadWrite),
        ),
        ("empty bind", "from=scratch,target=/b,rw", tmpfs("/b", None)),
        ("tmpfs", "type=tmpfs,target=/t", tmpfs("/t", None)),
        ("not in /proc", "type=tmpfs,target=/process", tmpfs("/process", None)),
        ("tmpfs with a size", "type=tmpfs,target=/t,size=1m", tmpfs("/t", Some(1 << 20))),
        ("quotes", "\\\"target=/a,b\\\",type=tmpfs", tmpfs("/a,b", None)),
    ];
    for (name, text, expected) in rows {
        let found = mounts(&format!("WORKDIR /w\nRUN --mount={text} x"));
        assert_eq!(found, [expected], "{name}");
    }
}

#[test]
fn owners_and_modes() {
    let found =
        mounts("RUN --mount=type=cache,target=/c,uid=1,gid=2,mode=0700,ro,from=img,source=a x");
    let expected = Mount::Cache {
        id: "/c".to_owned(),
        target: "/c".to_owned(),
        access: Access::ReadOnly,
        from: Some(Origin::Image("img".to_owned())),
        source: "/a".to_owned(),
        mode: 0o700,
        uid: 1,
        gid: 2,
    };
    assert_eq!(found, [expected]);
    let found = mounts("RUN --mount=type=cache,target=/c,uid=4294967294 x");
    assert!(matches!(&found[..], [Mount::Cache { uid: 4_294_967_294, .. }]), "{found:?}");
    let same_name_as_variables = "--mount=type=secret,id=s,env=A --mount=type=secret,id=s,env=B";
    assert_eq!(mounts(&format!("RUN {same_name_as_variables} x")).len(), 2);
    let found =
        mounts("RUN --mount=type=tmpfs,target=/a --mount=type=secret,id=s,mode=444,uid=5 x");
    assert_eq!(found.len(), 2);
    assert!(matches!(&found[1], Mount::Secret { mode: 0o444, uid: 5, gid: 0, .. }), "{found:?}");
}
