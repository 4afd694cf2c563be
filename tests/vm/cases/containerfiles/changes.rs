//! Which change of a Containerfile, its context or its options makes which RUN run again. One build
//! runs them; then `--dry-run` answers for each change, and some are built.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::site::{build, command, kept, ran, without_machines, write};
use crate::harness::{Bed, Case};
use crate::recipes::changes::{chmod, set_time, set_time_and_owner};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("changes_run_instructions_again", changes_run_instructions_again),
];

const TEXT: &str = "\
# here
ARG BASE=base
FROM $BASE AS tool
COPY tool.sh /
RUN sh /tool.sh > /tool
FROM base AS main
ARG USED=1
ARG UNSET
RUN echo $USED > /one
COPY dir /dir/
RUN ls -R /dir > /two
COPY --from=tool /tool /
RUN cat /tool > /three
LABEL a=b
";

/// All instructions that need a machine.
const ALL: &[&str] = &["main 3", "main 5", "main 7", "tool 2"];

/// Those of `main`, and those of it that see the directory `dir`.
const MAIN: &[&str] = &["main 3", "main 5", "main 7"];
const DIR: &[&str] = &["main 5", "main 7"];

/// What `--dry-run` says if the stage `tool` has to run: it does not know what that will make.
const TOOL: &[&str] = &["main 7", "tool 2"];

/// A change, and what follows from it.
struct Change {
    name: &'static str,
    make: fn(&Site) -> Result<()>,
    /// Words of the command line.
    words: &'static [&'static str],
    runs: &'static [&'static str],
}

#[rustfmt::skip]
const CHANGES: &[Change] = &[
    Change { name: "nothing",            make: |_| Ok(()), words: &[], runs: &[] },
    Change { name: "time and owner",     make: |site| set_time_and_owner(site, "dir/a"), words: &[], runs: &[] },
    Change { name: "comment",            make: |site| replace(site, "# here", "# there"), words: &[], runs: &[] },
    Change { name: "comment in between", make: |site| replace(site, "RUN ls", "# here, too\nRUN ls"), words: &[], runs: &[] },
    Change { name: "form of the text",   make: |site| replace(site, "COPY dir /dir/", "\ncopy   dir \\\n# here, too\n  /dir/"), words: &[], runs: &[] },
    Change { name: "name of a stage",    make: |site| replace(site, "AS main", "AS Other"), words: &[], runs: &[] },
    Change { name: "config",             make: |site| replace(site, "a=b", "a=c"), words: &[], runs: &[] },
    Change { name: "output",             make: |_| Ok(()), words: &["-o", "other.erofs"], runs: &[] },
    Change { name: "limits",             make: |_| Ok(()), words: &["--timeout", "5m", "--memory", "300M", "--cpus", "1", "--disk", "1G"], runs: &[] },
    Change { name: "same argument",      make: |_| Ok(()), words: &["--build-arg", "BASE=base", "--build-arg", "USED=1"], runs: &[] },
    Change { name: "undeclared argument", make: |_| Ok(()), words: &["--build-arg", "OTHER=x"], runs: &[] },
    Change { name: "file left out",      make: |site| site.write("dir/x.log", "B"), words: &[], runs: &[] },
    Change { name: "new file left out",  make: |site| site.write("dir/y.log", ""), words: &[], runs: &[] },
    Change { name: "unused file",        make: |site| site.write("unused", "B"), words: &[], runs: &[] },
    Change { name: "contents",           make: |site| site.write("dir/a", "B"), words: &[], runs: DIR },
    Change { name: "mode",               make: |site| chmod(site, "dir/a", 0o755), words: &[], runs: DIR },
    Change { name: "name",               make: |site| Ok(fs::rename(site.own("dir/a"), site.own("dir/b"))?), words: &[], runs: DIR },
    Change { name: "new file",           make: |site| site.write("dir/new", ""), words: &[], runs: DIR },
    Change { name: "list of files",      make: |site| site.write(".dockerignore", "**/a\n**/*.log\n"), words: &[], runs: DIR },
    Change { name: "target of a copy",   make: |site| replace(site, "dir /dir/", "dir /other/dir/"), words: &[], runs: DIR },
    Change { name: "flag of a copy",     make: |site| replace(site, "COPY dir", "COPY --chown=1:1 dir"), words: &[], runs: DIR },
    Change { name: "text",               make: |site| replace(site, "ls -R", "ls  -R"), words: &[], runs: DIR },
    Change { name: "argument",           make: |_| Ok(()), words: &["--build-arg", "USED=2"], runs: MAIN },
    Change { name: "default",            make: |site| replace(site, "USED=1", "USED=2"), words: &[], runs: MAIN },
    Change { name: "argument without a default", make: |_| Ok(()), words: &["--build-arg", "UNSET=x"], runs: MAIN },
    Change { name: "environment",        make: |site| replace(site, "RUN ls", "ENV A=1\nRUN ls"), words: &[], runs: &["main 6", "main 8"] },
    Change { name: "user",               make: |site| replace(site, "RUN ls", "USER app\nRUN ls"), words: &[], runs: &["main 6", "main 8"] },
    Change { name: "file of a stage",    make: |site| site.write("tool.sh", "echo tool\n"), words: &[], runs: TOOL },
    Change { name: "network",            make: |_| Ok(()), words: &["--network", "none"], runs: ALL },
    Change { name: "base",               make: |site| Ok(fs::write(site.path("root/etc/group"), "")?), words: &[], runs: ALL },
    Change { name: "no-cache",           make: |_| Ok(()), words: &["--no-cache"], runs: ALL },
];

