//! A modules directory such as `/usr/lib/modules/6.1.0-56-cloud-amd64`.
//!
//! modules.dep of depmod(8) has the path of each module. If modules.dep does not list a
//! module, or lists a path that does not exist, [`ModulesDir::notes`] gets a warning and
//! the module is searched for as in a directory without modules.dep (a kernel package that
//! is unpacked but not installed). That search looks into `updates`, `extra` and the other
//! directories beside `kernel`, then into modules.order. It walks through all of `kernel`
//! only for a required module, because that takes time.
//!
//! Dependencies come from modules.dep and from the module itself: a depmod(8) that cannot
//! unpack compressed modules writes a modules.dep without their dependencies.
//!
//! The directory may also be a kernel [`tree`]. Its modules are beside their sources, and only
//! modules.order names them: a tree has too many files for a search, and depmod(8) has not
//! seen it.

use std::cell::{OnceCell, Ref, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use files::lookup::Files;
use files::notes::Notes;

use super::alias::Aliases;
use super::dependencies::Dependencies;
use super::file::{MODULE_MAX, modinfo, unpack};
use super::index::{self, DepLine, ModuleFiles, OWN};
use super::name::{ENDINGS, name_of, without_ending};
use super::resolve::{Lookup, ModuleLookup, Need};
use crate::kernel::tree;

/// Size in bytes of the largest index file that is read. Debian's modules.dep has 700 kB.
const INDEX_MAX: u64 = 64 << 20;

/// Most names in a modules directory that a search looks at. Debian's has 5,000.
const NAMES_MAX: usize = 1 << 20;

/// Prefix of the aliases of ciphers and checksums (kernel: `MODULE_ALIAS_CRYPTO`).
const CRYPTO: &str = "crypto_";

/// An open modules directory.
#[derive(Debug)]
pub struct ModulesDir<'a> {
    root: &'a dyn Files,
    path: PathBuf,
    layout: Layout,
    /// Canonical names in modules.builtin.
    builtin: HashSet<String>,
    /// Lines of modules.dep; `None` if depmod(8) has not run.
    dep: Option<BTreeMap<String, DepLine>>,
    /// Contents of modules.softdep.
    soft: BTreeMap<String, Dependencies>,
    /// Contents of modules.order.
    order: OnceCell<ModuleFiles>,
    /// Modules outside of the directory [`OWN`], found by a search.
    outside: OnceCell<ModuleFiles>,
    /// Modules in the directory [`OWN`], found by a search.
    own: OnceCell<ModuleFiles>,
    /// Contents of modules.alias; `None` if depmod(8) has not run.
    aliases: OnceCell<Option<Aliases>>,
    /// Contents of modules.builtin.modinfo.
    builtin_aliases: OnceCell<Aliases>,
    /// Modules whose dependencies were read, unpacked; kept for [`ModulesDir::read`].
    unpacked: RefCell<BTreeMap<String, Vec<u8>>>,
    notes: RefCell<Notes>,
    /// Paths of modules in `notes`; each gets one note.
    noted: RefCell<HashSet<PathBuf>>,
}

/// Place of the modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// As `make modules_install` puts them.
    Installed,
    /// As `make` leaves them.
    Tree,
}

impl<'a> ModulesDir<'a> {
    /// Opens directory `path` of `root`.
    ///
    /// # Errors
    /// The directory is missing, or has neither index files nor modules.
    pub fn open(root: &'a dyn Files, path: &Path) -> Result<Self> {
        let mut dir = Self {
            root,
            path: path.to_path_buf(),
            layout: match tree::is_tree(root, path) {
                true => Layout::Tree,
                false => Layout::Installed,
            },
            builtin: HashSet::new(),
            dep: None,
            soft: BTreeMap::new(),
            order: OnceCell::new(),
            outside: OnceCell::new(),
            own: OnceCell::new(),
            aliases: OnceCell::new(),
            builtin_aliases: OnceCell::new(),
            unpacked: RefCell::default(),
            notes: RefCell::default(),
            noted: RefCell::default(),
        };
        dir.load()
            .with_context(|| format!("modules directory {}", dir.root.host_path(path).display()))?;
        Ok(dir)
    }

    fn load(&mut self) -> Result<()> {
        ensure!(self.root.is_dir(&self.path), "no such directory");
        let builtin = self.index_file("modules.builtin")?;
        self.builtin = builtin.iter().flat_map(|text| text.lines()).filter_map(name_of).collect();
        if self.layout == Layout::Tree {
            ensure!(
                builtin.is_some() || !self.order()?.is_empty(),
                "the kernel was not built: there is neither modules.builtin nor modules.order; \
                 run `make` there"
            );
            return Ok(());
        }
        self.dep = self.index_file("modules.dep")?.map(|text| index::parse_dep(&text));
        self.soft = index::parse_softdeps(&self.index_file("modules.softdep")?.unwrap_or_default());
        let is_listed = builtin.is_some() || self.dep.as_ref().is_some_and(|dep| !dep.is_empty());
        ensure!(
            is_listed
                || !self.order()?.is_empty()
                || !self.outside()?.is_empty()
                || !self.own()?.is_empty(),
            "not a modules directory: it has no modules.dep, no modules.builtin and no .ko files"
        );
        Ok(())
    }

