//! Parsers of the index files of a modules directory.
//!
//! Formats: modules.dep(5); modprobe.d(5) for modules.softdep; modules.order and
//! modules.builtin of the kernel's build (kernel doc: kbuild/kbuild.rst). All are
//! lines of text. Their binary copies, such as modules.dep.bin, are not read.
//!
//! | File | One line |
//! |---|---|
//! | modules.dep | `kernel/a.ko: kernel/b.ko kernel/c.ko`; dependencies in reverse load order |
//! | modules.order, modules.builtin | `kernel/a.ko`; in a kernel tree also `fs/a.ko`, or `fs/a.o` since Linux 6.3 |
//! | modules.softdep | `softdep NAME pre: A B post: C` |
//!
//! Invariant: a bad line is an error only for the module that it is about. Weak
//! dependencies (`weakdep`) are ignored: they name modules that are loaded later on
//! demand, and `/init` loads every module of the initrd at once.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::dependencies::Dependencies;
use super::name::{canonical_name, name_of};

/// Top directories, the preferred one first. If two files have the same module name, the
/// file in the earlier directory wins (depmod.d(5), `search`, as distributions set it).
/// Other directories come last.
const PRECEDENCE: &[&str] = &["updates", "extra", OWN];

/// Directory of the modules that come with the kernel.
pub const OWN: &str = "kernel";

/// Paths of modules below the modules directory, by canonical name.
pub type ModuleFiles = BTreeMap<String, PathBuf>;

/// One line of modules.dep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepLine {
    /// Line number; the first line is 1.
    number: usize,
    /// Path of the module, as written.
    path: String,
    /// Paths of the modules that the module needs, separated by blanks.
    needs: String,
}

impl DepLine {
    /// Path of the module below the modules directory `dir`.
    ///
    /// # Errors
    /// The path leads out of `dir`.
    pub fn path(&self, dir: &Path) -> Result<PathBuf> {
        inside(&self.path, dir).with_context(|| self.place())
    }

    /// Canonical names of the modules that the module needs, in load order.
    ///
    /// # Errors
    /// A word is not the path of a module.
    pub fn needs(&self) -> Result<Vec<String>> {
        let words = self.needs.split_whitespace().rev();
        let name = |word| name_of(word).with_context(|| format!("\"{word}\" is not a module"));
        words.map(name).collect::<Result<_>>().with_context(|| self.place())
    }

    fn place(&self) -> String {
        format!("modules.dep, line {}", self.number)
    }
}

/// Whether the module file at `path` is preferred to the one at `other`: `PRECEDENCE`
/// decides, then the alphabet.
#[must_use]
pub fn precedes(path: &Path, other: &Path) -> bool {
    let rank = |path: &Path| {
        let top = path.components().next();
        let is_it = |name: &str| top == Some(Component::Normal(name.as_ref()));
        PRECEDENCE.iter().position(|name| is_it(name)).unwrap_or(PRECEDENCE.len())
    };
    (rank(path), path) < (rank(other), other)
}

/// The lines of modules.dep by canonical module name. If two lines are about the same
/// module, the line with the preferred path wins.
#[must_use]
pub fn parse_dep(text: &str) -> BTreeMap<String, DepLine> {
    let mut lines: BTreeMap<String, DepLine> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let Some((path, needs)) = line.split_once(':') else { continue };
        let path = path.trim();
        let Some(name) = name_of(path) else { continue };
        let line = DepLine { number: index + 1, path: path.to_owned(), needs: needs.to_owned() };
        let known = lines.get(&name);
        if known.is_none_or(|known| precedes(Path::new(path), Path::new(&known.path))) {
            lines.insert(name, line);
        }
    }
    lines
}

/// The module files that modules.order names. The kernel's build writes it before the
/// distribution compresses modules, so the names end in `.ko`. In a tree they may be those of
/// the object files that become the modules.
#[must_use]
pub fn parse_order(text: &str) -> ModuleFiles {
    let paths = text.lines().map(str::trim).map(|path| match path.strip_suffix(".o") {
        Some(object) => format!("{object}.ko"),
        None => path.to_owned(),
    });
    let row = |path: String| Some((name_of(&path)?, inside(&path, Path::new("")).ok()?));
    paths.filter_map(row).collect()
}

/// The soft dependencies in modules.softdep, by canonical module name.
#[must_use]
pub fn parse_softdeps(text: &str) -> BTreeMap<String, Dependencies> {
    let mut modules: BTreeMap<String, Dependencies> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.trim().splitn(3, [' ', '\t']);
        if let (Some("softdep"), Some(name), Some(text)) =
            (words.next(), words.next(), words.next())
        {
            modules.entry(canonical_name(name)).or_default().add_soft(text);
        }
    }
    modules
}

