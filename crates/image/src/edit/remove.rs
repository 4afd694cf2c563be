//! Removes files by patterns with exceptions, or all files but some.
//!
//! Format of a pattern: a line of gitignore(5), read by the crate `ignore`, with two
//! differences. Every pattern begins at the root of the tree: `*.o` is the same as `/*.o`, and
//! `**/*.o` matches anywhere. And a name that a pattern with `!` keeps stays even below a
//! directory that another pattern removes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::exclude::check;
use crate::tree::{Id, Tree};

/// Patterns of files to remove.
#[derive(Clone, Debug)]
pub struct Removal {
    patterns: Vec<Pattern>,
}

/// What a pattern of a [`Removal`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternEffect<'a> {
    /// The pattern, which has no `!`.
    pub pattern: &'a str,
    /// Whether a name is gone that the pattern matches.
    pub has_removed: bool,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    fate: Fate,
    glob: Gitignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    Kept,
}

impl Removal {
    /// Patterns of which the last one that matches a name, or a directory above it, decides. A
    /// pattern that begins with `!` keeps what it matches.
    ///
    /// # Errors
    /// Text that is no pattern.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let pattern = |text: &'a str| {
            Pattern::of(text).with_context(|| format!("pattern \"{}\"", text.escape_debug()))
        };
        Ok(Self { patterns: patterns.into_iter().map(pattern).collect::<Result<_>>()? })
    }

    /// Removes names from `tree`. A directory goes if its own name is to be removed and nothing
    /// in it is kept. Returns the effect of each pattern without `!`.
    pub fn apply(&self, tree: &mut Tree) -> Vec<PatternEffect<'_>> {
        let mut plan = Plan::default();
        for (name, &id) in tree.children(Tree::ROOT).into_iter().flatten() {
            self.plan(tree, &mut name.to_vec(), (Tree::ROOT, id), None, &mut plan);
        }
        for (parent, name) in plan.removed {
            tree.remove(parent, &name);
        }
        let removing = self.patterns.iter().enumerate();
        let removing = removing.filter(|(_, pattern)| pattern.fate == Fate::Removed);
        removing
            .map(|(at, pattern)| PatternEffect {
                pattern: &pattern.text,
                has_removed: plan.responsible.contains(&at),
            })
            .collect()
    }

    /// Decides about the name at `path`, which its directory `parent` gives to node `id`, and
    /// about all names below it. `above` is the pattern that has decided about the parent.
    fn plan(
        &self,
        tree: &Tree,
        path: &mut Vec<u8>,
        (parent, id): (Id, Id),
        above: Option<usize>,
        plan: &mut Plan,
    ) -> Fate {
        let children = tree.children(id);
        let matching = self.matching(path, children.is_some());
        let last = matching.last().copied().max(above);
        let (length, first) = (path.len(), plan.removed.len());
        let mut fate = last.and_then(|at| self.patterns.get(at)).map_or(Fate::Kept, |it| it.fate);
        for (name, &child) in children.into_iter().flatten() {
            path.push(b'/');
            path.extend_from_slice(name);
            if self.plan(tree, path, (id, child), last, plan) == Fate::Kept {
                fate = Fate::Kept;
            }
            path.truncate(length);
        }
        if fate == Fate::Removed {
            // The directory takes its children with it.
            plan.removed.truncate(first);
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            plan.removed.push((parent, name.into()));
            plan.responsible.extend(matching);
            plan.responsible.extend(last);
        }
        fate
    }

    /// The numbers of all patterns that match a path, in ascending order.
    fn matching(&self, path: &[u8], is_directory: bool) -> Vec<usize> {
        let path = Path::new(OsStr::from_bytes(path));
        let matches = |pattern: &Pattern| pattern.glob.matched(path, is_directory).is_ignore();
        let found = self.patterns.iter().enumerate().filter(|(_, pattern)| matches(pattern));
        found.map(|(at, _)| at).collect()
    }
}

/// What a [`Removal`] is going to do.
#[derive(Default)]
struct Plan {
    /// Names to remove, with their directories.
    removed: Vec<(Id, Box<[u8]>)>,
    /// The numbers of the patterns that match one of these names, or one below them.
    responsible: BTreeSet<usize>,
}

impl Pattern {
    fn of(text: &str) -> Result<Self> {
        check(text)?;
        let (fate, body) = match text.strip_prefix('!') {
            Some(body) => (Fate::Kept, body),
            None => (Fate::Removed, text),
        };
        let mut builder = GitignoreBuilder::new("");
        // The slash binds the pattern to the root.
        builder.add_line(None, &format!("/{}", body.strip_prefix('/').unwrap_or(body)))?;
        Ok(Self { text: text.to_owned(), fate, glob: builder.build()? })
    }
}

/// Removes all names but `paths`, what is below them, and the directories above them. If a path
/// leads through links, the links stay and so does what they lead to within the tree. Returns
/// the paths that do not exist.
pub fn only<'a>(tree: &mut Tree, paths: impl IntoIterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let (mut missing, mut whole, mut names) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for path in paths {
        if tree.find_member(path).is_none() {
            missing.push(path);
            continue;
        }
        let found = tree.trace(path, &mut |parent, name| {
            names.insert((parent, Box::from(name)));
        });
        // A link that leads nowhere stays as it is.
        whole.extend(found.ok().flatten());
    }
    let mut pending = vec![Tree::ROOT];
    while let Some(parent) = pending.pop() {
        if whole.contains(&parent) {
            continue;
        }
        for (name, id) in tree.children_now(parent) {
            let name = (parent, name);
            match names.contains(&name) {
                true => pending.push(id),
                false => tree.remove(parent, &name.1),
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests;
