//! Removes from a tree what programs leave in it and what differs from build to build.
//!
//! Times of files differ, too, but a writer limits them ([`super::inject::clamp_times`]). What is
//! left is in the contents: a log has the time of each line, a cache has inode numbers, an id is
//! random. [`Normalisation`] names each kind and says why it differs, and why an image can do
//! without it.
//!
//! Rules for all of them:
//!
//! - A missing file is not an error.
//! - Links above a path are followed within the tree. Only regular files are changed or removed
//!   (and directories of journals): a link or a device in such a place is there on purpose.
//! - A file that has a further name elsewhere (a hard link) stays as it is at the other name.
//!
//! | Module | Contents |
//! |---|---|
//! | `pyc` | the time of the source in a compiled Python module |

mod pyc;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context, Result};
use files::named::Named;

use crate::tree::{Content, Id, Kind, Tree};

/// Directory of logs.
const LOGS: &[u8] = b"var/log";
/// Directory of the journal of systemd, with a directory for each machine (journald.conf(5)).
const JOURNAL: &[u8] = b"var/log/journal";
/// Directory and name of the id of the machine (machine-id(5)).
const MACHINE_ID: (&[u8], &[u8]) = (b"etc", b"machine-id");
/// Hexadecimal digits of the id of a machine (machine-id(5)).
const ID_DIGITS: usize = 32;
/// Most bytes of a file that may be the id of a machine: its digits and a new line, with some
/// room for white space.
const ID_FILE_MAX: u64 = 64;

/// One kind of what differs from build to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// Regular files below `/var/log` become empty: each line has a time, and the binary ones
    /// (`lastlog`, `wtmp`, `btmp`) have times, too. They keep owner, mode and time, because a
    /// program that runs as another user may only append to a file that exists. In the journal of
    /// systemd even the names differ: `/var/log/journal` has a directory for each id of a machine.
    /// These directories are removed; systemd-journald makes a new one.
    Logs,
    /// `/var/cache/ldconfig/aux-cache` is removed. It has the inode number, the change time and
    /// the size of each library; ldconfig(8) uses it only to be faster, and makes it again.
    Ldconfig,
    /// An id in `/etc/machine-id` is removed; the file stays and is empty. For systemd, an
    /// empty file means that the machine gets an id when it boots, as does a missing one. But a
    /// missing file, or the word `uninitialized`, also means that the machine boots for the first
    /// time, so that presets of units are applied again (machine-id(5), "First Boot Semantics").
    /// Who wrote an id was past that, so the empty file is right; it is also what systemd can
    /// mount an id over if the root is read-only. Machines that were made from one image must not
    /// share an id.
    MachineId,
    /// `/var/lib/dbus/machine-id` is removed if it is a regular file: a second copy of an id. The
    /// D-Bus daemon makes it again from `/etc/machine-id` (dbus-uuidgen(1)); systemd makes a link.
    DbusId,
    /// Seeds of the random number generator are removed: random bytes that must be in no two
    /// machines. Programs that load them do without, and save a seed when the machine stops.
    RandomSeed,
    /// `.wget-hsts` in the homes `/root` and `/home/*` is removed. wget notes there when it last
    /// saw a host that wants https.
    WgetHsts,
    /// Caches, locks, incomplete downloads and old copies of apt, debconf and dpkg are removed.
    /// The caches have the times of the lists from which apt makes them again; old copies are
    /// the state before the last change, which depends on how the changes were split.
    Apt,
    /// In each compiled Python module (`*.pyc`) that has the time of its source, this time is
    /// limited as the writer limits the time of the source, so that Python still takes both for
    /// equal. Modules that name their source by a hash have no time and stay as they are (PEP
    /// 552).
    Python,
}

#[rustfmt::skip]
impl Named for Normalisation {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("logs",        Self::Logs,       "Empty the files below /var/log"),
        ("ldconfig",    Self::Ldconfig,   "Remove the cache of inode numbers of ldconfig"),
        ("machine-id",  Self::MachineId,  "Empty /etc/machine-id"),
        ("dbus-id",     Self::DbusId,     "Remove /var/lib/dbus/machine-id"),
        ("random-seed", Self::RandomSeed, "Remove saved seeds of the random number generator"),
        ("wget-hsts",   Self::WgetHsts,   "Remove .wget-hsts of all homes"),
        ("apt",         Self::Apt,        "Remove caches and old copies of apt, debconf and dpkg"),
        ("python",      Self::Python,     "Limit the times in compiled Python modules"),
    ];
}

/// What is done for a [`Normalisation`].
enum Rule {
    /// Removes the regular files that these paths match. A name that begins with `*` matches
    /// every name with the rest as its end.
    Remove(&'static [&'static str]),
    /// Changes the tree; the second argument is the latest time of a file.
    Change(fn(&mut Tree, i64) -> Result<()>),
}

impl Normalisation {
    #[rustfmt::skip]
    fn rule(self) -> Rule {
        match self {
            Self::Logs => Rule::Change(empty_logs),
            Self::Ldconfig => Rule::Remove(&["var/cache/ldconfig/aux-cache"]),
            Self::MachineId => Rule::Change(empty_machine_id),
            Self::DbusId => Rule::Remove(&["var/lib/dbus/machine-id"]),
            Self::RandomSeed => Rule::Remove(&[
                "var/lib/systemd/random-seed",     // systemd-random-seed.service(8)
                "var/lib/urandom/random-seed",     // sysvinit of Debian
                "var/lib/misc/random-seed",        // service urandom of OpenRC
                "var/lib/random-seed",             // Buildroot
                "var/lib/seedrng/seed.credit",     // seedrng of OpenRC and BusyBox
                "var/lib/seedrng/seed.no-credit",
            ]),
            Self::WgetHsts => Rule::Remove(&["root/.wget-hsts", "home/*/.wget-hsts"]),
            Self::Apt => Rule::Remove(&[
                "var/cache/apt/pkgcache.bin",
                "var/cache/apt/srcpkgcache.bin",
                "var/cache/apt/archives/lock",
                "var/cache/apt/archives/partial/*",
                "var/lib/apt/lists/lock",
                "var/lib/apt/lists/partial/*",
                "var/lib/dpkg/*-old",
                "var/cache/debconf/*-old",
            ]),
            Self::Python => Rule::Change(pyc::limit_times),
        }
    }
}

