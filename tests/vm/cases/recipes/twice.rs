//! The same bytes from the same recipe: twice, on another day, and for another user.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use virtinitrd_vm_tests::tool;

use super::site::{HEAD, Site, output, run};
use crate::harness::make::user::{RANGES, UID, UserBed, give, open_to_all};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("same_bytes_twice",        same_bytes_twice),
    ("check_finds_a_difference", check_finds_a_difference),
];

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("same_bytes_for_a_user",   same_bytes_for_a_user),
];

/// Steps whose result depends on nothing outside.
fn steady() -> String {
    [
        "build.time = 1700000000\n".to_owned(),
        output("o.tar") + &output("o.erofs") + &output("o.cpio.zst"),
        run("mkdir -p /d/sub; seq 2000 > /d/numbers; echo x > /d/sub/x; chown -R 5:6 /d; touch /d/last"),
        "[[step]]\nput = \"dir\"\nto = \"/opt\"\n".to_owned(),
        run("cat /opt/* > /all; rm /etc/group"),
    ]
    .concat()
}

const FILES: [&str; 3] = ["o.tar", "o.erofs", "o.cpio.zst"];

/// The bytes of all outputs.
fn bytes(site: &Site) -> Result<Vec<Vec<u8>>> {
    FILES
        .iter()
        .map(|name| fs::read(site.own(name)).with_context(|| format!("read {name}")))
        .collect()
}

fn same_bytes_twice(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("dir/a", "a\n")?;
    site.build(&steady(), &[])?.is(0, &[])?;
    let first = bytes(&site)?;
    let built = site.build(&steady(), &["--no-cache"])?.is(0, &[])?;
    ensure!(built.ran() == [1, 3], "{built}");
    ensure!(bytes(&site)? == first, "another build gives other bytes");
    let built = site.build(&steady(), &["--check"])?.is(0, &[])?;
    let expected = "o.cpio.zst: the same bytes twice\no.erofs: the same bytes twice\no.tar: the same bytes twice\n";
    ensure!(built.stdout == expected, "{built}");
    ensure!(bytes(&site)? == first, "--check changes the outputs");
    Ok(())
}

fn check_finds_a_difference(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let text =
        [output("o.tar"), run("date > /etc/when; date -r /etc/when > /dev/null; echo x > /same")];
    let built = site.build(&text.concat(), &["--check"])?;
    let built = built.is(1, &[])?.lacks("same\n")?;
    ensure!(built.stdout.contains("o.tar: not the same bytes twice\n"), "{built}");
    ensure!(
        built.stdout.lines().any(|line| line.starts_with("  ") && line.contains("etc/when")),
        "{built}"
    );
    ensure!(!site.own("o.tar").exists(), "--check writes an output");
    Ok(())
}

fn same_bytes_for_a_user(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("dir/a", "a\n")?;
    site.build(&steady(), &[])?.is(0, &[])?;
    let first = bytes(&site)?;
    for name in FILES {
        fs::remove_file(site.own(name))?;
    }
    let user = UserBed::new(bed, RANGES)?;
    give_to_user(&site)?;
    site.write("recipe.toml", format!("{HEAD}{}", steady()))?;
    let built = site.run(&mut user_command(&site, &user, bed, &["recipe.toml"])?)?.is(0, &[])?;
    ensure!(built.ran() == [1, 3], "{built}");
    ensure!(bytes(&site)? == first, "a user's build gives other bytes");
    Ok(())
}

/// Gives the directories of a site to the user, but the root: the owners of its files are part of
/// the image, so both builds read the same one.
pub(crate) fn give_to_user(site: &Site) -> Result<()> {
    open_to_all(&site.path(""))?;
    fs::create_dir(site.path("user"))?;
    for name in ["package", "home", "tmp", "user"] {
        give(&site.path(name), UID)?;
        open_to_all(&site.path(name))?;
    }
    Ok(())
}

/// `chrootvm image build WORDS` in the package as the user, with a cache of its own.
pub(crate) fn user_command(
    site: &Site,
    user: &UserBed,
    bed: &Bed,
    words: &[&str],
) -> Result<Command> {
    let mut command = tool("setpriv");
    command.args([format!("--reuid={UID}"), format!("--regid={UID}"), "--clear-groups".to_owned()]);
    command.arg(user.bed.workspace.join("target/release/chrootvm"));
    command.args(["image", "build"]).args(words).arg("--kernel").arg(&user.bed.kernel.image);
    command.arg("--modules").arg(modules(user, bed)?);
    site.set_surroundings(&mut command);
    command.env("XDG_CACHE_HOME", site.path("user"));
    Ok(command)
}

/// A copy of the kernel's modules that the user can read.
fn modules(user: &UserBed, bed: &Bed) -> Result<std::path::PathBuf> {
    let from = &bed.kernel.modules;
    let to = user.bed.workspace.join(from.file_name().context("modules without a name")?);
    if to.exists() {
        return Ok(to);
    }
    let status = Command::new("cp").arg("-r").arg(from).arg(&to).status()?;
    ensure!(status.success(), "cp has failed");
    Ok(to)
}
