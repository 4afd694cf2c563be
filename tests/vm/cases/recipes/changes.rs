//! Which change of a recipe or its files makes which step run again, and what `--explain` says
//! about it. One build runs the steps; then `--dry-run` answers for each change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::site::{HEAD, Site, output, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("changes_run_steps_again", changes_run_steps_again),
];

/// What the three commands are said to do: steps 1, 3 and 4.
type Expected = [&'static str; 3];

/// A change, and what follows from it.
struct Change {
    name: &'static str,
    make: fn(&Site) -> Result<()>,
    /// Words of the command line.
    words: &'static [&'static str],
    expected: Expected,
}

const KEPT: Expected = ["kept", "kept", "kept"];
const INPUT: Expected = ["kept", "runs: the file in has changed", "runs: step 3 has changed"];
const SCRIPT: Expected = ["kept", "kept", "runs: the file script.sh has changed"];

#[rustfmt::skip]
const CHANGES: &[Change] = &[
    Change { name: "nothing",         make: |_| Ok(()), words: &[], expected: KEPT },
    Change { name: "comment",         make: |site| replace(site, "# here", "# there"), words: &[], expected: KEPT },
    Change { name: "label",           make: |site| replace(site, "label = \"first\"", "label = \"1\""), words: &[], expected: KEPT },
    Change { name: "form of the text", make: |site| replace(site, "A = \"1\"", "\"A\" = '1'"), words: &[], expected: KEPT },
    Change { name: "limits",          make: |site| replace(site, "[build]", "[build]\ntimeout = \"5m\"\nmemory = \"300M\"\ncpus = 1\ndisk = \"1G\""), words: &[], expected: KEPT },
    Change { name: "time and owner",  make: |site| set_time_and_owner(site, "in/a"), words: &[], expected: KEPT },
    Change { name: "output",          make: |site| replace(site, "o.tar", "other.erofs"), words: &[], expected: KEPT },
    Change { name: "contents",        make: |site| site.write("in/a", "B"), words: &[], expected: INPUT },
    Change { name: "mode",            make: |site| chmod(site, "in/a", 0o755), words: &[], expected: INPUT },
    Change { name: "name",            make: |site| Ok(fs::rename(site.own("in/a"), site.own("in/b"))?), words: &[], expected: INPUT },
    Change { name: "new name",        make: |site| site.write("in/new", ""), words: &[], expected: INPUT },
    Change { name: "target of a link", make: |site| link(site, "in/link", "two"), words: &[], expected: INPUT },
    Change { name: "script",          make: |site| site.write("script.sh", "#!/bin/sh\nexit 0\n"), words: &[], expected: SCRIPT },
    Change { name: "mode of a script", make: |site| chmod(site, "script.sh", 0o755), words: &[], expected: SCRIPT },
    Change { name: "file of a put",   make: |site| site.write("put.txt", "B"), words: &[], expected: ["kept", "runs: step 2 has changed", "runs: step 2 has changed"] },
    Change { name: "text",            make: |site| replace(site, "echo one", "echo  one"), words: &[], expected: ["runs: its text has changed", "runs: step 1 has changed", "runs: step 1 has changed"] },
    Change { name: "environment of a step", make: |site| replace(site, "A = \"1\"", "A = \"2\""), words: &[], expected: ["runs: its text has changed", "runs: step 1 has changed", "runs: step 1 has changed"] },
    Change { name: "environment",     make: |site| replace(site, "B = \"1\"", "B = \"2\""), words: &[], expected: ["runs: the environment of [build] has changed"; 3] },
    Change { name: "network",         make: |site| replace(site, "[build]", "[build]\nnetwork = \"user\""), words: &[], expected: ["runs: its network has changed"; 3] },
    Change { name: "host name",       make: |site| replace(site, "[build]", "[build]\nhostname = \"x\""), words: &[], expected: ["runs: the host name has changed"; 3] },
    Change { name: "caches",          make: |site| replace(site, "[build]", "[build]\ncache = [\"/x\"]"), words: &[], expected: ["runs: the caches and volumes of [build] has changed"; 3] },
    Change { name: "base",            make: |site| Ok(fs::write(site.path("root/etc/group"), "")?), words: &[], expected: ["runs: the base has changed"; 3] },
    Change { name: "from-step",       make: |_| Ok(()), words: &["--from-step", "3"], expected: ["kept", "runs: an option asks for it", "runs: an option asks for it"] },
    Change { name: "no-cache",        make: |_| Ok(()), words: &["--no-cache"], expected: ["runs: an option asks for it"; 3] },
];

