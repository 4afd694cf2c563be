//! From the requested modules to the list of modules that load, without I/O.
//!
//! Order: the dependencies of a module (`depends`, and soft `pre:`) come before it, its
//! soft `post:` dependencies come after it, and each module is listed once. If a soft
//! dependency cannot be loaded, it is left out together with the modules that only it
//! needs: modprobe(8) also goes on without it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use anyhow::{Result, bail, ensure};

use super::dependencies::Dependencies;
use super::name::canonical_name;

/// Meaning of a module's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A module file with these dependencies.
    Module(Dependencies),
    /// A part of the kernel image.
    BuiltIn,
    /// An alias of each of these modules.
    Alias(Vec<String>),
    /// An unknown name.
    Unknown,
}

/// Whether a module is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A missing module is an error.
    Must,
    /// A missing module is left out.
    May,
}

/// Most levels of dependencies that are followed. Debian 12 has 8 levels; a hostile index
/// could have endless ones.
const DEPTH_MAX: usize = 100;

/// Modules by canonical name, such as those of a modules directory.
pub trait ModuleLookup {
    /// Looks up the meaning of `name`. If `need` is [`Need::May`], a module that only a long
    /// search would find may be answered as [`Lookup::Unknown`].
    fn lookup(&self, name: &str, need: Need) -> Result<Lookup>;

    /// Notes that the soft dependency `name` exists but cannot be loaded.
    fn left_out(&self, _name: &str) {}
}

/// Error: a required module is neither a file nor a part of the kernel image. Callers that know
/// the user's options add what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingModule {
    /// Name of the module.
    pub name: String,
    /// The module that needs it; `None` if it was requested itself.
    pub needed_by: Option<String>,
}

impl fmt::Display for MissingModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, needed_by } = self;
        match needed_by {
            None => write!(f, "unknown module \"{name}\": it is neither a file there nor built in"),
            Some(by) => write!(
                f,
                "module \"{by}\" needs \"{name}\", which is neither a file there nor built in"
            ),
        }
    }
}

impl std::error::Error for MissingModule {}

/// Request to load one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleRequest<'a> {
    /// Name or alias of the module.
    pub name: &'a str,
    /// Whether the module is required.
    pub need: Need,
}

impl<'a> ModuleRequest<'a> {
    /// Request for a required module.
    #[must_use]
    pub fn must(name: &'a str) -> Self {
        Self { name, need: Need::Must }
    }

    /// Request for a module that is loaded only if it exists.
    #[must_use]
    pub fn may(name: &'a str) -> Self {
        Self { name, need: Need::May }
    }
}

/// Lists the canonical names of the modules to load, in load order. Modules that are built
/// into the kernel are not listed.
///
/// # Errors
/// A required module, or a dependency of a listed module, is neither a file nor built in.
pub fn load_order(
    modules: &impl ModuleLookup,
    requests: &[ModuleRequest<'_>],
) -> Result<Vec<String>> {
    let mut walk = Walk {
        modules,
        seen: HashSet::new(),
        trail: Vec::new(),
        failed: HashMap::new(),
        order: Vec::new(),
    };
    for &ModuleRequest { name, need } in requests {
        let is_known = walk.visit(&canonical_name(name), need, 0)?;
        if !is_known && need == Need::Must {
            bail!(MissingModule { name: name.to_owned(), needed_by: None });
        }
    }
    Ok(walk.order)
}

/// Depth-first walk through the dependencies.
struct Walk<'a, M> {
    modules: &'a M,
    /// Names that the walk has entered, listed or not yet. A name in it is not entered
    /// again, which ends cycles.
    seen: HashSet<String>,
    /// The names of `seen` in the order in which the walk entered them.
    trail: Vec<String>,
    /// Modules that cannot be loaded, with the reason; no module is tried twice.
    failed: HashMap<String, String>,
    /// Modules to load, in load order.
    order: Vec<String>,
}

