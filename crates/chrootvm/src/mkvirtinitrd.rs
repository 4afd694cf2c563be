//! `mkvirtinitrd` and `cargo xtask pack`: pack `/init` and its modules into an initrd.
//!
//! The command line of `mkvirtinitrd` is that of osbuild/initrd's program of this name.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, compress};
use files::named::Named;
use files::output;
use machine::host::absolute;
use machine::kernel::modules::strip::Strip;
use machine::kernel::pack::{
    ModuleSelection, behind, initrd, read_init, read_initrd, with_settings,
};
use machine::plan::transport::Transport;
use machine::root::kinds::Root;

use crate::line::named::named;
use crate::logger::warn_all;

/// Modules to pack
#[derive(Debug, Default, clap::Args)]
struct ModuleOptions {
    /// Pack one more module, with those that it needs; repeatable
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// Make modules load quicker [default: pack all modules unchanged]
    ///
    /// It removes what a boot does not need: debugging information, type information for BPF
    /// programs (BTF), tracing calls and signatures. A kernel that enforces signatures refuses a
    /// module without one. --strip alone means --strip=all.
    #[arg(long, value_parser = named::<Strip>(), value_name = "WHICH", num_args = 0..=1, require_equals = true,
          default_missing_value = "all")]
    strip: Option<Strip>,
    /// Pack only the driver of this virtio transport; repeatable [default: all transports that the
    /// kernel has]
    #[arg(long = "transport", value_parser = named::<Transport>(), value_name = "NAME")]
    transports: Vec<Transport>,
    /// Leave virtiofs out, for a root that is not shared
    ///
    /// Such a root is on a disk or in the initrd. For a disk, name its driver, virtio_blk, and its
    /// file system with --module.
    #[arg(long)]
    no_virtiofs: bool,
}

impl ModuleOptions {
    /// The same options as a value of the packer.
    fn choice(&self) -> ModuleSelection {
        ModuleSelection {
            modules: self.modules.clone(),
            strip: self.strip,
            transports: self.transports.clone(),
            no_virtiofs: self.no_virtiofs,
        }
    }
}

/// Pack /init and the modules it needs into an initrd
#[derive(Debug, clap::Args)]
pub struct Pack {
    /// The /init binary, as `cargo xtask build` makes it
    #[arg(long, value_name = "FILE", required_unless_present = "initrd")]
    init: Option<PathBuf>,
    /// Add records to this initrd instead of packing one
    #[arg(long, value_name = "FILE", hide = true)]
    initrd: Option<PathBuf>,
    /// Begin with this archive, a root file system; our /init replaces the one in it
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "initrd")]
    archive: Option<PathBuf>,
    /// The kernel's modules, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    /// [default: none; the kernel has virtiofs built in]
    #[arg(long, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// Take the modules from this image, at the absolute path DIR [default: from this host]
    #[arg(long, value_name = "IMAGE", requires = "modules_dir", hide = true)]
    image: Option<PathBuf>,
    #[command(flatten)]
    choice: ModuleOptions,
    /// Compress the archive
    #[arg(long, value_parser = named::<Compression>(), default_value = Compression::default().name())]
    compress: Compression,
    /// A record for /init, as `chrootvm --dry-run` prints it; repeatable
    #[arg(long = "record", value_name = "RECORD", hide = true)]
    records: Vec<OsString>,
    /// Where to write the initrd; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Make an initrd that boots a directory over virtiofs
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   mkvirtinitrd /usr/lib/osbuild/initrd/initrd \\\n    \
                   ./debian/usr/lib/modules/6.1.0-50-cloud-amd64 initrd.img",
    after_long_help = "Modules are packed uncompressed, in load order; built-in ones are left out.\n\
                  SOURCE_DATE_EPOCH sets the time of all entries (default 0)."
)]
pub struct MkVirtInitrd {
    #[command(flatten)]
    choice: ModuleOptions,
    /// The /init binary
    init: PathBuf,
    /// Directory with the modules of the kernel
    modules_dir: PathBuf,
    /// Where to write the initrd; - is standard output
    output: PathBuf,
}

impl Pack {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let bytes = match (&self.initrd, &self.init) {
            (Some(file), _) => read_initrd(file)?,
            (None, init) => self.pack(init.as_deref().context("--init is missing")?)?,
        };
        let records: Vec<_> = self.records.into_iter().map(OsString::into_vec).collect();
        let bytes = with_settings(bytes, &records)?;
        output::write(&self.output, &compress(bytes, self.compress)?)
    }

    fn pack(&self, init: &Path) -> Result<Vec<u8>> {
        let root = Root::open(self.image.as_deref().unwrap_or(Path::new("/")))?.files()?;
        let modules_dir = self.modules_dir.as_deref().map(absolute).transpose()?;
        ensure!(
            modules_dir.is_some() || self.choice.modules.is_empty(),
            "--module takes a --modules-dir"
        );
        let modules_dir = modules_dir.as_ref().map(|dir| (&*root, dir.as_path()));
        let mut notes = Vec::new();
        let initrd = initrd(read_init(init)?, modules_dir, &self.choice.choice(), &mut notes)?;
        warn_all(&notes);
        behind(self.archive.as_deref(), initrd)
    }
}

impl MkVirtInitrd {
    /// Writes the initrd.
    pub fn run(self) -> Result<()> {
        let Self { choice, init, modules_dir, output } = self;
        let modules_dir = Some(modules_dir);
        let (compress, records) = (Compression::default(), Vec::new());
        let (init, initrd, archive, image) = (Some(init), None, None, None);
        Pack { init, initrd, archive, modules_dir, image, choice, compress, records, output }.run()
    }
}
