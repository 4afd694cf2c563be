//! `image build`: an image of a directory or an archive.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::options::{parse_absolute, parse_pair, parse_size, parse_uuid};
use super::{init_binary, see_owners_as_the_guest};
use crate::archive::compress::Compression;
use crate::archive::source_date_epoch;
use crate::archive::stream::{Encoder, Method};
use crate::image::format::{self, Format};
use crate::image::inject::{self, Run};
use crate::image::notes::Notes;
use crate::image::progress::Progress;
use crate::image::source::{self, Source};
use crate::image::tree::Tree;
use crate::image::write::{cpio, dir, squashfs, tar};
use crate::output::{self, Output};
use crate::rootdir::RootDir;
use crate::{pack, vm};

/// Bytes handed to a file at a time.
const BUFFER: usize = 1 << 18;

/// Make an image of a directory or an archive
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Equal sources give equal bytes. SOURCE_DATE_EPOCH is the time of the image, \
                        and the latest of a file (default: 0, and as they are).\n\
                        A compressed archive is unpacked into a file in $TMPDIR."
)]
pub(super) struct Build {
    /// A directory, an archive or an image; - is standard input
    source: PathBuf,
    /// Where to write it; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// cpio, tar, erofs, ext4, squashfs or dir [default: by the ending of FILE]
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<Format>,
    /// How to compress: none, gzip, zstd, xz or lz4, and how much
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    compress: Option<Method>,
    /// Threads that compress; they do not show in the image [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    /// Bytes that squashfs and erofs compress at a time
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cluster_size: Option<u64>,
    /// Put our /init in: /init of a cpio, /sbin/virtinit elsewhere [default FILE: the one we come with]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    init: Option<Option<PathBuf>>,
    /// Let /init run COMMAND when it is told nothing else
    #[arg(long, requires = "command")]
    run: bool,
    /// Set a variable for COMMAND; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "run", value_parser = parse_pair)]
    env: Vec<OsString>,
    /// Where COMMAND starts
    #[arg(long, value_name = "DIR", requires = "run", value_parser = parse_absolute)]
    workdir: Option<OsString>,
    /// Whom COMMAND runs as
    #[arg(long, value_name = "NAME|UID[:GROUP|:GID]", requires = "run")]
    user: Option<OsString>,
    /// Also write the initrd that a kernel with modules needs to boot a disk image
    #[arg(long, value_name = "FILE")]
    boot_initrd: Option<PathBuf>,
    /// The kernel's modules for it [default: those of the newest kernel in SOURCE]
    #[arg(long, value_name = "DIR", requires = "boot_initrd")]
    kernel_modules: Option<PathBuf>,
    /// What to run
    #[arg(last = true, value_name = "COMMAND", requires = "run")]
    command: Vec<OsString>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    let names: Vec<_> = Format::KNOWN.iter().map(|format| format.name()).collect();
    let found = Format::KNOWN.iter().find(|format| format.name() == text);
    found.copied().ok_or_else(|| format!("one of {}", names.join(", ")))
}

impl Build {
    /// Writes the image, then the initrd.
    pub(super) fn run(self, init_path: Option<PathBuf>) -> Result<()> {
        let (format, method) = self.chosen()?;
        see_owners_as_the_guest(&[&self.source, &output::directory(&self.output)])?;
        let init_path = match &self.init {
            Some(Some(path)) => Some(path.clone()),
            _ => init_path,
        };
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let mtime = source_date_epoch(epoch.as_deref())?;
        let mut notes = Notes::default();
        let mut source = source::open(&self.source, &mut notes)?;
        if self.init.is_some() {
            let init = pack::read_init(&init_binary(init_path.clone())?)?;
            inject::init(&mut source.tree, format, init, mtime.into())?;
        }
        if self.run {
            inject::run(&mut source.tree, &self.command_to_run(), mtime.into())?;
        }
        if epoch.is_some() {
            inject::clamp_times(&mut source.tree, mtime);
        }
        let initrd = match &self.boot_initrd {
            Some(_) => Some(self.initrd(&source, format, init_binary(init_path)?)?),
            None => None,
        };
        let target = Target { path: &self.output, format, method, threads: self.threads(), mtime };
        target.write(&source.tree, self.cluster_size, &mut notes)?;
        notes.print();
        eprintln!("{}: {format}, {} files", self.output.display(), source.tree.nodes().count());
        match (&self.boot_initrd, initrd) {
            (Some(path), Some(bytes)) => output::write(path, &bytes),
            _ => Ok(()),
        }
    }

