//! Patterns for paths, as Go and Docker read them, and a matcher for them.
//!
//! Syntax: `filepath.Match` of Go; `**` as the package moby/patternmatcher reads it.
//!
//! | Text | Matches |
//! |---|---|
//! | `*` | any characters but `/` |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[^a-z]` | one character of the class, or none of it, but never `/` |
//! | `\c` | the character `c` |
//! | `**` at the end | anything, with `/` |
//! | `**` | nothing, or any characters up to a `/` and the `/` itself |
//!
//! A `/` after `**` belongs to it, so `**/x` matches `x` and `a/x`. If `**` begins a pattern that
//! has neither a `/` next nor another special character, it matches any characters: `**x`
//! matches `a/bx`.
//!
//! A character is a code point of UTF-8, or one byte that is none.
//!
//! Invariant: the matcher visits each character of a path once, and keeps at most one state for
//! each element of the pattern. So its work is bounded by the product of both lengths.

use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Context, Result, bail, ensure};

/// Most bytes of a pattern. A path is not longer ([`PATH_MAX`](crate::tree::PATH_MAX)).
const PATTERN_MAX: usize = 4096;

/// What `**` means in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stars {
    /// Any directories, as in `.dockerignore`.
    Directories,
    /// The same as `*`, as in `filepath.Match` of Go.
    AsOne,
}

/// A pattern, ready to match.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    elements: Vec<Element>,
}

/// One element of a pattern, which is also one state of the matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    /// This character.
    One(Unit),
    /// Any character but `/`.
    Any,
    /// A character of a class, but never `/`.
    Class(Class),
    /// Any number of characters but `/`.
    Star,
    /// Any number of characters.
    Rest,
    /// Start of any number of directories: the matcher may skip the next element.
    Directories,
    /// Any number of characters, of which the last one is `/`. It follows
    /// [`Element::Directories`].
    UpToSlash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    is_negated: bool,
    /// First and last character of each range.
    ranges: Vec<(Unit, Unit)>,
}

/// A code point, or a byte that is no UTF-8. Bytes are above all code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Code(char),
    Byte(u8),
}

const SLASH: Unit = Unit::Code('/');

/// How a path relates to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    /// The pattern matches the path or a directory above it.
    pub(super) is_matched: bool,
    /// The pattern can match a path below this one.
    pub(super) is_below_possible: bool,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A class without an end or a member, a range without an end, a backslash at the end, more
    /// than [`PATTERN_MAX`] bytes.
    pub(super) fn parse(pattern: &str, stars: Stars) -> Result<Self> {
        ensure!(pattern.len() <= PATTERN_MAX, "a pattern has at most {PATTERN_MAX} bytes");
        let mut elements = Vec::new();
        let mut text = pattern.chars().peekable();
        while let Some(c) = text.next() {
            match c {
                '*' if stars == Stars::Directories && text.peek() == Some(&'*') => {
                    text.next();
                    let is_followed_by_slash = text.next_if_eq(&'/').is_some();
                    if text.peek().is_none() || (elements.is_empty() && !is_followed_by_slash) {
                        elements.push(Element::Rest);
                    } else {
                        elements.extend([Element::Directories, Element::UpToSlash]);
                    }
                }
                '*' => elements.push(Element::Star),
                '?' => elements.push(Element::Any),
                '[' => elements.push(Element::Class(Class::parse(&mut text)?)),
                '\\' => match text.next() {
                    Some(c) => elements.push(Element::One(Unit::Code(c))),
                    None => bail!("a backslash stands at its end"),
                },
                c => elements.push(Element::One(Unit::Code(c))),
            }
        }
        // Two stars at the start reach into a name only if everything else is plain.
        let is_plain = |pattern: &str| !pattern.contains(['*', '?', '[', ']', '\\']);
        if elements.len() > 1
            && elements.first() == Some(&Element::Rest)
            && !pattern.strip_prefix("**").is_some_and(is_plain)
        {
            elements.splice(..1, [Element::Directories, Element::UpToSlash]);
        }
        Ok(Self { elements })
    }

    /// Whether the pattern matches all of `path`.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut states = States::new(self);
        for unit in units(path) {
            states.step(unit);
        }
        states.is_accepted()
    }

    /// Whether the pattern matches `path` or a directory above it, and whether it can match
    /// what is below.
    pub(super) fn matches_above(&self, path: &[u8]) -> Matched {
        let mut states = States::new(self);
        let mut is_matched = false;
        for unit in units(path) {
            is_matched |= unit == SLASH && states.is_accepted();
            states.step(unit);
            if states.active.is_empty() {
                return Matched { is_matched, is_below_possible: false };
            }
        }
        is_matched |= states.is_accepted();
        states.step(SLASH);
        let is_live = |&state: &usize| state < self.elements.len();
        Matched { is_matched, is_below_possible: states.active.iter().any(is_live) }
    }
}

