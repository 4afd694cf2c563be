//! `strategy` and `[filesystem]` of fledge → `[[output]]`.

use std::path::PathBuf;

use super::Strategy;
use crate::convert::source::{Table, Value};
use crate::model::{Mistake, Output};

/// Formats of a disk, by the same names in both; the first one is the default.
const DISKS: &[&str] = &["squashfs", "ext4", "xfs", "btrfs"];

/// Compression of an initramfs: fledge packs by `gzip -9`.
const GZIP: &str = "gzip:9";

/// Level of a squashfs if none or 0 is given.
const LEVEL: u32 = 15;

/// Highest level of a squashfs.
const LEVEL_MAX: u32 = 22;

/// Free space of a disk in percent of its contents, if none or 0 is given.
const SLACK: u32 = 25;

/// Name of a file that has no other name.
const NAME: &str = "plugin";

/// Why a key of a file system means nothing for squashfs.
const FITTING: &str = "squashfs is read-only and as large as its contents";

/// Converts the table. The caller names the file.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(
    filesystem: Option<Value<'_>>,
    strategy: Strategy,
) -> Result<Output, Mistake> {
    match (strategy, filesystem) {
        (Strategy::Initramfs, filesystem) => {
            if let Some(filesystem) = filesystem {
                filesystem.note("fledge reads it for oci_rootfs only");
            }
            let compress = Some(GZIP.to_owned());
            Ok(Output { compress, ..Output::default() })
        }
        (Strategy::Disk, None) => Ok(squashfs(LEVEL)),
        (Strategy::Disk, Some(filesystem)) => disk(filesystem.table()?),
    }
}

fn disk(mut table: Table<'_>) -> Result<Output, Mistake> {
    let kind = table.take("type").filter(|kind| kind.text() != Ok(""));
    let name = kind.as_ref().map_or(Ok(""), Value::text)?;
    let format = DISKS.iter().find(|known| **known == name).copied();
    let format = match (format, kind) {
        (Some(format), _) => format,
        (None, None) => "squashfs",
        (None, Some(kind)) => {
            return Err(kind.mistake(&format!("must be one of {}", DISKS.join(", "))));
        }
    };
    let level = table.take("compression_level");
    let overlay = table.take("overlay_size");
    let free = table.take("size_buffer_mb");
    let preallocate = table.take("preallocate");
    let output = if format == "squashfs" {
        let given = level.as_ref().map_or(Ok(0), |level| level.number(0..=LEVEL_MAX))?;
        for value in [free, preallocate].into_iter().flatten() {
            value.note(FITTING);
        }
        if let Some(overlay) = overlay {
            let size = overlay.text()?;
            overlay.note(&format!(
                "whoever boots the image chooses: --overlay of chrootvm, or virtinit.overlay on \
                 the kernel command line, mounts a tmpfs over it (here {size})"
            ));
        }
        squashfs(if given == 0 { LEVEL } else { given })
    } else {
        for value in [level, overlay].into_iter().flatten() {
            value.note("means something for squashfs only");
        }
        if let Some(free) = free
            && free.number(0..=u32::MAX)? != 0
        {
            free.note(&format!("free space is in percent here: slack = \"{SLACK}%\", or size"));
        }
        if let Some(preallocate) = preallocate
            && preallocate.flag()?
        {
            preallocate.note("files are sparse; fallocate(1) fills the holes");
        }
        let format = Some(format.to_owned());
        Output { format, slack: Some(SLACK), ..Output::default() }
    };
    table.finish();
    Ok(output)
}

/// fledge's levels are those of zstd.
fn squashfs(level: u32) -> Output {
    let format = Some("squashfs".to_owned());
    Output { format, compress: Some(format!("zstd:{level}")), ..Output::default() }
}

/// The file of an output for a recipe with this name.
pub(super) fn file(name: Option<&str>, output: &Output) -> PathBuf {
    let ending = output.format.as_deref().unwrap_or("cpio.gz");
    PathBuf::from(format!("{}.{ending}", name.unwrap_or(NAME)))
}
