//! README, `docs/` and the manual pages against the code and against each other.
//!
//! Every option and kernel parameter has an entry in a manual page, every option of
//! chrootvm and every kernel parameter has a row in a table, every link and file name
//! leads somewhere, and README stays short enough to be read. `coverage.rs` compares the
//! tables with the tests.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

/// Most lines of README; details belong in `docs/`.
const README_MAX: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Options that `--help` of a command and of its subcommands shows, as `--name`.
fn options(command: &clap::Command) -> Vec<String> {
    let names = arguments(command).into_iter();
    names.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
}

fn options_of_chrootvm() -> Vec<String> {
    options(&chrootvm::run::RunArguments::augment_args(clap::Command::new("chrootvm")))
}

fn parameters() -> Vec<String> {
    proto::parameters::PARAMETERS.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether `text` has `word` as a whole, not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let ends = |c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c);
    text.split(ends).any(|found| found == word)
}

#[test]
fn tables_have_every_option_and_parameter() {
    let keys = chrootvm::config::keys::KEYS.iter().map(|key| key.name.to_owned()).collect();
    for (document, names) in [
        ("README.md", options_of_chrootvm()),
        ("docs/kernel-parameters.md", parameters()),
        ("docs/configuration.md", keys),
    ] {
        let text = read(document);
        let first = |row: &str| Some(row.strip_prefix("| ")?.split_once(" |")?.0.to_owned());
        let cells: Vec<String> = text.lines().filter_map(first).collect();
        for name in names {
            let is_there = cells.iter().any(|cell| has_word(cell, &name));
            assert!(is_there, "no table of {document} has a row for {name}");
        }
    }
}

#[test]
fn manual_pages_have_every_option_and_parameter() {
    let pack =
        chrootvm::mkvirtinitrd::MkVirtInitrd::augment_args(clap::Command::new("mkvirtinitrd"));
    let exec = chrootvm::exec::Exec::augment_args(clap::Command::new("exec"));
    let logs = chrootvm::logs::Logs::augment_args(clap::Command::new("logs"));
    let kernel = chrootvm::kernel::Kernel::augment_args(clap::Command::new("kernel"));
    let image = chrootvm::image_command::Image::augment_args(clap::Command::new("image"));
    for (page, names) in [
        ("man/chrootvm.1", options_of_chrootvm()),
        ("man/chrootvm.1", options(&exec)),
        ("man/chrootvm.1", options(&logs)),
        ("man/chrootvm.1", options(&kernel)),
        ("man/chrootvm-image.1", options(&image)),
        ("man/mkvirtinitrd.1", options(&pack)),
        ("man/virtinitrd.7", parameters()),
    ] {
        let text = read(page).replace("\\-", "-");
        // Only the lines of macros that set tags: other text mentions names in passing.
        let tags: Vec<_> =
            text.split("\n.TP\n").skip(1).filter_map(|tag| tag.lines().next()).collect();
        for name in names {
            let is_there = tags.iter().any(|tag| has_word(tag, &name));
            assert!(is_there, "{page} has no entry for {name}");
        }
    }
}

/// The default of an option in its help: what clap says, or `[default: …]` in the text.
fn default_in_help(argument: &clap::Arg) -> Option<String> {
    if let Some(value) = argument.get_default_values().first() {
        return Some(value.to_string_lossy().into_owned());
    }
    let text = argument.get_long_help().or(argument.get_help())?.to_string();
    Some(text.split_once("[default: ")?.1.split_once(']')?.0.to_owned())
}

/// The default in the text of a document: what follows `default:`, up to the end of the
/// sentence or of a part of it.
fn default_in_text(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("efault: ")?;
    let end = [";", ". ", ".)"].iter().filter_map(|end| rest.find(end)).min();
    Some(rest[..end.unwrap_or(rest.len())].trim().trim_end_matches('.').to_owned())
}

/// Text of a table's cell, without backticks and targets of links.
fn plain_cell(cell: &str) -> String {
    let mut plain = String::new();
    for (number, part) in cell.split("](").enumerate() {
        let part = if number == 0 { part } else { part.split_once(')').unwrap().1 };
        plain.push_str(part);
    }
    plain.trim_end_matches(" |").replace(['`', '[', ']'], "")
}

