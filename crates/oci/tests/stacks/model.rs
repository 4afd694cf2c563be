//! The rules of layers in the plainest way: a map from paths to files. Nothing here knows the
//! code that it is compared with.

use std::collections::{BTreeMap, BTreeSet};

use crate::stack::{Layer, Listed, Op, with_first_names};

/// Names from the root; the root has none.
type Path = Vec<String>;

/// Most links that are followed for one path.
const LINKS_MAX: u32 = 40;

#[derive(Clone, Debug, PartialEq)]
enum File {
    Directory { mode: u16 },
    Text(String),
    Link(String),
}

#[derive(Clone, Debug)]
struct Model {
    /// The number of the file at each path.
    names: BTreeMap<Path, u64>,
    files: Vec<File>,
}

/// Where a path leads.
enum Found {
    /// To a file at this path, without links.
    At(Path),
    /// To nothing: these names are missing in a directory at this path.
    Missing(Path, Vec<String>),
    /// Through a file that is no directory.
    ThroughFile,
    TooManyLinks,
}

/// The files of the merged layers.
pub(crate) fn merged(layers: &[Layer]) -> Result<Vec<Listed>, String> {
    let mut model = Model { names: BTreeMap::new(), files: Vec::new() };
    model.put(Path::new(), File::Directory { mode: 0o755 });
    for layer in layers {
        model.hide(layer);
        for op in layer {
            model.apply(op)?;
        }
    }
    let listed = model.names.iter().map(|(path, number)| {
        let (what, mode) = match model.file(path) {
            Some(File::Directory { mode }) => ("directory".to_owned(), *mode),
            Some(File::Text(text)) => (format!("file {text}"), 0o644),
            Some(File::Link(target)) => (format!("link to {target}"), 0),
            None => (String::new(), 0),
        };
        Listed::new(path.join("/"), what, mode, *number)
    });
    Ok(with_first_names(listed.collect()))
}

fn names(path: &str) -> Path {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
}

impl Model {
    fn file(&self, path: &[String]) -> Option<&File> {
        Some(&self.files[usize::try_from(*self.names.get(path)?).unwrap()])
    }

    fn is_directory(&self, path: &[String]) -> bool {
        matches!(self.file(path), Some(File::Directory { .. }))
    }

    fn put(&mut self, path: Path, file: File) {
        self.files.push(file);
        self.names.insert(path, self.files.len() as u64 - 1);
    }

    /// Removes a path and all paths below it.
    fn remove(&mut self, path: &[String]) {
        self.names.retain(|other, _| !other.starts_with(path));
    }

