//! `chrootvm image build`: makes an image of a directory, an archive or another image.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, Encoder, Method};
use archive::source_date_epoch;
use files::notes::Notes;
use files::output::{self, Output};
use files::root_dir::RootDir;
use image::edit::inject::{self, Workload};
use image::format::{self, Format};
use image::progress::Progress;
use image::source::{FileId, ReadOptions, Source};
use image::tree::Tree;
use image::write::disk::{self, DiskOptions};
use image::write::{cpio, dir, tar};
use machine::host::absolute;
use machine::kernel::initrd::find_init;
use machine::kernel::installed;
use machine::kernel::pack;
use proto::settings::Restart;

use super::options::{ReadArguments, parse_absolute, parse_pair, parse_restart, parse_uuid};
use super::see_owners_as_the_guest;
use crate::line::sizes::{parse_percent, parse_size};
use crate::logger::warn_all;

/// Size of the buffer before an output file, in bytes.
const BUFFER: usize = 1 << 18;

/// Make an image of a directory or an archive
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm image build [OPTIONS] SOURCE -o FILE\n       \
                      chrootvm image build [OPTIONS] SOURCE -o FILE --run -- COMMAND [ARG]...",
    before_help = "Examples:\n  \
                   chrootvm image build ./debian -o debian.erofs\n  \
                   chrootvm image build rootfs.tar.gz -o rootfs.ext4 --slack 50\n  \
                   chrootvm image build ./www -o www.erofs --init --run -- /bin/httpd -f",
    after_long_help = "Equal sources give equal bytes. SOURCE_DATE_EPOCH is the time of the image, \
                        and the latest of a file (default: 0, and as they are).\n\
                        A compressed archive is unpacked into a file in $TMPDIR."
)]
pub(super) struct BuildImage {
    /// Directory, archive or image; - is standard input
    source: PathBuf,
    /// File to write; - is standard output
    ///
    /// If it lies in SOURCE, the image leaves it out. An existing file is replaced, and the new one
    /// takes its permissions; a pipe or a device is written to directly.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Format [default: by the ending of FILE]
    ///
    /// FORMAT is cpio, tar, erofs, ext4, squashfs or dir.
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<Format>,
    /// Compression [default: by the ending of FILE]
    ///
    /// METHOD is none, gzip, zstd, xz, lz4 or, for erofs, lz4hc. With a higher LEVEL, it tries
    /// harder. By default, erofs is compressed with lz4 and squashfs with gzip.
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
    /// Size of an ext4 image [default: as needed]
    ///
    /// SIZE is a number of bytes, or a number with a suffix, such as 512M.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "slack")]
    size: Option<u64>,
    /// Free space of an ext4 image, in percent of the used space [default: 10, and 16 MiB]
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = parse_slack)]
    slack: Option<u32>,
    /// UUID of an erofs or ext4 image [default: computed from the contents of the image]
    #[arg(long, hide_short_help = true, value_name = "UUID", value_parser = parse_uuid)]
    uuid: Option<[u8; 16]>,
    /// Label of an erofs or ext4 image
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    label: Option<String>,
    /// Add /init, from FILE or the installed one
    ///
    /// Its path in the image is /init in a cpio archive, and /sbin/virtinit in other formats. A
    /// kernel can then boot the image without an initrd.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    init: Option<Option<PathBuf>>,
    /// Make COMMAND the workload of the image
    ///
    /// It is written to /etc/virtinit/run. /init runs it if neither chrootvm nor the kernel command
    /// line names another command.
    #[arg(long, requires = "command")]
    run: bool,
    /// Set a variable for COMMAND; repeatable
    #[arg(long, hide_short_help = true, value_name = "NAME=VALUE", requires = "run", value_parser = parse_pair)]
    env: Vec<OsString>,
    /// Directory in which COMMAND starts [default: /]
    #[arg(long, hide_short_help = true, value_name = "DIR", requires = "run", value_parser = parse_absolute)]
    workdir: Option<OsString>,
    /// User of COMMAND in the guest, a name or a number [default: root]
    #[arg(long, hide_short_help = true, value_name = "USER[:GROUP]", requires = "run")]
    user: Option<OsString>,
    /// Whether COMMAND starts again after its end: no, on-failure or always
    #[arg(long, hide_short_help = true, value_name = "WHEN", requires = "run", default_value = "no",
          value_parser = parse_restart)]
    restart: Restart,
    /// Also write the initrd that a kernel with modules needs to boot a disk image
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    boot_initrd: Option<PathBuf>,
    /// Directory with the modules for that initrd [default: those of the newest kernel in SOURCE]
    #[arg(long, hide_short_help = true, value_name = "DIR", requires = "boot_initrd")]
    kernel_modules: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadArguments,
    /// Command of --run, and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "run")]
    command: Vec<OsString>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    let names: Vec<_> = Format::KNOWN.iter().map(|format| format.name()).collect();
    let found = Format::KNOWN.iter().find(|format| format.name() == text);
    found.copied().ok_or_else(|| format!("one of {}", names.join(", ")))
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

