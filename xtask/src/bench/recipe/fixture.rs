//! A package to measure with: a recipe that installs made-up Debian packages on the tests' Debian.
//!
//! The packages are built with dpkg-deb(1), so nothing is downloaded. Each has a few small files;
//! installing them takes what apt and dpkg take for a package, which is most of a real install.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::super::subject::output;

/// Number of packages.
const PACKAGES: usize = 10;
/// Files of a package.
const FILES: usize = 20;
/// Lines of a file.
const LINES: usize = 200;

/// Name of the output.
pub(super) const OUTPUT: &str = "root.erofs";

/// Command that prints what differs between two boots (random(4)).
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// Makes the packages in `dir`.
///
/// # Errors
/// dpkg-deb is missing or fails; a file cannot be written.
pub(super) fn write_packages(dir: &Path) -> Result<()> {
    let debs = dir.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("make {}", debs.display()))?;
    for number in 0..PACKAGES {
        let tree = dir.join("tree");
        let (control, data) = (tree.join("DEBIAN"), tree.join(format!("usr/share/bench/{number}")));
        for dir in [&control, &data] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        fs::write(control.join("control"), control_file(number)).context("write a control file")?;
        for file in 0..FILES {
            let line = format!("{number} {file}\n");
            fs::write(data.join(file.to_string()), line.repeat(LINES)).context("write a file")?;
        }
        let mut command = Command::new("dpkg-deb");
        command.args(["--build", "--root-owner-group"]).arg(&tree).arg(&debs);
        output(&mut command).context("build a package (Debian: dpkg)")?;
        fs::remove_dir_all(&tree).context("remove the tree of a package")?;
    }
    Ok(())
}

/// Text of `DEBIAN/control` (deb-control(5)). Each package needs the one before it.
fn control_file(number: usize) -> String {
    let depends = match number.checked_sub(1) {
        Some(before) => format!("Depends: bench-{before}\n"),
        None => String::new(),
    };
    format!(
        "Package: bench-{number}\nVersion: 1.0\nArchitecture: all\n{depends}\
         Maintainer: Nobody <nobody@localhost>\nDescription: files to measure with\n"
    )
}

/// Writes the recipe: three commands with an edit between them. The last command makes a file
/// that contains `word`.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_recipe(dir: &Path, root: &Path, word: &str) -> Result<()> {
    // A JSON string is a TOML string, too.
    let root = json!(root.to_str().context("a root whose path is UTF-8")?);
    let text = format!(
        "version = 1\nfrom.dir = {root}\n\
         [[step]]\ninputs = ['debs']\nenv = {{ DEBIAN_FRONTEND = 'noninteractive' }}\n\
         run = '''\n{BOOT_ID}\napt-get install -qq -y /run/inputs/debs/*.deb > /dev/null\n'''\n\
         [[step]]\nrun = '{BOOT_ID}; dpkg -L bench-0 > /etc/bench'\n\
         [[step]]\ntext = 'bench'\nto = '/etc/motd'\n\
         [[step]]\nrun = '{BOOT_ID}; echo {word} > /etc/last'\n\
         [[output]]\nfile = '{OUTPUT}'\n"
    );
    fs::write(dir.join("recipe.toml"), text).context("write the recipe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_has_the_root_and_the_word() {
        let dir = tempfile::tempdir().unwrap();
        write_recipe(dir.path(), Path::new("/a 'root'"), "word").unwrap();
        let text = fs::read_to_string(dir.path().join("recipe.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["from"]["dir"].as_str(), Some("/a 'root'"));
        assert_eq!(table["step"].as_array().map(Vec::len), Some(4));
        assert!(table["step"][3]["run"].as_str().unwrap().contains("echo word >"));
    }

    #[test]
    fn each_package_needs_the_one_before() {
        assert!(!control_file(0).contains("Depends"));
        assert!(control_file(2).contains("Depends: bench-1\n"));
    }
}