    /// By options, or by the name of the output.
    fn chosen(&self) -> Result<(Format, Method)> {
        let named = format::by_name(&self.output);
        let shown = self.output.display();
        let format = self.format.or(named).with_context(|| {
            format!("{shown}: which --format? Known endings are {}", format::endings())
        })?;
        let by_name = named.map(Format::compression).unwrap_or_default();
        let method = self.compress.unwrap_or(Method { compression: by_name, level: None });
        ensure!(
            by_name == Compression::None || by_name == method.compression,
            "{shown}: --compress {} and the name do not agree",
            method.compression
        );
        match format.compressed(method.compression) {
            Some(format) => Ok((format, method)),
            // It compresses by itself.
            None if format == Format::Squashfs => Ok((format, method)),
            None => bail!("--compress {}: {format} has no such compression", method.compression),
        }
    }

    fn threads(&self) -> u32 {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| u32::try_from(all()).unwrap_or(1))
    }

    fn command_to_run(&self) -> Run<'_> {
        Run {
            args: self.command.iter().map(|word| word.as_bytes()).collect(),
            env: self.env.iter().map(|pair| pair.as_bytes()).collect(),
            cwd: self.workdir.as_ref().map(|dir| dir.as_bytes()),
            user: self.user.as_ref().map(|user| user.as_bytes()),
        }
    }

    /// With the modules that find and mount a disk in `format`.
    fn initrd(&self, source: &Source, format: Format, init: PathBuf) -> Result<Vec<u8>> {
        let kind = format.file_system();
        let kind = kind.with_context(|| format!("--boot-initrd: {format} is no disk"))?;
        let modules = ["virtio_blk", kind, "overlay"].map(str::to_owned).into();
        let choice = pack::Choice { modules, ..pack::Choice::default() };
        let (root, dir) = match &self.kernel_modules {
            Some(dir) => (RootDir::open(Path::new("/"))?, pack::absolute(dir)?),
            None => {
                let hint = "--boot-initrd: give --kernel-modules DIR";
                ensure!(source.format == Format::Dir, "{hint}: SOURCE is no directory");
                let root = RootDir::open(&self.source)?;
                let newest = vm::kernel::installed(&root)?.into_iter().next();
                let newest = newest.with_context(|| format!("{hint}: SOURCE has no modules"))?;
                (root, newest.modules)
            }
        };
        pack::initrd(pack::read_init(&init)?, Some((&root, &dir)), &choice)
    }
}

/// What is to be written, and where.
struct Target<'a> {
    path: &'a Path,
    format: Format,
    method: Method,
    threads: u32,
    mtime: u32,
}

impl Target<'_> {
    fn write(&self, tree: &Tree, cluster_size: Option<u64>, notes: &mut Notes) -> Result<()> {
        let message = self.path.display().to_string();
        if self.format == Format::Dir {
            return dir::write(tree, self.path, notes, &Progress::bar(tree, message));
        }
        let output = Output::create(self.path)?;
        let written = match self.format {
            Format::Cpio(_) | Format::Tar(_) => {
                let progress = Progress::bar(tree, message);
                self.stream(tree, &output, notes, &progress)
            }
            Format::Squashfs => {
                let _progress = Progress::spinner(message);
                let compressor = match self.method.compression {
                    Compression::None => None,
                    compression => Some(compression.to_string()),
                };
                let options = squashfs::Options {
                    compressor,
                    level: self.method.level,
                    block_size: cluster_size,
                    threads: self.threads,
                    mtime: self.mtime,
                };
                squashfs::write(tree, &options, &output.file, notes)
            }
            other => bail!("{other} is not written here"),
        };
        written.with_context(|| format!("write {}", self.path.display()))?;
        output.commit()
    }

    fn stream(
        &self,
        tree: &Tree,
        output: &Output,
        notes: &mut Notes,
        progress: &Progress,
    ) -> Result<()> {
        let out = BufWriter::with_capacity(BUFFER, &output.file);
        let encoder = Encoder::new(out, self.method, self.threads)?;
        let mut encoder = BufWriter::with_capacity(BUFFER, encoder);
        let mut metered = progress.wrap(&mut encoder);
        match self.format {
            Format::Cpio(_) => cpio::write(tree, &mut metered, notes)?,
            _ => tar::write(tree, &mut metered, notes)?,
        }
        drop(metered);
        let encoder = encoder.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        encoder.finish()?.flush()?;
        Ok(())
    }
}
