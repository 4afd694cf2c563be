//! `chrootvm image inspect`: format and contents of an image, and the command it runs.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use archive::bytes::At;
use files::tell;
use image::format::Format;
use image::source::Source;
use image::tree::{Kind, Tree, file_length, show};
use proto::settings::{self, IMAGE_FILE, Restart};
use proto::superblock;

use super::options::{ReadLimits, show_uuid};
use super::{open, see_owners_as_the_guest};

/// Directories with the modules of kernels, a directory for each version (depmod(8)).
const MODULES: &[&str] = &["usr/lib/modules", "lib/modules"];

/// Describe an image and its contents
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image inspect debian.erofs")]
pub(super) struct InspectImage {
    /// Directory, archive or image; - is standard input
    image: PathBuf,
    #[command(flatten)]
    limits: ReadLimits,
}

impl InspectImage {
    /// Prints a line for each fact.
    pub(super) fn run(self) -> Result<()> {
        see_owners_as_the_guest(&[&self.image])?;
        let source = open(&self.image, &self.limits.options())?;
        for (name, value) in facts(&source)? {
            tell::result(format_args!("{name:<12} {value}\n"))?;
        }
        Ok(())
    }
}

fn facts(source: &Source) -> Result<Vec<(&'static str, String)>> {
    let Source { tree, format, file } = source;
    let mut facts = vec![("format", format.to_string())];
    if *format != Format::Dir {
        facts.push(("size", format!("{} bytes", file_length(file)?)));
    }
    if format.file_system().is_some() {
        let mut head = Vec::new();
        At { file, offset: 0 }.take(superblock::HEAD as u64).read_to_end(&mut head)?;
        if let Some(found) = superblock::identify(&head) {
            facts.extend(found.uuid.map(|uuid| ("uuid", show_uuid(uuid))));
            facts.extend((!found.label.is_empty()).then(|| ("label", show(found.label))));
        }
    }
    facts.extend(counts(tree));
    facts.extend(kernels(tree).map(|version| ("kernel", version)));
    if let Some(id) = tree.find(IMAGE_FILE.as_bytes()) {
        let run = run_file(tree, id).with_context(|| IMAGE_FILE.to_owned())?;
        facts.push(("runs", run));
    }
    Ok(facts)
}

fn counts(tree: &Tree) -> Vec<(&'static str, String)> {
    let count =
        |is: fn(&Kind) -> bool| tree.nodes().filter(|node| is(&node.kind)).count().to_string();
    let bytes: u64 = tree.nodes().fold(0, |sum, node| match &node.kind {
        Kind::File(content) => sum.saturating_add(content.size()),
        _ => sum,
    });
    vec![
        ("directories", count(|kind| matches!(kind, Kind::Directory(_)))),
        ("files", count(|kind| matches!(kind, Kind::File(_)))),
        ("links", count(|kind| matches!(kind, Kind::Symlink(_)))),
        (
            "others",
            count(|kind| !matches!(kind, Kind::Directory(_) | Kind::File(_) | Kind::Symlink(_))),
        ),
        ("contents", format!("{bytes} bytes")),
    ]
}

/// Versions of the kernels whose modules are in the tree. With a merged /usr both
/// directories of [`MODULES`] are the same one.
fn kernels(tree: &Tree) -> impl Iterator<Item = String> {
    let mut directories: Vec<_> =
        MODULES.iter().filter_map(|path| tree.resolve(path.as_bytes()).ok()).collect();
    directories.dedup();
    let names = directories.into_iter().filter_map(|id| tree.children(id));
    names.flat_map(|children| children.keys().map(|name| show(name)))
}

/// Describes the command of the run file at `id`.
fn run_file(tree: &Tree, id: image::tree::Id) -> Result<String> {
    let Kind::File(content) = &tree.node(id).kind else {
        return Ok("nothing: it is no file".into());
    };
    let mut text = Vec::new();
    content.open()?.take(settings::MAX as u64).read_to_end(&mut text)?;
    let request = settings::Command::parse(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let quoted = |bytes: &[u8]| format!("\"{}\"", show(bytes));
    let words = request.args.iter().map(|word| quoted(word.to_bytes()));
    let mut parts = vec![words.collect::<Vec<_>>().join(" ")];
    parts.extend(request.env.iter().map(|pair| format!("with {}", quoted(pair.to_bytes()))));
    parts.extend(request.cwd.map(|dir| format!("in {}", quoted(dir.to_bytes()))));
    parts.extend(request.user.map(|user| format!("as {}", quoted(user))));
    parts.extend(match request.restart {
        Restart::No => None,
        Restart::OnFailure => Some("again after a failure".into()),
        Restart::Always => Some("again and again".into()),
    });
    Ok(parts.join(", "))
}
