//! What steps do to files is in the image exactly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Result, ensure};

use super::site::{Site, output, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("files_are_as_steps_leave_them", files_are_as_steps_leave_them),
    ("recipe_on_a_recipe",            recipe_on_a_recipe),
];

/// Names of the base that the steps change or remove.
fn add_base(site: &Site) -> Result<()> {
    let root = site.path("root");
    for dir in ["gone", "again/sub", "kept", "usr/lib"] {
        fs::create_dir_all(root.join(dir))?;
    }
    for file in ["gone/a", "again/sub/old", "again/old", "kept/a", "kept/b", "single", "was-file"] {
        fs::write(root.join(file), "base\n")?;
    }
    fs::hard_link(root.join("kept/a"), root.join("kept/same"))?;
    symlink("usr/lib", root.join("lib"))?;
    fs::set_permissions(root.join("kept"), fs::Permissions::from_mode(0o750))?;
    Ok(())
}

/// Additions.
const FIRST: &str = "umask 077
echo x > /new; chown 1000:4000000 /new; chmod 6751 /new
ln /new /same; mv /same /moved; ln -s /nowhere/../x /dangling
mkdir /sticky; chmod 1777 /sticky; chown app:staff /sticky
mknod /null c 1 3; chmod 666 /null; mknod /disk b 254 300; mkfifo /pipe
echo lib > /lib/through-a-link
chown 7:8 /kept
touch -d '2030-01-01 00:00:00' /future";

/// Removals, replacements, and files of the step before.
const SECOND: &str = "rm -r /gone; rm /single
rm -r /again; mkdir /again; echo new > /again/new
rm /kept/b; echo changed >> /kept/a
rm /was-file; mkdir /was-file; echo in > /was-file/in
chmod 640 /null; rm /pipe
mkdir /temporary; rm -r /temporary; echo gone > /tmp/x; rm /tmp/x";

/// The names that the steps have made or changed, and what they are.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str)] = &[
    ("again",       "dir 755 0:0"),
    ("again/new",   "file 644 0:0"),
    ("dangling",    "link 777 0:0 -> /nowhere/../x"),
    ("disk",        "block 600 0:0 254:300"),
    ("future",      "file 600 0:0"),
    ("kept",        "dir 750 7:8"),
    ("kept/a",      "file 644 0:0"),
    ("lib",         "link 777 0:0 -> usr/lib"),
    ("null",        "char 640 0:0 1:3"),
    ("sticky",      "dir 1777 1000:50"),
    ("usr/lib/through-a-link", "file 600 0:0"),
    ("was-file",    "dir 755 0:0"),
    ("was-file/in", "file 644 0:0"),
    ("xattr",       "file 644 0:0 user.name=\"value\""),
];

