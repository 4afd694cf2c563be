//! `cargo xtask ls`: lists the members of an initrd.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use archive::newc::{Entry, entries};
use archive::spool::spool;
use files::tell;

/// List the members of an initrd, compressed or not
#[derive(Debug, clap::Args)]
pub struct ListInitrd {
    /// The archive; - is standard input
    file: PathBuf,
}

impl ListInitrd {
    /// Prints a line for each member.
    pub fn run(self) -> Result<()> {
        let name = self.file.display();
        let file = match self.file.as_os_str() == "-" {
            true => spool(|out| Ok(std::io::copy(&mut std::io::stdin().lock(), out).map(drop)?)),
            false => File::open(&self.file).map_err(Into::into),
        };
        let file = file.with_context(|| format!("read {name}"))?;
        let entries =
            entries(&file.into()).with_context(|| format!("{name} is no whole initrd"))?;
        let lines: String = entries.iter().map(|entry| line(entry) + "\n").collect();
        tell::result(lines)
    }
}

/// A line as `ls -ln` prints it, without the time.
fn line(entry: &Entry) -> String {
    let Entry { name, mode, uid, gid, nlink, size } = entry;
    // Names come from the archive. Control characters must not reach the terminal.
    let name = name.escape_debug();
    format!("{} {nlink:3} {uid:5} {gid:5} {size:9} {name}", mode_string(*mode))
}

/// The mode of a file as ls(1) writes it, such as `drwxr-xr-x`; `mode` is `st_mode` of
/// inode(7).
pub(crate) fn mode_string(mode: u32) -> String {
    let kind = match mode >> 12 {
        0o01 => 'p',
        0o02 => 'c',
        0o04 => 'd',
        0o06 => 'b',
        0o10 => '-',
        0o12 => 'l',
        0o14 => 's',
        _ => '?',
    };
    let bit = |shift: u32, letter: char| if mode >> shift & 1 == 1 { letter } else { '-' };
    // A set-id or sticky bit is shown in place of the `x` of its class.
    let special =
        |shift: u32, class: u32, letter: char| match (mode >> shift & 1, mode >> class & 1) {
            (0, _) => bit(class, 'x'),
            (_, 1) => letter,
            _ => letter.to_ascii_uppercase(),
        };
    [
        kind,
        bit(8, 'r'),
        bit(7, 'w'),
        special(11, 6, 's'),
        bit(5, 'r'),
        bit(4, 'w'),
        special(10, 3, 's'),
        bit(2, 'r'),
        bit(1, 'w'),
        special(9, 0, 't'),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_like_those_of_ls() {
        for (mode, text) in [
            (0o100_755, "-rwxr-xr-x"),
            (0o040_700, "drwx------"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o041_777, "drwxrwxrwt"),
            (0o020_600, "crw-------"),
        ] {
            assert_eq!(mode_string(mode), text);
        }
    }
}
