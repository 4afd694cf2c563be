//! Which steps a build runs, and which it takes from an earlier one.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::live::Live;
use super::site::{HEAD, Site, output, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("kept_steps_do_not_run",    kept_steps_do_not_run),
    ("one_boot_serves_all_steps", one_boot_serves_all_steps),
    ("builds_at_the_same_time",  builds_at_the_same_time),
    ("more_layers_than_disks",   more_layers_than_disks),
];

/// A script that tells in the file `name` in which machine, and when in it, the step ran.
fn marked(name: &str) -> String {
    run(&format!("cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid > /{name}"))
}

/// The marks of three steps.
fn marks(site: &Site) -> Result<[String; 3]> {
    Ok([site.text("o.tar", "/one")?, site.text("o.tar", "/two")?, site.text("o.tar", "/three")?])
}

/// Indexes of marks that are different.
fn changed(before: &[String; 3], now: &[String; 3]) -> Vec<usize> {
    (0..3).filter(|&index| before.get(index) != now.get(index)).collect()
}

fn kept_steps_do_not_run(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("file", "contents\n")?;
    let put = "[[step]]\nput = \"file\"\nto = \"/etc/file\"\n";
    let text = |label: &str, put: &str| {
        let [one, two, three] = ["one", "two", "three"].map(marked);
        format!("{}{one}{label}{put}{two}{three}", output("o.tar"))
    };
    let first = site.build(&text("", put), &[])?.is(0, &["o.tar: tar, "])?;
    ensure!(first.ran() == [1, 3, 4], "{first}");
    let all = marks(&site)?;
    let bytes = fs::read(site.own("o.tar"))?;

    // Neither steps nor the output: the file is that of the first build, also under another name.
    for text in [text("", put), text("# a comment\nlabel = \"first\"\n", put)] {
        fs::remove_file(site.own("o.tar"))?;
        let built = site.build(&text, &[])?.is(0, &["o.tar: tar (kept)"])?;
        ensure!(built.ran().is_empty(), "{built}");
        ensure!(fs::read(site.own("o.tar"))? == bytes, "the kept output is another one");
    }
    // The layers alone.
    for path in site.kept("output")? {
        fs::remove_file(path)?;
    }
    let built = site.build(&text("", put), &[])?.is(0, &["step 1: ", "o.tar: tar, "])?;
    ensure!(built.ran().is_empty() && built.stderr.matches(" (kept)\n").count() == 3, "{built}");
    ensure!(fs::read(site.own("o.tar"))? == bytes, "the output is another one");

    // A layer in the middle.
    let [_, two, _] = &all;
    let mut removed = 0;
    for path in site.kept("layer")? {
        if contains(&fs::read(&path)?, two.as_bytes()) {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    ensure!(removed == 1, "{removed} layers have the second mark");
    fs::remove_file(site.own("o.tar"))?;
    for path in site.kept("output")? {
        fs::remove_file(path)?;
    }
    let built = site.build(&text("", put), &["--explain"])?.is(0, &[])?;
    ensure!(built.ran() == [3, 4], "{built}");
    for reason in ["(runs: its layer is not kept any more)", "(runs: step 3 runs)"] {
        ensure!(built.stdout.contains(reason), "no {reason:?}: {built}");
    }
    let mut before = marks(&site)?;
    ensure!(changed(&all, &before) == [1, 2], "the first step ran");

    // What options ask for.
    for (option, steps, expected) in [
        (&["--from-step", "4"][..], &[4][..], &[2][..]),
        (&["--from-step=2"], &[3, 4], &[1, 2]),
        (&["--no-cache"], &[1, 3, 4], &[0, 1, 2]),
    ] {
        let built = site.build(&text("", put), option)?.is(0, &[])?;
        let now = marks(&site)?;
        ensure!(built.ran() == steps && changed(&before, &now) == expected, "{option:?}: {built}");
        before = now;
    }
    // What that has made is kept in place of the old.
    fs::remove_file(site.own("o.tar"))?;
    let built = site.build(&text("", put), &[])?.is(0, &[])?;
    ensure!(built.ran().is_empty() && marks(&site)? == before, "{built}");

    // A file between two steps.
    site.write("file", "other contents\n")?;
    let built = site.build(&text("", put), &["--explain"])?.is(0, &[])?;
    ensure!(built.ran() == [3, 4] && changed(&before, &marks(&site)?) == [1, 2], "{built}");
    ensure!(built.stdout.contains("(runs: step 2 has changed)"), "{built}");
    ensure!(site.text("o.tar", "/etc/file")? == "other contents\n");
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Three commands with other steps between them run in one machine, and see each other's files.
fn one_boot_serves_all_steps(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("dir/a", "put\n")?;
    let boot = "cat /proc/sys/kernel/random/boot_id >> /boots";
    let text = [
        output("o.tar"),
        run(&format!("{boot}; mkdir /d; echo one > /d/one")),
        "[[step]]\nput = \"dir\"\nto = \"/d\"\n[[step]]\ntext = \"text\"\nto = \"/d/text\"\n"
            .to_owned(),
        run(&format!("{boot}; cat /d/one /d/a /d/text > /two; rm /d/one")),
        "[[step]]\nremove = [\"/d/a\"]\n[[step]]\nlink = \"text\"\nto = \"/d/link\"\n".to_owned(),
        run(&format!("{boot}; ls /d > /three; cat /d/link >> /three")),
        "[[step]]\nmkdir = \"/last\"\n".to_owned(),
    ]
    .concat();
    let built = site.build(&text, &[])?.is(0, &[])?;
    ensure!(built.ran() == [1, 4, 7], "{built}");
    let boots = site.text("o.tar", "/boots")?;
    let lines: Vec<_> = boots.lines().collect();
    ensure!(matches!(*lines, [a, b, c] if a == b && b == c), "several machines: {lines:?}");
    ensure!(site.text("o.tar", "/two")? == "one\nput\ntext");
    ensure!(site.text("o.tar", "/three")? == "link\ntext\ntext");
    ensure!(site.archive("o.tar")?.contains_key("last"), "the last step is missing");
    Ok(())
}

/// Two builds of one recipe, each with its machine: both succeed, and what is kept is whole.
fn builds_at_the_same_time(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let text = [
        format!("build.cache = [\"/cache\"]\n{}", output("o.tar")),
        run("echo one > /one; seq 100000 > /many; echo x >> /cache/log"),
        run("sha256sum < /many > /sum"),
    ]
    .concat();
    site.write("recipe.toml", format!("{HEAD}{text}"))?;
    let start = |file| Live::start(&mut site.command(&["-o", file]));
    let (first, second) = (start("a.tar")?, start("b.tar")?);
    let ended = [first.finish()?, second.finish()?];
    for built in ended {
        built.is(0, &[]).context("one of two builds")?;
    }
    site.leaves_nothing()?;
    ensure!(site.text("a.tar", "/sum")? == site.text("b.tar", "/sum")?);
    let built = site.build(&text, &[])?.is(0, &[])?;
    ensure!(built.ran().is_empty(), "{built}");
    ensure!(site.text("o.tar", "/sum")? == site.text("a.tar", "/sum")?);
    Ok(())
}

/// A machine has few disks; a recipe may have more steps, and more files between them.
fn more_layers_than_disks(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let pair = |number: usize| {
        let text = format!("[[step]]\ntext = \"{number}\\n\"\nto = \"/put\"\n");
        format!("{text}{}", run("cat /put >> /all; sleep 0"))
    };
    for pairs in [1..=20, 1..=21] {
        let last = *pairs.end();
        let text: String = pairs.clone().map(pair).collect();
        let built = site.build(&format!("{}{text}", output("o.tar")), &[])?.is(0, &[])?;
        let ran = if last == 20 { 20 } else { 1 };
        ensure!(built.ran().len() == ran, "{built}");
        ensure!(
            site.text("o.tar", "/all")? == crate::harness::programs::numbers(u32::try_from(last)?)
        );
    }
    Ok(())
}
