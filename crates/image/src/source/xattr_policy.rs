//! The rule that decides which extended attributes of a source an image keeps. It is the
//! same for all formats.
//!
//! All attributes of an archive or an image are part of its content. An attribute of a
//! directory of the host is part of the content only if it depends neither on that host nor
//! on the user who reads it. Labels of security modules depend on the host; `trusted.*`
//! is visible to root alone. Names that Linux cannot store (xattr(7)) are left out of every
//! format, with a note.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use files::notes::Notes;

use crate::tree::{Id, Tree, Xattrs, posix_acl, show};

/// Name spaces of Linux. For access control lists, these are whole names.
const NAME_SPACES: &[&[u8]] =
    &[b"user.", b"security.", b"trusted.", posix_acl::ACCESS, posix_acl::DEFAULT];

/// Prefixes of the attributes that are kept from a directory of the host by default.
const OF_HOST: &[&[u8]] =
    &[b"user.", b"security.capability", posix_acl::ACCESS, posix_acl::DEFAULT];

/// Bytes of the longest name (`XATTR_NAME_MAX`, `include/uapi/linux/limits.h`).
const NAME_MAX: usize = 255;
/// Bytes of the longest value (`XATTR_SIZE_MAX`, `include/uapi/linux/limits.h`).
const VALUE_MAX: usize = 1 << 16;

/// Most attributes that notes mention by name; a hostile archive may have any number.
const NAMES_NOTED_MAX: usize = 16;

/// One word that selects attributes: `all`, `none` or a prefix of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectionWord {
    /// All attributes that Linux can store.
    All,
    /// No attributes.
    None,
    /// Attributes whose names begin with these bytes.
    Prefix(Box<[u8]>),
}

impl std::str::FromStr for SelectionWord {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let prefix = text.as_bytes();
        let is_possible = |space: &&[u8]| {
            !prefix.is_empty() && (space.starts_with(prefix) || prefix.starts_with(space))
        };
        Ok(match text {
            "all" => Self::All,
            "none" => Self::None,
            _ => {
                ensure!(
                    NAME_SPACES.iter().any(is_possible),
                    "all, none, or how names begin: user., security., trusted. or system.posix_acl_"
                );
                Self::Prefix(prefix.into())
            }
        })
    }
}

/// The attributes to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All attributes of archives and images; from a directory of the host, those that do
    /// not depend on this host.
    #[default]
    Content,
    /// All attributes that Linux can store.
    All,
    /// Attributes whose names begin with one of these prefixes; none if there is no prefix.
    Prefixes(Vec<Box<[u8]>>),
}

impl Selection {
    /// The selection that a list of words means; the default one for an empty list.
    ///
    /// # Errors
    /// `all` or `none` together with other words.
    pub fn of(words: &[SelectionWord]) -> Result<Self> {
        let prefix = |word: &SelectionWord| match word {
            SelectionWord::Prefix(prefix) => Some(prefix.clone()),
            SelectionWord::All | SelectionWord::None => None,
        };
        Ok(match words {
            [] => Self::Content,
            [SelectionWord::All] => Self::All,
            [SelectionWord::None] => Self::Prefixes(Vec::new()),
            _ => {
                let prefixes: Vec<_> = words.iter().filter_map(prefix).collect();
                ensure!(prefixes.len() == words.len(), "all and none go with nothing else");
                Self::Prefixes(prefixes)
            }
        })
    }
}

/// Kind of the source of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A directory of the host.
    Host,
    /// An archive or an image.
    Content,
}

/// Decision about one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// Left out without a note, because the selection does not contain it.
    NotSelected,
    /// Left out, because its value depends on the host.
    OfHost,
    NoNameSpace,
    BadName,
    TooLong,
    NoList,
}

impl Fate {
    /// Text of a note after the attribute's name; `None` if no note is needed.
    fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Kept | Self::NotSelected => return None,
            Self::OfHost => "belongs to this host and is left out",
            Self::NoNameSpace => "is of no name space of Linux and is left out",
            Self::BadName => "has a name that Linux cannot have and is left out",
            Self::TooLong => "is longer than the 64 KiB of Linux and is left out",
            Self::NoList => "is no access control list and is left out",
        })
    }
}

