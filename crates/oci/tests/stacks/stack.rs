//! Stacks of layers that often collide: few names, and every kind of member.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// One member of a layer.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Directory { path: String, mode: u16 },
    File { path: String, text: String },
    Link { path: String, target: String },
    HardLink { path: String, target: String },
    Whiteout { directory: String, name: String },
    Opaque { directory: String },
}

/// The members of a layer, in the order of the archive.
pub(crate) type Layer = Vec<Op>;

/// Names of files. The fewer, the more often two layers have the same path.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Targets of symbolic links: to files and directories above and below, out of the root, and to
/// nothing.
const TARGETS: [&str; 12] =
    ["a", "b", "c", "/a", "/b/c", "../a", "../b", "../../../c", ".", "..", "a/b", "nowhere/x"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

/// A path of one to three names.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

/// The path of a directory, which may be the root.
fn directory() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 0..3).prop_map(|names| names.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(&[0o755_u16, 0o700, 0o1777][..]);
    let target = prop::sample::select(&TARGETS[..]).prop_map(str::to_owned);
    prop_oneof![
        6 => (path(), mode).prop_map(|(path, mode)| Op::Directory { path, mode }),
        6 => (path(), 0..100_u32).prop_map(|(path, number)| Op::File { path, text: number.to_string() }),
        4 => (path(), target).prop_map(|(path, target)| Op::Link { path, target }),
        1 => (path(), path()).prop_map(|(path, target)| Op::HardLink { path, target }),
        3 => (directory(), name()).prop_map(|(directory, name)| Op::Whiteout { directory, name }),
        1 => directory().prop_map(|directory| Op::Opaque { directory }),
    ]
}

/// Stacks of one to four layers.
pub(crate) fn stacks() -> impl Strategy<Value = Vec<Layer>> {
    prop::collection::vec(prop::collection::vec(op(), 0..8), 1..5)
}

/// The next stack of a runner.
pub(crate) fn one(runner: &mut TestRunner) -> Vec<Layer> {
    stacks().new_tree(runner).unwrap().current()
}

/// The path of `name` in `directory`.
pub(crate) fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

/// The tar archive of a layer.
pub(crate) fn tar_of(layer: &Layer) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for op in layer {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let (kind, path, text) = match op {
            Op::Directory { path, mode } => {
                header.set_mode((*mode).into());
                (tar::EntryType::Directory, format!("{path}/"), "")
            }
            Op::File { path, text } => (tar::EntryType::Regular, path.clone(), &text[..]),
            Op::Link { path, target } => {
                header.set_mode(0o777);
                header.set_link_name_literal(target).unwrap();
                (tar::EntryType::Symlink, path.clone(), "")
            }
            Op::HardLink { path, target } => {
                header.set_link_name_literal(target).unwrap();
                (tar::EntryType::Link, path.clone(), "")
            }
            Op::Whiteout { directory, name } => {
                (tar::EntryType::Regular, join(directory, &format!(".wh.{name}")), "")
            }
            Op::Opaque { directory } => {
                (tar::EntryType::Regular, join(directory, ".wh..wh..opq"), "")
            }
        };
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_path(path).unwrap();
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A file of a merged tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) what: String,
    /// Permissions; 0 for a link, which has none.
    pub(crate) permissions: u16,
    /// The first path of the same file.
    pub(crate) first: String,
    number: u64,
}

impl Listed {
    /// A file. All names of one file, and of no other, have the same `number`.
    pub(crate) fn new(path: String, what: String, permissions: u16, number: u64) -> Self {
        let permissions = if what.starts_with("link") { 0 } else { permissions };
        Self { path, what, permissions, first: String::new(), number }
    }
}

/// Sorts files, and replaces their numbers by first names.
pub(crate) fn with_first_names(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort();
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    for file in &mut listed {
        file.first = first.entry(file.number).or_insert_with(|| file.path.clone()).clone();
        file.number = 0;
    }
    listed
}
