//! The line with which `chrootvm image build` ends.

use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use image::format::Format;
use image::tree::{Tree, file_length};
use indicatif::HumanBytes;

/// From this ratio on, the image is larger only because of the format's own data.
const PERCENT_MAX: u128 = 1000;

/// Amounts that a build has read and written.
#[derive(Debug)]
pub(in crate::image_command) struct Summary {
    format: Format,
    /// Number of files of any kind.
    files: usize,
    /// Bytes of the contents of all files.
    contents: u64,
    /// Bytes of the image; `None` if it is a directory, or went into a pipe.
    written: Option<u64>,
}

impl Summary {
    /// The summary of an image of `tree`, in `file` unless that is a directory.
    pub(in crate::image_command) fn new(tree: &Tree, format: Format, file: Option<&File>) -> Self {
        let is_file = |file: &&File| file.metadata().is_ok_and(|found| found.is_file());
        Self {
            format,
            files: tree.nodes().count(),
            contents: tree.size(),
            written: file.filter(is_file).and_then(|file| file_length(file).ok()),
        }
    }

    /// The line about an image `output` that took this `time`.
    pub(in crate::image_command) fn line(&self, output: &Path, time: Duration) -> String {
        let Self { format, files, contents, written } = self;
        let mut line =
            format!("{}: {format}, {files} files, {}", output.display(), HumanBytes(*contents));
        if let Some(written) = written {
            let _ = write!(line, " in, {} out", HumanBytes(*written)); // a String takes all
            let percent = (u128::from(*written) * 100).checked_div((*contents).into());
            if let Some(percent) = percent.filter(|percent| *percent < PERCENT_MAX) {
                let _ = write!(line, " ({percent} %)"); // a String takes all
            }
        }
        line + &format!(", {:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_sizes_and_their_ratio() {
        let time = Duration::from_millis(1234);
        #[rustfmt::skip]
        let cases = [
            (3 << 20, Some(1 << 20), "x: erofs, 7 files, 3.00 MiB in, 1.00 MiB out (33 %), 1.23 s"),
            (0,       Some(4096),    "x: erofs, 7 files, 0 B in, 4.00 KiB out, 1.23 s"),
            (3,       Some(4096),    "x: erofs, 7 files, 3 B in, 4.00 KiB out, 1.23 s"),
            (512,     None,          "x: erofs, 7 files, 512 B, 1.23 s"),
        ];
        for (contents, written, expected) in cases {
            let summary = Summary { format: Format::Erofs, files: 7, contents, written };
            assert_eq!(summary.line("x".as_ref(), time), expected);
        }
    }
}