impl BuildImage {
    /// Writes the image, then the initrd of `--boot-initrd`. `init_path` is the `/init`
    /// to use unless `--init` names one.
    pub(super) fn run(self, init_path: Option<PathBuf>) -> Result<()> {
        let (format, method) = self.chosen()?;
        self.check_options(format)?;
        see_owners_as_the_guest(&[&self.source, &output::directory(&self.output)])?;
        let init_path = match &self.init {
            Some(Some(path)) => Some(path.clone()),
            _ => init_path,
        };
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let mtime = source_date_epoch(epoch.as_deref())?;
        let mut notes = Notes::default();
        let options = ReadOptions { left_out: self.outputs(), ..self.reading.options()? };
        let mut source = super::read(&self.source, &options, &mut notes)?;
        if self.init.is_some() {
            let init = pack::read_init(&find_init(init_path.as_deref())?)?;
            inject::init(&mut source.tree, format, init, mtime.into())?;
        }
        if self.run {
            inject::workload(&mut source.tree, &self.command_to_run(), mtime.into())?;
        }
        if epoch.is_some() {
            inject::clamp_times(&mut source.tree, mtime);
        }
        let initrd = match &self.boot_initrd {
            Some(_) => Some(self.initrd(&source, format, &find_init(init_path.as_deref())?)?),
            None => None,
        };
        self.write(&source.tree, format, method, mtime, &mut notes)?;
        warn_all(notes.lines());
        let count = source.tree.nodes().count();
        log::info!("{}: {format}, {count} files", self.output.display());
        match (&self.boot_initrd, initrd) {
            (Some(path), Some(bytes)) => output::write(path, &bytes),
            _ => Ok(()),
        }
    }

    fn write(
        &self,
        tree: &Tree,
        format: Format,
        method: Method,
        mtime: u32,
        notes: &mut Notes,
    ) -> Result<()> {
        let message = self.output.display().to_string();
        if format == Format::Dir {
            return dir::write(tree, &self.output, notes, &Progress::bar(tree, message));
        }
        let progress = Progress::bar(tree, message.clone());
        let output = Output::create(&self.output)?;
        let (file, name) = (&output.file, format!("write {message}"));
        let written = match format {
            Format::Cpio(_) | Format::Tar(_) => {
                let file = BufWriter::with_capacity(BUFFER, file);
                let encoder = Encoder::new(file, method, self.threads())?;
                stream(tree, format, encoder, notes, &progress)
            }
            _ => disk::write(tree, format, &self.disk_options(mtime), file, notes, &progress),
        };
        written.context(name)?;
        output.commit()
    }

    /// Output files that exist already. An earlier build may have left them in the source.
    fn outputs(&self) -> Vec<FileId> {
        let outputs = [Some(&self.output), self.boot_initrd.as_ref()].into_iter().flatten();
        let existing = outputs.filter_map(|path| output::existing(path));
        let may_hold = existing.filter(|found| found.is_file() || found.is_dir());
        may_hold.map(|found| FileId::of(&found)).collect()
    }

    /// Chooses format and compression: by the options, or else by the name of the output.
    fn chosen(&self) -> Result<(Format, Method)> {
        let named = format::by_name(&self.output);
        let shown = self.output.display();
        let format = self.format.or(named).with_context(|| {
            format!("{shown}: which --format? Known endings are {}", format::endings())
        })?;
        let by_name = named.map(Format::compression).unwrap_or_default();
        let Some(method) = self.compress else {
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
        use Format::{Erofs, Ext4, Squashfs};
        let rows: [(bool, &str, &[Format]); 5] = [
            (self.size.is_some(), "--size", &[Ext4]),
            (self.slack.is_some(), "--slack", &[Ext4]),
            (self.uuid.is_some(), "--uuid", &[Erofs, Ext4]),
            (self.label.is_some(), "--label", &[Erofs, Ext4]),
            (self.cluster_size.is_some(), "--cluster-size", &[Erofs, Squashfs]),
        ];
        for (is_given, name, formats) in rows {
            let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
            let is_for = !is_given || formats.contains(&format);
            ensure!(is_for, "{name} is for {}, not for {}", names.join(" and "), format.name());
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

    fn threads(&self) -> u32 {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| u32::try_from(all()).unwrap_or(1))
    }

    fn command_to_run(&self) -> Workload<'_> {
        Workload {
            args: self.command.iter().map(|word| word.as_bytes()).collect(),
            env: self.env.iter().map(|pair| pair.as_bytes()).collect(),
            cwd: self.workdir.as_ref().map(|dir| dir.as_bytes()),
            user: self.user.as_ref().map(|user| user.as_bytes()),
            restart: self.restart,
        }
    }

    /// Packs an initrd with the modules that find and mount a disk in `format`.
    fn initrd(&self, source: &Source, format: Format, init: &Path) -> Result<Vec<u8>> {
        let kind = format.file_system();
        let kind = kind.with_context(|| format!("--boot-initrd: {format} is no disk"))?;
        let modules = ["virtio_blk", kind, "overlay"].map(str::to_owned).into();
        let choice = pack::ModuleSelection {
            modules,
            no_virtiofs: true,
            ..pack::ModuleSelection::default()
        };
        let (root, dir) = match &self.kernel_modules {
            Some(dir) => (RootDir::open(Path::new("/"))?, absolute(dir)?),
            None => {
                let hint = "--boot-initrd: give --kernel-modules DIR";
                ensure!(source.format == Format::Dir, "{hint}: SOURCE is no directory");
                let root = RootDir::open(&self.source)?;
                let newest = installed::installed(&root)?.into_iter().next();
                let newest = newest.with_context(|| format!("{hint}: SOURCE has no modules"))?;
                (root, newest.modules)
            }
        };
        let mut notes = Vec::new();
        let initrd =
            pack::initrd(pack::read_init(init)?, Some((&root, &dir)), &choice, &mut notes)?;
        warn_all(&notes);
        Ok(initrd)
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
