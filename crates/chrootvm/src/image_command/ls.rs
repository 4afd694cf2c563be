//! `chrootvm image ls`: lists the names in an image.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};

use anyhow::Result;
use files::output::stdout;
use image::tree::{Kind, Node, mode, show};

use super::options::reading;
use super::sources::Sources;
use crate::ls::mode_string;
use crate::pull::PullArguments;

/// List an image, whatever its format
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image ls debian.erofs")]
pub(super) struct ListImage {
    /// Directory, archive or image; - is standard input
    image: OsString,
    #[command(flatten)]
    pull: PullArguments,
}

impl ListImage {
    /// Prints one line per name.
    pub(super) fn run(self) -> Result<()> {
        let sources = Sources::new(&[&self.image], &[], reading(), &self.pull)?;
        let tree = sources.read(&self.image)?.tree;
        let mut out = BufWriter::new(stdout()?);
        tree.walk(&mut |path, id| {
            let path = if path.is_empty() { b"." } else { path };
            Ok(writeln!(out, "{}", line(path, tree.node(id)))?)
        })?;
        Ok(out.flush()?)
    }
}

/// A line as `ls -ln` prints it, without the time. Characters in names that would steer
/// a terminal are escaped.
#[must_use]
pub fn line(path: &[u8], node: &Node) -> String {
    let (meta, names) = (&node.meta, node.names);
    let size = match &node.kind {
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            format!("{major}, {minor}")
        }
        Kind::File(content) => content.size().to_string(),
        Kind::Symlink(target) => target.len().to_string(),
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => "0".into(),
    };
    let (mode, path) = (mode_string(mode(node)), show(path));
    let mut line = format!("{mode} {names:3} {:5} {:5} {size:>9} {path}", meta.uid, meta.gid);
    if let Kind::Symlink(target) = &node.kind {
        let _ = write!(line, " -> {}", show(target)); // a String takes all
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::tree::Meta;

    #[test]
    fn control_characters_in_names_are_escaped() {
        let meta = Meta { permissions: 0o777, uid: 1, gid: 2, ..Meta::default() };
        let node = |kind| Node { meta: meta.clone(), kind, names: 1 };
        for (kind, expected) in [
            (
                Kind::Symlink(b"a\x1b".as_slice().into()),
                "lrwxrwxrwx   1     1     2         2 b\\n -> a\\u{1b}",
            ),
            (Kind::CharDevice(4, 64), "crwxrwxrwx   1     1     2     4, 64 b\\n"),
        ] {
            assert_eq!(line(b"b\n", &node(kind)), expected);
        }
    }
}
