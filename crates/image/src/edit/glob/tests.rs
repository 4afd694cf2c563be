//! Patterns that match whole paths, bad ones, and hostile ones.

use proptest::prelude::*;

use super::*;

fn glob(pattern: &str, stars: Stars) -> Glob {
    Glob::parse(pattern, stars).unwrap_or_else(|error| panic!("{pattern}: {error:#}"))
}

#[test]
fn patterns_of_go_match_whole_paths() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str])] = &[
        // Pattern, what it matches, what it does not match.
        ("name",         &["name"],                          &["names", "nam", "", "a/name"]),
        ("*",            &["x", "", "a.b"],                  &["a/b", "/"]),
        ("**",           &["x", ""],                         &["a/b"]),
        ("*.c",          &[".c", "x.c", "x.c.c"],            &["x.cc", "a/x.c"]),
        ("x*",           &["x", "xyz"],                      &["ax", "x/y"]),
        ("d*/f",         &["d/f", "dir/f"],                  &["d/e/f", "f"]),
        ("1*2*3*/4",     &["123/4", "1a2b3c/4", "11223/4"],  &["123/a/4", "132/4"]),
        ("1*2?3*4",      &["1x2y3z4", "12223334"],           &["1234", "1x2y3z"]),
        ("a?c",          &["abc", "aéc", "a?c"],             &["ac", "abbc", "a/c"]),
        ("a??c",         &["aééc"],                          &["aéc"]),
        ("[ace]",        &["a", "c", "e"],                   &["b", "ac", ""]),
        ("[a-c]x",       &["ax", "bx", "cx"],                &["dx", "x"]),
        ("[^a-c]x",      &["dx", "éx", "^x"],                &["ax", "/x", "x"]),
        ("[a-cx-z]",     &["b", "y"],                        &["m"]),
        ("[а-я]",        &["ж"],                             &["z"]),
        ("[\\]]",        &["]"],                             &["\\"]),
        ("[\\-x]",       &["-", "x"],                        &["y"]),
        ("[\\[-\\]]",    &["[", "\\", "]"],                  &["^"]),
        ("[a^]",         &["a", "^"],                        &["b"]),
        ("[!a]",         &["!", "a"],                        &["b"]),
        ("[z-a]",        &[],                                &["a", "z", "m"]),
        ("a]",           &["a]"],                            &["a"]),
        ("\\*",          &["*"],                             &["x", "\\*"]),
        ("\\a\\\\",      &["a\\"],                           &["a", "a\\\\"]),
        ("x(1)|$+.{2}",  &["x(1)|$+.{2}"],                   &["x1", "x(1)"]),
    ];
    for (pattern, yes, no) in cases {
        let found = glob(pattern, Stars::AsOne);
        for path in *yes {
            assert!(found.matches(path.as_bytes()), "{pattern} matches {path}");
        }
        for path in *no {
            assert!(!found.matches(path.as_bytes()), "{pattern} does not match {path}");
        }
    }
}

#[test]
fn text_with_open_ends_is_no_pattern() {
    let long = "x".repeat(PATTERN_MAX + 1);
    for bad in [
        "[", "[^", "[]", "[]a]", "[^]", "[a", "[a-", "[a-]", "[-a]", "[-]", "[a-b-c]", "[\\", "\\",
        &long,
    ] {
        assert!(Glob::parse(bad, Stars::AsOne).is_err(), "{bad}");
        assert!(Glob::parse(bad, Stars::Directories).is_err(), "{bad}");
    }
}

#[test]
fn a_byte_that_is_no_text_is_one_character() {
    for (pattern, path, expected) in [
        ("a?c", &b"a\xffc"[..], true),
        ("*.o", b"\xff\xfe.o", true),
        ("?", b"\xff\xff", false),
        ("[^a]", b"\xff", true),
        ("[a-\u{10ffff}]", b"\xff", false),
        ("\u{ff}", b"\xff", false),
    ] {
        assert_eq!(glob(pattern, Stars::AsOne).matches(path), expected, "{pattern}");
    }
}

/// A matcher that tries all ways to match would not end in the lifetime of this test.
#[test]
fn hostile_patterns_need_little_work() {
    let path = b"a".repeat(1000);
    for (pattern, stars) in [
        ("*a".repeat(500) + "b", Stars::AsOne),
        ("**/a".repeat(500), Stars::Directories),
        ("**a".repeat(500) + "b", Stars::Directories),
    ] {
        assert!(!glob(&pattern, stars).matches(&path));
    }
}

/// Says slowly what a pattern of stars and plain characters matches.
fn matches_slowly(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => path.is_empty(),
        (Some((b'*', rest)), None) => matches_slowly(rest, path),
        (Some((b'*', rest)), Some((first, below))) => {
            matches_slowly(rest, path) || (*first != b'/' && matches_slowly(pattern, below))
        }
        (Some((b'?', rest)), Some((first, below))) => *first != b'/' && matches_slowly(rest, below),
        (Some((own, rest)), Some((first, below))) => own == first && matches_slowly(rest, below),
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn stars_are_matched_as_by_trying(pattern in "[ab/*?]{0,8}", path in "[ab/]{0,8}") {
        let expected = matches_slowly(pattern.as_bytes(), path.as_bytes());
        prop_assert_eq!(glob(&pattern, Stars::AsOne).matches(path.as_bytes()), expected);
    }

    #[test]
    fn nothing_panics(
        pattern in "[ab/*?\\[\\]\\\\^é-]{0,12}",
        path in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        for stars in [Stars::AsOne, Stars::Directories] {
            if let Ok(glob) = Glob::parse(&pattern, stars) {
                let above = glob.matches_above(&path);
                prop_assert!(above.is_matched || !glob.matches(&path));
            }
        }
    }

    /// What matches below a directory was possible there.
    #[test]
    fn a_match_below_was_possible(pattern in "[ab/*?]{1,8}", path in "[ab]{1,2}(/[ab]{1,2}){1,3}") {
        let glob = glob(&pattern, Stars::Directories);
        if glob.matches(path.as_bytes()) {
            for (at, _) in path.match_indices('/') {
                prop_assert!(glob.matches_above(&path.as_bytes()[..at]).is_below_possible);
            }
        }
    }
}
