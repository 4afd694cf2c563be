//! The directories in which the dynamic linker looks for libraries.
//!
//! Interfaces: ld.so(8) and ldconfig(8) of glibc, whose cache is made of `/etc/ld.so.conf`;
//! musl's `ldso/dynlink.c` with `/etc/ld-musl-ARCH.path`. The files of the tree are not trusted:
//! their number and size are bounded, and so are the directories.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use ignore::gitignore::GitignoreBuilder;

use super::machine::Machine;
use super::read::{Budget, Object, part};
use crate::tree::{Kind, PATH_MAX, Tree, components};

/// The main configuration of ldconfig.
const CONFIGURATION: &[u8] = b"/etc/ld.so.conf";
/// Most files of the configuration that are read.
const FILES_MAX: usize = 256;
/// Most bytes of one of these files.
const FILE_MAX: u64 = 1 << 20;
/// Most directories that the configuration adds.
const DIRECTORIES_MAX: usize = 4096;
/// Most directories in which the libraries of one program are looked for, counted for each
/// library: ten times those of large programs.
const STEPS_MAX: u32 = 20_000;

/// Directories of glibc without any configuration. Distributions differ in which of them they
/// have; a library for another machine is passed over wherever it is.
const OF_GNU: [&[u8]; 6] =
    [b"/lib64", b"/usr/lib64", b"/lib", b"/usr/lib", b"/lib32", b"/usr/lib32"];
/// Directories of musl without any configuration (`ldso/dynlink.c`, `sys_path`).
const OF_MUSL: [&[u8]; 3] = [b"/lib", b"/usr/local/lib", b"/usr/lib"];
/// Beginning of the name of musl's dynamic linker.
const MUSL: &[u8] = b"ld-musl-";

/// Ways to write a variable in a list of directories.
const ORIGIN: [&[u8]; 2] = [b"${ORIGIN}", b"$ORIGIN"];
const LIB: [&[u8]; 2] = [b"${LIB}", b"$LIB"];

/// A dynamic linker of the tree.
#[derive(Debug)]
pub(super) struct Linker<'a> {
    is_musl: bool,
    /// Names by which `$LIB` may stand.
    lib: Vec<Vec<u8>>,
    /// Value of `LD_LIBRARY_PATH`.
    library_path: &'a [u8],
    /// Directories of the system.
    system: Vec<Vec<u8>>,
}

/// A loaded program or library, as far as it decides where libraries are looked for.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The directory in which it is.
    pub(super) origin: Vec<u8>,
    pub(super) rpath: Option<Vec<u8>>,
    pub(super) runpath: Option<Vec<u8>>,
    /// Number of the object that needs it; `None` for the program.
    pub(super) loader: Option<usize>,
}

/// The steps that the search for the libraries of one program may still take.
#[derive(Debug)]
pub(super) struct Steps {
    left: u32,
}

impl Default for Steps {
    fn default() -> Self {
        Self { left: STEPS_MAX }
    }
}

impl Steps {
    /// Takes one step.
    pub(super) fn take(&mut self) -> Result<()> {
        let left = self.left.checked_sub(1);
        self.left = left.context("its libraries are looked for in too many directories")?;
        Ok(())
    }
}

impl Loaded {
    pub(super) fn new(object: &Object, path: &[u8], loader: Option<usize>) -> Self {
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
        let origin = path.get(..end).unwrap_or_default().to_vec();
        Self { origin, rpath: object.rpath.clone(), runpath: object.runpath.clone(), loader }
    }
}

