//! A modules directory such as `/usr/lib/modules/6.1.0-56-cloud-amd64`.
//!
//! What depmod(8) wrote there is believed; where it has not run (a kernel
//! package unpacked but not installed) the module files are looked at instead. The
//! kernel's build lists those below `kernel` in modules.order, as they were before
//! anybody compressed them; all others are searched for.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::file::{MODULE_MAX, modinfo, parse_softdep, unpack};
use super::resolve::{Lookup, Module, Source};
use super::{ENDINGS, canonical, name_of};
use crate::files::Files;

/// Largest index file in bytes that is read. Debian's modules.dep has 700 kB.
const INDEX_MAX: u64 = 64 << 20;

/// The directory of the modules that come with the kernel.
const OWN: &str = "kernel";

/// An open modules directory.
#[derive(Debug)]
pub struct ModulesDir<'a> {
    root: &'a dyn Files,
    path: PathBuf,
    builtin: HashSet<String>,
    /// Those that an index file names.
    listed: ModuleFiles,
    /// Those that had to be searched for.
    found: OnceCell<ModuleFiles>,
    index: Index,
}

/// Canonical name → path below the modules directory.
type ModuleFiles = BTreeMap<String, PathBuf>;

/// Where dependencies are written down.
#[derive(Debug)]
enum Index {
    /// modules.dep and modules.softdep, by canonical name.
    Depmod {
        /// Paths of the modules that one needs, in reverse load order; split only
        /// for those that are asked for.
        needed: BTreeMap<String, String>,
        /// Soft dependencies.
        soft: BTreeMap<String, Module>,
    },
    /// The modules themselves; unpacked ones are kept for [`ModulesDir::read`].
    Modinfo(RefCell<BTreeMap<String, Vec<u8>>>),
}

impl<'a> ModulesDir<'a> {
    /// Opens directory `path` of `root`.
    ///
    /// # Errors
    /// A directory with neither index files nor modules, or with an index that
    /// points out of it.
    pub fn open(root: &'a dyn Files, path: &Path) -> Result<Self> {
        let mut dir = Self {
            root,
            path: path.to_path_buf(),
            builtin: HashSet::new(),
            listed: BTreeMap::new(),
            found: OnceCell::new(),
            index: Index::Modinfo(RefCell::default()),
        };
        dir.load()
            .with_context(|| format!("modules directory {}", dir.root.host_path(path).display()))?;
        Ok(dir)
    }

    fn load(&mut self) -> Result<()> {
        ensure!(self.root.is_dir(&self.path), "no such directory");
        let builtin = self.index_file("modules.builtin")?;
        self.builtin = builtin.iter().flat_map(|text| text.lines()).filter_map(name_of).collect();
        if let Some(text) = self.index_file("modules.dep")? {
            let (listed, needed) = parse_dep(&text)?;
            let mut soft = BTreeMap::new();
            for line in self.index_file("modules.softdep")?.unwrap_or_default().lines() {
                read_softdep_line(line, &mut soft);
            }
            self.listed = listed;
            self.index = Index::Depmod { needed, soft };
        } else if let Some(text) = self.index_file("modules.order")? {
            self.listed = parse_order(&text)?;
        }
        let is_listed = !self.listed.is_empty() || builtin.is_some();
        ensure!(
            is_listed || !self.found()?.is_empty(),
            "no modules directory: it has no modules.dep, no modules.builtin and no .ko files"
        );
        Ok(())
    }

