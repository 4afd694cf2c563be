//! What `RUN --mount` shows, what stays of it, and `RUN --network`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::site::{build, command, ran, write};
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("mounts_show_files_and_leave_nothing", mounts_show_files_and_leave_nothing),
    ("secrets_are_in_their_step_only",      secrets_are_in_their_step_only),
];

/// Caches, files of the context and of a stage, and memory. Each script fails if something that
/// must fail succeeds. `ROUND` makes all of `main` run again.
const MOUNTS: &str = r"
FROM base AS seed
RUN mkdir -p /seed/sub; echo seed > /seed/sub/f; chown 7:8 /seed/sub/f
FROM base AS main
ARG ROUND
RUN --mount=type=cache,target=/var/cache/x \
    cat /var/cache/x/log > /plain 2>/dev/null; stat -c '%a %u:%g' /var/cache/x >> /plain; \
    echo $ROUND >> /var/cache/x/log
RUN --mount=type=cache,id=named,target=/a,uid=1000,gid=1001,mode=0700 \
    stat -c '%a %u:%g' /a > /named; echo $ROUND > /a/round
RUN --mount=type=cache,id=named,target=/b,ro \
    cat /b/round >> /named; (echo x > /b/new) 2>/dev/null && exit 9; (rm /b/round) 2>/dev/null && exit 9; true
RUN --mount=type=cache,target=/seeded,from=seed,source=/seed/sub \
    cat /seeded/f > /of-seed; cat /seeded/log >> /of-seed 2>/dev/null; echo $ROUND >> /seeded/log
RUN test ! -e /a && test ! -e /b && test ! -e /seeded && test ! -e /var
RUN --mount=type=bind,source=dir,target=/bound --mount=from=seed,source=/seed,target=/srv/seed \
    --mount=source=file,target=/one \
    cat /bound/sub/a /srv/seed/sub/f /one > /bind; stat -c '%u:%g' /srv/seed/sub/f >> /bind; \
    for at in /bound/new /srv/seed/new /one; do (echo x > $at) 2>/dev/null && exit 9; done; true
RUN --mount=source=dir,target=/bound,rw --mount=target=/whole,rw \
    echo new > /bound/new && rm /bound/sub/a && echo new > /whole/file && cat /bound/new /whole/file > /written
RUN --mount=source=dir,target=/bound test -e /bound/sub/a && test ! -e /bound/new
RUN --mount=type=tmpfs,target=/t,size=1m --mount=type=tmpfs,target=/etc/t2 \
    echo x > /t/x && echo x > /etc/t2/x && grep -c ' tmpfs .*size=1024k' /proc/mounts > /tmpfs; \
    dd if=/dev/zero of=/t/x bs=1024 count=2000 2>/dev/null && exit 9; true
RUN --mount=type=tmpfs,target=/etc test ! -e /etc/passwd
";

/// Texts after the first round, and after the second one.
#[rustfmt::skip]
const TEXTS: &[(&str, [&str; 2])] = &[
    ("/plain",   ["755 0:0\n", "1\n755 0:0\n"]),
    ("/named",   ["700 1000:1001\n1\n", "700 1000:1001\n2\n"]),
    ("/of-seed", ["seed\n", "seed\n1\n"]),
    ("/bind",    ["a\nseed\nfile\n7:8\n"; 2]),
    ("/written", ["new\nnew\n"; 2]),
    ("/tmpfs",   ["1\n"; 2]),
];

/// Names besides those of the base.
fn new_names(site: &Site) -> Result<Vec<String>> {
    let before = site.archive("base.tar")?;
    let now = site.archive("o.tar")?;
    Ok(now.into_keys().filter(|name| !before.contains_key(name)).collect())
}

fn mounts_show_files_and_leave_nothing(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("dir/sub/a", "a\n")?;
    site.write("file", "file\n")?;
    build(&site, "FROM base\n", &["-o", "base.tar"])?.is(0, &["base.tar"])?;
    let before = site.archive("base.tar")?;
    for (round, argument) in ["ROUND=1", "ROUND=2"].into_iter().enumerate() {
        let built = build(&site, MOUNTS, &["--build-arg", argument, "-o", "o.tar"])?.is(0, &[])?;
        let expected = if round == 0 { 11 } else { 10 };
        ensure!(ran(&built).len() == expected, "{built}");
        for (path, texts) in TEXTS {
            let found = site.text("o.tar", path)?;
            ensure!(Some(&*found) == texts.get(round).copied(), "{argument}: {path}: {found}");
        }
        let names = new_names(&site)?;
        ensure!(names == ["bind", "named", "of-seed", "plain", "tmpfs", "written"], "{names:?}");
    }
    let now = site.archive("o.tar")?;
    for (path, old) in &before {
        ensure!(now.get(path) == Some(old), "{path} has changed: {:?}", now.get(path));
    }
    for (path, text) in [("dir/sub/a", "a\n"), ("file", "file\n")] {
        ensure!(fs::read_to_string(site.own(path))? == text, "{path} has changed on the host");
    }
    ensure!(!site.own("dir/new").exists(), "a new file is on the host");
    Ok(())
}