impl<'a> Linker<'a> {
    /// The dynamic linker at the path `interpreter`, for programs of `machine`.
    pub(super) fn new(
        tree: &Tree,
        interpreter: &[u8],
        machine: Machine,
        library_path: &'a [u8],
        budget: &mut Budget,
    ) -> Result<Self> {
        let name = components(interpreter).last().unwrap_or_default();
        let is_musl = name.starts_with(MUSL);
        let tuples = machine.tuples().iter().map(|tuple| tuple.as_bytes());
        let of_tuple = |above: &[u8], tuple: &[u8]| [above, b"/", tuple].concat();
        let mut lib = vec![b"lib64".to_vec(), b"lib".to_vec()];
        lib.extend(tuples.clone().map(|tuple| of_tuple(b"lib", tuple)));
        let system = match is_musl {
            true => of_musl(tree, name, budget)?,
            false => {
                let mut all = configured(tree, budget)?;
                all.extend(OF_GNU.map(<[u8]>::to_vec));
                let above = [&b"/lib"[..], b"/usr/lib"];
                all.extend(tuples.flat_map(|tuple| above.map(|above| of_tuple(above, tuple))));
                all
            }
        };
        Ok(Self { is_musl, lib, library_path, system })
    }

    /// Whether the dynamic linker itself stands for the library `name` (`ldso/dynlink.c`,
    /// `load_library`).
    pub(super) fn is_builtin(&self, name: &[u8]) -> bool {
        const PARTS: [&[u8]; 7] = [b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"];
        let name = name.strip_prefix(b"lib").filter(|_| self.is_musl);
        let part = name.and_then(|name| name.split(|&byte| byte == b'.').next());
        name.is_some_and(|name| name.contains(&b'.')) && part.is_some_and(|it| PARTS.contains(&it))
    }

    /// Calls `look` for the directories in which a library is looked for that object number
    /// `of` of `loaded` needs, in their order, until it finds something.
    pub(super) fn find<T>(
        &self,
        loaded: &[Loaded],
        of: usize,
        steps: &mut Steps,
        look: &mut dyn FnMut(&[u8]) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for (list, origin) in self.lists(loaded, of) {
            for directory in list.split(|&byte| byte == b':').filter(|name| !name.is_empty()) {
                steps.take()?;
                for directory in self.expand(directory, origin) {
                    if let Some(found) = look(&directory)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
        for directory in &self.system {
            steps.take()?;
            if let Some(found) = look(directory)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Lists of directories, and what `$ORIGIN` stands for in each.
    fn lists<'l>(&'l self, loaded: &'l [Loaded], of: usize) -> Vec<(&'l [u8], &'l [u8])> {
        let next = |object: &&'l Loaded| object.loader.and_then(|loader| loaded.get(loader));
        let chain = || std::iter::successors(loaded.get(of), next);
        let environment = std::iter::once((self.library_path, &b""[..]));
        let runpath = loaded.get(of).and_then(|object| Some((object, object.runpath.as_deref()?)));
        let with_origin = |(object, list): (&'l Loaded, &'l [u8])| (list, &object.origin[..]);
        if self.is_musl {
            let own = |object: &'l Loaded| {
                Some((object, object.runpath.as_deref().or(object.rpath.as_deref())?))
            };
            return environment.chain(chain().filter_map(own).map(with_origin)).collect();
        }
        // DT_RUNPATH switches DT_RPATH off: for its own object, and for all if that object
        // needs the library.
        let own = |object: &'l Loaded| {
            let rpath = object.rpath.as_deref().filter(|_| object.runpath.is_none())?;
            Some((object, rpath))
        };
        let rpaths = chain().filter(|_| runpath.is_none()).filter_map(own).map(with_origin);
        rpaths.chain(environment).chain(runpath.map(with_origin)).collect()
    }

    /// Replaces the variables in a path. Results that are longer than any path are left out.
    pub(super) fn expand(&self, path: &[u8], origin: &[u8]) -> Vec<Vec<u8>> {
        let Some(path) = replace(path, ORIGIN, origin) else { return Vec::new() };
        if !path.contains(&b'$') {
            return vec![path];
        }
        self.lib.iter().filter_map(|lib| replace(&path, LIB, lib)).collect()
    }
}

/// Replaces both ways to write a variable; `None` if the result is longer than any path.
fn replace(path: &[u8], names: [&[u8]; 2], value: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), path);
    while let Some((&byte, after)) = rest.split_first() {
        rest = match names.iter().find_map(|name| rest.strip_prefix(*name)) {
            Some(after) => {
                out.extend_from_slice(value);
                after
            }
            None => {
                out.push(byte);
                after
            }
        };
        if out.len() > PATH_MAX {
            return None;
        }
    }
    Some(out)
}

/// Directories of musl's dynamic linker called `name`.
fn of_musl(tree: &Tree, name: &[u8], budget: &mut Budget) -> Result<Vec<Vec<u8>>> {
    let stem = name.split(|&byte| byte == b'.').next().unwrap_or_default();
    let path = [b"/etc/", stem, b".path"].concat();
    let Some(text) = text(tree, &path, budget)? else {
        return Ok(OF_MUSL.map(<[u8]>::to_vec).into());
    };
    let directories = text.split(|byte| b":\n".contains(byte)).filter(|name| !name.is_empty());
    Ok(directories.take(DIRECTORIES_MAX).map(<[u8]>::to_vec).collect())
}

/// Directories of the configuration of ldconfig.
fn configured(tree: &Tree, budget: &mut Budget) -> Result<Vec<Vec<u8>>> {
    let mut directories = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending = VecDeque::from([CONFIGURATION.to_vec()]);
    while let Some(path) = pending.pop_front() {
        if seen.len() >= FILES_MAX || !seen.insert(path.clone()) {
            continue;
        }
        let Some(text) = text(tree, &path, budget)? else { continue };
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            match words.next() {
                Some(b"include") => {
                    let patterns = words.map(|pattern| beside(&path, pattern));
                    pending.extend(patterns.flat_map(|pattern| matching(tree, &pattern)));
                }
                // Lines with hwcap are of old versions and mean nothing today.
                Some(b"hwcap") | None => {}
                Some(_) => directories.extend(of_line(line)),
            }
        }
        directories.truncate(DIRECTORIES_MAX);
    }
    Ok(directories)
}