impl<M: ModuleLookup> Walk<'_, M> {
    /// Lists `name` after all its dependencies; false if the name is unknown.
    fn visit(&mut self, name: &str, need: Need, depth: usize) -> Result<bool> {
        ensure!(
            depth < DEPTH_MAX,
            "module \"{name}\": more than {DEPTH_MAX} levels of dependencies"
        );
        if self.seen.contains(name) {
            return Ok(true);
        }
        if let Some(why) = self.failed.get(name) {
            bail!("{why}");
        }
        let module = match self.modules.lookup(name, need)? {
            Lookup::Unknown => return Ok(false),
            Lookup::BuiltIn => return Ok(true),
            Lookup::Alias(names) => {
                let mut is_known = false;
                for name in &names {
                    is_known |= self.visit_soft(name, depth + 1);
                }
                return Ok(is_known);
            }
            Lookup::Module(module) => module,
        };
        self.seen.insert(name.to_owned());
        self.trail.push(name.to_owned());
        for soft in &module.soft_pre {
            self.visit_soft(soft, depth + 1);
        }
        for needed in &module.depends {
            if !self.visit(needed, Need::Must, depth + 1)? {
                let needed_by = Some(name.to_owned());
                bail!(MissingModule { name: needed.clone(), needed_by });
            }
        }
        self.order.push(name.to_owned());
        for soft in &module.soft_post {
            self.visit_soft(soft, depth + 1);
        }
        Ok(true)
    }

    /// Lists the soft dependency `name` and all its dependencies, or none of them; false if
    /// the name is unknown or cannot be loaded.
    fn visit_soft(&mut self, name: &str, depth: usize) -> bool {
        let (listed, passed) = (self.order.len(), self.trail.len());
        if self.failed.contains_key(name) {
            return false;
        }
        self.visit(name, Need::May, depth).unwrap_or_else(|error| {
            self.order.truncate(listed);
            for taken in self.trail.drain(passed..) {
                self.seen.remove(&taken);
            }
            self.failed.insert(name.to_owned(), format!("{error:#}"));
            self.modules.left_out(name);
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(HashMap<&'static str, Lookup>);

    impl ModuleLookup for Fake {
        fn lookup(&self, name: &str, _need: Need) -> Result<Lookup> {
            Ok(self.0.get(name).cloned().unwrap_or(Lookup::Unknown))
        }
    }

    fn module(depends: &[&str], pre: &[&str], post: &[&str]) -> Lookup {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let (depends, soft_pre, soft_post) = (names(depends), names(pre), names(post));
        Lookup::Module(Dependencies { depends, soft_pre, soft_post })
    }

    fn order(rows: Vec<(&'static str, Lookup)>, requests: &[ModuleRequest<'_>]) -> Result<String> {
        Ok(load_order(&Fake(rows.into_iter().collect()), requests)?.join(" "))
    }

    #[test]
    fn dependencies_are_listed_first_and_once() {
        let rows = vec![
            ("virtiofs", module(&["fuse", "virtio"], &[], &[])),
            ("virtio_pci", module(&["virtio_ring", "virtio"], &[], &[])),
            ("virtio", module(&["virtio_ring"], &[], &[])),
            ("virtio_ring", module(&[], &[], &[])),
            ("fuse", Lookup::BuiltIn),
        ];
        let requests = [
            ModuleRequest::may("virtio-pci"),
            ModuleRequest::may("virtio_mmio"),
            ModuleRequest::must("virtiofs"),
        ];
        assert_eq!(order(rows, &requests).unwrap(), "virtio_ring virtio virtio_pci virtiofs");
    }

    #[test]
    fn soft_dependencies_are_optional_and_ordered() {
        let rows = vec![
            ("a", module(&["b"], &["pre", "gone"], &["post", "gone"])),
            ("b", module(&[], &[], &[])),
            ("pre", module(&[], &[], &[])),
            ("post", module(&[], &[], &[])),
        ];
        assert_eq!(order(rows, &[ModuleRequest::must("a")]).unwrap(), "pre b a post");
    }

    #[test]
    fn a_broken_soft_dependency_is_left_out_with_its_own_dependencies() {
        let rows = vec![
            ("a", module(&["c"], &["s"], &[])),
            ("s", module(&["b", "gone"], &["c"], &[])),
            ("b", module(&[], &[], &[])),
            ("c", module(&[], &["s"], &["s"])),
        ];
        assert_eq!(order(rows.clone(), &[ModuleRequest::must("a")]).unwrap(), "c a");
        let error = order(rows, &[ModuleRequest::must("a"), ModuleRequest::must("s")]).unwrap_err();
        assert!(error.to_string().contains("needs \"gone\""), "{error}");
    }

    #[test]
    fn an_alias_loads_all_its_modules() {
        let alias = |names: &[&str]| Lookup::Alias(names.iter().map(ToString::to_string).collect());
        let rows = vec![
            ("a", module(&[], &["crypto_crc32c"], &[])),
            ("crypto_crc32c", alias(&["crc32c_intel", "gone", "broken", "crc32c_generic"])),
            ("crc32c_intel", module(&[], &[], &[])),
            ("crc32c_generic", module(&[], &[], &[])),
            ("broken", module(&["gone"], &[], &[])),
            ("nothing", alias(&["gone"])),
        ];
        let expected = "crc32c_intel crc32c_generic";
        assert_eq!(
            order(rows.clone(), &[ModuleRequest::must("a")]).unwrap(),
            format!("{expected} a")
        );
        assert_eq!(order(rows.clone(), &[ModuleRequest::must("crypto-crc32c")]).unwrap(), expected);
        assert!(order(rows, &[ModuleRequest::must("nothing")]).is_err());
    }

    #[test]
    fn cycles_end() {
        let rows = vec![("a", module(&["b"], &[], &[])), ("b", module(&["a"], &["a"], &["b"]))];
        assert_eq!(order(rows, &[ModuleRequest::must("a")]).unwrap(), "b a");
    }

    #[test]
    fn an_endless_chain_is_an_error() {
        struct Endless;
        impl ModuleLookup for Endless {
            fn lookup(&self, name: &str, _need: Need) -> Result<Lookup> {
                Ok(module(&[&format!("{name}x")], &[], &[]))
            }
        }
        let error = load_order(&Endless, &[ModuleRequest::must("a")]).unwrap_err().to_string();
        assert!(error.contains("more than 100 levels"), "{error}");
    }

    #[test]
    fn an_error_names_the_missing_module() {
        let error = order(vec![], &[ModuleRequest::must("nope")]).unwrap_err().to_string();
        assert!(error.contains("unknown module \"nope\""), "{error}");
        let rows = vec![("a", module(&["gone"], &[], &[]))];
        let error = order(rows, &[ModuleRequest::must("a")]).unwrap_err().to_string();
        assert!(error.contains("\"a\" needs \"gone\""), "{error}");
    }
}
