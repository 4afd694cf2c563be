//! Circles of imports between the modules of a crate.
//!
//! At every level below `src`, a module and all that is inside it counts as one room.
//! Room A imports room B if a path in A leads to B, directly or through a name that a
//! common parent imports. Imports between a module and its own children are not checked,
//! and neither is code for tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path as FilePath;

use anyhow::{Context, Result};

use super::paths::{self, Path, Paths};

/// Sources of a crate, by module.
pub type Sources = BTreeMap<Path, String>;

/// Reads the modules below `src`. Programs are left out: `bin/`, and `main.rs` if the crate
/// also has a library.
///
/// # Errors
/// A directory or a file cannot be read.
pub fn read(src: &FilePath) -> Result<Sources> {
    let mut sources = Sources::new();
    let mut pending = vec![(src.to_path_buf(), Path::new())];
    let root = if src.join("lib.rs").exists() { "lib" } else { "main" };
    while let Some((dir, module)) = pending.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let inside = module.iter().cloned().chain([name.clone()]).collect();
            if path.is_dir() && !(module.is_empty() && name == "bin") {
                pending.push((path, inside));
                continue;
            }
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            let found = match name.as_str() {
                "mod" => module.clone(),
                "lib" | "main" if module.is_empty() && name != root => continue,
                "lib" | "main" if module.is_empty() => Path::new(),
                _ => inside,
            };
            if is_rust {
                let text = fs::read_to_string(&path);
                sources.insert(found, text.with_context(|| format!("read {}", path.display()))?);
            }
        }
    }
    Ok(sources)
}

/// Finds the circles of imports. Each is a text such as
/// `a::x → a::y → a::x (a::x::file imports a::y::Item; a::y imports a::x)`.
///
/// # Errors
/// A source is not Rust.
pub fn circles(sources: &Sources) -> Result<Vec<String>> {
    let levels = levels(&imports(sources)?);
    Ok(levels.iter().flat_map(|(parent, edges)| circles_of_level(parent, edges)).collect())
}

/// One import: the module that contains the path, and the path.
type Import = (Path, Path);

/// Rooms of one level that import each other, each with an example.
type Edges = BTreeMap<(String, String), Import>;

/// All imports outside of tests. If a path goes through a re-export, the path to the
/// original item counts as an import, too.
fn imports(sources: &Sources) -> Result<Vec<Import>> {
    let mut found: BTreeMap<&Path, Paths> = BTreeMap::new();
    for (module, text) in sources {
        let paths = paths::find(module, text);
        found.insert(module, paths.with_context(|| format!("module {}", module.join("::")))?);
    }
    let test_modules: BTreeSet<Path> = found
        .iter()
        .flat_map(|(module, paths)| paths.test_modules.iter().map(|name| below(module, name)))
        .collect();
    let is_test =
        |module: &Path| (0..=module.len()).any(|end| test_modules.contains(&module[..end]));
    let mut imports = Vec::new();
    for (module, paths) in found.iter().filter(|(module, _)| !is_test(module)) {
        for path in &paths.all {
            imports.push(((*module).clone(), path.clone()));
            imports.extend(resolved(path, &found).map(|place| ((*module).clone(), place)));
        }
    }
    Ok(imports)
}

/// The module `name` in the module `parent`.
fn below(parent: &[String], name: &str) -> Path {
    [parent, &[name.to_owned()]].concat()
}

/// Path of the original item, if `path` goes through a name that a module imports.
fn resolved(path: &[String], found: &BTreeMap<&Path, Paths>) -> Option<Path> {
    /// Longest chain of re-exports that is followed; it ends circles.
    const CHAIN_MAX: usize = 8;
    let mut place: Option<Path> = None;
    for _ in 0..CHAIN_MAX {
        let path = place.as_deref().unwrap_or(path);
        let next = (0..path.len()).find_map(|at| {
            let bound = &found.get(&path[..at].to_vec())?.bound;
            let (_, target) = bound.iter().find(|(name, _)| *name == path[at])?;
            Some([target.as_slice(), &path[at + 1..]].concat())
        });
        match next {
            Some(next) => place = Some(next),
            None => break,
        }
    }
    place
}

