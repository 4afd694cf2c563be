//! Facts about a directory, an archive or a disk image.

use std::io::Read;

use anyhow::{Context, Result};
use archive::bytes::At;
use image::format::Format;
use image::source::Source;
use image::tree::{Id, Kind, Tree, file_length, show};
use proto::settings::restart::Restart;
use proto::settings::{self, IMAGE_FILE};
use proto::superblock;
use serde::Serialize;

use super::super::options::show_uuid;
use super::Line;

/// Directories with the modules of kernels, a directory for each version (depmod(8)).
const MODULES: &[&str] = &["usr/lib/modules", "lib/modules"];

/// What there is to say about a source that is no OCI image.
#[derive(Debug, Serialize)]
pub(super) struct PlainFacts {
    /// Format, such as `erofs` or `tar, gzip`.
    format: String,
    /// Bytes of the file; `None` for a directory.
    size: Option<u64>,
    /// UUID of the file system.
    uuid: Option<String>,
    /// Label of the file system.
    label: Option<String>,
    /// Number of directories, with the root.
    directories: usize,
    /// Number of regular files.
    files: usize,
    /// Number of symbolic links.
    links: usize,
    /// Number of other files.
    others: usize,
    /// Bytes of the contents of all files.
    contents: u64,
    /// Versions of the kernels that have modules in it.
    kernels: Vec<String>,
    /// Description of the workload.
    runs: Option<String>,
}

impl PlainFacts {
    /// Looks at `source`.
    ///
    /// # Errors
    /// A file that cannot be read; a damaged run file.
    pub(super) fn of(source: &Source) -> Result<Self> {
        let Source { tree, format, file } = source;
        let (mut uuid, mut label) = (None, None);
        if format.file_system().is_some() {
            let mut head = Vec::new();
            At { file, offset: 0 }.take(superblock::HEAD as u64).read_to_end(&mut head)?;
            if let Some(found) = superblock::identify(&head) {
                uuid = found.uuid.map(show_uuid);
                label = (!found.label.is_empty()).then(|| show(found.label));
            }
        }
        let count = |is: fn(&Kind) -> bool| tree.nodes().filter(|node| is(&node.kind)).count();
        let run_file = tree.find(IMAGE_FILE.as_bytes());
        let runs =
            run_file.map(|id| run_file_text(tree, id).with_context(|| IMAGE_FILE.to_owned()));
        Ok(Self {
            format: format.to_string(),
            size: if *format == Format::Dir { None } else { Some(file_length(file)?) },
            uuid,
            label,
            directories: count(|kind| matches!(kind, Kind::Directory(_))),
            files: count(|kind| matches!(kind, Kind::File(_))),
            links: count(|kind| matches!(kind, Kind::Symlink(_))),
            others: count(|kind| {
                !matches!(kind, Kind::Directory(_) | Kind::File(_) | Kind::Symlink(_))
            }),
            contents: tree.size(),
            kernels: kernels(tree).collect(),
            runs: runs.transpose()?,
        })
    }

    /// The facts for people.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = vec![("format", self.format.clone())];
        lines.extend(self.size.map(|size| ("size", format!("{size} bytes"))));
        lines.extend(self.uuid.clone().map(|uuid| ("uuid", uuid)));
        lines.extend(self.label.clone().map(|label| ("label", label)));
        lines.extend([
            ("directories", self.directories.to_string()),
            ("files", self.files.to_string()),
            ("links", self.links.to_string()),
            ("others", self.others.to_string()),
            ("contents", format!("{} bytes", self.contents)),
        ]);
        lines.extend(self.kernels.iter().map(|version| ("kernel", version.clone())));
        lines.extend(self.runs.clone().map(|runs| ("runs", runs)));
        lines
    }
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
fn run_file_text(tree: &Tree, id: Id) -> Result<String> {
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
    parts.extend(request.stop_signal.map(|number| format!("stopped by signal {number}")));
    parts.extend(request.image_volumes.iter().map(|path| format!("writing to {}", quoted(path))));
    if !request.health.args.is_empty() {
        let words = request.health.args.iter().map(|word| quoted(word.to_bytes()));
        parts.push(format!("checked by {}", words.collect::<Vec<_>>().join(" ")));
    }
    parts.extend(match request.restart.when {
        Restart::No => None,
        Restart::OnFailure => Some("again after a failure".into()),
        Restart::Always => Some("again and again".into()),
    });
    parts.extend(request.restart.max.map(|max| format!("again at most {max} times")));
    Ok(parts.join(", "))
}