    /// Reads and unpacks the module `name`.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        if let Some(module) = self.unpacked.borrow_mut().remove(name) {
            return Ok(module);
        }
        let path = self.file(name, Need::Must)?;
        self.read_file(&path.with_context(|| format!("no file of module {name}"))?)
    }

    /// Warnings about index files that contradict the module files.
    pub fn notes(&self) -> Ref<'_, Notes> {
        self.notes.borrow()
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let bytes = self.root.read(&self.path.join(path), MODULE_MAX);
        bytes.map_err(anyhow::Error::from).and_then(unpack).with_context(|| {
            format!("module {}", self.root.host_path(&self.path.join(path)).display())
        })
    }

    /// Path of the module `name` below the modules directory; `None` if it has no file.
    fn file(&self, name: &str, need: Need) -> Result<Option<PathBuf>> {
        let Some(dep) = &self.dep else { return self.search(name, need) };
        let Some(line) = dep.get(name) else {
            let found = match self.builtin.contains(name) {
                true => None,
                false => self.search(name, need)?,
            };
            self.note("modules.dep does not list a module that exists; run depmod", found.as_ref());
            return Ok(found);
        };
        if let Some(file) = self.installed(&line.path(&self.path)?) {
            return Ok(Some(file));
        }
        let found = self.search(name, need)?;
        self.note("modules.dep has another path of a module; run depmod", found.as_ref());
        Ok(found)
    }

    /// Adds the warning `what` about the module file `found`.
    fn note(&self, what: &'static str, found: Option<&PathBuf>) {
        if let Some(path) = found
            && self.noted.borrow_mut().insert(path.clone())
        {
            let path = self.root.host_path(&self.path.join(path));
            self.notes.borrow_mut().add(what, path.as_os_str().as_encoded_bytes());
        }
    }

    /// Path of the module `name` in a tree. A module that is listed but missing is an error
    /// only if it is required.
    fn in_tree(&self, name: &str, need: Need) -> Result<Option<PathBuf>> {
        let Some(listed) = self.order()?.get(name) else { return Ok(None) };
        // Up to Linux 5.x the list has paths as in an installed directory, below `kernel`.
        let source = listed.strip_prefix(OWN).ok().map(Path::to_path_buf);
        let mut paths = [listed.clone()].into_iter().chain(source);
        let found = paths.find(|path| self.root.is_file(&self.path.join(path)));
        ensure!(
            found.is_some() || need == Need::May,
            "module {name}: modules.order lists {}, which is missing; run `make modules` there",
            listed.display()
        );
        Ok(found)
    }

    /// Path of the module `name` as found without modules.dep.
    fn search(&self, name: &str, need: Need) -> Result<Option<PathBuf>> {
        if self.layout == Layout::Tree {
            return self.in_tree(name, need);
        }
        let outside = self.outside()?.get(name);
        if let Some(path) = outside.filter(|path| index::precedes(path, Path::new(OWN))) {
            return Ok(Some(path.clone()));
        }
        let order = self.order()?;
        let listed = match order.is_empty() {
            true => self.own()?.get(name).cloned(),
            false => order.get(name).and_then(|path| self.installed(path)),
        };
        if listed.is_some() || self.builtin.contains(name) {
            return Ok(listed);
        }
        if outside.is_some() {
            return Ok(outside.cloned());
        }
        // modules.order lists the kernel's own modules: a search takes time and rarely finds
        // more.
        Ok(if need == Need::Must { self.own()?.get(name).cloned() } else { None })
    }

    /// The file at `path`, or the same file with another compression; `None` if there is
    /// neither.
    fn installed(&self, path: &Path) -> Option<PathBuf> {
        let stem = without_ending(path.to_str()?)?;
        let packed = ENDINGS.iter().map(|ending| PathBuf::from(format!("{stem}{ending}")));
        let mut files = [path.to_path_buf()].into_iter().chain(packed);
        files.find(|file| self.root.is_file(&self.path.join(file)))
    }

    fn order(&self) -> Result<&ModuleFiles> {
        once(&self.order, || {
            let text = self.index_file("modules.order")?;
            Ok(text.map_or_else(ModuleFiles::new, |text| index::parse_order(&text)))
        })
    }

    fn outside(&self) -> Result<&ModuleFiles> {
        once(&self.outside, || self.find_modules(PathBuf::new()))
    }

    fn own(&self) -> Result<&ModuleFiles> {
        once(&self.own, || match self.root.is_real_dir(&self.path.join(OWN)) {
            true => self.find_modules(OWN.into()),
            false => Ok(ModuleFiles::new()),
        })
    }

    fn index_file(&self, name: &str) -> Result<Option<String>> {
        match self.root.read(&self.path.join(name), INDEX_MAX) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {name}")),
        }
    }

    /// All modules below the directory `top`, but without the directory [`OWN`] if `top` is
    /// the modules directory itself. Links to directories (`build`, `source`) are not
    /// followed, so that the walk ends.
    fn find_modules(&self, top: PathBuf) -> Result<ModuleFiles> {
        let mut files = ModuleFiles::new();
        let mut pending = vec![top];
        let mut count = 0;
        while let Some(dir) = pending.pop() {
            let names = self.root.list(&self.path.join(&dir));
            let names = names.with_context(|| format!("list {}", dir.display()))?;
            count += names.len();
            ensure!(count <= NAMES_MAX, "more than {NAMES_MAX} names to search");
            for path in names.iter().map(|name| dir.join(name)) {
                if let Some(module) = path.to_str().and_then(name_of) {
                    let known = files.get(&module);
                    if known.is_none_or(|known| index::precedes(&path, known)) {
                        files.insert(module, path);
                    }
                } else if path != Path::new(OWN) && self.root.is_real_dir(&self.path.join(&path)) {
                    pending.push(path);
                }
            }
        }
        Ok(files)
    }

    /// Looks up `name` as an alias; no module has that name.
    fn alias(&self, name: &str) -> Result<Lookup> {
        let builtin = once(&self.builtin_aliases, || {
            let text = self.index_file("modules.builtin.modinfo")?.unwrap_or_default();
            Ok(Aliases::parse_builtin(&text))
        })?;
        if !builtin.find(name).is_empty() {
            return Ok(Lookup::BuiltIn);
        }
        let aliases = once(&self.aliases, || {
            Ok(self.index_file("modules.alias")?.map(|text| Aliases::parse(&text)))
        })?;
        let found = match (aliases, name.strip_prefix(CRYPTO)) {
            (Some(aliases), _) => aliases.find(name),
            // Without depmod(8) no file lists the aliases, but modules of ciphers and checksums
            // are named after their algorithm. It is an alias with and without the prefix:
            // libcrc32c, which erofs needs, asks for `crc32c`.
            (None, Some(what)) => vec![format!("{what}_generic"), what.to_owned()],
            (None, None) => {
                let generic = format!("{name}_generic");
                self.file(&generic, Need::May)?.map(|_| generic).into_iter().collect()
            }
        };
        Ok(if found.is_empty() { Lookup::Unknown } else { Lookup::Alias(found) })
    }

    /// Reads the dependencies of the module `name` at `path`, and keeps the unpacked file.
    fn read_dependencies(&self, name: &str, path: &Path) -> Result<Dependencies> {
        let bytes = self.read_file(path)?;
        let line = self.dep.as_ref().and_then(|dep| dep.get(name));
        let line = line.filter(|line| line.path(&self.path).is_ok_and(|at| is_same(&at, path)));
        let mut module = match (modinfo(&bytes), line) {
            (Err(error), None) => return Err(error).with_context(|| format!("module {name}")),
            (own, None) => own?,
            (own, Some(line)) => {
                let own = own.unwrap_or_default();
                let mut depends = line.needs()?;
                for also in own.depends {
                    // A dependency without a file was part of the kernel image when this
                    // module was built.
                    if !depends.contains(&also) && self.file(&also, Need::Must)?.is_some() {
                        depends.push(also);
                    }
                }
                Dependencies { depends, ..own }
            }
        };
        if let Some(soft) = self.soft.get(name) {
            let pairs =
                [(&mut module.soft_pre, &soft.soft_pre), (&mut module.soft_post, &soft.soft_post)];
            for (all, more) in pairs {
                let new: Vec<_> = more.iter().filter(|name| !all.contains(name)).cloned().collect();
                all.extend(new);
            }
        }
        self.unpacked.borrow_mut().insert(name.to_owned(), bytes);
        Ok(module)
    }
}

/// The value of `cell`; the first call sets it with `make`.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        let _ = cell.set(make()?); // no other thread can have set it
    }
    cell.get().context("a value that has just been set")
}

/// Whether two paths name the same module file, apart from the compression.
fn is_same(one: &Path, other: &Path) -> bool {
    let stem = |path: &Path| path.to_str().and_then(without_ending).map(str::to_owned);
    stem(one).is_some() && stem(one) == stem(other)
}

impl ModuleLookup for ModulesDir<'_> {
    fn lookup(&self, name: &str, need: Need) -> Result<Lookup> {
        match self.file(name, need)? {
            Some(path) => Ok(Lookup::Module(self.read_dependencies(name, &path)?)),
            None if self.builtin.contains(name) => Ok(Lookup::BuiltIn),
            None => self.alias(name),
        }
    }

    fn left_out(&self, name: &str) {
        let what = "a soft dependency is left out, because it cannot be loaded";
        self.notes.borrow_mut().add(what, name.as_bytes());
    }
}

#[cfg(test)]
mod tests;
