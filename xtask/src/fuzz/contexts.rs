//! Target for the context of a Containerfile: patterns of `.dockerignore`, sources of `COPY`, and
//! the destination.
//!
//! Format of an input: the text of a `.dockerignore`, a source and a destination, with NUL bytes
//! between them.

use anyhow::{Result, ensure};
use image::edit::copy::{self, Rule};
use image::edit::ignore::Patterns;
use image::edit::select::select;
use image::tree::{Kind, Meta, Tree, show};

use super::input::Answer;

/// Parts of patterns and paths.
#[rustfmt::skip]
pub(super) const WORDS: &[&str] = &[
    "*", "**", "?", "[", "]", "[a-b]", "[^a]", "\\", "!", "#", "/", "./", "../", "..", "\n", "\r\n", " ", "\0", "a",
    "b", "a/b", "to-a", "up", "loop", "\u{feff}", "é",
];

/// Seeds.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "a\0b\0/srv/",
        "# x\n**\n!a/*\n!b/**/a\na/b[a-c]?\n\0/a/[^x]*\0b/to-a/",
        "a/../b\n!/b/a\\*\n\0.\0to-a/x/./../y",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A tree with links of all kinds.
fn tree() -> Result<Tree> {
    let mut tree = Tree::new(Meta::default());
    for path in ["a/a/a", "a/b", "b/a", "b/b/b", "é"] {
        tree.put(path.as_bytes(), Meta::default(), Kind::Fifo)?;
    }
    for (path, to) in
        [("to-a", "a"), ("up", "../../b"), ("loop", "loop"), ("b/none", "none"), ("b/to-a", "/a/a")]
    {
        tree.put(path.as_bytes(), Meta::default(), Kind::Symlink(to.as_bytes().into()))?;
    }
    Ok(tree)
}

/// Rules for every input: patterns leave out what they say, and a copy of what was selected lies
/// where its path leads.
pub(super) fn check(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    let mut parts = text.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    let (patterns, source, to) = (next(), next(), next());
    let Ok(patterns) = Patterns::parse(patterns) else { return Ok(Answer::Refused) };
    let whole = tree()?;
    let mut left = whole.clone();
    patterns.apply(&mut left);
    whole.walk(&mut |path, id| {
        let all = patterns.excludes_all_below(path);
        ensure!(!all || patterns.excludes(path), "{}: below, but not itself", show(path));
        ensure!(!all || left.find(path).is_none(), "{} is left", show(path));
        let is_file = whole.children(id).is_none();
        let is_left = left.find(path).is_some();
        ensure!(!is_file || is_left != patterns.excludes(path), "{} is wrong", show(path));
        Ok(())
    })?;
    let Ok(found) = select(&left, source, &patterns) else { return Ok(Answer::Refused) };
    let mut into = whole;
    let Ok(paths) = copy::copy(&mut into, to.as_bytes(), &found, &Rule::default()) else {
        return Ok(Answer::Refused);
    };
    for path in paths {
        ensure!(into.find_member(&path).is_some(), "{} is missing", show(&path));
    }
    into.walk(&mut |_, _| Ok(()))?;
    Ok(Answer::Accepted)
}