fn fate(name: &[u8], value: &[u8], selection: &Selection, origin: Origin) -> Fate {
    let begins = |prefix: &[u8]| name.starts_with(prefix);
    let is_acl = name == posix_acl::ACCESS || name == posix_acl::DEFAULT;
    let is_selected = match selection {
        Selection::Prefixes(prefixes) => prefixes.iter().any(|prefix| begins(prefix)),
        Selection::Content | Selection::All => true,
    };
    let space = NAME_SPACES.iter().find(|space| match space.ends_with(b".") {
        true => begins(space),
        false => name == **space,
    });
    let is_of_host = *selection == Selection::Content
        && origin == Origin::Host
        && !OF_HOST.iter().any(|prefix| begins(prefix));
    let rows = [
        (!is_selected, Fate::NotSelected),
        (space.is_none(), Fate::NoNameSpace),
        (!is_acl && space.is_some_and(|space| *space == name), Fate::BadName),
        (name.len() > NAME_MAX || name.contains(&0), Fate::BadName),
        (is_of_host, Fate::OfHost),
        (value.len() > VALUE_MAX, Fate::TooLong),
        (is_acl && !posix_acl::is_list(value), Fate::NoList),
    ];
    rows.iter().find(|(is_so, _)| *is_so).map_or(Fate::Kept, |(_, fate)| *fate)
}

/// Removes all attributes from `tree` that are not to be kept. Notes each removed attribute,
/// unless the selection does not contain it. Notes about attributes that depend on the host
/// end with `hint`, which may be empty.
pub fn apply(
    tree: &mut Tree,
    selection: &Selection,
    origin: Origin,
    hint: &str,
    notes: &mut Notes,
) {
    if tree.metas_mut().all(|meta| meta.xattrs.is_empty()) {
        return;
    }
    let judge = |name: &[u8], value: &[u8]| fate(name, value, selection, origin);
    let mut named_notes = NamedNotes { names: Vec::new(), notes, hint };
    let mut changed: Vec<(Id, Xattrs)> = Vec::new();
    // New sets by the address of the old set, so that files that shared the old set share the
    // new one.
    let mut smaller: HashMap<usize, Option<Xattrs>> = HashMap::new();
    let mut visit = |path: &[u8], id: Id| {
        let xattrs = &tree.node(id).meta.xattrs;
        let Some(address) = xattrs.address() else { return Ok(()) };
        let kept = smaller.entry(address).or_insert_with(|| {
            let mut kept = xattrs.clone();
            let is_kept = |name: &[u8], value: &[u8]| judge(name, value) == Fate::Kept;
            let is_whole = xattrs.iter().all(|(name, value)| is_kept(name, value));
            (!is_whole).then(|| {
                kept.retain(is_kept);
                kept
            })
        });
        let Some(kept) = kept else { return Ok(()) };
        for (name, value) in xattrs {
            named_notes.add(name, judge(name, value), path);
        }
        changed.push((id, kept.clone()));
        Ok(())
    };
    // The walk cannot fail, because `visit` cannot.
    let _ = tree.walk(&mut visit);
    for (id, xattrs) in changed {
        tree.node_mut(id).meta.xattrs = xattrs;
    }
}

/// Writer of notes that contain the names of at most [`NAMES_NOTED_MAX`] attributes.
struct NamedNotes<'n> {
    names: Vec<Box<[u8]>>,
    notes: &'n mut Notes,
    /// Text at the end of notes about attributes that depend on the host.
    hint: &'n str,
}

