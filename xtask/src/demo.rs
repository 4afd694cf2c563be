//! `cargo xtask demo`: boots a stock kernel on a busybox root, and shows the console.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use files::tell;
use machine::running::script::shell_line;

use crate::{guest, programs, testbed, workspace};

/// Boot a stock kernel on a busybox root and show what the guest prints
#[derive(Debug, clap::Args)]
pub struct Demo {}

/// Line that the guest prints at the end of a successful demo.
const MARKER: &str = "demo: the guest is done";

/// Script that becomes PID 1. It does not contain [`MARKER`] itself: only running the
/// script prints the marker.
const SCRIPT: &str = "#!/bin/sh
echo \"Hello from $(uname -sr), PID $$ of a machine whose disk is a directory.\"
mount
echo \"$(echo demo): the guest is done\"
poweroff -f
";

impl Demo {
    /// Runs the demo. It succeeds only if the guest printed the marker.
    pub fn run(self) -> Result<()> {
        let tree = workspace::root()?;
        let init = guest::build()?;
        programs::build()?;
        let kernel = testbed::kernel(&tree)?;
        let root = testbed::dir(&tree)?.join("demo-root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
        }
        testbed::make_root(&root, &testbed::busybox()?, &[("bin/demo", SCRIPT)])?;

        let mut words = vec![OsString::from("scripts/chrootvm")];
        words.extend(["--kernel".into(), kernel.image.into(), "--modules".into()]);
        words.extend([kernel.modules.into(), root.into(), "demo".into()]);
        tell::result(format_args!("{}\n", shell_line(&words).display()))?;
        let mut command = Command::new(programs::chrootvm()?);
        command.arg("--init").arg(&init).args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut vm = command.spawn().context("start chrootvm")?;
        let console = vm.stdout.take().context("no console")?;
        let mut said_so = false;
        for line in BufReader::new(console).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(line.trim_ascii_end());
            let _ = writeln!(std::io::stdout(), "  {line}"); // the machine must be read to its end
            said_so |= line == MARKER;
        }
        let status = vm.wait()?;
        if !status.success() || !said_so {
            bail!("the guest did not say \"{MARKER}\" and power off ({status})");
        }
        tell::result("The machine booted, ran its program and powered off.\n")
    }
}