/// Secrets of a variable and of a file. The wrong words must not be anywhere.
const OF_VARIABLE: &str = "Zaphod-8d1f-of-the-variable";
const OF_FILE: &str = "Trillian-77ab-of-the-file";

/// Checksums and sizes are all that stays.
const SECRETS: &str = r#"
FROM base
RUN --mount=type=secret,id=key --mount=type=secret,id=token \
    cd /run/secrets; ls > /names; stat -c '%a %u:%g %n' * > /modes; wc -c key token > /sizes
RUN --mount=type=secret,id=key,target=/etc/app/key,mode=0440,uid=1000,gid=50 \
    stat -c '%a %u:%g %s' /etc/app/key > /other; test ! -e /run/secrets
RUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=token,env=TOKEN,target=/token \
    echo -n "$KEY" | wc -c > /env; test "$(cat /token)" = "$TOKEN" && test ! -e /run/secrets
RUN --mount=type=secret,id=none,required=false --mount=type=secret,id=nothing,env=NOTHING \
    test ! -e /run/secrets/none && echo "${NOTHING-unset}" > /missing
RUN test ! -e /run/secrets && test ! -e /token && test ! -e /etc/app && test -z "$KEY$TOKEN"
"#;

fn secrets_are_in_their_step_only(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    // The template of the machine must not have them, either.
    fs::remove_file(site.path("cache/virtinitrd/warm"))?;
    fs::write(site.path("key"), OF_FILE)?;
    let given = ["--secret", "id=key,src=../key", "--secret", "id=token,env=TEST_TOKEN"];
    let words = [&given[..], &["-o", "o.oci.tar"]].concat();
    write(&site, SECRETS)?;
    let built = site.run(command(&site, &words).env("TEST_TOKEN", OF_VARIABLE))?;
    let built = built.is(0, &[])?.lacks(OF_VARIABLE)?.lacks(OF_FILE)?;
    ensure!(ran(&built).len() == 5, "{built}");
    let [file, variable] = [OF_FILE, OF_VARIABLE].map(str::len);
    for (path, expected) in [
        ("/names", "key\ntoken\n".to_owned()),
        ("/modes", "400 0:0 key\n400 0:0 token\n".to_owned()),
        ("/other", format!("440 1000:50 {file}\n")),
        ("/env", format!("{file}\n")),
        ("/missing", "unset\n".to_owned()),
    ] {
        let found = site.text("o.oci.tar", path)?;
        ensure!(found == expected, "{path}: {found}");
    }
    let sizes = site.text("o.oci.tar", "/sizes")?;
    let words_of_sizes: Vec<_> = sizes.split_whitespace().take(3).collect();
    let [file, variable] = [file, variable].map(|size| size.to_string());
    ensure!(words_of_sizes == [&*file, "key", &*variable], "{sizes}");
    for secret in [OF_VARIABLE, OF_FILE] {
        let mut search = Command::new("grep");
        search.args(["--recursive", "--text", "--files-with-matches", "--fixed-strings", secret]);
        let found = search.args([site.path("package"), site.path("cache")]).output()?;
        ensure!(found.status.code() == Some(1), "{found:?} has {secret}");
    }
    // A kept step needs no value, and another value runs nothing.
    let built = build(&site, SECRETS, &["-o", "o.oci.tar"])?.is(0, &["(kept)"])?;
    ensure!(ran(&built).is_empty(), "{built}");
    // Secrets that are given and do not exist.
    for (secret, says) in
        [("id=x,src=../no-such", "no-such"), ("id=x,env=NO_SUCH", "NO_SUCH is not set")]
    {
        let text = "FROM base\nRUN --mount=type=secret,id=x true\n";
        let built = build(&site, text, &["--secret", secret, "-o", "x.tar"])?;
        built.is(125, &[says]).with_context(|| secret.to_owned())?;
        ensure!(!site.own("x.tar").exists(), "{secret}: there is an output");
    }
    Ok(())
}