/// Text of the lines of a manual page (groff_man(7)): without macros, fonts and escapes.
fn plain_page(lines: &str) -> String {
    let mut words = Vec::new();
    for line in lines.lines() {
        // These macros join their arguments; `.B` and `.I` put blanks between them.
        let joined = [".BR ", ".RB ", ".IR ", ".RI ", ".BI ", ".IB "];
        let text = match joined.iter().find_map(|name| line.strip_prefix(name)) {
            Some(rest) => {
                let is_quoted = |number| number % 2 == 1;
                let parts = rest.split('"').enumerate();
                parts
                    .map(|(number, part)| match is_quoted(number) {
                        true => part.to_owned(),
                        false => part.replace(' ', ""),
                    })
                    .collect()
            }
            None => line.trim_start_matches(".B ").trim_start_matches(".I ").replace('"', ""),
        };
        words.push(text);
    }
    let text = words.join(" ").replace("\\-", "-").replace("\\&", "");
    ["\\fB", "\\fI", "\\fR", "\\fP"].iter().fold(text, |text, font| text.replace(font, ""))
}

/// Help, manual page and README name the same default for every option.
#[test]
fn documents_agree_on_defaults() {
    let readme = read("README.md").replace("\\|", "\u{0}");
    let row = |table: &str, name: &str| {
        let rows = table.lines().filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
        // Other options of a row have no text of their own.
        let mut rows = rows.filter(|(cell, _)| cell.starts_with(&format!("`{name}")));
        rows.find(|(cell, _)| has_word(cell, name)).map(|(_, text)| plain_cell(text))
    };
    let new = clap::Command::new;
    let run = chrootvm::run::RunArguments::augment_args(new("run"));
    let (mut count, mut problems) = (0, Vec::new());
    for (page, command, table) in [
        ("chrootvm.1", run, Some(&readme)),
        ("chrootvm.1", chrootvm::kernel::Kernel::augment_args(new("kernel")), None),
        ("chrootvm-image.1", chrootvm::image_command::Image::augment_args(new("image")), None),
        ("mkvirtinitrd.1", chrootvm::mkvirtinitrd::MkVirtInitrd::augment_args(new("mk")), None),
    ] {
        let text = read(&format!("man/{page}"));
        let entries: Vec<_> = text.split("\n.TP\n").skip(1).collect();
        for argument in arguments(&command) {
            let Some(name) = argument.get_long().map(|name| format!("--{name}")) else { continue };
            let expected = default_in_help(&argument);
            let entry = entries.iter().find_map(|entry| {
                let (tag, rest) = entry.split_once('\n')?;
                let rest = rest.split("\n.S").next()?;
                has_word(&tag.replace("\\-", "-"), &name).then(|| plain_page(rest))
            });
            let entry = entry.unwrap_or_else(|| panic!("{page} has no entry for {name}"));
            let row = table.and_then(|table| row(table, &name));
            for text in [Some(entry), row].into_iter().flatten() {
                let found = default_in_text(&text);
                if found != expected {
                    problems.push(format!("{name}: {found:?}, not {expected:?}, in {text}"));
                }
            }
            count += usize::from(expected.is_some());
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(count > 20, "defaults were not found");
}

/// The arguments of a command and of its subcommands that `--help` shows.
fn arguments(command: &clap::Command) -> Vec<clap::Arg> {
    let own = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    own.chain(command.get_subcommands().flat_map(arguments)).collect()
}

#[test]
fn readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_MAX, "README.md has {lines} lines: move details to docs/");
}

/// README, CHANGELOG and everything in `docs/`.
fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name))).collect()
}

/// Text between backticks outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn named_source_files_exist() {
    let mut count = 0;
    for page in documents() {
        let text = fs::read_to_string(&page).unwrap();
        let is_source = |name: &&str| {
            let top = ["init/", "crates/", "xtask/", "tests/", "scripts/", "bench/", "kernel/"];
            // NEW stands for a file that somebody is about to add.
            top.iter().any(|dir| name.starts_with(dir))
                && !name.contains(' ')
                && !name.contains("NEW")
        };
        for name in quoted(&text).into_iter().filter(is_source) {
            count += 1;
            assert!(root().join(name).exists(), "{}: there is no {name}", page.display());
        }
    }
    assert!(count > 20, "names of files were not found");
}

/// Targets of `[text](target)` and `![text](target)`.
fn links(text: &str) -> Vec<&str> {
    let parts = text.split("](").skip(1);
    parts.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// Anchors of headings, as GitHub makes them: lower case, blanks as hyphens, no other
/// punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let kept = |heading: &str| {
        let lower = heading.to_lowercase().replace(' ', "-");
        lower.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
    };
    headings.map(kept).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut count = 0;
    for page in documents() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                _ => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if anchor.is_empty() {
                continue;
            }
            let headings = anchors(&fs::read_to_string(&target).unwrap());
            let is_there = headings.iter().any(|heading| heading == anchor);
            assert!(is_there, "{}: {link} names no heading", page.display());
        }
    }
    assert!(count > 20, "links were not found");
}