/// Sorts imports by the innermost module that has both ends inside it.
fn levels(imports: &[Import]) -> BTreeMap<Path, Edges> {
    let mut levels: BTreeMap<Path, Edges> = BTreeMap::new();
    for (from, to) in imports {
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // If one end is inside the other, they have no common level.
        if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
            let edges = levels.entry(from[..common].to_vec()).or_default();
            edges.entry((a.clone(), b.clone())).or_insert_with(|| (from.clone(), to.clone()));
        }
    }
    levels
}

/// Circles among the children of `parent`, each room in at most one of them.
fn circles_of_level(parent: &[String], edges: &Edges) -> Vec<String> {
    let rooms: BTreeSet<&String> = edges.keys().map(|(from, _)| from).collect();
    let mut told: BTreeSet<&String> = BTreeSet::new();
    let mut circles = Vec::new();
    for room in rooms {
        if told.contains(room) {
            continue;
        }
        let Some(circle) = shortest_circle(room, edges) else { continue };
        told.extend(circle.iter().copied());
        let examples = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| {
            let (from, to) = &edges[&((*from).clone(), (*to).clone())];
            format!("{} imports {}", from.join("::"), to.join("::"))
        });
        let examples: Vec<_> = examples.collect();
        let names: Vec<_> =
            circle.iter().chain([&room]).map(|name| below(parent, name).join("::")).collect();
        circles.push(format!("{} ({})", names.join(" → "), examples.join("; ")));
    }
    circles
}

/// The shortest chain of imports from `start` back to `start`, which is named once.
fn shortest_circle<'e>(start: &'e String, edges: &'e Edges) -> Option<Vec<&'e String>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        for (_, to) in edges.keys().filter(|(from, _)| from == *last) {
            if to == start {
                return Some(way);
            }
            if seen.insert(to) {
                ways.push_back([way.as_slice(), &[to]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let path = |text: &str| {
            text.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let sources = files.iter().map(|(module, text)| (path(module), (*text).to_owned()));
        circles(&sources.collect()).unwrap()
    }

    #[test]
    fn one_direction_is_no_circle() {
        let files = [
            ("", "pub mod a; pub mod b; pub mod c;"),
            ("a", "pub mod x; use crate::b::B; use self::x::X;"),
            ("a::x", "use super::Parent; use crate::c::C;"),
            ("b", "use crate::c::C; #[cfg(test)] mod tests;"),
            ("b::tests", "use crate::a::x::X;"),
            ("c", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ];
        assert_eq!(circles_of(&files), [""; 0]);
    }

    #[test]
    fn circles_are_found_at_each_level() {
        for (files, expected) in [
            (
                &[("a", "use crate::b::B;"), ("b::x", "fn f() { crate::a::g() }")][..],
                "a → b → a (a imports b::B; b::x imports a::g)",
            ),
            (
                &[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", "use super::a;")],
                "a → b → c → a (a imports b; b imports c; c imports a)",
            ),
            (
                &[("m::x", "use super::y::Y;"), ("m::y", "use super::x::X;"), ("m", "")],
                "m::x → m::y → m::x (m::x imports m::y::Y; m::y imports m::x::X)",
            ),
        ] {
            assert_eq!(circles_of(files), [expected]);
        }
    }

    #[test]
    fn names_that_a_parent_imports_lead_to_their_place() {
        let files = [
            ("m", "pub use y::Y; mod x; mod y;"),
            ("m::x", "use super::Y;"),
            ("m::y", "use super::x::X;"),
        ];
        assert_eq!(
            circles_of(&files),
            ["m::x → m::y → m::x (m::x imports m::y::Y; m::y imports m::x::X)"]
        );
    }

    #[test]
    fn our_own_sources_are_read() {
        let sources = read(&FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
        for module in [&[][..], &["check"], &["check", "rooms"]] {
            let module: Path = module.iter().map(|name| (*name).to_owned()).collect();
            assert!(sources.contains_key(&module), "{module:?}");
        }
        assert!(!sources.contains_key(&Path::from(["main".to_owned()])));
    }
}
