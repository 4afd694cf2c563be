//! `bench size`: the bytes of `/init`, by section and by crate, and of an initrd.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use files::lookup::Files;
use files::root_dir::RootDir;
use machine::kernel::pack;
use machine::plan::architecture::HOST;
use object::{Object, ObjectSection, ObjectSymbol};

use super::Output;
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{self, Subject};
use crate::guest::{self, Symbols};

/// Measure the bytes of /init by section and by crate, and of an initrd
#[derive(Debug, clap::Args)]
pub struct Size {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: subject::Options,
}

const UNIT: &str = "bytes";

impl Size {
    /// Measures the file, its sections, its crates, and the initrd that chrootvm packs.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        let facts = Facts::gather(&subject)?;
        let init = pack::read_init(&subject.init)?;
        let symbols = guest::compile(HOST, Symbols::Kept)?;
        let symbols =
            std::fs::read(&symbols).with_context(|| format!("read {}", symbols.display()))?;
        let file = object::File::parse(&*symbols).context("parse /init")?;
        let mut sizes = vec![("init".to_owned(), init.len() as u64)];
        sizes.extend(sections(&file).map(|(name, size)| (format!("init: {name}"), size)));
        sizes.extend(
            crates(&file).into_iter().map(|(name, size)| (format!("init: code of {name}"), size)),
        );
        let host = RootDir::open("/".as_ref())?;
        let modules = Some((&host as &dyn Files, subject.kernel.modules.as_path()));
        sizes.push((
            "initrd".into(),
            pack::initrd(init, modules, &pack::ModuleSelection::default(), &mut Vec::new())?.len()
                as u64,
        ));
        let rows =
            sizes.into_iter().map(|(name, size)| Row::of(name, UNIT, size as f64, &[size as f64]));
        Ok(Report { bench: "size", statistic: "size", facts, rows: rows.collect() })
    }
}

/// Lists the sections that are loaded into memory, with their sizes there.
fn sections<'a>(file: &'a object::File<'a>) -> impl Iterator<Item = (String, u64)> + 'a {
    // A section that is not loaded has no address.
    let sections = file.sections().filter(|section| section.address() > 0);
    sections.map(|section| (section.name().unwrap_or("?").to_owned(), section.size()))
}

/// Adds up the bytes of code of each crate; C code counts as `musl`.
fn crates(file: &object::File<'_>) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text) {
        // `#` leaves the hashes out of the name.
        let name = rustc_demangle::demangle(symbol.name().unwrap_or(""));
        let name = crate_of(&format!("{name:#}"));
        *sizes.entry(name).or_insert(0) += symbol.size();
    }
    sizes
}

/// Finds the crate of a name such as `<a::B as c::D>::e`: the first word of its first
/// path. A generic parameter or a primitive type is not a path.
fn crate_of(name: &str) -> String {
    let words = name.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let path = words.filter_map(|word| word.split_once("::")).find(|(name, _)| !name.is_empty());
    path.map_or("musl", |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_belong_to_crates() {
        for (name, expected) in [
            ("core::fmt::write", "core"),
            ("<virtinitrd_init::error::Error as core::fmt::Display>::fmt", "virtinitrd_init"),
            ("<&mut alloc::vec::Vec<u8> as core::fmt::Write>::write_str", "alloc"),
            ("<T as core::slice::Find>::find", "core"),
            ("memcpy", "musl"),
        ] {
            assert_eq!(crate_of(name), expected, "{name}");
        }
    }

    #[test]
    fn our_own_sections_and_crates_are_found() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let file = object::File::parse(&*own).unwrap();
        assert!(sections(&file).any(|(name, size)| name == ".text" && size > 0));
        assert!(crates(&file)["xtask"] > 0);
    }
}
