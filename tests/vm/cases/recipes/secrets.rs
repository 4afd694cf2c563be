//! Secrets are seen by the steps that name them, and by nobody else.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use super::live::Live;
use super::site::{HEAD, Site, run};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("secrets_are_in_their_step_only", secrets_are_in_their_step_only),
    ("missing_secret_is_named",        missing_secret_is_named),
];

/// Secrets of an environment variable and of a file. The wrong words must not be anywhere.
const OF_VARIABLE: &str = "Zaphod-8d1f-of-the-variable";
const OF_FILE: &str = "Trillian-77ab-of-the-file";

/// Both are there, private, and have their bytes; the checksums are all that stays.
const NAMING: &str = "cd /run/secrets; ls > /names
stat -c '%a %u:%g %n' * > /modes
wc -c token key > /sizes
echo scanned; sleep 2";

fn text() -> String {
    let secrets =
        "[build.secrets]\ntoken = { env = \"TEST_TOKEN\" }\nkey = { file = \"../key\" }\n";
    let outputs =
        "[[output]]\nfile = \"o.tar\"\n[[output]]\nfile = \"o.erofs\"\ncompress = \"none\"\n";
    let named =
        |script, words: &str| run(script).replace("[[step]]\n", &format!("[[step]]\n{words}\n"));
    [
        format!("manifest = \"m.json\"\n{secrets}{outputs}"),
        named(NAMING, "secrets = [\"token\", \"key\"]"),
        named("ls /run/secrets > /one; stat -c '%a %u' /run/secrets/key >> /one; test -r /run/secrets/key",
            "secrets = [\"key\"]\nuser = \"app\"").replace("/one", "/tmp/one"),
        run("test ! -e /run/secrets/key; test ! -e /run/secrets/token; ls -A /run > /run-names"),
    ]
    .concat()
}

fn secrets_are_in_their_step_only(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    // The template of the machine must not have them, either.
    fs::remove_file(site.path("cache/virtinitrd/warm"))?;
    fs::write(site.path("key"), OF_FILE)?;
    fs::set_permissions(
        site.path("root/tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )?;
    site.write("recipe.toml", format!("{HEAD}{}", text()))?;
    let mut command = site.command(&["--explain"]);
    let mut live = Live::start(command.env("TEST_TOKEN", OF_VARIABLE))?;
    live.wait_for("scanned")?;
    for line in command_lines()? {
        ensure!(!line.contains(OF_VARIABLE) && !line.contains(OF_FILE), "{line}");
    }
    let built = live.finish()?.is(0, &[])?.lacks(OF_VARIABLE)?.lacks(OF_FILE)?;
    site.leaves_nothing()?;
    ensure!(built.ran() == [1, 2, 3], "{built}");
    for (file, expected) in [
        ("/names", "key\ntoken\n".to_owned()),
        ("/modes", "400 0:0 key\n400 0:0 token\n".to_owned()),
        ("/tmp/one", "key\n400 1000\n".to_owned()),
    ] {
        let found = site.text("o.tar", file)?;
        ensure!(found == expected, "{file}: {found}");
    }
    let sizes = site.text("o.tar", "/sizes")?;
    let words: Vec<_> = sizes.split_whitespace().take(3).collect();
    let expected = [OF_VARIABLE.len().to_string(), OF_FILE.len().to_string()];
    ensure!(matches!(*words, [a, "token", b] if expected == [a, b]), "{sizes}");
    ensure!(!site.text("o.tar", "/run-names")?.contains("secrets"), "the directory is left");
    for secret in [OF_VARIABLE, OF_FILE] {
        let mut search = Command::new("grep");
        search.args(["--recursive", "--text", "--files-with-matches", "--fixed-strings", secret]);
        let found = search.args([site.path("package"), site.path("cache")]).output()?;
        ensure!(found.status.code() == Some(1), "{found:?} has {secret}");
    }
    // Another value does not make the step run, and a kept step needs no value.
    let built = site.run(&mut site.command(&[]))?.is(0, &[])?;
    ensure!(built.ran().is_empty(), "{built}");
    Ok(())
}

/// The command lines of all processes.
fn command_lines() -> Result<Vec<String>> {
    let paths = fs::read_dir("/proc")?.flatten().map(|entry| entry.path().join("cmdline"));
    let lines = paths.filter_map(|path| fs::read(path).ok());
    Ok(lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect())
}

fn missing_secret_is_named(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let built = site.build(&text().replace("../key", "../none"), &[])?;
    ensure!(built.status != 0 && !site.own("o.tar").exists(), "{built}");
    built.is(125, &["secret token: the variable TEST_TOKEN is not set"])?;
    let mut command = site.command(&[]);
    let built = site.run(command.env("TEST_TOKEN", "x"))?;
    built.is(125, &["secret key: read ", "none"]).map(drop)
}
