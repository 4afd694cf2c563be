//! From the modules asked for to the list that loads.
//!
//! Order: what a module needs comes before it (`depends`, and soft `pre:`), what
//! it merely wants afterwards (`post:`) comes after, each module once. A soft
//! dependency that cannot be loaded is left out, with all that only it needs, as
//! modprobe(8) goes on without it.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};

use super::canonical;

/// What is known of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Must be loaded before; canonical names.
    pub depends: Vec<String>,
    /// Should be loaded before, where they exist (modprobe.d(5), softdep).
    pub soft_pre: Vec<String>,
    /// Should be loaded after, where they exist.
    pub soft_post: Vec<String>,
}

/// Where a name may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A file of the directory.
    Module(Module),
    /// Part of the kernel.
    BuiltIn,
    /// An alias of these modules.
    Alias(Vec<String>),
    /// Nothing that is known.
    Unknown,
}

/// Whether a module has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// If it is missing, that is an error.
    Hard,
    /// If it is missing, it is left out.
    Soft,
}

/// Levels of dependencies that are followed. Debian 12 has 8; an index is not
/// trusted to end.
const DEPTH_MAX: usize = 100;

/// Knows modules by canonical name.
pub trait Source {
    /// Looks `name` up.
    fn lookup(&self, name: &str, need: Need) -> Result<Lookup>;

    /// Takes note of a soft dependency that is there but cannot be loaded.
    fn left_out(&self, _name: &str) {}
}

/// A module to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Its absence is an error.
    Needed(&'a str),
    /// Taken where the directory has it.
    Wanted(&'a str),
}

/// The canonical names of the modules to load, in order. Built-in ones are left
/// out.
///
/// # Errors
/// A needed module, or a dependency, that is neither there nor built in.
pub fn load_order(source: &impl Source, requests: &[Request<'_>]) -> Result<Vec<String>> {
    let mut walk = Walk {
        source,
        seen: HashSet::new(),
        trail: Vec::new(),
        failed: HashMap::new(),
        order: Vec::new(),
    };
    for request in requests {
        match *request {
            Request::Needed(name) => {
                if !walk.visit(&canonical(name), Need::Hard, 0)? {
                    bail!("unknown module \"{name}\": it is neither a file there nor built in");
                }
            }
            Request::Wanted(name) => {
                walk.visit(&canonical(name), Need::Soft, 0)?;
            }
        }
    }
    Ok(walk.order)
}

struct Walk<'a, S> {
    source: &'a S,
    /// Names already taken up, whether listed yet or not: a cycle ends here.
    seen: HashSet<String>,
    /// The names of `seen`, in their order.
    trail: Vec<String>,
    /// Names that cannot be loaded, and why; no name is tried twice.
    failed: HashMap<String, String>,
    order: Vec<String>,
}

impl<S: Source> Walk<'_, S> {
    /// Lists `name` and all it needs; false where it is unknown.
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
        let module = match self.source.lookup(name, need)? {
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
            if !self.visit(needed, Need::Hard, depth + 1)? {
                bail!(
                    "module \"{name}\" needs \"{needed}\", which is neither a file there nor built in"
                );
            }
        }
        self.order.push(name.to_owned());
        for soft in &module.soft_post {
            self.visit_soft(soft, depth + 1);
        }
        Ok(true)
    }

    /// Lists `name` and all its dependencies, or none of them; false if it is unknown
    /// or cannot be loaded.
    fn visit_soft(&mut self, name: &str, depth: usize) -> bool {
        let (listed, passed) = (self.order.len(), self.trail.len());
        if self.failed.contains_key(name) {
            return false;
        }
        self.visit(name, Need::Soft, depth).unwrap_or_else(|error| {
            self.order.truncate(listed);
            for taken in self.trail.drain(passed..) {
                self.seen.remove(&taken);
            }
            self.failed.insert(name.to_owned(), format!("{error:#}"));
            self.source.left_out(name);
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(HashMap<&'static str, Lookup>);

    impl Source for Fake {
        fn lookup(&self, name: &str, _need: Need) -> Result<Lookup> {
            Ok(self.0.get(name).cloned().unwrap_or(Lookup::Unknown))
        }
    }

    fn module(depends: &[&str], pre: &[&str], post: &[&str]) -> Lookup {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let (depends, soft_pre, soft_post) = (names(depends), names(pre), names(post));
        Lookup::Module(Module { depends, soft_pre, soft_post })
    }

    fn order(rows: Vec<(&'static str, Lookup)>, requests: &[Request<'_>]) -> Result<String> {
        Ok(load_order(&Fake(rows.into_iter().collect()), requests)?.join(" "))
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let rows = vec![
            ("virtiofs", module(&["fuse", "virtio"], &[], &[])),
            ("virtio_pci", module(&["virtio_ring", "virtio"], &[], &[])),
            ("virtio", module(&["virtio_ring"], &[], &[])),
            ("virtio_ring", module(&[], &[], &[])),
            ("fuse", Lookup::BuiltIn),
        ];
        let requests = [
            Request::Wanted("virtio-pci"),
            Request::Wanted("virtio_mmio"),
            Request::Needed("virtiofs"),
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
        assert_eq!(order(rows, &[Request::Needed("a")]).unwrap(), "pre b a post");
    }

    #[test]
    fn a_soft_dependency_that_cannot_be_loaded_is_left_out_whole() {
        let rows = vec![
            ("a", module(&["c"], &["s"], &[])),
            ("s", module(&["b", "gone"], &["c"], &[])),
            ("b", module(&[], &[], &[])),
            ("c", module(&[], &["s"], &["s"])),
        ];
        assert_eq!(order(rows.clone(), &[Request::Needed("a")]).unwrap(), "c a");
        let error = order(rows, &[Request::Needed("a"), Request::Needed("s")]).unwrap_err();
        assert!(error.to_string().contains("needs \"gone\""), "{error}");
    }

    #[test]
    fn an_alias_is_all_that_it_stands_for() {
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
        assert_eq!(order(rows.clone(), &[Request::Needed("a")]).unwrap(), format!("{expected} a"));
        assert_eq!(order(rows.clone(), &[Request::Needed("crypto-crc32c")]).unwrap(), expected);
        assert!(order(rows, &[Request::Needed("nothing")]).is_err());
    }

    #[test]
    fn cycles_end() {
        let rows = vec![("a", module(&["b"], &[], &[])), ("b", module(&["a"], &["a"], &["b"]))];
        assert_eq!(order(rows, &[Request::Needed("a")]).unwrap(), "b a");
    }

    #[test]
    fn a_chain_without_end_is_an_error() {
        struct Endless;
        impl Source for Endless {
            fn lookup(&self, name: &str, _need: Need) -> Result<Lookup> {
                Ok(module(&[&format!("{name}x")], &[], &[]))
            }
        }
        let error = load_order(&Endless, &[Request::Needed("a")]).unwrap_err().to_string();
        assert!(error.contains("more than 100 levels"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = order(vec![], &[Request::Needed("nope")]).unwrap_err().to_string();
        assert!(error.contains("unknown module \"nope\""), "{error}");
        let rows = vec![("a", module(&["gone"], &[], &[]))];
        let error = order(rows, &[Request::Needed("a")]).unwrap_err().to_string();
        assert!(error.contains("\"a\" needs \"gone\""), "{error}");
    }
}
