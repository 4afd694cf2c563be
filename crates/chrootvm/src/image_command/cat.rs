//! `chrootvm image cat`: writes one file of an image to standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use files::output::stdout;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::options::reading;
use super::sources::Sources;
use crate::pull::PullArguments;
pub(super) use image::tree::holes::{self, Part};
use image::tree::{Content, Kind};

/// Size of the block of zeros that stands for holes in a pipe, in bytes.
const ZEROS: usize = 1 << 16;

/// Write a file of an image to standard output
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image cat debian.erofs /etc/os-release")]
pub(super) struct CatFile {
    /// Directory, archive or image; - is standard input
    image: OsString,
    /// Path in the image; links are followed within the image
    path: PathBuf,
    #[command(flatten)]
    pull: PullArguments,
}

impl CatFile {
    /// Writes the file.
    pub(super) fn run(self) -> Result<()> {
        let sources = Sources::new(&[&self.image], &[], reading(), &self.pull)?;
        let tree = sources.read(&self.image)?.tree;
        let shown = || format!("{} in {}", self.path.display(), self.image.display());
        let id = tree.resolve(self.path.as_os_str().as_bytes()).with_context(shown)?;
        let Kind::File(content) = &tree.node(id).kind else {
            bail!("{}: not a regular file", shown());
        };
        write(content, stdout()?).with_context(shown)
    }
}

/// Writes `content` to `out`; if `out` is a regular file, holes stay holes.
fn write(content: &Content, mut out: File) -> Result<()> {
    let flags = fcntl(&out, FcntlArg::F_GETFL).context("standard output")?;
    let appends = OFlag::from_bits_retain(flags).contains(OFlag::O_APPEND);
    let may_skip = out.metadata()?.is_file() && !appends;
    let zeros = vec![0; ZEROS];
    holes::for_parts(content, &mut |part| {
        match part {
            Part::Data(bytes) => out.write_all(bytes)?,
            Part::Hole(count) if may_skip => skip(&mut out, count)?,
            Part::Hole(mut count) => {
                while count > 0 {
                    let some = usize::try_from(count).unwrap_or(ZEROS).min(ZEROS);
                    out.write_all(&zeros[..some])?;
                    count -= some as u64;
                }
            }
        }
        Ok(())
    })
}

/// Makes the next `count` bytes of `out` zeros. Bytes before the end of the file are
/// overwritten; behind the end, a hole follows.
fn skip(out: &mut File, count: u64) -> Result<()> {
    let start = out.stream_position()?;
    let end = start.checked_add(count).context("the file would be too long")?;
    let length = out.metadata()?.len();
    if start < length {
        let old = length.min(end) - start;
        std::io::copy(&mut std::io::repeat(0).take(old), out)?;
    }
    if end > length {
        out.set_len(end)?;
    }
    out.seek(SeekFrom::Start(end))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    #[test]
    fn holes_reach_a_file_as_holes() {
        const SIZE: u64 = 1 << 40;
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(SIZE).unwrap();
        sparse.write_all_at(b"data", 1 << 30).unwrap();
        let content = Content::Part { archive: Arc::new(sparse), offset: 0, size: SIZE };
        let out = tempfile::tempfile().unwrap();
        out.write_all_at(&[1; 5000], 0).unwrap();
        write(&content, out.try_clone().unwrap()).unwrap();
        let mut start = [1; 5000];
        out.read_exact_at(&mut start, 0).unwrap();
        let mut data = [0; 6];
        out.read_exact_at(&mut data, (1 << 30) - 1).unwrap();
        assert_eq!((out.metadata().unwrap().len(), &data), (SIZE, b"\0data\0"));
        assert!(start == [0; 5000]);
    }
}
