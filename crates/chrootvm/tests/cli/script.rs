//! Scripts that stand for other programs.

use std::path::Path;
use std::process::Command;

/// Says that it has the options of virtiofsd, whatever it is asked.
pub(crate) const VIRTIOFSD: &str = "#!/bin/sh\necho --shared-dir --readonly\n";

/// Writes an executable file. Another process writes it: while a program that another test starts
/// has a copy of our descriptors, the kernel executes no file that we write (ETXTBSY).
pub(crate) fn write(path: &Path, text: &str) {
    let write = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    let status = Command::new("sh").arg("-c").arg(write).arg(path).arg(text).status();
    assert!(status.unwrap().success(), "write {}", path.display());
}
