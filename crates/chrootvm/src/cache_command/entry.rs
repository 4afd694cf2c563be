//! One thing that is kept, and which ones a rule removes. Pure.

use std::time::SystemTime;

/// Kind of thing that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The root file system of an OCI image.
    Image,
    /// An unpacked layer.
    Layer,
    /// A document, or a layer as a registry sends it.
    Blob,
    /// A kernel that was taken out of its image.
    Unpacked,
    /// A small kernel that was built.
    Kernel,
    /// A machine that was saved.
    Template,
    /// What a program of this host said about itself.
    Answer,
    /// What a build of a recipe has left for the next one.
    Step,
}

/// The kinds and their names.
#[rustfmt::skip]
pub(super) const KINDS: [(Kind, &str); 8] = [
    (Kind::Image,    "image"),
    (Kind::Layer,    "layer"),
    (Kind::Blob,     "blob"),
    (Kind::Unpacked, "unpacked"),
    (Kind::Kernel,   "kernel"),
    (Kind::Template, "template"),
    (Kind::Answer,   "answer"),
    (Kind::Step,     "step"),
];

impl Kind {
    /// The kind's name.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// A thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its name in the cache.
    pub(super) name: String,
    /// A name for people; empty if there is none.
    pub(super) label: String,
    /// Bytes that it takes on the disk.
    pub(super) size: u64,
    /// When it was last used.
    pub(super) used: SystemTime,
    /// Whether the entry must stay.
    pub(super) in_use: bool,
    /// Whether the entry is complete; otherwise it is being made, or a run was interrupted.
    pub(super) complete: bool,
}

/// Which entries are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// All.
    All,
    /// Those that were last used before this time.
    Before(SystemTime),
    /// Those that were not used for the longest time, until so many bytes are left.
    To(u64),
}

impl Rule {
    /// The entries of `all` to remove. Those that are in use never are.
    pub(super) fn chosen<'a>(&self, all: &'a [Entry]) -> Vec<&'a Entry> {
        let mut free: Vec<_> = all.iter().filter(|entry| !entry.in_use).collect();
        free.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        match *self {
            Self::All => free,
            Self::Before(time) => free.into_iter().filter(|entry| entry.used < time).collect(),
            Self::To(size) => {
                let mut left: u64 = all.iter().map(|entry| entry.size).sum();
                let mut is_needed = |entry: &&Entry| {
                    let is_needed = left > size;
                    left = left.saturating_sub(entry.size);
                    is_needed
                };
                free.into_iter().take_while(|entry| is_needed(entry)).collect()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    /// An entry of this size, used `minute` minutes after 1970.
    pub(in crate::cache_command) fn entry(name: &str, size: u64, minute: u64) -> Entry {
        Entry {
            kind: Kind::Layer,
            name: name.into(),
            label: String::new(),
            size,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute),
            in_use: false,
            complete: true,
        }
    }

    #[test]
    fn rules_choose_what_was_not_used_for_long() {
        let at = |minute: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
        let mut all = vec![entry("c", 30, 3), entry("a", 10, 1), entry("b", 20, 2)];
        all.push(Entry { in_use: true, ..entry("used", 40, 0) });
        for (rule, expected) in [
            (Rule::All, "abc"),
            (Rule::Before(at(0)), ""),
            (Rule::Before(at(2)), "a"),
            (Rule::Before(at(9)), "abc"),
            (Rule::To(100), ""),
            (Rule::To(99), "a"),
            (Rule::To(90), "a"),
            (Rule::To(89), "ab"),
            (Rule::To(40), "abc"),
            (Rule::To(0), "abc"),
        ] {
            let found: String = rule.chosen(&all).iter().map(|entry| &*entry.name).collect();
            assert_eq!(found, expected, "{rule:?}");
        }
    }
}
