//! A squashfs image from a [`Tree`], by way of tar2sqfs(1) of squashfs-tools-ng.
//!
//! The tool reads our tar archive from a pipe, and sees nothing else. (sqfstar(1) of
//! squashfs-tools 4.5 gives the root the time of the day.)

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::copier::BUFFER;
use super::tar;
use crate::host;
use crate::image::notes::Notes;
use crate::image::tree::Tree;

/// What packs a stream, and where to get it.
const TOOL: &str = "tar2sqfs";
const HINT: &str =
    "tar2sqfs not found in PATH: install the package squashfs-tools-ng, or choose erofs";

/// Give up where an entry is not understood, write to the file that is there, and
/// say nothing.
const FLAGS: [&str; 3] = ["--no-skip", "--force", "--quiet"];

/// What every kernel with squashfs unpacks, and its usual level: the tool's own, 9,
/// takes four times as long for a Debian and saves a third of a percent.
const COMPRESSOR: &str = "gzip";
const GZIP_LEVEL: i32 = 6;

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Such as `zstd`; the tool knows which it has.
    pub compressor: Option<String>,
    /// Of the compressor.
    pub level: Option<i32>,
    /// Bytes of a block.
    pub block_size: Option<u64>,
    /// Processors to use.
    pub threads: u32,
    /// The time of the image, in seconds since 1970.
    pub mtime: u32,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let compressor = self.compressor.clone().unwrap_or_else(|| COMPRESSOR.into());
        let level = self.level.or_else(|| (compressor == COMPRESSOR).then_some(GZIP_LEVEL));
        let options = [
            ("--defaults", Some(format!("mtime={}", self.mtime))),
            ("--compressor", Some(compressor)),
            ("--comp-extra", level.map(|level| format!("level={level}"))),
            ("--block-size", self.block_size.map(|size| size.to_string())),
            ("--num-jobs", Some(self.threads.to_string())),
        ];
        let words = options.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        words.flatten().chain(FLAGS.map(Into::into)).collect()
    }
}

/// Writes all of `tree` to `out`, an empty file.
///
/// # Errors
/// Where the tool is missing, or what it says.
pub fn write(tree: &Tree, options: &Options, out: &File, notes: &mut Notes) -> Result<()> {
    let program = host::find_program(TOOL.as_ref()).context(HINT)?;
    let mut child = Command::new(program)
        .args(options.arguments())
        .arg(format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd()))
        // The options say it.
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {TOOL}"))?;
    let written = child.stdin.take().map(|stdin| {
        let mut stdin = BufWriter::with_capacity(BUFFER, stdin);
        tar::write(tree, &mut stdin, notes)?;
        Ok(stdin.into_inner().map(drop)?)
    });
    let output = child.wait_with_output().with_context(|| format!("wait for {TOOL}"))?;
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    match written.unwrap_or(Ok(())) {
        // Where the tool gave up, its words tell more than the broken pipe.
        Err(error) if output.status.success() || words.is_empty() => Err(error),
        Err(_) => bail!("{TOOL}: {}", words.escape_debug()),
        Ok(()) => {
            ensure!(output.status.success(), "{TOOL}: {}", words.escape_debug());
            Ok(())
        }
    }
}
