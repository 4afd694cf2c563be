//! Directories from which COPY and ADD take files: the context of the build, and those that have a
//! name.
//!
//! A directory is read when the first instruction needs it. All files in it belong to root, as for
//! other builders: who has checked the files out does not matter.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context as _, Result, anyhow, ensure};
use files::notes::Notes;
use image::edit::ignore::{Patterns, TEXT_MAX};
use image::edit::select;
use image::source::{self, FileId, ReadOptions};
use image::tree::Tree;

use super::super::package::WrongRecipe;
use super::super::package::inputs::{Input, Owners};
use super::super::run::halt::lock;

/// Endings of the file beside a Containerfile that says what to leave out of the context.
const BESIDE: [&str; 2] = [".containerignore", ".dockerignore"];

/// A directory of the host with files for an image.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Files that say what to leave out, the first one that exists counts.
    ignore: Vec<PathBuf>,
    /// Outputs of the build.
    left_out: Vec<FileId>,
    tree: OnceLock<Result<Tree, String>>,
    /// Files that were selected.
    selected: Mutex<HashMap<Patterned, Arc<[Input]>>>,
}

/// A pattern of what is selected, and patterns of what is left out.
type Patterned = (String, Vec<String>);

impl Directory {
    /// The context `path` of the Containerfile `file`. Files of `left_out` are no part of it.
    pub(super) fn context(path: &Path, file: Option<&Path>, left_out: Vec<FileId>) -> Self {
        let beside =
            file.into_iter().flat_map(|file| BESIDE.map(|ending| with_ending(file, ending)));
        let inside = BESIDE.map(|name| path.join(name));
        let ignore = beside.chain(inside).collect();
        Self {
            path: path.to_path_buf(),
            ignore,
            left_out,
            tree: OnceLock::new(),
            selected: Mutex::default(),
        }
    }

    /// The files that a pattern selects, each with its digest.
    ///
    /// # Errors
    /// [`WrongRecipe`]: there is no such path, or the pattern is none; a file that cannot be read.
    pub(super) fn select(&self, pattern: &str, exclude: &[String]) -> Result<Arc<[Input]>> {
        let key = (pattern.to_owned(), exclude.to_vec());
        if let Some(known) = lock(&self.selected).get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut inputs = select_from(self.tree()?, pattern, exclude).map_err(|error| {
            let directory = self.path.display();
            WrongRecipe(format!("{error:#} in {directory}; an ignore file may leave it out"))
        })?;
        for input in &mut inputs {
            input.identify(Owners::Ignored)?;
        }
        let inputs: Arc<[Input]> = inputs.into();
        lock(&self.selected).insert(key, Arc::clone(&inputs));
        Ok(inputs)
    }

    /// The files.
    ///
    /// # Errors
    /// The directory or its list of patterns cannot be read.
    pub(super) fn tree(&self) -> Result<&Tree> {
        let read = || self.read().map_err(|error| format!("{error:#}"));
        self.tree.get_or_init(read).as_ref().map_err(|text| anyhow!("{text}"))
    }

    fn read(&self) -> Result<Tree> {
        let filter = self.patterns()?.map(Arc::new);
        let options = ReadOptions { filter, left_out: self.left_out.clone(), ..Default::default() };
        let mut notes = Notes::default();
        let mut tree = source::open(&self.path, &options, &mut notes)?.tree;
        // They tell of outputs and sockets, which nobody expects to be copied.
        notes.lines().for_each(|line| log::debug!("{line}"));
        for meta in tree.metas_mut() {
            (meta.uid, meta.gid) = (0, 0);
        }
        Ok(tree)
    }

    fn patterns(&self) -> Result<Option<Patterns>> {
        for path in &self.ignore {
            let shown = path.display();
            let reading = || format!("read {shown}");
            match fs::metadata(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                // A pipe or a device has no end.
                found => ensure!(found.with_context(reading)?.is_file(), "{shown} is no file"),
            }
            let parent = path.parent().unwrap_or(Path::new("."));
            let is_inside = path.canonicalize()?.starts_with(parent.canonicalize()?);
            ensure!(is_inside, "{shown} is a link that leads out of its directory");
            let mut text = String::new();
            let file = File::open(path).with_context(reading)?;
            file.take(TEXT_MAX as u64 + 1).read_to_string(&mut text).with_context(reading)?;
            return Patterns::parse(&text).map(Some).with_context(|| shown.to_string());
        }
        Ok(None)
    }
}

/// The files of `tree` that a pattern selects.
pub(super) fn select_from(tree: &Tree, pattern: &str, exclude: &[String]) -> Result<Vec<Input>> {
    let exclude = Patterns::of(exclude.iter().map(String::as_str))?;
    let selected = select::select(tree, pattern, &exclude)?;
    Ok(selected.into_iter().map(Input::of_selected).collect())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_nearest_list_says_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a", "");
        write("b", "");
        write("c", "");
        write("out", "");
        let file = dir.path().join("Containerfile");
        let has = |names: &[&'static str]| {
            let output = FileId::of(&dir.path().join("out").metadata().unwrap());
            let context = Directory::context(dir.path(), Some(&file), vec![output]);
            let tree = context.tree().unwrap();
            let found = names.iter().filter(|name| tree.find(name.as_bytes()).is_some());
            found.copied().collect::<Vec<_>>()
        };
        assert_eq!(has(&["a", "b", "c", "out"]), ["a", "b", "c"]);
        write(".dockerignore", "a\n");
        assert_eq!(has(&["a", "b", "c"]), ["b", "c"]);
        write(".containerignore", "b\n");
        assert_eq!(has(&["a", "b", "c"]), ["a", "c"]);
        write("Containerfile.dockerignore", "*\n!c\n");
        assert_eq!(has(&["a", "b", "c"]), ["c"]);
    }

    #[test]
    fn all_files_belong_to_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(dir.path().metadata().unwrap().uid(), nix::unistd::geteuid().as_raw());
        let context = Directory::context(dir.path(), None, Vec::new());
        assert!(context.tree().unwrap().nodes().all(|node| node.meta.uid == 0));
    }
}
