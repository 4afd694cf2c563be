//! What a build would do, and outputs that are kept.

use std::fs;

use super::{WRONG_RECIPE, build, fails, succeeds};
use crate::images::bench::Bench;

const TEXT: &str = "from.dir = \"base\"
[[step]]
run = \"\"\"
make it
at once\"\"\"
[[step]]
text = \"x\"
to = \"/x\"
[[step]]
argv = [\"/bin/tool\", \"a word\"]
label = \"the tool\"
[[output]]
file = \"o.tar\"
[[output]]
file = \"o.erofs\"
";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("base/etc/passwd", "x");
    bench
}

/// Names in the directory of the bench.
fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path(".")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn dry_run_prints_the_steps_and_builds_nothing() {
    let bench = bench();
    let output = build(&bench, TEXT, &["--dry-run"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = "  1  run make it … (runs: it was not built here yet)
  2  text to /x (needs no machine)
  3  the tool (runs: it was not built here yet)
  -> DIR/o.tar (tar)
  -> DIR/o.erofs (erofs)
";
    let dir = bench.path(".").canonicalize().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.replace(dir.to_str().unwrap(), "DIR"), expected);
    assert!(output.stderr.is_empty());
    assert_eq!(names(&bench), ["base", "home", "recipe.toml"]);
}

#[test]
fn check_reads_a_recipe_and_its_files() {
    let bench = bench();
    bench.write("recipe.toml", format!("version = 1\n{TEXT}"));
    assert_eq!(bench.prints(&["check", "recipe.toml"]), "recipe.toml: 3 steps, 2 outputs\n");
    bench.write("recipe.toml", "version = 1\nx = 1\n");
    let message = fails(bench.command(&["check", "recipe.toml"]), WRONG_RECIPE);
    assert!(message.starts_with("error: recipe.toml:2:1: "), "{message}");
    bench.write("recipe.toml", "version = 1\n[[step]]\nput = \"none\"\nto = \"/x\"\n");
    let message = bench.fails(&["check", "recipe.toml"]);
    assert!(message.contains("recipe.toml:2:1: "), "{message}");
}

/// Whether a change of the recipe or its files makes another output.
#[test]
fn an_output_is_kept_until_something_changes() {
    let bench = bench();
    let base = "from.dir = \"base\"\n";
    let step = "[[step]]\nput = \"dir\"\nto = \"/d\"\n";
    let output = "[[output]]\nfile = \"o.erofs\"\n";
    bench.write("dir/a", "contents");
    let text = format!("{base}{output}{step}");
    let is_kept = |text: &str| {
        let message = succeeds(build(&bench, text, &[]));
        match message.contains("o.erofs: erofs (kept), ") {
            true => true,
            false if message.contains("o.erofs: erofs, ") => false,
            false => panic!("{message}"),
        }
    };
    assert!(!is_kept(&text));
    let bytes = fs::read(bench.path("o.erofs")).unwrap();
    for same in [
        text.clone(),
        format!("# a comment\n{text}# another\n"),
        format!("{text}label = \"a name\"\n"),
        format!("name = \"x\"\n{text}"),
        format!("{base}{}{step}", output.replace("o.erofs", "./o.erofs")),
    ] {
        fs::remove_file(bench.path("o.erofs")).unwrap();
        assert!(is_kept(&same), "{same}");
        assert!(fs::read(bench.path("o.erofs")).unwrap() == bytes, "{same}");
    }
    for other in [
        format!("{text}mode = \"0600\"\n"),
        format!("{text}owner = \"1\"\n"),
        format!("build.time = 7\n{text}"),
        format!("{base}{output}label = \"ROOT\"\n{step}"),
        format!("{base}{output}exclude = [\"x\"]\n{step}"),
        format!("{base}{output}{}", step.replace("/d", "/e")),
        format!("{base}{output}{step}[run]\nargs = [\"x\"]\n"),
    ] {
        assert!(!is_kept(&other), "{other}");
        assert!(is_kept(&other), "{other}");
    }
    // Files: contents, names, modes, targets of links; neither times nor the way back.
    let path = bench.path("dir/a");
    fs::write(&path, "CONTENTS").unwrap();
    assert!(!is_kept(&text));
    fs::write(&path, "contents").unwrap();
    assert!(is_kept(&text), "the same contents");
    fs::rename(&path, bench.path("dir/b")).unwrap();
    assert!(!is_kept(&text), "another name");
    fs::rename(bench.path("dir/b"), &path).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(!is_kept(&text), "another mode");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("one", &path).unwrap();
    assert!(!is_kept(&text), "a link");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("two", &path).unwrap();
    assert!(!is_kept(&text), "another target");
    bench.write("base/etc/passwd", "another base");
    assert!(!is_kept(&text), "another base");
    assert!(is_kept(&text));
    let message = succeeds(build(&bench, &text, &["--no-cache"]));
    assert!(message.contains("o.erofs: erofs, "), "{message}");
}

/// Nothing is kept, and nothing is missing, without a directory that can be written.
#[test]
fn a_cache_is_not_needed() {
    let bench = bench();
    let text = "from.dir = \"base\"\n[[output]]\nfile = \"o.tar\"\n";
    bench.write("no-directory", "");
    for (name, value) in [("XDG_CACHE_HOME", Some("no-directory")), ("HOME", None)] {
        let mut command = build(&bench, text, &[]);
        match value {
            Some(value) => command.env(name, bench.path(value)),
            None => command.env_remove(name),
        };
        let message = succeeds(command);
        assert!(message.contains("o.tar: tar, "), "{name}: {message}");
        fs::remove_file(bench.path("o.tar")).unwrap();
    }
}

#[test]
fn two_builds_for_a_comparison_leave_nothing() {
    let bench = bench();
    let text = "from.dir = \"base\"
[[step]]
text = \"x\"
to = \"/x\"
[[output]]
file = \"o.tar\"
[[output]]
file = \"d/\"
";
    let before = {
        bench.write("recipe.toml", "");
        names(&bench)
    };
    let output = build(&bench, text, &["--check"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "d: the same bytes twice\no.tar: the same bytes twice\n");
    assert_eq!(names(&bench), before);
    assert!(!bench.path("home/virtinitrd/steps").exists());
}

#[test]
fn a_pattern_is_one_even_if_one_file_matches() {
    let bench = bench();
    bench.write("a/app.conf", "a");
    let text = |pattern: &str| {
        format!("[[step]]\nput = \"{pattern}\"\nto = \"/conf\"\n[[output]]\nfile = \"o.tar\"\n")
    };
    succeeds(build(&bench, &text("a/*"), &[]));
    assert_eq!(bench.prints(&["cat", "o.tar", "/conf/app.conf"]), "a");
    bench.write("b/app.conf", "b");
    let message = fails(build(&bench, &text("[ab]/app.conf"), &[]), WRONG_RECIPE);
    assert!(message.contains("two files are called app.conf"), "{message}");
}