impl Class {
    /// Reads a class after its `[`.
    fn parse(text: &mut Peekable<Chars<'_>>) -> Result<Self> {
        let is_negated = text.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            if !ranges.is_empty() && text.next_if_eq(&']').is_some() {
                return Ok(Self { is_negated, ranges });
            }
            let first = Self::member(text)?;
            let last = match text.next_if_eq(&'-') {
                Some(_) => Self::member(text)?,
                None => first,
            };
            ranges.push((first, last));
        }
    }

    /// Reads one character of a class.
    fn member(text: &mut Peekable<Chars<'_>>) -> Result<Unit> {
        let found = match text.next() {
            Some('-' | ']') => {
                bail!("a class in brackets is empty, or a range is open; write \\- and \\]")
            }
            Some('\\') => text.next(),
            found => found,
        };
        found.map(Unit::Code).context("a class in brackets has no end")
    }

    fn has(&self, unit: Unit) -> bool {
        let is_within = self.ranges.iter().any(|&(first, last)| first <= unit && unit <= last);
        unit != SLASH && is_within != self.is_negated
    }
}

/// The states in which the matcher may be after some characters of a path. State `n` means that
/// element `n` comes next; the last state is the end of the pattern.
struct States<'a> {
    elements: &'a [Element],
    active: Vec<usize>,
    next: Vec<usize>,
    /// The step in which each state was added last.
    added: Vec<usize>,
    step: usize,
}

impl<'a> States<'a> {
    fn new(glob: &'a Glob) -> Self {
        let elements = glob.elements.as_slice();
        let added = vec![0; elements.len() + 1];
        let mut states = Self { elements, active: Vec::new(), next: Vec::new(), added, step: 1 };
        states.add(0);
        std::mem::swap(&mut states.active, &mut states.next);
        states
    }

    fn is_accepted(&self) -> bool {
        self.active.contains(&self.elements.len())
    }

    /// Adds a state for the next character, and those that it reaches without any.
    fn add(&mut self, mut state: usize) {
        while let Some(added) = self.added.get_mut(state) {
            if *added == self.step {
                return;
            }
            *added = self.step;
            self.next.push(state);
            match self.elements.get(state) {
                Some(Element::Star | Element::Rest) => state += 1,
                Some(Element::Directories) => {
                    // Recursion ends: the element after this one is `UpToSlash`.
                    self.add(state + 1);
                    state += 2;
                }
                _ => return,
            }
        }
    }

    fn step(&mut self, unit: Unit) {
        self.step += 1;
        self.next.clear();
        for at in 0..self.active.len() {
            let Some(&state) = self.active.get(at) else { continue };
            let Some(element) = self.elements.get(state) else { continue };
            let (stays, moves) = match element {
                Element::One(own) => (false, *own == unit),
                Element::Any => (false, unit != SLASH),
                Element::Class(class) => (false, class.has(unit)),
                Element::Star => (unit != SLASH, false),
                Element::Rest => (true, false),
                Element::Directories => (false, false),
                Element::UpToSlash => (true, unit == SLASH),
            };
            if stays {
                self.add(state);
            }
            if moves {
                self.add(state + 1);
            }
        }
        std::mem::swap(&mut self.active, &mut self.next);
    }
}

/// The characters of a path.
fn units(path: &[u8]) -> impl Iterator<Item = Unit> {
    path.utf8_chunks().flat_map(|chunk| {
        let codes = chunk.valid().chars().map(Unit::Code);
        codes.chain(chunk.invalid().iter().copied().map(Unit::Byte))
    })
}

#[cfg(test)]
mod tests;
