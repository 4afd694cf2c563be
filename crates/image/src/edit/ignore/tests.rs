//! Lines of a `.dockerignore` file, and what they leave out.

use proptest::prelude::*;

use super::*;
use crate::tree::{Kind, Meta, directory};

fn patterns(text: &str) -> Patterns {
    Patterns::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:#}"))
}

#[test]
fn single_patterns() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str])] = &[
        // Line, paths that are left out, paths that stay.
        ("file",            &["file", "file/x", "file/x/y"],            &["files", "a/file", "fil"]),
        ("/file",           &["file", "file/x"],                        &["a/file"]),
        ("file/",           &["file", "file/x"],                        &["a/file"]),
        ("./a//b/../c/",    &["a/c", "a/c/x"],                          &["a/b", "a", "c"]),
        ("/../a",           &["a"],                                     &["b"]),
        ("../a",            &[],                                        &["a", "b/a"]),
        ("a/../..",         &[],                                        &["a", "b"]),
        (".",               &[],                                        &["a", ".a"]),
        ("/",               &[],                                        &["a"]),
        ("  a b\t",         &["a b"],                                   &["a", "b", "  a b"]),
        ("*",               &["a", "a/b", ".git/config"],               &[]),
        ("*/*",             &["a/b", "a/b/c"],                          &["a"]),
        ("*/temp*",         &["a/temp", "a/temporary.txt", "a/temp/x"], &["temp", "a/b/temp", "tempo"]),
        ("*/*/temp*",       &["a/b/temp1"],                             &["a/temp1", "temp1"]),
        ("temp?",           &["tempa", "tempb/x", "tempé"],             &["temp", "tempab", "a/tempa"]),
        ("*.md",            &["README.md", ".md"],                      &["README.mdx", "docs/x.md"]),
        (".*",              &[".git", ".git/x"],                        &["git", "a/.git"]),
        ("a.b",             &["a.b"],                                   &["axb", "ab"]),
        ("x(1)+{2}|$.c",    &["x(1)+{2}|$.c"],                          &["x1", "x(1)"]),
        ("[a-c]/x",         &["a/x", "c/x/y"],                          &["d/x", "x", "a"]),
        ("[^a]x",           &["bx", "éx"],                              &["ax", "/x", "x"]),
        ("a[]",             &[],                                        &[]),
        ("\\#x",            &["#x"],                                    &["x", "\\#x"]),
        (" #x",             &["#x"],                                    &["x"]),
        ("#x",              &[],                                        &["#x", "x"]),
        ("\\!x",            &["!x"],                                    &["x"]),
        ("a\\*",            &["a*"],                                    &["ab", "a"]),
        ("a\\\\",           &["a\\"],                                   &["a"]),
        ("**",              &["a", "a/b", "a/b/c"],                     &[]),
        ("**/",             &["a", "a/b"],                              &[]),
        ("/**",             &["a", "a/b"],                              &[]),
        ("**/**",           &["a", "a/b", "a/b/c"],                     &[]),
        ("a/**",            &["a/b", "a/b/c"],                          &["a", "b", "ab/c"]),
        ("a**",             &["a", "ab", "a/b", "ab/c"],                &["b/a"]),
        ("**/a",            &["a", "b/a", "c/b/a", "b/a/x"],            &["ba", "b/ab"]),
        ("**/.a",           &[".a", "b/.a"],                            &["b.a"]),
        ("**/a/b",          &["a/b", "x/a/b", "x/y/a/b/z"],             &["a", "b", "a/x/b"]),
        ("**/a/*",          &["a/x", "b/a/x/y"],                        &["a", "b/a"]),
        ("**/a/**",         &["a/x", "b/a/x/y"],                        &["a", "b/a", "b/ax/y"]),
        ("**/*.go",         &["x.go", "a/x.go", "a/b/.go"],             &["x.gox", "a/go"]),
        ("**/**/*.go",      &["x.go", "a/x.go", "a/b/c/x.go"],          &["x.c"]),
        ("a/**/b",          &["a/b", "a/x/b", "a/x/y/b"],               &["ab", "a/xb", "x/a/b"]),
        ("a**/*.c",         &["a/x.c", "a/b/x.c"],                      &["b/x.c"]),
        ("a**b",            &["ab", "ax/b", "a/x/b", "a/b"],            &["axb", "a/xb"]),
        ("a/*.c**",         &["a/x.c", "a/x.cpp", "a/x.c/y"],           &["a/x.h", "x.c"]),
        // Two stars at the start reach into a name only if the rest is plain.
        ("**file",          &["file", "a/file", "a/xfile", "xfile"],    &["filex"]),
        ("**file.*",        &["file.c", "a/file.c"],                    &["xfile.c", "a/xfile.c"]),
        ("***",             &["a", "a/b"],                              &[]),
        ("a/***/b",         &["a/x/b", "a/x/y/b", "a//b"],              &["a/b", "b"]),
        ("node_modules",    &["node_modules", "node_modules/x/y"],      &["a/node_modules"]),
        ("docs/*.md",       &["docs/a.md"],                             &["docs/a/b.md", "docs"]),
        ("\u{a0}a\u{2003}", &["a"],                                     &["\u{a0}a"]),
    ];
    for (line, left_out, stays) in cases {
        if *line == "a[]" {
            assert!(Patterns::parse(line).is_err());
            continue;
        }
        let found = patterns(line);
        for path in *left_out {
            assert!(found.excludes(path.as_bytes()), "{line:?} leaves {path:?} out");
        }
        for path in *stays {
            assert!(!found.excludes(path.as_bytes()), "{line:?} keeps {path:?}");
        }
    }
}

