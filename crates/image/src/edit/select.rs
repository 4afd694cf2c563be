//! The files and directories that a source of `COPY` selects in a tree.
//!
//! Semantics: the Dockerfile reference, section COPY, and what BuildKit does: functions
//! `ResolveWildcards` and `Copy` of the package tonistiigi/fsutil/copy. Wildcards are those of
//! `filepath.Match` of Go. Invariant: nothing outside the root is ever selected, because links
//! are followed within the tree.

use anyhow::{Context, Result, ensure};

use super::glob::{Glob, Stars};
use super::ignore::Patterns;
use crate::tree::{Id, Meta, Tree, show};

/// A file or directory that a pattern has selected.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The last name, as the pattern has it or, for a wildcard, the directory; not the one of
    /// the file that a link leads to. Empty for the root.
    pub name: Vec<u8>,
    /// A file is the only entry of the root, under `name`; a directory is the root.
    pub tree: Tree,
    /// Which of them it is. Everything that is no directory counts as a file.
    pub is_directory: bool,
}

/// Most files that may be selected beyond the number of files of the tree: many links to one large
/// directory would select it many times.
const AGAIN_MAX: usize = 1 << 20;

/// The part of a path before its first name with a wildcard, and the rest.
struct Source<'a> {
    plain: Vec<&'a [u8]>,
    wild: Vec<&'a str>,
}

/// What `pattern` selects below the root of `tree`, in byte order of the names. `exclude` has the
/// patterns of `COPY --exclude`.
///
/// The path is cleaned, and `..` does not lead above the root. A path without a wildcard is taken
/// as it is, with its backslashes. Links above the file and the file itself, if it is a link, are
/// followed within the tree; below a name with a wildcard, only the file itself. Links inside a
/// selected directory stay links. Owners, modes, times, attributes and hard links are kept.
///
/// `exclude` is relative to each selected directory, which itself always stays, as in BuildKit. A
/// selected file is left out if `exclude` matches its last name. The reference says so, but
/// BuildKit copies the file.
///
/// A wildcard that matches nothing selects nothing.
///
/// # Errors
/// A bad pattern; a path that is missing, or whose part before the first wildcard is; a link that
/// leads nowhere or in circles; links that select one directory very often; those of
/// [`Tree::below`].
pub fn select(tree: &Tree, pattern: &str, exclude: &Patterns) -> Result<Vec<Selected>> {
    let source = Source::of(pattern);
    let plain = source.plain.join(&b'/');
    if source.wild.is_empty() {
        let id = tree.resolve(&plain).with_context(|| format!("find {}", show(&plain)))?;
        let name = source.plain.last().copied().unwrap_or_default();
        return Ok(selected(tree, id, name, exclude)?.into_iter().collect());
    }
    let wild = source.wild.iter().map(|name| {
        let found = Glob::parse(name, Stars::AsOne);
        found.with_context(|| format!("pattern \"{}\"", name.escape_debug()))
    });
    let wild = wild.collect::<Result<Vec<_>>>()?;
    let top = tree.resolve(&plain).with_context(|| format!("find {}", show(&plain)))?;
    let (mut found, mut count) = (Vec::new(), 0);
    for names in matches(tree, top, &wild) {
        let path = [&source.plain[..], &names].concat().join(&b'/');
        let id = tree.resolve(&path).with_context(|| format!("find {}", show(&path)))?;
        let name = names.last().copied().unwrap_or_default();
        let next = selected(tree, id, name, exclude)?;
        count += next.as_ref().map_or(0, |next| next.tree.len());
        ensure!(
            count <= tree.len() + AGAIN_MAX,
            "{}: links make the pattern select more files than there are",
            pattern.escape_debug()
        );
        found.extend(next);
    }
    Ok(found)
}

/// The paths below `top` that match one pattern for each of their names. Links are not followed.
fn matches<'a>(tree: &'a Tree, top: Id, wild: &[Glob]) -> Vec<Vec<&'a [u8]>> {
    let mut level = vec![(top, Vec::new())];
    for glob in wild {
        let mut below = Vec::new();
        for (parent, path) in level {
            for (name, &id) in tree.children(parent).into_iter().flatten() {
                if glob.matches(name) {
                    below.push((id, [&path[..], &[&**name]].concat()));
                }
            }
        }
        level = below;
    }
    level.into_iter().map(|(_, path)| path).collect()
}

fn selected(tree: &Tree, id: Id, name: &[u8], exclude: &Patterns) -> Result<Option<Selected>> {
    if tree.children(id).is_some() {
        let mut tree = tree.below(id)?;
        exclude.apply(&mut tree);
        return Ok(Some(Selected { name: name.to_vec(), tree, is_directory: true }));
    }
    if exclude.excludes(name) {
        return Ok(None);
    }
    let node = tree.node(id);
    let mut alone = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    alone.add(Tree::ROOT, name, node.meta.clone(), node.kind.clone())?;
    Ok(Some(Selected { name: name.to_vec(), tree: alone, is_directory: false }))
}

impl<'a> Source<'a> {
    fn of(pattern: &'a str) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for name in pattern.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                name => names.push(name),
            }
        }
        let first = names.iter().position(|name| has_wildcard(name)).unwrap_or(names.len());
        let wild = names.split_off(first);
        Self { plain: names.into_iter().map(str::as_bytes).collect(), wild }
    }
}

/// Whether a name has a wildcard. After a backslash, the next character is none.
#[must_use]
pub fn has_wildcard(path: &str) -> bool {
    let mut text = path.chars();
    while let Some(c) = text.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                text.next();
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