fn files_are_as_steps_leave_them(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    add_base(&site)?;
    // busybox has no program that sets an extended attribute; the second step copies it.
    let file = site.path("root/attributed");
    fs::write(&file, "x")?;
    let set = std::process::Command::new("setfattr")
        .args(["-n", "user.name", "-v", "value"])
        .arg(&file)
        .status();
    let has_attributes = set.is_ok_and(|status| status.success());
    let third = "mv /attributed /xattr; find / -xdev -name '.wh*' | wc -l > /whiteouts";
    let text = format!("{}{}{}{}", output("o.tar"), run(FIRST), run(SECOND), run(third));
    let before = listing(&site, &format!("{}{}", output("base.tar"), ""), "base.tar")?;
    let built = site.build(&text, &[])?.is(0, &[])?;
    ensure!(built.ran() == [1, 2, 3], "{built}");
    let now = site.archive("o.tar")?;
    for (path, expected) in EXPECTED.iter().filter(|(path, _)| has_attributes || *path != "xattr") {
        let found = now.get(*path).map(String::as_str);
        ensure!(found == Some(expected), "{path}: {found:?} instead of {expected}");
    }
    // Two names of one file, whichever comes first.
    let links = ["new", "moved"].map(|name| now.get(name).cloned().unwrap_or_default());
    let links = links.each_ref().map(String::as_str);
    ensure!(
        matches!(links, ["hard 6751 1000:4000000 -> moved", "file 6751 1000:4000000"]),
        "hard links: {links:?}"
    );
    let [changed, same] = ["kept/a", "kept/same"].map(|name| site.text("o.tar", name));
    ensure!(changed? == "base\nchanged\n", "kept/a has not changed");
    // Overlayfs copies a file of a lower layer under one of its names (kernel doc
    // filesystems/overlayfs, "Non-standard behavior").
    ensure!(same? == "base\n", "kept/same has changed");
    // Nothing else has changed, and nothing of the machine is there.
    let is_expected = |path: &str| {
        let is_listed = EXPECTED.iter().any(|(name, _)| *name == path);
        is_listed || ["new", "moved", "whiteouts"].contains(&path)
    };
    let gone = [
        "gone",
        "gone/a",
        "single",
        "again/old",
        "again/sub",
        "again/sub/old",
        "kept/b",
        "attributed",
        "was-file",
    ];
    for (path, old) in &before {
        match gone.contains(&path.as_str()) {
            true => ensure!(path == "was-file" || !now.contains_key(path), "{path} is still there"),
            false => ensure!(
                is_expected(path) || path == "kept/same" || now.get(path) == Some(old),
                "{path} has changed: {:?}",
                now.get(path)
            ),
        }
    }
    let new: Vec<_> =
        now.keys().filter(|path| !before.contains_key(*path) && !is_expected(path)).collect();
    ensure!(new.is_empty(), "new names: {new:?}");
    ensure!(site.text("o.tar", "/whiteouts")?.trim() == "0", "a step sees whiteouts");
    Ok(())
}

/// What the output of a recipe without commands has.
fn listing(site: &Site, text: &str, name: &str) -> Result<BTreeMap<String, String>> {
    site.build(text, &[])?.is(0, &[])?;
    site.archive(name)
}

/// The steps of the lower recipe run first, with its settings, and are kept for all upper ones.
fn recipe_on_a_recipe(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let lower = format!(
        "version = 1\nfrom.dir = \"../../root\"\nbuild.env = {{ WORD = \"lower\" }}\nrun.command = [\"/bin/echo\", \"lower\"]\n{}",
        run("echo $WORD > /word; cat /run/inputs/file > /lower")
            .replace("[[step]]\n", "[[step]]\ninputs = [\"file\"]\n")
    );
    site.write("lower/recipe.toml", &lower)?;
    site.write("lower/file", "of the lower\n")?;
    site.write("file", "of the upper\n")?;
    let head =
        "version = 1\nfrom.recipe = \"lower/recipe.toml\"\nbuild.env = { OTHER = \"upper\" }\n";
    let step = run("echo ${WORD-unset} $OTHER > /upper; cat /word /run/inputs/file >> /upper");
    let step = step.replace("[[step]]\n", "[[step]]\ninputs = [\"file\"]\n");
    let upper = |more: &str| format!("{head}{}{more}{step}", output("o.tar"));
    site.write("recipe.toml", upper(""))?;
    let built = site.run(&mut site.command(&[]))?.is(0, &[])?;
    ensure!(built.ran() == [1, 2], "{built}");
    ensure!(site.text("o.tar", "/lower")? == "of the lower\n");
    let text = site.text("o.tar", "/upper")?;
    ensure!(text == "unset upper\nlower\nof the upper\n", "{text}");
    site.write("recipe.toml", upper(&run("echo more > /more")))?;
    let built = site.run(&mut site.command(&[]))?.is(0, &["step 1: run echo $WORD > /word"])?;
    ensure!(built.ran() == [2, 3], "{built}");
    // A step of the lower recipe that fails is named by its own file.
    site.write("lower/recipe.toml", lower.replace("echo $WORD", "exit 7; echo"))?;
    let built = site.run(&mut site.command(&[]))?;
    built.is(1, &["lower/recipe.toml:", "step 1 (run exit 7", "exit status 7"]).map(drop)
}
