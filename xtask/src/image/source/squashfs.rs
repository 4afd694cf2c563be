//! A squashfs image as a [`Tree`], by way of sqfs2tar(1) of squashfs-tools-ng.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{spool, tar};
use crate::host;
use crate::image::notes::Notes;
use crate::image::tree::Tree;

/// What unpacks to a stream, and where to get it.
const TOOL: &str = "sqfs2tar";
const HINT: &str = "sqfs2tar not found in PATH: install the package squashfs-tools-ng";

/// The image's files, which are unpacked once.
///
/// # Errors
/// Where the tool is missing, or what it says.
pub fn read(image: &Arc<File>, notes: &mut Notes) -> Result<Tree> {
    let program = host::find_program(TOOL.as_ref()).context(HINT)?;
    let archive = spool(|out| {
        let mut child = Command::new(program)
            // With an entry for the root.
            .args(["--root-becomes", "."])
            .arg(format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {TOOL}"))?;
        let copied = child.stdout.take().map(|mut stdout| std::io::copy(&mut stdout, out));
        let output = child.wait_with_output().with_context(|| format!("wait for {TOOL}"))?;
        copied.transpose()?;
        let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        ensure!(output.status.success(), "{TOOL}: {}", words.escape_debug());
        Ok(())
    })?;
    tar::read(&Arc::new(archive), notes)
}
