//! Format and compression of the image that `chrootvm image build` writes.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use archive::compress::{Compression, Encoder, Method};
use files::notes::Notes;
use files::output::Output;
use image::format::{self, Format};
use image::progress::Progress;
use image::tree::Tree;
use image::write::disk::{self, DiskOptions};
use image::write::{cpio, dir, tar};

use super::super::options::parse_uuid;
use super::mkfs::{self, MkfsOptions};
use super::oci_archive::{self, ImageParts};
use super::summary::Summary;
use crate::line::sizes::{parse_percent, parse_size};

/// Size of the buffer before an output file, in bytes.
const BUFFER: usize = 1 << 18;

/// Format, compression, and what else only some formats have
#[derive(Debug, clap::Args)]
pub(in crate::image_command) struct FormatOptions {
    /// Format [default: by the ending of FILE]
    ///
    /// FORMAT is cpio, tar, erofs, ext4, squashfs, dir or oci, an OCI image that others can push.
    /// btrfs, xfs and vfat need the programs of the distribution that make them.
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<Format>,
    /// Compression [default: by the ending of FILE]
    ///
    /// METHOD is none, gzip, zstd, xz, lz4 or, for erofs, lz4hc. With a higher LEVEL, it tries
    /// harder. By default, erofs is compressed with lz4, squashfs and the layers of oci with gzip.
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    compress: Option<Method>,
    /// Number of threads that compress; it does not change the image [default: one for each
    /// processor]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    /// Number of bytes that squashfs and erofs compress at a time [default: 128k and 4k]
    ///
    /// With more bytes, the image is smaller, and reading a part of a file takes longer.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = parse_size)]
    cluster_size: Option<u64>,
    /// Size of an ext4, btrfs, xfs or vfat image [default: as needed]
    ///
    /// SIZE is a number of bytes, or a number with a suffix, such as 512M.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = parse_size, conflicts_with = "slack")]
    size: Option<u64>,
    /// Free space of such an image, in percent of the used space [default: 10, and 16 MiB]
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = parse_slack)]
    slack: Option<u32>,
    /// UUID of an erofs, ext4, btrfs, xfs or vfat image [default: computed from the contents of the
    /// image]
    ///
    /// The volume ID of a vfat is the first 8 digits.
    #[arg(long, hide_short_help = true, value_name = "UUID", value_parser = parse_uuid)]
    uuid: Option<[u8; 16]>,
    /// Label of an erofs, ext4, btrfs, xfs or vfat image
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    label: Option<String>,
    /// One more argument for mkfs.btrfs, mkfs.xfs or mkfs.vfat; repeatable
    #[arg(long, hide_short_help = true, value_name = "ARG", allow_hyphen_values = true)]
    mkfs_arg: Vec<OsString>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    let others = || Format::BY_PROGRAMS.iter().copied().chain([Format::OciArchive]);
    let formats = || Format::KNOWN.iter().copied().chain(others());
    let names: Vec<_> = formats().map(Format::name).collect();
    let found = formats().find(|format| format.name() == text);
    found.ok_or_else(|| format!("one of {}", names.join(", ")))
}

fn parse_slack(text: &str) -> Result<u32, String> {
    /// Most free space of an image in percent: a hundred times what is used.
    const MAX: u32 = 10_000;
    let percent = parse_percent(text)?;
    if percent > MAX {
        return Err(format!("at most {MAX}%"));
    }
    Ok(percent)
}

impl FormatOptions {
    /// The options that an output of a recipe states.
    ///
    /// # Errors
    /// A value that is none of its option.
    pub(in crate::image_command) fn of_recipe(output: &recipe::Output) -> Result<Self> {
        let wrong = |name: &str, why: String| anyhow!("{name}: {why}");
        let format = output.format.as_deref().map(parse_format).transpose();
        let compress = output.compress.as_deref().map(str::parse::<Method>).transpose();
        let uuid = output.uuid.as_deref().map(parse_uuid).transpose();
        Ok(Self {
            format: format.map_err(|why| wrong("format", why))?,
            compress: compress.map_err(|why| wrong("compress", why.to_string()))?,
            threads: None,
            cluster_size: output.cluster_size,
            size: output.size,
            slack: output.slack,
            uuid: uuid.map_err(|why| wrong("uuid", why))?,
            label: output.label.clone(),
            mkfs_arg: output.mkfs_args.iter().map(Into::into).collect(),
        })
    }

    /// Whether an option of a format is given, besides the number of threads.
    pub(in crate::image_command) fn is_given(&self) -> bool {
        self.format.is_some()
            || self.compress.is_some()
            || self.cluster_size.is_some()
            || self.size.is_some()
            || self.slack.is_some()
            || self.uuid.is_some()
            || self.label.is_some()
            || !self.mkfs_arg.is_empty()
    }

    /// Chooses format and compression: by the options, or else by the name of `output`.
    ///
    /// # Errors
    /// Neither says the format; they contradict each other; an option is for another format.
    pub(in crate::image_command) fn choose(&self, output: &Path) -> Result<(Format, Method)> {
        let (format, method) = self.chosen(output)?;
        self.check_options(format)?;
        Ok((format, method))
    }