/// Applies `rows` to a tree, in their order. `latest` is the latest time of a file, in seconds
/// since 1970, to which the caller limits the times of all files afterwards, not before: the times
/// of the sources still tell which compiled Python modules are out of date.
///
/// # Errors
/// A file whose contents cannot be read; a tree that needs too much memory.
pub fn apply(tree: &mut Tree, rows: &[Normalisation], latest: i64) -> Result<()> {
    for row in rows {
        match row.rule() {
            Rule::Remove(patterns) => {
                for pattern in patterns {
                    remove(tree, pattern);
                }
            }
            Rule::Change(change) => {
                change(tree, latest).with_context(|| format!("normalise {}", row.name()))?;
            }
        }
    }
    Ok(())
}

/// Removes the regular files that `pattern` matches.
fn remove(tree: &mut Tree, pattern: &str) {
    let (above, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let mut paths = vec![Vec::new()];
    for name in above.split('/') {
        let below = paths.iter().flat_map(|path: &Vec<u8>| {
            let names = matches(tree, path, name).into_iter();
            names.map(move |name| [path, &b"/"[..], &name].concat())
        });
        paths = below.collect();
    }
    for path in paths {
        let Some((parent, _)) = tree.find_directory(&path) else { continue };
        for name in matches(tree, &path, last) {
            if tree.child(parent, &name).is_some_and(|id| is_file(tree, id)) {
                tree.remove(parent, &name);
            }
        }
    }
}

/// The names in the directory `path` that `pattern`, one name of a path, matches.
fn matches(tree: &Tree, path: &[u8], pattern: &str) -> Vec<Box<[u8]>> {
    let Some(ending) = pattern.strip_prefix('*') else { return vec![pattern.as_bytes().into()] };
    let children = tree.find_directory(path).and_then(|(id, _)| tree.children(id));
    let names = children.into_iter().flat_map(|children| children.keys());
    names.filter(|name| name.ends_with(ending.as_bytes())).cloned().collect()
}

fn empty_logs(tree: &mut Tree, _latest: i64) -> Result<()> {
    if let Some((journal, _)) = tree.find_directory(JOURNAL) {
        for (name, id) in children(tree, journal) {
            if tree.children(id).is_some() && is_of_machine(&name) {
                tree.remove(journal, &name);
            }
        }
    }
    let mut emptied = HashMap::new();
    let mut pending: Vec<Id> = tree.find_directory(LOGS).into_iter().map(|found| found.0).collect();
    while let Some(directory) = pending.pop() {
        for (name, id) in children(tree, directory) {
            if is_file(tree, id) {
                empty(tree, (directory, &name), id, &mut emptied)?;
            } else if tree.children(id).is_some() {
                pending.push(id);
            }
        }
    }
    Ok(())
}

/// Whether a directory of the journal is that of one machine: its name is an id, perhaps with a
/// dot and the name of a namespace.
fn is_of_machine(name: &[u8]) -> bool {
    is_id(name.split(|&byte| byte == b'.').next().unwrap_or_default())
}

fn is_id(text: &[u8]) -> bool {
    text.len() == ID_DIGITS && text.iter().all(u8::is_ascii_hexdigit)
}

fn empty_machine_id(tree: &mut Tree, _latest: i64) -> Result<()> {
    let (above, name) = MACHINE_ID;
    let Some((parent, _)) = tree.find_directory(above) else { return Ok(()) };
    let Some(id) = tree.child(parent, name) else { return Ok(()) };
    let Kind::File(content) = &tree.node(id).kind else { return Ok(()) };
    if content.size() > ID_FILE_MAX {
        return Ok(());
    }
    let mut text = Vec::new();
    content.open()?.read_to_end(&mut text).context("read /etc/machine-id")?;
    match is_id(text.trim_ascii()) {
        true => empty(tree, (parent, name), id, &mut HashMap::new()),
        false => Ok(()),
    }
}

/// Empties the file `id` at a name, given as its directory and the name in it. If the file has
/// further names, this name gets a new file; `emptied` has these new files, so that names of one
/// file that are all emptied still belong to one file.
fn empty(
    tree: &mut Tree,
    (parent, name): (Id, &[u8]),
    id: Id,
    emptied: &mut HashMap<Id, Id>,
) -> Result<()> {
    let nothing = Kind::File(Content::Bytes([].into()));
    if let Some(&new) = emptied.get(&id) {
        return tree.link(parent, name, new);
    }
    if tree.node(id).names == 1 {
        tree.node_mut(id).kind = nothing;
        return Ok(());
    }
    let meta = tree.node(id).meta.clone();
    let new = tree.add(parent, name, meta, nothing)?;
    emptied.insert(id, new);
    Ok(())
}

fn is_file(tree: &Tree, id: Id) -> bool {
    matches!(tree.node(id).kind, Kind::File(_))
}

/// The children of a directory, so that the tree can be changed meanwhile.
fn children(tree: &Tree, directory: Id) -> Vec<(Box<[u8]>, Id)> {
    let children = tree.children(directory).into_iter().flatten();
    children.map(|(name, id)| (name.clone(), *id)).collect()
}