#[test]
fn the_last_line_that_matches_decides() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        // Name, text, paths that are left out, paths that stay.
        ("nothing",                "",                              &[],                        &["a"]),
        ("blank lines",            "\n  \n\t\na\n",                 &["a"],                     &["b"]),
        ("lines of Windows",       "a\r\nb\r\n",                    &["a", "b"],                &["a\r"]),
        ("byte order mark",        "\u{feff}a\nb",                  &["a", "b"],                &["\u{feff}a"]),
        ("mark and comment",       "\u{feff}#a\nb",                 &["b"],                     &["a", "#a"]),
        ("two lines",              "a\nb",                          &["a", "b/c"],              &["c"]),
        ("exception after",        "*.md\n!README.md",              &["a.md"],                  &["README.md"]),
        ("exception before",       "!README.md\n*.md",              &["README.md"],             &["a"]),
        ("exception for some",     "*.md\n!README*.md\nREADME-secret.md",
         &["a.md", "README-secret.md"],                             &["README.md", "README-x.md"]),
        ("pattern has no effect",  "*.md\nREADME-secret.md\n!README*.md",
         &["a.md"],                                                 &["README-secret.md"]),
        ("below a directory",      "docs\n!docs/README",            &["docs", "docs/x"],        &["docs/README"]),
        ("below, with a slash",    "docs/\n!docs/README",           &["docs", "docs/x"],        &["docs/README"]),
        ("below, with a star",     "docs/*\n!docs/README",          &["docs/x"],                &["docs", "docs/README"]),
        ("directory comes back",   "**\n!a/b",                      &["a", "a/c", "c"],         &["a/b", "a/b/x"]),
        ("left out again",         "**\n!a/b\na/b/x",               &["a/b/x", "a/b/x/y"],      &["a/b/z"]),
        ("above comes back",       "a/x\n!a",                       &[],                        &["a/x", "a/x/y", "a"]),
        ("allow list",             "*\n!src\n!Cargo.*",             &["target/x", "a"],         &["src/a", "Cargo.toml"]),
        ("allow list, any depth",  "**\n!**/*.py",                  &["a", "d/a.txt"],          &["a.py", "d/e/a.py"]),
        ("space after the mark",   "*\n! /a ",                      &["b"],                     &["a"]),
        ("star of an exception",   "**\n!dist/*.whl",               &["dist/a.tar", "a.whl"],   &["dist/p-2.4+g0.whl"]),
        ("twice",                  "a\n!a\na",                      &["a"],                     &["b"]),
    ];
    for (name, text, left_out, stays) in cases {
        let found = patterns(text);
        for path in *left_out {
            assert!(found.excludes(path.as_bytes()), "{name}: {path}");
        }
        for path in *stays {
            assert!(!found.excludes(path.as_bytes()), "{name}: {path}");
        }
    }
    assert!(patterns("# x\n\n.\n").is_empty() && !patterns("a").is_empty());
}

#[test]
fn directories_with_an_exception_below_are_told() {
    #[rustfmt::skip]
    let cases = [
        // Text, directory, and whether everything below it is left out.
        ("a",                  "a",       true),
        ("a",                  "a/b",     true),
        ("a",                  "b",       false),
        ("a/*",                "a",       false),
        ("a/**",               "a",       false),
        ("a/**",               "a/b",     true),
        ("**",                 "a",       true),
        ("a\n!b",              "a",       true),
        ("a\n!a/b",            "a",       false),
        ("a\n!a/b",            "a/c",     true),
        ("a\n!a/b/c",          "a/b",     false),
        ("a\n!a/*/c",          "a/x",     false),
        ("a\n!a/*/c",          "a/x/y",   true),
        ("a\n!**/c",           "a/x/y",   false),
        ("a\n!**c",            "a/x",     false),
        ("a\n!ab",             "a",       true),
        ("a\n!a/[b]",          "a",       false),
        ("!a/b\na",            "a",       true),
        ("a\n!a/b\na/b",       "a",       false),
        ("a\n!a/b\na",         "a",       true),
        ("a\n!a",              "a",       false),
        ("a\n!a/b\na/b/**",    "a/b/c",   true),
        ("a",                  "",        false),
    ];
    for (text, directory, expected) in cases {
        let found = patterns(text).excludes_all_below(directory.as_bytes());
        assert_eq!(found, expected, "{text:?} {directory}");
    }
}