/// Makes `path` relative to the modules directory `dir`. An absolute path is accepted if
/// it lies in that directory: old versions of depmod(8) wrote such paths.
fn inside(path: &str, dir: &Path) -> Result<PathBuf> {
    /// Parents of modules directories, without and with a merged /usr.
    const PARENTS: &[&str] = &["/lib/modules", "/usr/lib/modules"];
    let version = dir.file_name().unwrap_or_default();
    let tops = PARENTS.iter().map(|parent| Path::new(parent).join(version));
    let tops = tops.chain([Path::new("/").join(dir)]).filter(|_| !version.is_empty());
    let relative = tops.into_iter().find_map(|top| Path::new(path).strip_prefix(top).ok());
    let relative = relative.unwrap_or(Path::new(path));
    let relative = relative.strip_prefix(".").unwrap_or(relative);
    let is_inside = |part| matches!(part, Component::Normal(_));
    ensure!(relative.components().all(is_inside), "\"{path}\" leads out of the directory");
    Ok(relative.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_every_spelling() {
        let dir = Path::new("usr/lib/modules/6.1");
        for (name, text, path, needs) in [
            ("plain", "kernel/a.ko: kernel/c.ko kernel/b-b.ko.xz\n", "kernel/a.ko", "b_b c"),
            ("CRLF", "kernel/a.ko:\r\nkernel/b.ko:\r\n", "kernel/a.ko", ""),
            ("blanks", "  kernel/a.ko :   kernel/b.ko  \n", "kernel/a.ko", "b"),
            ("a path with a blank", "extra/my mod/a.ko:\n", "extra/my mod/a.ko", ""),
            ("no end of line", "x\n\n# a: b\nkernel/a.ko:", "kernel/a.ko", ""),
            ("absolute, inside", "/lib/modules/6.1/kernel/a.ko:\n", "kernel/a.ko", ""),
            ("absolute, /usr", "/usr/lib/modules/6.1/kernel/a.ko:\n", "kernel/a.ko", ""),
            ("dotted", "./kernel/a.ko:\n", "kernel/a.ko", ""),
            ("twice", "kernel/a.ko: kernel/b.ko\nupdates/a.ko:\n", "updates/a.ko", ""),
            ("twice, otherwise", "updates/a.ko:\nkernel/a.ko: kernel/b.ko\n", "updates/a.ko", ""),
            ("extra", "weak-updates/a.ko:\nkernel/a.ko:\nextra/a.ko:\n", "extra/a.ko", ""),
        ] {
            let lines = parse_dep(text);
            let line = lines.get("a").unwrap_or_else(|| panic!("{name}"));
            assert_eq!(line.path(dir).unwrap(), Path::new(path), "{name}");
            assert_eq!(line.needs().unwrap().join(" "), needs, "{name}");
        }
    }

    #[test]
    fn a_bad_line_is_an_error_only_when_it_is_used() {
        let text = "/etc/a.ko:\nkernel/../../b.ko:\n/lib/modules/6.2/c.ko:\nkernel/d.ko: what\n";
        let lines = parse_dep(text);
        for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
            let error = lines[name].path(Path::new("/lib/modules/6.1")).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains("leads out") && error.contains(&format!("line {number}")),
                "{error}"
            );
        }
        let error = format!("{:#}", lines["d"].needs().unwrap_err());
        assert!(error.contains("line 4") && error.contains("\"what\" is not a module"), "{error}");
    }

    #[test]
    fn bad_lines_of_modules_order_are_ignored() {
        let files =
            parse_order("kernel/a.ko\n../b.ko\n/c.ko\n\nd\nkernel/e-e.ko\r\nfs/f.o\r\n.o\n");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "e_e", "f"]);
        assert_eq!(files["f"], Path::new("fs/f.ko"));
    }

    #[test]
    fn soft_dependencies_are_read() {
        let text = "# comment\nsoftdep a-b pre: x  post: y\nsoftdep c\nsoftdep\td post: z\nsoftdep e gcm\n";
        let soft = parse_softdeps(text);
        assert_eq!(
            (&soft["a_b"].soft_pre[..], &soft["a_b"].soft_post[..]),
            (&["x".into()][..], &["y".into()][..])
        );
        assert_eq!(soft["d"].soft_post, ["z"]);
        assert_eq!(soft["e"], Dependencies::default());
        assert!(!soft.contains_key("c"));
    }
}