impl NamedNotes<'_> {
    fn add(&mut self, name: &[u8], fate: Fate, path: &[u8]) {
        let Some(words) = fate.words() else { return };
        let hint = if fate == Fate::OfHost { self.hint } else { "" };
        let is_known = self.names.iter().any(|known| **known == *name);
        if !is_known && self.names.len() < NAMES_NOTED_MAX {
            self.names.push(name.into());
        }
        match is_known || self.names.last().is_some_and(|last| **last == *name) {
            true => self.notes.add(format!("the attribute {} {words}{hint}", show(name)), path),
            false => self.notes.add(format!("another attribute {words}{hint}"), path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Kind, Meta};

    fn set(names: &[&str]) -> Xattrs {
        names.iter().map(|name| (name.as_bytes().into(), b"1"[..].into())).collect()
    }

    fn tree(sets: &[&Xattrs]) -> Tree {
        let mut tree = Tree::new(Meta::default());
        for (index, xattrs) in sets.iter().enumerate() {
            let meta = Meta { xattrs: (*xattrs).clone(), ..Meta::default() };
            let kind = Kind::File(Content::Bytes(b""[..].into()));
            tree.put(format!("{index:03}").as_bytes(), meta, kind).unwrap();
        }
        tree
    }

    fn names(tree: &Tree, path: &str) -> Vec<String> {
        let xattrs = &tree.node(tree.find(path.as_bytes()).unwrap()).meta.xattrs;
        xattrs.keys().map(|name| show(name)).collect()
    }

    fn selection(words: &[&str]) -> Result<Selection> {
        let words =
            words.iter().map(|word| word.parse()).collect::<Result<Vec<SelectionWord>>>()?;
        Selection::of(&words)
    }

    const NAMES: &[&str] = &[
        "security.capability",
        "security.ima",
        "security.selinux",
        "trusted.overlay.opaque",
        "user.a",
        "user.overlay.opaque",
    ];

    #[test]
    fn source_and_words_decide_which_attributes_are_kept() {
        let of_host = ["security.capability", "user.a", "user.overlay.opaque"];
        for (words, origin, expected, notes) in [
            (&[][..], Origin::Content, NAMES, 0),
            (&[], Origin::Host, &of_host, 3),
            (&["all"], Origin::Host, NAMES, 0),
            (&["all"], Origin::Content, NAMES, 0),
            (&["none"], Origin::Host, &[], 0),
            (&["none"], Origin::Content, &[], 0),
            (&["user"], Origin::Content, &["user.a", "user.overlay.opaque"], 0),
            (&["user.o", "trusted."], Origin::Host, &[NAMES[3], NAMES[5]], 0),
            (&["security.selinux"], Origin::Host, &["security.selinux"], 0),
        ] {
            let mut tree = tree(&[&set(NAMES)]);
            let mut noted = Notes::default();
            apply(&mut tree, &selection(words).unwrap(), origin, "", &mut noted);
            assert_eq!(names(&tree, "000"), expected, "{words:?} {origin:?}");
            assert_eq!(noted.lines().count(), notes, "{words:?} {origin:?}");
        }
    }

    #[test]
    fn senseless_words_are_refused() {
        for words in [&["all", "user."][..], &["none", "all"], &["foo"], &[""], &["com.apple."]] {
            assert!(selection(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn attributes_that_linux_cannot_store_are_noted_once_per_name() {
        let long = format!("user.{}", "n".repeat(251));
        let foreign = ["com.apple.provenance", "system.nfs4_acl", "user.", "user.a", &long];
        let mut foreign = set(&foreign);
        foreign.insert(b"user.\0"[..].into(), b""[..].into());
        foreign.insert(b"user.big"[..].into(), vec![0; VALUE_MAX + 1].into());
        foreign.insert(posix_acl::ACCESS.into(), b"\x02\0\0"[..].into());
        let mut tree = tree(&[&foreign, &foreign, &set(&["user.b"])]);
        let mut notes = Notes::default();
        apply(&mut tree, &Selection::All, Origin::Content, "", &mut notes);
        assert_eq!(names(&tree, "000"), ["user.a"]);
        assert_eq!(names(&tree, "002"), ["user.b"]);
        let addresses = ["000", "001"]
            .map(|path| tree.node(tree.find(path.as_bytes()).unwrap()).meta.xattrs.address());
        assert_eq!(addresses[0], addresses[1]);
        let lines: Vec<_> = notes.lines().collect();
        assert_eq!(lines.len(), 7, "{lines:#?}");
        let expected = "the attribute com.apple.provenance is of no name space of Linux and is left \
                        out: 000 and 1 more";
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }

    #[test]
    fn the_number_of_notes_is_limited() {
        let sets: Vec<_> = (0..100).map(|index| set(&[&format!("com.{index}")])).collect();
        let mut tree = tree(&sets.iter().collect::<Vec<_>>());
        let mut notes = Notes::default();
        apply(&mut tree, &Selection::Content, Origin::Content, "", &mut notes);
        assert_eq!(notes.lines().count(), NAMES_NOTED_MAX + 1);
        assert!(names(&tree, "099").is_empty());
    }
}
