//! Stages, and what RUN sees in them: files of other stages, users, variables, shells and
//! here-documents.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};

use super::site::{BASE, build, kept, ran};
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("stages_share_files",         stages_share_files),
    ("programs_have_their_surroundings", programs_have_their_surroundings),
];

/// `main` needs all other stages but `unneeded`; `later` stands behind it.
const STAGES: &str = r#"
ARG BASE=none
FROM $BASE AS tools
RUN mkdir -p /out/sub; echo tool > /out/tool; chown 7:8 /out/tool; chmod 750 /out/tool; \
    echo sub > /out/sub/s; chown app:staff /out/sub; chmod 2755 /out/sub
FROM base AS unneeded
RUN false
FROM tools AS more
RUN cat /out/tool > /more; echo more >> /more
FROM scratch AS static
COPY --from=base /bin/busybox /bin/
RUN ["/bin/busybox", "sh", "-c", "echo scratch $0 > /scratch", "$HOME"]
FROM base AS main
COPY --from=tools /out/ /owned/
COPY --from=tools --chown=app:staff --chmod=640 /out/tool /named
COPY --from=tools --chown=app /out/sub /of-app/
COPY --from=2 /more /copied/more
COPY --from=later /late /copied/
COPY --from=static /scratch /copied/
COPY --from=other /motd /copied/
USER app
WORKDIR /srv/app/sub
RUN pwd > seen; touch below
FROM base AS later
RUN echo late > /late
"#;

/// Files of `main`: kind, mode and owners.
#[rustfmt::skip]
const META: &[(&str, &str)] = &[
    ("owned/tool",        "file 750 7:8"),
    ("owned/sub",         "dir 2755 1000:50"),
    ("owned/sub/s",       "file 644 0:0"),
    ("named",             "file 640 1000:50"),
    ("of-app/s",          "file 644 1000:1001"),
    ("copied/motd",       "file 604 0:0"),
    ("srv/app/sub",       "dir 755 1000:1001"),
    ("srv/app/sub/below", "file 644 1000:1001"),
];

/// Files of `main`: texts.
#[rustfmt::skip]
const TEXTS: &[(&str, &str)] = &[
    ("/copied/more",     "tool\nmore\n"),
    ("/copied/late",     "late\n"),
    ("/copied/scratch",  "scratch $HOME\n"),
    ("/copied/motd",     "hello\n"),
    ("/srv/app/sub/seen", "/srv/app/sub\n"),
];

