//! Patterns of a `.dockerignore` file, and of `COPY --exclude`.
//!
//! Format: the section "`.dockerignore` files" of Docker's manual, and the packages
//! moby/patternmatcher and moby/patternmatcher/ignorefile, which read it. The syntax of one
//! pattern is that of the module `glob`.
//!
//! | Line | Meaning |
//! |---|---|
//! | `# text` | comment; only if the line begins with `#` |
//! | `path` | leaves out the path, and all that is below it |
//! | `!path` | brings back the path, and all that is below it |
//!
//! A line is trimmed, and its path is cleaned as by `filepath.Clean` of Go; a leading `/` is
//! dropped. The last line that matches a path, or a directory above it, decides about the path.
//! So a line with `!` may bring back a file below a directory that is left out.
//!
//! Docker has two functions for this, which differ if a line with `!` matches only a directory
//! above a path. This module follows the one that its manual describes
//! (`MatchesOrParentMatches`). A class in brackets never matches `/`, while it does in Docker.

use anyhow::{Context, Result, ensure};

use super::glob::{Glob, Stars};
use crate::tree::{Id, Tree, joined};

/// Most bytes of a file of patterns.
pub const TEXT_MAX: usize = 256 << 10;
/// Most patterns.
pub const PATTERNS_MAX: usize = 10_000;

/// Patterns of paths to leave out.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    effect: Effect,
    glob: Glob,
}

/// What a pattern does with the paths that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    LeaveOut,
    BringBack,
}

impl Patterns {
    /// Reads a whole `.dockerignore` file, which may begin with a byte order mark.
    ///
    /// # Errors
    /// A line that is no pattern, with its number; more than [`TEXT_MAX`] bytes or
    /// [`PATTERNS_MAX`] patterns.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= TEXT_MAX, "a file of patterns has at most {TEXT_MAX} bytes");
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut found = Self::default();
        for (number, line) in text.lines().enumerate() {
            if !line.starts_with('#') {
                found.add(line).with_context(|| format!("line {}", number + 1))?;
            }
        }
        Ok(found)
    }

    /// Patterns, each of them with the syntax of a line; `#` begins no comment.
    ///
    /// # Errors
    /// Those of [`Patterns::parse`], with the pattern.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut found = Self::default();
        for pattern in patterns {
            ensure!(pattern.len() <= TEXT_MAX, "a pattern has more than {TEXT_MAX} bytes");
            found.add(pattern)?;
        }
        Ok(found)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let line = line.trim();
        let (effect, path) = match line.strip_prefix('!') {
            Some(path) => (Effect::BringBack, path.trim_start()),
            None => (Effect::LeaveOut, line),
        };
        if line.is_empty() {
            return Ok(());
        }
        let context = || format!("pattern \"{}\"", line.escape_debug());
        ensure!(!path.is_empty(), "pattern \"!\": a path is missing after it");
        ensure!(self.patterns.len() < PATTERNS_MAX, "more than {PATTERNS_MAX} patterns");
        let path = cleaned(path);
        // The root itself and what is above it are never asked about.
        if path.is_empty() {
            return Ok(());
        }
        let glob = Glob::parse(&path, Stars::Directories).with_context(context)?;
        self.patterns.push(Pattern { effect, glob });
        Ok(())
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` is left out. It is relative to the root, without a leading `/`; the root
    /// itself is never left out.
    #[must_use]
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.last_match(path).is_some_and(|(_, effect)| effect == Effect::LeaveOut)
    }

    /// Whether `directory` is left out, and everything below it as well: no later pattern can
    /// bring back a path below it.
    #[must_use]
    pub fn excludes_all_below(&self, directory: &[u8]) -> bool {
        let Some((last, Effect::LeaveOut)) = self.last_match(directory) else { return false };
        // An earlier exception loses against the pattern that leaves the directory out.
        let later = self.patterns.iter().skip(last + 1);
        let mut exceptions = later.filter(|pattern| pattern.effect == Effect::BringBack);
        !exceptions.any(|pattern| pattern.glob.matches_above(directory).is_below_possible)
    }

    /// The number of the last pattern that matches `path`, and its effect.
    fn last_match(&self, path: &[u8]) -> Option<(usize, Effect)> {
        if path.is_empty() {
            return None;
        }
        let matches = |pattern: &Pattern| pattern.glob.matches_above(path).is_matched;
        let at = self.patterns.iter().rposition(matches)?;
        self.patterns.get(at).map(|pattern| (at, pattern.effect))
    }

    /// Removes from `tree` what the patterns leave out. A directory that is left out stays if
    /// something below it is brought back.
    pub fn apply(&self, tree: &mut Tree) {
        if self.is_empty() {
            return;
        }
        let mut doubtful = Doubtful::default();
        let mut pending = vec![(Tree::ROOT, Vec::new())];
        while let Some((parent, above)) = pending.pop() {
            for (name, id) in tree.children_now(parent) {
                let path = joined(&above, &name);
                let is_directory = tree.children(id).is_some();
                let is_excluded = self.excludes(&path);
                if is_excluded && (!is_directory || self.excludes_all_below(&path)) {
                    tree.remove(parent, &name);
                    continue;
                }
                if is_excluded {
                    doubtful.note(parent, &name, id);
                }
                if is_directory {
                    pending.push((id, path));
                }
            }
        }
        doubtful.remove_empty(tree);
    }
}

/// Directories that are left out unless something below them stays.
#[derive(Debug, Default)]
pub(crate) struct Doubtful {
    /// Parent, name and number of each; a directory comes before those below it.
    found: Vec<(Id, Box<[u8]>, Id)>,
}

impl Doubtful {
    /// Notes the directory `id`, which is called `name` in `parent`.
    pub(crate) fn note(&mut self, parent: Id, name: &[u8], id: Id) {
        self.found.push((parent, name.into(), id));
    }

    /// Removes those directories below which nothing has stayed.
    pub(crate) fn remove_empty(&self, tree: &mut Tree) {
        for (parent, name, id) in self.found.iter().rev() {
            if !tree.is_filled(*id) {
                tree.remove(*parent, name);
            }
        }
    }
}

/// A path as `filepath.Clean` of Go makes it, without a leading `/`: empty for the root. A path
/// that leads out of the root keeps its `..`, so it matches nothing.
fn cleaned(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match (name, names.last()) {
            ("" | ".", _) => {}
            ("..", Some(&last)) if last != ".." => {
                names.pop();
            }
            ("..", None) if is_absolute => {}
            _ => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests;
