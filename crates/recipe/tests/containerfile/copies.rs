//! COPY and ADD.

use virtinitrd_recipe::containerfile::{CopyMode, FileKind, Origin, Source, Unpack};

use crate::copy;

/// A SHA-256 in upper-case digits.
const SHA256: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

fn path(path: &str) -> Source {
    Source::Path(path.to_owned())
}

fn text(name: &str, text: &str) -> Source {
    Source::Text { name: name.to_owned(), text: text.to_owned() }
}

#[test]
fn sources_and_targets() {
    let rows = [
        ("file", "COPY a /b", vec![path("a")], "/b"),
        ("several", "COPY a b* /c/", vec![path("a"), path("b*")], "/c/"),
        ("relative target", "WORKDIR /w\nCOPY a b/../c", vec![path("a")], "/w/c"),
        ("here", "WORKDIR /w\nCOPY . .", vec![path(".")], "/w/"),
        ("here with a slash", "WORKDIR /w\nCOPY a ./", vec![path("a")], "/w/"),
        ("root", "COPY a /", vec![path("a")], "/"),
        ("upwards", "WORKDIR /w/x\nCOPY ../a ..", vec![path("../a")], "/w/"),
        ("JSON", r#"COPY ["a b", "/c d/"]"#, vec![path("a b")], "/c d/"),
        ("variables", "COPY $BASE/$NO /${BASE}", vec![path("base/")], "/base"),
        ("variables in JSON", r#"COPY ["$BASE", "/"]"#, vec![path("base")], "/"),
        ("quotes", "COPY \"a\" '/b'", vec![path("a")], "/b"),
        (
            "document",
            "COPY <<EOF /a\nx=$BASE\\$y 'q'\nEOF",
            vec![text("EOF", "x=base$y 'q'\n")],
            "/a",
        ),
        (
            "document as it is",
            "COPY <<\"EOF\" /a\n$BASE \\x\nEOF",
            vec![text("EOF", "$BASE \\x\n")],
            "/a",
        ),
        ("document without tabs", "COPY <<-E /a\n\tx\n\tE", vec![text("E", "x\n")], "/a"),
        (
            "two documents and a file",
            "COPY <<a.txt b <<c.txt /d/\n1\na.txt\n2\nc.txt",
            vec![text("a.txt", "1\n"), path("b"), text("c.txt", "2\n")],
            "/d/",
        ),
        (
            "two documents of one name",
            "COPY <<E <<E /d/\n1\nE\n2\nE",
            vec![text("E", "1\n"), text("E", "2\n")],
            "/d/",
        ),
        ("empty document", "COPY <<E /a\nE", vec![text("E", "")], "/a"),
        ("document of ADD", "ADD <<E /a\n1\nE", vec![text("E", "1\n")], "/a"),
        ("JSON has no document", r#"COPY ["<<E", "/a"]"#, vec![path("<<E")], "/a"),
    ];
    for (name, instructions, sources, to) in rows {
        let found = copy(instructions);
        assert_eq!(found.sources, sources, "{name}");
        assert_eq!(found.to, to, "{name}");
        assert_eq!(found.origin, Origin::Context, "{name}");
    }
}

#[test]
fn flags_of_copy() {
    let found = copy(
        "ARG A=me\nCOPY --from=img:1 --chown=$A:us --chmod=0${NO}640 --link --exclude=*.o --exclude='a b' a /b",
    );
    assert_eq!(found.origin, Origin::Image("img:1".to_owned()));
    assert_eq!(found.owner.as_deref(), Some("me:us"));
    assert_eq!(found.mode, Some(CopyMode::Octal(0o640)));
    assert_eq!(found.exclude, ["*.o", "a b"]);
    assert_eq!(found.unpack, Unpack::No);
    let symbolic = copy("COPY --chmod=u=rwX,go=rX a /b").mode.unwrap();
    assert_eq!(symbolic.apply(0o600, FileKind::Directory), 0o755);
    assert_eq!(symbolic.apply(0o600, FileKind::File), 0o644);
    let plain = copy("COPY --chown=$NO --link=false a /b");
    assert_eq!((plain.owner, plain.mode), (None, None));
}

#[test]
fn add_unpacks_and_downloads() {
    for (text, unpack) in [
        ("ADD a.tar /", Unpack::Yes),
        ("ADD --unpack=false a.tar /", Unpack::No),
        ("ADD --unpack a.tar /", Unpack::Yes),
        ("COPY a.tar /", Unpack::No),
    ] {
        assert_eq!(copy(text).unpack, unpack, "{text}");
    }
    let url = "https://a/b.tar.gz?c#d";
    let download = copy(&format!("ADD --checksum=sha256:{SHA256} {url} /"));
    let expected = Source::Url { url: url.to_owned(), sha256: SHA256.to_ascii_lowercase() };
    assert_eq!(download.sources, [expected]);
    assert_eq!(download.unpack, Unpack::No, "a download is not unpacked");
    let unpacked = copy(&format!("ADD --unpack=true --checksum=sha256:{SHA256} {url} /"));
    assert_eq!(unpacked.unpack, Unpack::Yes);
}