fn replace(site: &Site, from: &str, to: &str) -> Result<()> {
    ensure!(TEXT.contains(from), "the Containerfile has no {from:?}");
    write(site, &TEXT.replacen(from, to, 1))
}

/// Writes the package as it was built.
fn write_package(site: &Site) -> Result<()> {
    fs::remove_dir_all(site.own(""))?;
    fs::create_dir(site.own(""))?;
    // The times of its files belong to a base.
    let group = site.path("root/etc/group");
    fs::write(&group, "root:x:0:\n")?;
    set_time(&group)?;
    for (name, text) in [
        ("dir/a", "A"),
        ("dir/x.log", "A"),
        ("unused", "A"),
        (".dockerignore", "**/*.log\n"),
        ("tool.sh", "# first\necho tool\n"),
    ] {
        site.write(name, text)?;
        chmod(site, name, 0o644)?;
    }
    write(site, TEXT)
}

/// The instructions that `--dry-run` says would run.
fn answers(site: &Site, words: &[&str]) -> Result<Vec<String>> {
    let words = [&["--dry-run"], words].concat();
    let built = site.run(&mut without_machines(site, &words))?.is(0, &[])?;
    let step = |line: &str| {
        let (name, _) = line.strip_suffix(" (runs)")?.split_once('/')?;
        Some(name.to_owned())
    };
    let mut found: Vec<_> = built.stdout.lines().filter_map(step).collect();
    found.sort_unstable();
    Ok(found)
}

fn changes_run_instructions_again(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    write_package(&site)?;
    ensure!(answers(&site, &[])? == ALL);
    let built = build(&site, TEXT, &["-o", "o.tar"])?.is(0, &["o.tar: tar, "])?;
    ensure!(ran(&built) == ALL && kept(&built).is_empty(), "{built}");
    let bytes = fs::read(site.own("o.tar"))?;
    for Change { name, make, words, runs } in CHANGES {
        write_package(&site)?;
        make(&site).with_context(|| (*name).to_owned())?;
        let found = answers(&site, words)?;
        let found: Vec<_> = found.iter().map(|step| step.replace("other", "main")).collect();
        ensure!(found == *runs, "{name}: {found:?}");
    }

    // Nothing runs, and no machine starts: the output is kept, or made of the layers.
    write_package(&site)?;
    set_time_and_owner(&site, "dir/a")?;
    let again = || site.run(&mut without_machines(&site, &["-o", "o.tar"]));
    let built = again()?.is(0, &["o.tar: tar (kept)"])?;
    ensure!(ran(&built).is_empty() && fs::read(site.own("o.tar"))? == bytes, "{built}");
    for path in site.kept("output")? {
        fs::remove_file(path)?;
    }
    let built = again()?.is(0, &["o.tar: tar, "])?;
    ensure!(kept(&built) == ALL, "{built}");

    // The stage makes the same file as before, so the steps that copy it are kept, as the output is.
    site.write("tool.sh", "# second\necho tool\n")?;
    let built = build(&site, TEXT, &["-o", "o.tar"])?.is(0, &["o.tar: tar (kept)"])?;
    ensure!(ran(&built) == ["tool 2"], "{built}");
    // Another file.
    site.write("tool.sh", "echo other\n")?;
    let built = build(&site, TEXT, &["-o", "o.tar"])?.is(0, &["o.tar: tar, "])?;
    ensure!(ran(&built) == TOOL && kept(&built) == ["main 3", "main 5"], "{built}");
    ensure!(site.text("o.tar", "/three")? == "other\n");
    // A file of the context.
    chmod(&site, "dir/a", 0o755)?;
    let built = build(&site, TEXT, &["-o", "o.tar"])?.is(0, &["o.tar: tar, "])?;
    ensure!(ran(&built) == DIR && kept(&built) == ["main 3", "tool 2"], "{built}");

    let built = site.run(&mut command(&site, &["--no-cache", "-o", "o.tar"]))?.is(0, &[])?;
    ensure!(ran(&built) == ALL && kept(&built).is_empty(), "{built}");
    ensure!(answers(&site, &[])?.is_empty());
    Ok(())
}