/// Directories of one line. A type of libraries may follow each after `=`.
fn of_line(line: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let words = line.split(|byte| b":, \t".contains(byte));
    let paths = words.map(|word| word.split(|&byte| byte == b'=').next().unwrap_or_default());
    paths.map(<[u8]>::trim_ascii).filter(|path| path.starts_with(b"/")).map(<[u8]>::to_vec)
}

/// A path as it is meant in a file at the path `file`.
fn beside(file: &[u8], path: &[u8]) -> Vec<u8> {
    let end = file.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    match path.starts_with(b"/") {
        true => path.to_vec(),
        false => [file.get(..end).unwrap_or_default(), path].concat(),
    }
}

/// The paths that a pattern matches (glob(7)), whose last name may have wildcards. Names that
/// begin with a dot match only a pattern that does.
fn matching(tree: &Tree, pattern: &[u8]) -> Vec<Vec<u8>> {
    let (above, wild) = match pattern.iter().rposition(|&byte| byte == b'/') {
        Some(at) => pattern.split_at(at + 1),
        None => (&b""[..], pattern),
    };
    let mut builder = GitignoreBuilder::new("");
    let Ok(text) = str::from_utf8(wild) else { return Vec::new() };
    // A pattern that is none matches nothing.
    let Ok(_) = builder.add_line(None, &format!("/{text}")) else { return Vec::new() };
    let Ok(glob) = builder.build() else { return Vec::new() };
    let children = tree.resolve(above).ok().and_then(|id| tree.children(id));
    let names = children.into_iter().flatten().map(|(name, _)| &name[..]);
    let matches = |name: &&[u8]| {
        let is_hidden = name.starts_with(b".") && !wild.starts_with(b".");
        !is_hidden && glob.matched(OsStr::from_bytes(name), false).is_ignore()
    };
    names.filter(matches).take(FILES_MAX).map(|name| [above, name].concat()).collect()
}

/// The bytes of a file of the tree; `None` if there is no such file.
fn text(tree: &Tree, path: &[u8], budget: &mut Budget) -> Result<Option<Vec<u8>>> {
    let Ok(id) = tree.resolve(path) else { return Ok(None) };
    match &tree.node(id).kind {
        Kind::File(content) => part(content, 0, FILE_MAX, budget).map(Some),
        _ => Ok(None),
    }
}