fn replace(site: &Site, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(site.own("recipe.toml")).context("read the recipe")?;
    ensure!(text.contains(from), "the recipe has no {from:?}");
    site.write("recipe.toml", text.replace(from, to))
}

pub(crate) fn chmod(site: &Site, name: &str, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(site.own(name), fs::Permissions::from_mode(mode))?)
}

fn link(site: &Site, name: &str, target: &str) -> Result<()> {
    fs::remove_file(site.own(name))?;
    Ok(symlink(target, site.own(name))?)
}

pub(crate) fn set_time(path: &Path) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    Ok(file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?)
}

pub(crate) fn set_time_and_owner(site: &Site, name: &str) -> Result<()> {
    set_time(&site.own(name))?;
    Ok(chown(site.own(name), Some(7), Some(7))?)
}

/// Writes the package as it was built.
fn write_package(site: &Site) -> Result<()> {
    fs::remove_dir_all(site.own(""))?;
    fs::create_dir(site.own(""))?;
    // The times of its files belong to a base.
    let group = site.path("root/etc/group");
    fs::write(&group, "root:x:0:\n")?;
    set_time(&group)?;
    for (name, text) in [("in/a", "A"), ("put.txt", "A"), ("script.sh", "#!/bin/sh\ntrue\n")] {
        site.write(name, text)?;
        chmod(site, name, 0o644)?;
    }
    symlink("one", site.own("in/link"))?;
    let with =
        |settings: &str, step: &str| step.replace("[[step]]\n", &format!("[[step]]\n{settings}\n"));
    let steps = [
        with("label = \"first\"\nenv = { A = \"1\" }", &run("echo one")),
        "[[step]]\nput = \"put.txt\"\nto = \"/put\"\n".to_owned(),
        with("inputs = [\"in\"]", &run("ls /run/inputs/in")),
        "[[step]]\nscript = \"script.sh\"\n".to_owned(),
    ];
    let settings = "# here\n[build]\ntime = 1\nenv = { B = \"1\" }\n";
    site.write("recipe.toml", format!("{HEAD}{settings}{}{}", output("o.tar"), steps.concat()))
}

fn changes_run_steps_again(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    write_package(&site)?;
    let never = "runs: it was not built here yet";
    ensure!(answers(&site, &["--dry-run"])? == [never; 3].map(str::to_owned));
    let built = site.run(&mut site.command(&["--explain"]))?.is(0, &[])?;
    ensure!(built.ran() == [1, 3, 4] && built.stdout.matches(never).count() == 3, "{built}");
    for Change { name, make, words, expected } in CHANGES {
        write_package(&site)?;
        make(&site).with_context(|| (*name).to_owned())?;
        let found = answers(&site, &[&["--dry-run"], *words].concat())?;
        ensure!(found == expected.map(str::to_owned), "{name}: {found:?}");
    }
    // The steps do run.
    write_package(&site)?;
    chmod(&site, "in/a", 0o755)?;
    let built = site.run(&mut site.command(&["--explain"]))?.is(0, &[])?;
    ensure!(built.ran() == [3, 4] && built.stdout.contains(INPUT[1]), "{built}");
    ensure!(answers(&site, &["--dry-run"])? == KEPT.map(str::to_owned));
    Ok(())
}

/// What a build says about the three commands.
fn answers(site: &Site, words: &[&str]) -> Result<Vec<String>> {
    let built = site.run(&mut site.command(words))?.is(0, &[])?;
    let state = |line: &str| {
        let (_, state) = line.trim_end_matches(')').rsplit_once(" (")?;
        let is_command = line.trim_start().starts_with(['1', '3', '4']);
        is_command.then(|| state.to_owned())
    };
    Ok(built.stdout.lines().filter_map(state).collect())
}
