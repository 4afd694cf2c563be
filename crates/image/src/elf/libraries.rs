//! The libraries of a program, found and read in the order of the dynamic linker: breadth first,
//! each name once.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Result, bail};

use super::finding::{Finding, shown};
use super::machine::{Machine, machine};
use super::read::{self, Budget, Object};
use super::search::{Linker, Loaded, Steps};
use crate::tree::{Content, Id, Kind, PATH_MAX, Tree, components};

/// Most libraries of a program; large ones have two hundred.
const LIBRARIES_MAX: usize = 1000;

/// The loaded objects of one program.
pub(super) struct Libraries<'a> {
    tree: &'a Tree,
    linker: &'a Linker<'a>,
    machine: Machine,
    /// Names of all libraries that were looked for, and other names that they have.
    names: BTreeSet<Vec<u8>>,
    files: BTreeSet<Id>,
    loaded: Vec<Loaded>,
    pending: VecDeque<Library>,
    steps: Steps,
    findings: Vec<Finding>,
}

/// A library that was found.
struct Library {
    id: Id,
    path: Vec<u8>,
    /// Number of the object that needs it.
    loader: usize,
}

/// Result of looking at one place.
enum Look {
    Found(Library),
    /// A library is there, but it is for another machine.
    Other(Machine),
    Nothing,
}

impl<'a> Libraries<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        linker: &'a Linker<'a>,
        machine: Machine,
        interpreter: &[u8],
    ) -> Self {
        // The dynamic linker is loaded, and libraries may need it by its name.
        let name = components(interpreter).last().unwrap_or_default().to_vec();
        Self {
            tree,
            linker,
            machine,
            names: BTreeSet::from([name]),
            files: BTreeSet::new(),
            loaded: Vec::new(),
            pending: VecDeque::new(),
            steps: Steps::default(),
            findings: Vec::new(),
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Loads all libraries of the program `object` at `path`.
    pub(super) fn load(&mut self, path: &[u8], object: &Object, budget: &mut Budget) -> Result<()> {
        let real = self.real_path(path);
        self.add(&real, path, object, None, budget)?;
        while let Some(Library { id, path, loader }) = self.pending.pop_front() {
            let Kind::File(content) = &self.tree.node(id).kind else { continue };
            let head = read::head(content, budget)?;
            match read::object(content, &head, budget)? {
                Ok(object) => self.add(&path, &path, &object, Some(loader), budget)?,
                Err(is) => {
                    self.findings.push(Finding::NotAProgram { program: shown(&path), is });
                }
            }
        }
        Ok(())
    }

    /// Adds an object at `path`, which people know as `name`, and looks for what it needs.
    fn add(
        &mut self,
        path: &[u8],
        name: &[u8],
        object: &Object,
        loader: Option<usize>,
        budget: &mut Budget,
    ) -> Result<()> {
        let number = self.loaded.len();
        if number > LIBRARIES_MAX {
            bail!("it needs more than {LIBRARIES_MAX} libraries");
        }
        self.loaded.push(Loaded::new(object, path, loader));
        self.names.extend(object.soname.clone());
        for needed in &object.needed {
            if !self.linker.is_builtin(needed) && self.names.insert(needed.clone()) {
                self.find(needed, number, name, budget)?;
            }
        }
        Ok(())
    }

    /// Looks for the library `needed` of object `number`, which people know as `program`.
    fn find(
        &mut self,
        needed: &[u8],
        number: usize,
        program: &[u8],
        budget: &mut Budget,
    ) -> Result<()> {
        let mut other = None;
        let (loaded, tree) = (&self.loaded, self.tree);
        self.steps.take()?;
        let mut look = |path: &[u8]| -> Result<Option<Library>> {
            Ok(match look_at(tree, path, number, self.machine, budget)? {
                Look::Found(library) => Some(library),
                Look::Other(is) => {
                    other.get_or_insert((path.to_vec(), is));
                    None
                }
                Look::Nothing => None,
            })
        };
        let found = if needed.contains(&b'/') {
            let origin = loaded.get(number).map_or(&b""[..], |object| &object.origin);
            let paths = self.linker.expand(needed, origin);
            paths.iter().find_map(|path| look(path).transpose()).transpose()?
        } else {
            let mut inside = |above: &[u8]| look(&[above, b"/", needed].concat());
            self.linker.find(loaded, number, &mut self.steps, &mut inside)?
        };
        match (found, other) {
            (Some(library), _) => {
                if self.files.insert(library.id) {
                    self.pending.push_back(library);
                }
            }
            (None, Some((path, is))) => {
                let (program, of) = (shown(&path), self.machine);
                self.findings.push(Finding::OtherMachine { program, is, of });
            }
            (None, None) => self.findings.push(Finding::MissingLibrary {
                program: shown(program),
                library: crate::tree::show(needed),
            }),
        }
        Ok(())
    }

    /// The path of the program without links, from which `$ORIGIN` comes.
    fn real_path(&self, path: &[u8]) -> Vec<u8> {
        let mut last = None;
        let traced =
            self.tree.trace(path, &mut |parent, name| last = Some((parent, name.to_vec())));
        let above = last.as_ref().and_then(|(parent, _)| self.tree.path_of(*parent));
        match (traced, above, last) {
            (Ok(Some(_)), Some(above), Some((_, name))) if above.is_empty() => {
                [b"/", &name[..]].concat()
            }
            (Ok(Some(_)), Some(above), Some((_, name))) => [b"/", &above[..], b"/", &name].concat(),
            _ => path.to_vec(),
        }
    }
}

/// Looks for a library for `machine` at `path`, which object `loader` needs.
fn look_at(
    tree: &Tree,
    path: &[u8],
    loader: usize,
    machine: Machine,
    budget: &mut Budget,
) -> Result<Look> {
    if path.len() > PATH_MAX {
        return Ok(Look::Nothing);
    }
    let Ok(id) = tree.resolve(path) else { return Ok(Look::Nothing) };
    let Kind::File(content) = &tree.node(id).kind else { return Ok(Look::Nothing) };
    Ok(match machine_of(content, budget)? {
        Some(is) if is == machine => Look::Found(Library { id, path: path.to_vec(), loader }),
        Some(is) => Look::Other(is),
        // A linker script, such as libc.so of glibc, is for the compiler.
        None => Look::Nothing,
    })
}

fn machine_of(content: &Content, budget: &mut Budget) -> Result<Option<Machine>> {
    Ok(machine(&read::head(content, budget)?))
}
