//! Leaves files out of a tree by patterns.
//!
//! Format of a pattern: a line of gitignore(5), read by the crate `ignore`. The root of the tree
//! is the directory of the patterns.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::tree::{Tree, joined};

/// Patterns of files to leave out.
#[derive(Clone, Debug)]
pub struct Exclusion {
    patterns: Gitignore,
}

impl Exclusion {
    /// Patterns of which a later one wins over an earlier one. A pattern that begins with `!`
    /// keeps what it matches.
    ///
    /// # Errors
    /// Text that is no pattern.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(".");
        for pattern in patterns {
            let context = || format!("pattern \"{}\"", pattern.escape_debug());
            check(pattern).with_context(context)?;
            builder.add_line(None, pattern).with_context(context)?;
        }
        Ok(Self { patterns: builder.build().context("patterns")? })
    }

    /// Removes what the patterns match from `tree`. A directory takes its contents with it, even
    /// those that a pattern with `!` matches, as in gitignore(5). Returns the number of names that
    /// were removed, without those below a removed directory.
    pub fn apply(&self, tree: &mut Tree) -> u64 {
        let mut count = 0;
        let mut pending = VecDeque::from([(Tree::ROOT, Vec::new())]);
        while let Some((parent, above)) = pending.pop_front() {
            for (name, id) in tree.children_now(parent) {
                let path = joined(&above, &name);
                let is_directory = tree.children(id).is_some();
                if self.matches(&path, is_directory) {
                    tree.remove(parent, &name);
                    count += 1;
                } else if is_directory {
                    pending.push_back((id, path));
                }
            }
        }
        count
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let found = self.patterns.matched(Path::new(OsStr::from_bytes(path)), is_directory);
        matches!(found, Match::Ignore(_))
    }
}

/// Refuses text that gitignore(5) skips: in a file, it makes sense, but not as a pattern.
pub(super) fn check(pattern: &str) -> Result<()> {
    let bare = pattern.strip_prefix('!').unwrap_or(pattern).trim();
    ensure!(!bare.is_empty() && bare != "/", "it matches nothing");
    ensure!(!pattern.starts_with('#'), "a comment; a name that begins with # is written \\#");
    ensure!(!pattern.contains(['\n', '\r', '\0']), "a pattern is one line");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, Meta, directory};

    /// Paths of the tree that are left after excluding. Those with a `/` at the end are
    /// directories.
    fn left(paths: &[&str], patterns: &[&str]) -> Vec<String> {
        let mut tree = Tree::new(Meta::default());
        for path in paths {
            let kind = if path.ends_with('/') { directory() } else { Kind::Fifo };
            tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
        }
        let exclusion = Exclusion::of(patterns.iter().copied()).unwrap();
        exclusion.apply(&mut tree);
        let mut found = Vec::new();
        let mut visit = |path: &[u8], id| {
            if tree.children(id).is_none_or(|children| children.is_empty() && id != Tree::ROOT) {
                found.push(String::from_utf8(path.to_vec()).unwrap());
            }
            Ok(())
        };
        tree.walk(&mut visit).unwrap();
        found
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        /// Name of the case, paths of the tree, patterns, and the paths that stay.
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
        const DOC: [&str; 4] =
            ["usr/share/doc/a/copyright", "usr/share/doc/a/news", "usr/share/man/x", "doc"];
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("anywhere",         &["a/x.o", "x.o", "x.c"],        &["*.o"],               &["a", "x.c"]),
            ("anchored",         &["a/x", "x"],                   &["/x"],                &["a/x"]),
            ("slash inside",     &["a/b", "c/a/b"],               &["a/b"],               &["a", "c/a/b"]),
            ("directories only", &["a/tmp/", "tmp"],              &["tmp/"],              &["a", "tmp"]),
            ("contents",         &["var/cache/x/y", "var/lib"],   &["/var/cache/*"],      &["var/cache", "var/lib"]),
            ("later wins",       &["a", "b"],                     &["*", "!b"],           &["b"]),
            ("later wins, too",  &["a", "b"],                     &["!b", "*"],           &[]),
            ("two stars",        &["a/b/c/x", "a/x", "x"],        &["a/**/x"],            &["a/b/c", "x"]),
            ("kept in a kept directory", &DOC, &["/usr/share/doc/*/*", "!copyright"],
             &["doc", "usr/share/doc/a/copyright", "usr/share/man/x"]),
            ("nothing below a removed directory is kept", &DOC, &["/usr/share/doc", "!copyright"],
             &["doc", "usr/share/man/x"]),
            ("classes",          &["a1", "ab", "a?"],             &["a[0-9]", "a\\?"],    &["ab"]),
            ("escaped",          &["#x", "!x", "x"],              &["\\#x", "\\!x"],      &["x"]),
            ("nothing",          &["a/", "b"],                    &["c"],                 &["a", "b"]),
        ];
        for (name, paths, patterns, expected) in cases {
            assert_eq!(left(paths, patterns), *expected, "{name}");
        }
    }

    #[test]
    fn names_may_have_any_bytes_and_several_names_are_separate() {
        let mut tree = Tree::new(Meta::default());
        let id = tree.put(b"\xff.o", Meta::default(), Kind::Fifo).unwrap();
        tree.put_link(b"kept", id).unwrap();
        assert_eq!(Exclusion::of(["*.o"]).unwrap().apply(&mut tree), 1);
        assert_eq!((tree.find(b"kept"), tree.node(id).names), (Some(id), 1));
    }

    #[test]
    fn text_that_is_no_pattern_is_refused() {
        for bad in ["", "!", " ", "# x", "[z-a]", "a\nb", "/", "{a"] {
            assert!(Exclusion::of([bad]).is_err(), "{bad}");
        }
    }
}