fn stages_share_files(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let motd = site.path("other/motd");
    fs::create_dir(site.path("other"))?;
    fs::write(&motd, "hello\n")?;
    fs::set_permissions(&motd, PermissionsExt::from_mode(0o604))?;
    let others = ["--build-context", "other=../other", "--build-arg", "BASE=base"];
    let words = |more: &[&'static str]| [&others[..], more].concat();

    let built = build(&site, STAGES, &words(&["--target", "main", "-o", "o.tar"]))?.is(0, &[])?;
    let expected = ["later 1", "main 10", "more 1", "static 2", "tools 1"];
    ensure!(ran(&built) == expected, "{built}");
    let archive = site.archive("o.tar")?;
    for (path, expected) in META {
        let found = archive.get(*path).with_context(|| format!("{path} is missing"))?;
        ensure!(found == expected, "{path}: {found}");
    }
    for (path, expected) in TEXTS {
        let found = site.text("o.tar", path)?;
        ensure!(found == *expected, "{path}: {found}");
    }
    ensure!(!archive.contains_key("more") && !archive.contains_key("out"), "a whole stage came");

    // By number; its steps and those of its base are kept.
    let built = build(&site, STAGES, &words(&["--target", "2", "-o", "2.tar"]))?.is(0, &[])?;
    ensure!(ran(&built).is_empty() && kept(&built).contains(&"more 1".to_owned()), "{built}");
    ensure!(site.text("2.tar", "/more")? == "tool\nmore\n");
    ensure!(site.archive("2.tar")?.contains_key("out/tool"), "the files of the base are missing");
    // Without a target, it is the last one.
    build(&site, STAGES, &words(&["-o", "last.tar"]))?.is(0, &[])?;
    ensure!(site.text("last.tar", "/late")? == "late\n");
    build(&site, STAGES, &words(&["--target", "no-such", "-o", "x.tar"]))?
        .is(125, &["--target no-such", "static"])?;
    // From standard input, with the context beside.
    let text = fs::File::open(site.own("Containerfile"))?;
    let from_stdin = [&[".", "-f", "-", "-o", "stdin.tar"], &BASE[..], &words(&[])].concat();
    let built = site.run(site.command_without_kernel(&from_stdin).stdin(text))?.is(0, &[])?;
    ensure!(ran(&built).is_empty() && site.text("stdin.tar", "/late")? == "late\n", "{built}");
    // The stage that nobody needs would fail.
    build(&site, STAGES, &words(&["--target", "unneeded", "-o", "x.tar"]))?
        .is(1, &["unneeded 1/1 (RUN false) failed: exit status 1"])?;
    ensure!(!site.own("x.tar").exists(), "there is an output");
    Ok(())
}

const SURROUNDINGS: &str = r#"# escape=\
FROM base
ARG DEFAULT=default GIVEN ABSENT
ARG HIDDEN=argument
ENV E=env HIDDEN=variable EMPTY= WORDS="a  b"
RUN env > /env; echo "$E $DEFAULT $GIVEN ${ABSENT-unset} $HIDDEN" > /vars
RUN echo "$HTTP_PROXY $http_proxy" > /proxy
RUN ["/bin/sh", "-c", "printf '[%s]' \"$0\" \"$@\" > /exec", "$E", "", "a b", "*"]
RUN printf '[%s]' "$0" "$#" \
    # a comment in between
    'a  b' > /shell; exit 0; false
RUN <<EOF
echo $E $0 > /lone
false
echo "	goes on" >> /lone
EOF
RUN <<-SCRIPT
	#!/bin/cat
	text of the script $E
SCRIPT
RUN cat <<A > /a && cat <<'B' > /b
$E
A
$E
B
COPY <<C <<"D" /docs/
$E and $DEFAULT
C
$E
D
SHELL ["/bin/busybox", "env", "SHELLED=yes", "/bin/sh", "-c"]
RUN echo $SHELLED > /shelled
USER app
WORKDIR /home/app
RUN id > id; echo $HOME >> id; umask >> id
USER 12:34
WORKDIR ../numbers
RUN id > id; echo $HOME >> id; pwd >> id
USER root
WORKDIR /
RUN read line; echo "$?" > /in; readlink /proc/self/fd/0 >> /in
"#;

#[rustfmt::skip]
const SEEN: &[(&str, &str)] = &[
    ("/vars",        "env default given unset variable\n"),
    ("/proxy",       "http://one http://one\n"),
    ("/exec",        "[$E][][a b][*]"),
    ("/shell",       "[/bin/sh][0][a  b]"),
    ("/lone",        "env /bin/sh\n\tgoes on\n"),
    ("/a",           "env\n"),
    ("/b",           "$E\n"),
    ("/docs/C",      "env and default\n"),
    ("/docs/D",      "$E\n"),
    ("/shelled",     "yes\n"),
    ("/home/app/id", "uid=1000(app) gid=1001(app) groups=50(staff)\n/srv/app\n0022\n"),
    ("/home/numbers/id", "uid=12 gid=34\n/\n/home/numbers\n"),
    ("/in",          "1\n/dev/null\n"),
];

/// Variables of the first RUN.
const ENV: [&str; 8] = [
    "DEFAULT=default",
    "E=env",
    "EMPTY=",
    "GIVEN=given",
    "HIDDEN=variable",
    "HOME=/root",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "WORDS=a  b",
];

fn programs_have_their_surroundings(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let words = |proxy, file| ["--build-arg", "GIVEN=given", "--build-arg", proxy, "-o", file];
    let built = build(&site, SURROUNDINGS, &words("HTTP_PROXY=http://one", "o.tar"))?;
    let built = built.is(0, &["\n#!/bin/cat\ntext of the script $E\n"])?;
    ensure!(ran(&built).len() == 11 && built.stdout.is_empty(), "{built}");
    for (path, expected) in SEEN {
        let found = site.text("o.tar", path)?;
        ensure!(found == *expected, "{path}: {found}");
    }
    let env = site.text("o.tar", "/env")?;
    let of_shell = ["SHLVL=", "PWD=", "HTTP_PROXY=", "http_proxy="];
    let is_own = |line: &&str| !of_shell.iter().any(|start| line.starts_with(start));
    let mut lines: Vec<_> = env.lines().filter(is_own).collect();
    lines.sort_unstable();
    ensure!(lines == ENV, "{env}");
    // Another proxy runs nothing. Arguments and the proxy are not in the config.
    let built = build(&site, SURROUNDINGS, &words("HTTP_PROXY=http://two", "o.oci.tar"))?;
    let built = built.is(0, &[])?;
    ensure!(ran(&built).is_empty(), "{built}");
    let facts = site.image(&["inspect", "o.oci.tar"])?;
    for (text, is_there) in [
        ("E=env", true),
        ("WORDS=a  b", true),
        ("HIDDEN=variable", true),
        ("GIVEN", false),
        ("DEFAULT", false),
        ("http:", false),
    ] {
        ensure!(facts.contains(text) == is_there, "{text:?}: {facts}");
    }
    Ok(())
}
