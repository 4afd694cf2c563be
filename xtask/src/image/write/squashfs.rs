//! A squashfs image from a [`Tree`], by way of sqfstar(1) of squashfs-tools 4.5.
//!
//! The tool reads our tar archive from a pipe, and sees nothing else.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{BUFFER, tar};
use crate::host;
use crate::image::notes::Notes;
use crate::image::tree::{Meta, Tree};

/// What packs a stream, and where to get it.
const TOOL: &str = "sqfstar";
const HINT: &str =
    "sqfstar not found in PATH: install the package squashfs-tools (4.5 or newer), or choose erofs";

/// Options without a value; the file is there already, and empty.
const FLAGS: [&str; 3] = ["-force", "-no-progress", "-quiet"];

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
    fn arguments(&self, root: &Meta) -> Vec<String> {
        // All that the root's tar entry tells but its extended attributes is not taken.
        let root_time = root.mtime.clamp(0, u32::MAX.into());
        let fixed = [
            ("-mkfs-time", Some(self.mtime.to_string())),
            ("-root-time", Some(root_time.to_string())),
            ("-root-mode", Some(format!("{:o}", root.permissions))),
            ("-root-uid", Some(root.uid.to_string())),
            ("-root-gid", Some(root.gid.to_string())),
            ("-comp", self.compressor.clone()),
            ("-Xcompression-level", self.level.map(|level| level.to_string())),
            ("-b", self.block_size.map(|size| size.to_string())),
            ("-processors", Some(self.threads.to_string())),
        ];
        let words = fixed.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
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
        .args(options.arguments(&tree.node(Tree::ROOT).meta))
        .arg(format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd()))
        // It would be a second time beside that of the options.
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