#[test]
fn text_that_is_no_pattern_is_refused() {
    let many = "a\n".repeat(PATTERNS_MAX + 1);
    #[rustfmt::skip]
    let cases = [
        ("!",                  "line 1: pattern \"!\""),
        ("a\n ! \t",           "line 2: pattern \"!\""),
        ("a\n#\n[",            "line 3: pattern \"[\""),
        ("a[]",                "line 1: pattern \"a[]\""),
        ("!x[a-",              "line 1: pattern \"!x[a-\""),
        ("x\\",                "line 1: pattern \"x\\\\\""),
        (&many,                "more than 10000"),
        (&"a".repeat(TEXT_MAX + 1), "262144 bytes"),
        (&"a".repeat(5000),    "4096 bytes"),
    ];
    for (text, expected) in cases {
        let shown = text.get(..text.len().min(20)).unwrap_or_default();
        let error = format!("{:#}", Patterns::parse(text).unwrap_err());
        assert!(error.contains(expected), "{shown:?}: {error}");
    }
    assert!(Patterns::of(["a", "["]).is_err());
}

#[test]
fn patterns_of_an_option_have_no_comments() {
    let found = Patterns::of(["#a", " /b ", "", "*.c", "!x.c"]).unwrap();
    for (path, expected) in [("#a", true), ("b", true), ("y.c", true), ("x.c", false), ("", false)]
    {
        assert_eq!(found.excludes(path.as_bytes()), expected, "{path}");
    }
}

/// A tree of these paths; those with a `/` at the end are directories.
fn tree(paths: &[&str]) -> Tree {
    let mut tree = Tree::new(Meta::default());
    for path in paths {
        let kind = if path.ends_with('/') { directory() } else { Kind::Fifo };
        tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
    }
    tree
}

fn walked(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |path: &[u8], _| {
        found.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    found.split_off(1)
}

#[test]
fn a_tree_loses_what_is_left_out() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &str, &[&str])] = &[
        ("nothing",             &["a/b", "c/"],            "",                &["a", "a/b", "c"]),
        ("file and directory",  &["a/b", "c/d", "e"],      "a\ne",            &["c", "c/d"]),
        ("brought back",        &["a/b", "a/c", "d/"],     "*\n!a/b",         &["a", "a/b"]),
        ("nothing to bring",    &["a/x/c", "d"],           "*\n!a/x/b",       &[]),
        ("empty ones stay",     &["a/", "b/c"],            "b/c",             &["a", "b"]),
        ("empty, brought back", &["a/b/", "a/c/"],         "a\n!a/b",         &["a", "a/b"]),
        ("deep",                &["a/b/c/d", "a/b/e/f"],   "**\n!**/f",       &["a", "a/b", "a/b/e", "a/b/e/f"]),
    ];
    for (name, paths, text, expected) in cases {
        let mut tree = tree(paths);
        patterns(text).apply(&mut tree);
        assert_eq!(walked(&tree), *expected, "{name}");
    }
}

proptest! {
    /// What `excludes_all_below` says holds for every path below, and `apply` keeps exactly
    /// the files that no pattern leaves out.
    #[test]
    fn directories_are_skipped_only_with_all_files(
        lines in proptest::collection::vec("!?[ab*?]{1,2}(/[ab*]{1,2}){0,2}", 0..5),
        paths in proptest::collection::vec("[ab]{1,2}(/[ab]{1,2}){1,3}", 1..6),
    ) {
        let found = patterns(&lines.join("\n"));
        for path in &paths {
            for (at, _) in path.match_indices('/') {
                if found.excludes_all_below(&path.as_bytes()[..at]) {
                    prop_assert!(found.excludes(path.as_bytes()), "{path}");
                }
            }
        }
        let mut whole = Tree::new(Meta::default());
        for path in &paths {
            // A path may lead through another one, which is a file then.
            let _ = whole.put(path.as_bytes(), Meta::default(), Kind::Fifo);
        }
        let mut left = whole.clone();
        found.apply(&mut left);
        whole.walk(&mut |path, id| {
            if whole.children(id).is_none() {
                assert_eq!(left.find(path).is_none(), found.excludes(path), "{path:?}");
            }
            Ok(())
        }).unwrap();
    }

    #[test]
    fn no_text_makes_a_panic(text in "[ab!#/*?\\[\\]\\\\\\^ .\n-]{0,30}", path in "[ab/.]{0,8}") {
        if let Ok(found) = Patterns::parse(&text) {
            let all = found.excludes_all_below(path.as_bytes());
            prop_assert!(!all || found.excludes(path.as_bytes()));
        }
    }
}