    /// Reads a module, unpacked.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        if let Index::Modinfo(unpacked) = &self.index
            && let Some(module) = unpacked.borrow_mut().remove(name)
        {
            return Ok(module);
        }
        let path = self.file(name)?.with_context(|| format!("no file of module {name}"))?;
        let bytes = self.root.read(&self.path.join(&path), MODULE_MAX);
        bytes.map_err(anyhow::Error::from).and_then(unpack).with_context(|| {
            format!("module {}", self.root.host_path(&self.path.join(&path)).display())
        })
    }

    /// Where a module is, if it is one.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let listed = self.listed.get(name);
        if let Index::Depmod { .. } = self.index {
            return Ok(listed.cloned());
        }
        let installed = listed.and_then(|path| self.installed(path));
        if installed.is_some() || self.builtin.contains(name) {
            return Ok(installed);
        }
        Ok(self.found()?.get(name).cloned())
    }

    /// The file that a line of modules.order became.
    fn installed(&self, path: &Path) -> Option<PathBuf> {
        let mut files = ENDINGS.iter().map(|ending| path.with_extension(&ending[1..]));
        files.find(|file| self.root.is_file(&self.path.join(file)))
    }

    /// Every module below the directory that nobody listed, searched for once.
    fn found(&self) -> Result<&ModuleFiles> {
        if self.found.get().is_none() {
            // Nobody else can have set it.
            let _ = self.found.set(self.find_modules()?);
        }
        self.found.get().context("find modules")
    }

    fn index_file(&self, name: &str) -> Result<Option<String>> {
        match self.root.read(&self.path.join(name), INDEX_MAX) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {name}")),
        }
    }

    /// Every module below the directory, or all but the kernel's own where they are
    /// listed. Links to directories (`build`, `source`) are not followed, so that the
    /// walk ends.
    fn find_modules(&self) -> Result<ModuleFiles> {
        let mut files = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(dir) = pending.pop() {
            let names = self.root.list(&self.path.join(&dir));
            let names = names.with_context(|| format!("list {}", dir.display()))?;
            for path in names.iter().map(|name| dir.join(name)) {
                if let Some(module) = path.to_str().and_then(name_of) {
                    files.entry(module).or_insert(path);
                } else if (self.listed.is_empty() || path != Path::new(OWN))
                    && self.root.is_real_dir(&self.path.join(&path))
                {
                    pending.push(path);
                }
            }
        }
        Ok(files)
    }
}

impl Source for ModulesDir<'_> {
    fn lookup(&self, name: &str) -> Result<Lookup> {
        if self.file(name)?.is_none() {
            return Ok(match self.builtin.contains(name) {
                true => Lookup::BuiltIn,
                false => Lookup::Unknown,
            });
        }
        Ok(Lookup::Module(match &self.index {
            Index::Depmod { needed, soft } => {
                let paths = needed.get(name).map_or("", String::as_str).split_whitespace();
                let depends = paths.rev().filter_map(name_of).collect();
                Module { depends, ..soft.get(name).cloned().unwrap_or_default() }
            }
            Index::Modinfo(unpacked) => {
                let bytes = self.read(name)?;
                let module = modinfo(&bytes).with_context(|| format!("module {name}"))?;
                unpacked.borrow_mut().insert(name.to_owned(), bytes);
                module
            }
        }))
    }
}

/// `kernel/a.ko: kernel/b.ko kernel/c.ko`, one line a module. Its dependencies
/// stand in reverse load order.
fn parse_dep(text: &str) -> Result<(ModuleFiles, BTreeMap<String, String>)> {
    let (mut files, mut dependencies) = (BTreeMap::new(), BTreeMap::new());
    for (number, line) in text.lines().enumerate() {
        let malformed = || format!("modules.dep, line {}", number + 1);
        let (path, needed) = line.split_once(':').context("no colon").with_context(malformed)?;
        let name = module_inside(path).with_context(malformed)?;
        files.insert(name.clone(), PathBuf::from(path));
        dependencies.insert(name, needed.to_owned());
    }
    Ok((files, dependencies))
}

/// `kernel/a.ko`, one line a module.
fn parse_order(text: &str) -> Result<ModuleFiles> {
    let named = text.lines().enumerate().map(|(number, path)| {
        let name = module_inside(path);
        let name = name.with_context(|| format!("modules.order, line {}", number + 1))?;
        Ok((name, PathBuf::from(path)))
    });
    named.collect()
}

/// The name of the module at `path`, which must be below the modules directory.
fn module_inside(path: &str) -> Result<String> {
    let name = name_of(path).context("no module")?;
    let inside = |part| matches!(part, Component::Normal(_));
    ensure!(Path::new(path).components().all(inside), "\"{path}\" leads out of the directory");
    Ok(name)
}

