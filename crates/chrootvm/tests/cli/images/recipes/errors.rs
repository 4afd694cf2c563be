//! Mistakes in recipes: the place and the status, and nothing is written.

use std::fs;
use std::os::unix::fs::symlink;

use super::{OTHER, WRONG_RECIPE, build, fails};
use crate::images::bench::Bench;

/// A package with a base and an output; the recipe's version is line 1.
fn bench() -> Bench {
    let bench = Bench::new();
    for name in ["base/etc/passwd", "file", "dir/x", "outside/secret"] {
        bench.write(name, "x");
    }
    fs::create_dir(bench.path("pkg")).unwrap();
    symlink("../outside", bench.path("pkg/out")).unwrap();
    symlink("../outside/secret", bench.path("pkg/secret")).unwrap();
    bench
}

/// Text behind `version = 1`, and parts of the message.
type Case = (&'static str, &'static [&'static str]);

/// Mistakes of the text.
#[rustfmt::skip]
const WRONG: &[Case] = &[
    ("nmae = \"x\"",                               &["recipe.toml:2:1: ", "nmae", "name"]),
    ("name = 7",                                    &["recipe.toml:2:", "name"]),
    ("name = \"A B\"",                             &["recipe.toml:2:", "name"]),
    ("x = [",                                       &["recipe.toml:2:"]),
    ("version = 2",                                 &["recipe.toml:2:"]),
    ("[from]\ndir = \"b\"\nimage = \"c\"",       &["recipe.toml:", "from"]),
    ("[[step]]\nrun = \"x\"\nput = \"y\"",       &["recipe.toml:", "run", "put"]),
    ("[[step]]\nlabel = \"x\"",                    &["recipe.toml:2:1: "]),
    ("[[step]]\nrun = \"x\"\nuesr = \"y\"",       &["recipe.toml:4:1: ", "uesr", "user"]),
    ("[[step]]\nput = \"x\"\nto = \"/y\"\nnetwork = \"user\"", &["recipe.toml:5:1: ", "network"]),
    ("[[step]]\nput = \"../x\"\nto = \"/y\"",     &["recipe.toml:3:", ".."]),
    ("[[step]]\nput = \"/etc/passwd\"\nto = \"/y\"", &["recipe.toml:3:", "/etc/passwd"]),
    ("[[step]]\nurl = \"file:///x\"\nsha256 = \"0\"\nto = \"/y\"", &["recipe.toml:"]),
    ("[[step]]\nrun = \"x\"\nsecrets = [\"none\"]", &["recipe.toml:", "none"]),
    ("[[step]]\nrun = \"x\"\ntimeout = \"soon\"",  &["recipe.toml:4:", "timeout"]),
    ("[build]\nnetwork = \"some\"",                &["recipe.toml:3:", "network"]),
    ("[[output]]\nfile = \"x.tar\"\n[[output]]\nfile = \"x.tar\"", &["recipe.toml:", "x.tar"]),
];

#[test]
fn mistakes_have_a_place_and_a_status() {
    let bench = bench();
    for (text, parts) in WRONG {
        let before = bench.path("recipe.toml");
        for words in [&["-o", "o.tar"][..], &["--dry-run", "-o", "o.tar"]] {
            let message = fails(build(&bench, text, words), WRONG_RECIPE);
            assert!(message.starts_with("error: recipe.toml:"), "{text}: {message}");
            for part in *parts {
                assert!(message.contains(part), "{text}: no {part:?} in {message}");
            }
        }
        assert!(before.exists() && !bench.path("o.tar").exists(), "{text}");
    }
}

/// Mistakes about files: text, status, parts of the message. A file that a step names is the
/// recipe's matter; a base, or a tree in which a step cannot be done, is other trouble.
#[rustfmt::skip]
const FILES: &[(&str, i32, &[&str])] = &[
    ("from.dir = \"none\"",                        OTHER, &["recipe.toml: [from]", "none"]),
    ("from.dir = \"file\"",                        OTHER, &["from.dir", "file is no directory"]),
    ("from.image = \"dir\"",                       OTHER, &["dir is no file", "from.dir"]),
    ("from.tar = \"file\"",                        OTHER, &["file"]),
    ("from.recipe = \"none.toml\"",                OTHER, &["recipe.toml: from.recipe: none.toml"]),
    ("from.oci-layout = \"none\"",                 OTHER, &["none"]),
    ("[[step]]\nput = \"none\"\nto = \"/x\"",    WRONG_RECIPE, &["recipe.toml:2:1: ", "none"]),
    ("[[step]]\nput = \"*.none\"\nto = \"/x\"",  WRONG_RECIPE, &["recipe.toml:2:1: ", "no file matches *.none"]),
    ("[[step]]\nput = \"pkg/secret\"\nto = \"/x\"\n[[step]]\nput = \"no\"\nto = \"/x\"", WRONG_RECIPE, &["recipe.toml:5:1: ", "no"]),
    ("[[step]]\nrun = \"x\"\ninputs = [\"none\"]", WRONG_RECIPE, &["recipe.toml:2:1: ", "none"]),
    ("[[step]]\nscript = \"dir\"",                 WRONG_RECIPE, &["recipe.toml:2:1: ", "script dir is a directory"]),
    ("[[step]]\ntext = \"x\"\nto = \"/x\"\nowner = \"nobody-here\"", OTHER, &["recipe.toml:2:1: ", "nobody-here"]),
    ("from.dir = \"base\"\n[[step]]\ntext = \"x\"\nto = \"/etc/passwd/x\"", OTHER, &["recipe.toml:3:1: "]),
    ("from.dir = \"base\"\n[[step]]\nlink = \"x\"\nto = \"/etc\"", OTHER, &["recipe.toml:3:1: ", "/etc is a directory in the image"]),
    ("from.dir = \"base\"\n[run]\ncommand = [\"/bin/none\"]", OTHER, &["[run] command /bin/none", "missing"]),
    ("from.dir = \"base\"\n[run]\nargs = [\"x\"]\nuser = \"none\"", OTHER, &["none"]),
    ("[init]\nimage = \"/sbin/none\"",             OTHER, &["init.image: /sbin/none is missing"]),
];

#[test]
fn mistakes_of_files_leave_nothing() {
    let bench = bench();
    for (text, status, parts) in FILES {
        let message = fails(build(&bench, text, &["-o", "o.erofs"]), *status);
        for part in *parts {
            assert!(message.contains(part), "{text}: no {part:?} in {message}");
        }
        assert!(!bench.path("o.erofs").exists() && !bench.path("recipe.lock").exists(), "{text}");
    }
}

/// Links of the package do not lead out of it.
#[test]
fn a_package_ends_at_its_directory() {
    let bench = bench();
    for (text, status) in [
        ("[[step]]\nput = \"secret\"\nto = \"/x\"", WRONG_RECIPE),
        ("[[step]]\nput = \"out\"\nto = \"/x\"", WRONG_RECIPE),
        ("[[step]]\nput = \"out/secret\"\nto = \"/x\"", WRONG_RECIPE),
        ("[[step]]\nput = \"out/*\"\nto = \"/x\"", WRONG_RECIPE),
        ("[[step]]\nrun = \"x\"\ninputs = [\"secret\"]", WRONG_RECIPE),
        ("[[step]]\nscript = \"secret\"", WRONG_RECIPE),
        ("[busybox]\npath = \"secret\"", OTHER),
        ("from.recipe = \"out/secret\"", OTHER),
        ("[init]\nfile = \"secret\"", OTHER),
    ] {
        bench.write("pkg/recipe.toml", format!("version = 1\n{text}\n"));
        let command = bench.command(&["build", "pkg/recipe.toml", "-o", "o.tar"]);
        let message = fails(command, status);
        assert!(message.contains("leads out of the directory of the recipe"), "{text}: {message}");
        assert!(!bench.path("o.tar").exists(), "{text}");
    }
}

#[test]
fn recipes_do_not_build_on_each_other() {
    let bench = bench();
    bench.write("a.toml", "version = 1\nfrom.recipe = \"b.toml\"\n");
    bench.write("b.toml", "version = 1\nfrom.recipe = \"a.toml\"\n");
    for name in ["a.toml", "b.toml"] {
        let message = fails(bench.command(&["build", name, "-o", "o.tar"]), WRONG_RECIPE);
        assert!(message.contains("in a circle"), "{message}");
    }
    // A mistake of a lower recipe has that one's place.
    bench.write("b.toml", "version = 1\nfrom.recipe = \"dir/c.toml\"\n");
    bench.write("dir/c.toml", "version = 1\n\nnmae = \"x\"\n");
    let message = fails(bench.command(&["build", "a.toml", "-o", "o.tar"]), WRONG_RECIPE);
    assert!(message.contains("dir/c.toml:3:1: "), "{message}");
    // A file, and a very long chain.
    for number in 0..20 {
        let text = format!("version = 1\nfrom.recipe = \"r{}.toml\"\n", number + 1);
        bench.write(&format!("r{number}.toml"), text);
    }
    bench.write("r20.toml", "version = 1\n");
    let message = fails(bench.command(&["build", "r0.toml", "-o", "o.tar"]), OTHER);
    assert!(message.contains("more than 16 recipes"), "{message}");
}

#[test]
fn bad_options_are_refused() {
    let bench = bench();
    for (text, words, part) in [
        ("", &[][..], "it has no [[output]]: give -o FILE"),
        ("", &["-o", "o.unknown"], "o.unknown"),
        ("", &["-o", "none/o.tar"], "none"),
        ("", &["-o", "o.tar", "--from-step", "0"], "--from-step"),
        ("", &["-o", "o.tar", "--locked", "--update"], "--update"),
        ("", &["-o", "o.tar", "--update=other"], "--update=other: the recipe has no such image"),
        ("", &["-o", "o.tar", "--check", "--dry-run"], "--dry-run"),
        ("[[output]]\nfile = \"o.tar\"\nsize = \"1G\"", &[], "o.tar"),
    ] {
        let message = fails(build(&bench, text, words), OTHER);
        assert!(message.contains(part), "{words:?}: {message}");
        assert!(!bench.path("o.tar").exists(), "{words:?}");
    }
    // Options of recipes are for recipes only.
    for option in ["--dry-run", "--no-cache", "--locked", "--check", "--shell-on-error"] {
        let message = fails(bench.command(&["build", "base", "-o", "o.tar", option]), OTHER);
        assert!(message.contains(option) && message.contains("recipe"), "{message}");
    }
    let message = fails(bench.command(&["build", "none.toml", "-o", "o.tar"]), OTHER);
    assert!(message.contains("none.toml"), "{message}");
}
