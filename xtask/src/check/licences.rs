//! Licences and sources of all crates against `deny.toml`.
//!
//! Interfaces: the licence expressions of SPDX 2.3, annex D, with `/` for OR as in old manifests;
//! the keys `licenses.allow` and `sources.allow-registry` of cargo-deny's configuration.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::metadata::Metadata;

/// What crates may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Licences, as SPDX names them.
    pub licences: Vec<String>,
    /// Addresses of registries.
    pub registries: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml` in the directory `root`.
    ///
    /// # Errors
    /// The file cannot be read, or lacks a list.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("deny.toml");
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let list = |section: &str, key: &str| {
            let list = table.get(section).and_then(|section| section.get(key)?.as_array());
            let list = list.with_context(|| format!("{section}.{key} is no list"))?;
            let words: Vec<_> =
                list.iter().filter_map(|word| Some(word.as_str()?.into())).collect();
            ensure!(words.len() == list.len(), "{section}.{key} has something that is no text");
            Ok(words)
        };
        Ok(Self {
            licences: list("licenses", "allow")?,
            registries: list("sources", "allow-registry")?,
        })
    }
}

/// Crates that are not allowed, a line each.
#[must_use]
pub fn faults(metadata: &Metadata, policy: &Policy) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        match package.license.as_deref() {
            None => faults.push(format!("{name} names no licence")),
            Some(text) => match is_allowed(text, &policy.licences) {
                Some(true) => {}
                Some(false) => faults.push(format!(
                    "{name} has the licence \"{text}\": licenses.allow of deny.toml has not enough of it"
                )),
                None => faults.push(format!("{name}: \"{text}\" is no licence expression")),
            },
        }
        let registry = package.source.as_deref().map(|source| source.strip_prefix("registry+"));
        let is_known = |url: &str| policy.registries.iter().any(|known| known == url);
        if registry.is_some_and(|registry| !registry.is_some_and(is_known)) {
            let source = package.source.as_deref().unwrap_or_default();
            faults.push(format!("{name} comes from {source}: sources of deny.toml lack it"));
        }
    }
    faults
}

/// Whether the licences in `allowed` are enough for `expression`; `None` if it is no expression.
fn is_allowed(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { words: spaced.split_whitespace().collect(), at: 0 };
    let result = any(&mut words, allowed)?;
    words.next().is_none().then_some(result)
}

/// The words of an expression, and which of them is next.
struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    /// Takes the next word if it is `word`.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_next);
        is_next
    }
}

/// Terms with OR between them.
fn any(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    let mut result = all(words, allowed)?;
    while words.take("OR") {
        result |= all(words, allowed)?;
    }
    Some(result)
}

/// Licences with AND between them, which binds stronger than OR.
fn all(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while words.take("AND") {
        result &= one(words, allowed)?;
    }
    Some(result)
}

/// A licence, with or without an exception, or an expression in parentheses.
fn one(words: &mut Words<'_>, allowed: &[String]) -> Option<bool> {
    if words.take("(") {
        let result = any(words, allowed)?;
        return words.take(")").then_some(result);
    }
    let mut name =
        words.next().filter(|word| !["OR", "AND", "WITH", ")"].contains(word))?.to_owned();
    if words.take("WITH") {
        name = format!("{name} WITH {}", words.next()?);
    }
    Some(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::sample;

    #[test]
    fn expressions_are_evaluated() {
        let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(String::from);
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("ISC", Some(false)),
            ("ISC OR MIT", Some(true)),
            ("ISC/MIT", Some(true)),
            ("MIT AND ISC", Some(false)),
            ("MIT AND Zlib", Some(true)),
            // AND binds stronger than OR.
            ("MIT OR ISC AND Zlib", Some(true)),
            ("(MIT OR ISC) AND Zlib", Some(true)),
            ("(MIT OR Zlib) AND ISC", Some(false)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            // The exception belongs to the licence.
            ("Apache-2.0", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT)", None),
            ("MIT ISC", None),
            ("WITH", None),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn wrong_licences_and_sources_are_faults() {
        let policy = |licences: &[&str], registry: &str| Policy {
            licences: licences.iter().map(|name| (*name).to_owned()).collect(),
            registries: vec![registry.to_owned()],
        };
        let example = "https://example.org/index";
        let all = ["Apache-2.0", "MIT", "GPL-3.0-only"];
        assert_eq!(faults(&sample(), &policy(&all, example)), [""; 0]);
        let found = faults(&sample(), &policy(&["Apache-2.0", "MIT"], example));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("d 1.2.3 has the licence \"GPL-3.0-only\""), "{found:?}");
        let found = faults(&sample(), &policy(&all, "https://example.org/other"));
        assert_eq!(found.len(), 4, "crates of this workspace have no source: {found:?}");
        let mut metadata = sample();
        metadata.packages[1].license = None;
        metadata.packages[1].source = Some("git+https://example.org/index".to_owned());
        assert_eq!(faults(&metadata, &policy(&all, example)).len(), 2);
    }

    #[test]
    fn the_policy_of_this_tree_is_one() {
        let policy = Policy::parse(include_str!("../../../deny.toml")).unwrap();
        assert!(policy.licences.iter().any(|name| name == "Apache-2.0"));
        assert_eq!(policy.registries.len(), 1);
        assert!(Policy::parse("licenses.allow = []").is_err());
        assert!(Policy::parse("licenses.allow = [1]\nsources.allow-registry = []").is_err());
    }
}