/// `softdep NAME pre: A B post: C`
fn read_softdep_line(line: &str, modules: &mut BTreeMap<String, Module>) {
    let Some(rest) = line.strip_prefix("softdep ") else { return };
    let (name, text) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
    parse_softdep(text, modules.entry(canonical(name)).or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootdir::RootDir;

    fn with_files<T>(files: &[(&str, &str)], check: impl FnOnce(&dyn Files) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        check(&RootDir::open(dir.path()).unwrap())
    }

    #[test]
    fn depmods_files_are_believed() {
        let files = [
            (
                "m/modules.dep",
                "kernel/a-b.ko.xz: kernel/d.ko kernel/c.ko\nkernel/c.ko:\nkernel/d.ko: kernel/c.ko\n",
            ),
            ("m/modules.softdep", "# comment\nsoftdep a_b pre: x post: y\nsoftdep gone pre: z\n"),
            ("m/modules.builtin", "kernel/fs/ext4/ext-4.ko\n"),
        ];
        with_files(&files, |root| {
            let dir = ModulesDir::open(root, Path::new("m")).unwrap();
            let Lookup::Module(module) = dir.lookup("a_b").unwrap() else { panic!() };
            assert_eq!(module.depends, ["c", "d"]);
            assert_eq!((module.soft_pre, module.soft_post), (vec!["x".into()], vec!["y".into()]));
            assert_eq!(dir.lookup("ext_4").unwrap(), Lookup::BuiltIn);
            assert_eq!(dir.lookup("gone").unwrap(), Lookup::Unknown);
        });
    }

    #[test]
    fn what_is_no_modules_directory_is_refused() {
        for (name, files, expected) in [
            ("empty", &[("m/readme", "")][..], "no modules directory"),
            ("missing", &[("x", "")], "no such directory"),
            ("escaping", &[("m/modules.dep", "../../etc/a.ko:\n")], "leads out"),
            ("absolute", &[("m/modules.dep", "/etc/a.ko:\n")], "leads out"),
            ("garbage", &[("m/modules.dep", "what is this\n")], "line 1"),
            ("escaping order", &[("m/modules.order", "a.ko\n../a.ko\n")], "line 2"),
        ] {
            let error =
                with_files(files, |root| ModulesDir::open(root, Path::new("m")).unwrap_err());
            assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
        }
    }

    #[test]
    fn the_order_of_the_build_spares_a_search() {
        let files = [
            ("m/modules.order", "kernel/fs/fuse.ko\nkernel/net/gone.ko\nkernel/fs/b-c.ko\n"),
            ("m/modules.builtin", "kernel/fs/ext4/ext4.ko\n"),
            ("m/kernel/fs/fuse.ko", ""),
            ("m/kernel/fs/b-c.ko.zst", ""),
            ("m/kernel/fs/unlisted.ko", ""),
            ("m/updates/dkms/extra.ko", ""),
        ];
        with_files(&files, |root| {
            let dir = ModulesDir::open(root, Path::new("m")).unwrap();
            let file = |name| dir.file(name).unwrap().map(|path| path.display().to_string());
            assert_eq!(file("fuse").as_deref(), Some("kernel/fs/fuse.ko"));
            assert_eq!(file("b_c").as_deref(), Some("kernel/fs/b-c.ko.zst"));
            assert_eq!(dir.lookup("ext4").unwrap(), Lookup::BuiltIn);
            assert!(dir.found.get().is_none(), "nothing was searched for yet");
            assert_eq!(file("extra").as_deref(), Some("updates/dkms/extra.ko"));
            for name in ["gone", "unlisted"] {
                assert_eq!(dir.lookup(name).unwrap(), Lookup::Unknown, "{name}");
            }
        });
    }

    #[test]
    fn without_depmod_the_files_are_found() {
        let files = [("m/kernel/fs/fuse.ko", ""), ("m/updates/extra.ko.zst", ""), ("b/not.ko", "")];
        with_files(&files, |root| {
            std::os::unix::fs::symlink("../b", root.path().join("m/build")).unwrap();
            std::os::unix::fs::symlink(".", root.path().join("m/kernel/loop")).unwrap();
            let dir = ModulesDir::open(root, Path::new("m")).unwrap();
            assert_eq!(dir.found().unwrap().keys().collect::<Vec<_>>(), ["extra", "fuse"]);
            let error = dir.lookup("fuse").unwrap_err();
            assert!(format!("{error:#}").contains("kernel/fs/fuse.ko"), "{error:#}");
        });
    }
}
