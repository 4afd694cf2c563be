//! Why a step runs: what the last build of the recipe was made of, and what is different now.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kept::key::Key;
use super::kept::store::{Kind, Store};
use super::package::planned::{Planned, Work};

/// Most bytes of a record.
const RECORD_MAX: u64 = 16 << 20;

/// What a build was made of.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    base: String,
    steps: Vec<Step>,
}

/// Parts of a step, by name; a value is a hash.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    parts: Vec<(String, String)>,
}

impl Record {
    /// The record of a build with these steps.
    pub(super) fn of(base: Option<&Key>, steps: &[Planned]) -> Self {
        let base = base.map(ToString::to_string).unwrap_or_default();
        let hash = |bytes: &[u8]| Key::first(&[bytes]).to_string();
        let step = |step: &Planned| Step {
            parts: step.parts.iter().map(|part| (part.what.clone(), hash(&part.bytes))).collect(),
        };
        Self { base, steps: steps.iter().map(step).collect() }
    }

    /// The record of the last build of what `path` names.
    pub(super) fn last(path: &Path, store: &Store) -> Option<Self> {
        let bytes = store.read(Kind::Record, &key(path), RECORD_MAX)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the record as that of the last build of what `path` names.
    pub(super) fn keep(&self, path: &Path, store: &Store) {
        if let Ok(bytes) = serde_json::to_vec(self) {
            store.note(Kind::Record, &key(path), &bytes);
        }
    }

    /// What is different in the step with this index, between `self` and the last build.
    fn difference(&self, last: &Self, index: usize) -> Option<String> {
        let step = self.steps.get(index)?;
        let Some(old) = last.steps.get(index) else { return Some("it is new".to_owned()) };
        let value = |step: &Step, what: &str| {
            step.parts.iter().find(|(name, _)| name == what).map(|(_, value)| value.clone())
        };
        let changed =
            step.parts.iter().find(|(what, hash)| value(old, what).as_ref() != Some(hash));
        if let Some((what, _)) = changed {
            return Some(format!("{what} has changed"));
        }
        let gone = old.parts.iter().find(|(what, _)| value(step, what).is_none());
        gone.map(|(what, _)| format!("{what} is no part of it any more"))
    }
}

/// For each step, why it runs; `None` for one that does not.
pub(super) fn reasons(
    now: &Record,
    last: Option<&Record>,
    steps: &[Planned],
    missing: &[usize],
    forced_from: Option<usize>,
) -> Vec<Option<String>> {
    let changed_before = |index: usize| {
        let last = last?;
        if now.base != last.base {
            return Some("the base has changed".to_owned());
        }
        let first = (0..index).find(|at| now.difference(last, *at).is_some())?;
        Some(format!("step {} has changed", first + 1))
    };
    let reason = |(index, step): (usize, &Planned)| {
        if !matches!(step.work, Work::Command(_)) || !missing.contains(&index) {
            return None;
        }
        if forced_from.is_some_and(|first| index >= first) {
            return Some("an option asks for it".to_owned());
        }
        let Some(last) = last else { return Some("it was not built here yet".to_owned()) };
        let own = now.difference(last, index).or_else(|| changed_before(index));
        let earlier = missing.first().filter(|first| **first < index);
        let earlier = earlier.map(|first| format!("step {} runs", first + 1));
        Some(own.or(earlier).unwrap_or_else(|| "its layer is not kept any more".to_owned()))
    };
    steps.iter().enumerate().map(reason).collect()
}

fn key(path: &Path) -> Key {
    Key::first(&[b"record", path.as_os_str().as_bytes()])
}