    fn follow(&self, path: &[String]) -> Found {
        let (mut at, mut links) = (Path::new(), 0);
        let mut todo: Vec<String> = path.iter().rev().cloned().collect();
        while let Some(name) = todo.pop() {
            if !self.is_directory(&at) {
                return Found::ThroughFile;
            }
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name.clone());
            match self.file(&at) {
                None => {
                    at.pop();
                    todo.push(name);
                    todo.reverse();
                    return Found::Missing(at, todo);
                }
                Some(File::Link(target)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Found::TooManyLinks;
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(names(target).into_iter().rev());
                }
                Some(_) => {}
            }
        }
        Found::At(at)
    }

    /// The directory to which a path leads, without links.
    fn directory(&self, path: &[String]) -> Option<Path> {
        match self.follow(path) {
            Found::At(at) if self.is_directory(&at) => Some(at),
            _ => None,
        }
    }

    /// Applies the whiteouts of a layer to the layers below.
    fn hide(&mut self, layer: &Layer) {
        let lower = self.clone();
        let (mut gone, mut opaque) = (BTreeSet::new(), BTreeSet::new());
        for op in layer {
            match op {
                Op::Whiteout { directory, name } => {
                    gone.insert([names(directory), vec![name.clone()]].concat());
                }
                Op::Opaque { directory } => {
                    opaque.insert(names(directory));
                }
                Op::Directory { path, .. }
                | Op::File { path, .. }
                | Op::Link { path, .. }
                | Op::HardLink { path, .. } => {
                    let path = names(path);
                    let (name, parent) = path.split_last().unwrap();
                    let Some(parent) = lower.directory(parent) else { continue };
                    let at = [parent, vec![name.clone()]].concat();
                    let Some(File::Link(below)) = lower.file(&at) else { continue };
                    if !matches!(op, Op::Link { target, .. } if target == below) {
                        gone.insert(path);
                    }
                }
            }
        }
        let is_of_lower = |directory: &[String]| {
            !(1..=directory.len()).any(|end| {
                gone.contains(&directory[..end]) || opaque.contains(&directory[..end - 1])
            })
        };
        for op in layer {
            let (directory, name) = match op {
                Op::Whiteout { directory, name } => (names(directory), Some(name)),
                Op::Opaque { directory } => (names(directory), None),
                _ => continue,
            };
            if !is_of_lower(&directory) {
                continue;
            }
            let Some(at) = lower.directory(&directory) else { continue };
            match name {
                Some(name) => self.remove(&[at, vec![name.clone()]].concat()),
                None => {
                    self.names.retain(|path, _| !(path.starts_with(&at) && path.len() > at.len()));
                }
            }
        }
    }

    /// The directory for a new file with this path, which is made if it is missing.
    fn parent(&mut self, parent: &[String]) -> Result<Path, String> {
        let at = match self.follow(parent) {
            Found::At(at) => at,
            Found::Missing(mut at, missing) => {
                for name in missing {
                    // A name that is missing cannot be left again.
                    if name == ".." {
                        return Err("a missing directory is left again".into());
                    }
                    at.push(name);
                    self.put(at.clone(), File::Directory { mode: 0o755 });
                }
                at
            }
            Found::ThroughFile => return Err("through a file".into()),
            Found::TooManyLinks => return Err("too many links".into()),
        };
        if self.is_directory(&at) { Ok(at) } else { Err("the parent is a file".into()) }
    }

    /// Removes the first name above a new file that leads to a file.
    fn make_way(&mut self, parent: &[String]) {
        for end in 1..=parent.len() {
            let Some(above) = self.directory(&parent[..end - 1]) else { return };
            let Found::At(at) = self.follow(&parent[..end]) else { continue };
            if !self.is_directory(&at) {
                self.remove(&[above, vec![parent[end - 1].clone()]].concat());
            }
        }
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        let (Op::Directory { path, .. }
        | Op::File { path, .. }
        | Op::Link { path, .. }
        | Op::HardLink { path, .. }) = op
        else {
            return Ok(());
        };
        let path = names(path);
        let (name, parent) = path.split_last().unwrap();
        self.make_way(parent);
        let linked = match op {
            Op::HardLink { target, .. } => Some(self.linked(target)?),
            _ => None,
        };
        let at = [self.parent(parent)?, vec![name.clone()]].concat();
        match op {
            Op::Directory { mode, .. } if self.is_directory(&at) => {
                let number = usize::try_from(self.names[&at]).unwrap();
                self.files[number] = File::Directory { mode: *mode };
                return Ok(());
            }
            _ => self.remove(&at),
        }
        match op {
            Op::Directory { mode, .. } => self.put(at, File::Directory { mode: *mode }),
            Op::File { text, .. } => self.put(at, File::Text(text.clone())),
            Op::Link { target, .. } => self.put(at, File::Link(target.clone())),
            _ => drop(self.names.insert(at, linked.unwrap())),
        }
        Ok(())
    }

    /// The number of the file that a hard link names.
    fn linked(&self, target: &str) -> Result<u64, String> {
        let target = names(target);
        let (name, parent) = target.split_last().unwrap();
        let Found::At(parent) = self.follow(parent) else { return Err("no such target".into()) };
        let at = [parent, vec![name.clone()]].concat();
        match self.names.get(&at) {
            Some(_) if self.is_directory(&at) => Err("a hard link to a directory".into()),
            Some(number) => Ok(*number),
            None => Err("no such target".into()),
        }
    }
}