    fn chosen(&self, output: &Path) -> Result<(Format, Method)> {
        let named = format::by_name(output);
        let shown = output.display();
        let format = self.format.or(named).with_context(|| {
            format!("{shown}: which --format? Known endings are {}", format::endings())
        })?;
        let by_name = named.map(Format::compression).unwrap_or_default();
        let Some(method) = self.compress else {
            if format == Format::OciArchive {
                return Ok((format, oci_archive::USUAL));
            }
            let method = Method { compression: by_name, level: None };
            return Ok((format.compressed(by_name).unwrap_or(format), method));
        };
        let compression = method.compression;
        ensure!(
            by_name == Compression::None || by_name == compression,
            "{shown}: --compress {compression} and the name do not agree"
        );
        ensure!(format.takes(method), "--compress {method}: not for {}", format.name());
        Ok((format.compressed(compression).unwrap_or(format), method))
    }

    /// Refuses options that are for another format than `format`.
    fn check_options(&self, format: Format) -> Result<()> {
        use Format::{Erofs, Ext4, OtherDisk, Squashfs};
        let [btrfs, xfs, vfat] = ["btrfs", "xfs", "vfat"].map(OtherDisk);
        let rows: [(bool, &str, &[Format]); 6] = [
            (self.size.is_some(), "--size", &[Ext4, btrfs, xfs, vfat]),
            (self.slack.is_some(), "--slack", &[Ext4, btrfs, xfs, vfat]),
            (self.uuid.is_some(), "--uuid", &[Erofs, Ext4, btrfs, xfs, vfat]),
            (self.label.is_some(), "--label", &[Erofs, Ext4, btrfs, xfs, vfat]),
            (self.cluster_size.is_some(), "--cluster-size", &[Erofs, Squashfs]),
            (!self.mkfs_arg.is_empty(), "--mkfs-arg", Format::BY_PROGRAMS),
        ];
        for (is_given, name, formats) in rows {
            let is_for = !is_given || formats.contains(&format);
            ensure!(is_for, "{name} is for {}, not for {}", list(formats), format.name());
        }
        Ok(())
    }

    fn disk_options(&self, mtime: u32) -> DiskOptions {
        DiskOptions {
            uuid: self.uuid,
            label: self.label.clone().unwrap_or_default(),
            size: self.size,
            slack: self.slack,
            compress: self.compress,
            cluster_size: self.cluster_size,
            threads: self.threads(),
            mtime,
        }
    }

    fn mkfs_options(&self, mtime: u32) -> MkfsOptions {
        MkfsOptions {
            size: self.size,
            slack: self.slack,
            label: self.label.clone().unwrap_or_default(),
            uuid: self.uuid,
            arguments: self.mkfs_arg.clone(),
            time: mtime,
        }
    }

    fn threads(&self) -> u32 {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| u32::try_from(all()).unwrap_or(1))
    }

    /// Writes `tree` to the file or directory `output`; an OCI image also has `parts`.
    ///
    /// # Errors
    /// A file that cannot be read or written; a tree that the format cannot hold.
    pub(in crate::image_command) fn write(
        &self,
        (tree, parts): (&Tree, &ImageParts<'_>),
        (format, method): (Format, Method),
        output: &Path,
        mtime: u32,
        notes: &mut Notes,
    ) -> Result<Summary> {
        let message = output.display().to_string();
        let progress = match log::log_enabled!(log::Level::Info) {
            true => Progress::bar(tree, message.clone()),
            false => Progress::hidden(),
        };
        if format == Format::Dir {
            dir::write(tree, output, notes, &progress)?;
            return Ok(Summary::new(tree, format, None));
        }
        let output = Output::create(output)?;
        let file = &output.file;
        let written = match format {
            Format::Cpio(_) | Format::Tar(_) => {
                let file = BufWriter::with_capacity(BUFFER, file);
                let encoder = Encoder::new(file, method, self.threads())?;
                stream(tree, format, encoder, notes, &progress)
            }
            Format::OciArchive => {
                let method = (method, self.threads());
                let mut out = BufWriter::with_capacity(BUFFER, progress.wrap(file));
                let written = oci_archive::write(tree, parts, method, mtime, &mut out, notes);
                written.and_then(|()| Ok(out.flush()?))
            }
            Format::OtherDisk(_) => {
                mkfs::write(tree, format, &self.mkfs_options(mtime), file, notes, &progress)
            }
            _ => disk::write(tree, format, &self.disk_options(mtime), file, notes, &progress),
        };
        written.with_context(|| format!("write {message}"))?;
        let summary = Summary::new(tree, format, Some(file));
        output.commit()?;
        Ok(summary)
    }
}

/// Names of `formats`, as a list in a sentence.
fn list(formats: &[Format]) -> String {
    let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
    match names.split_last() {
        Some((last, others @ [_, ..])) => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// Writes `tree` as an archive, and compresses it on the way.
fn stream(
    tree: &Tree,
    format: Format,
    mut encoder: Encoder<impl Write>,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, progress.wrap(&mut encoder));
    match format {
        Format::Cpio(_) => cpio::write(tree, &mut out, notes)?,
        _ => tar::write(tree, &mut out, notes)?,
    }
    out.flush()?;
    drop(out);
    Ok(encoder.finish()?.flush()?)
}
