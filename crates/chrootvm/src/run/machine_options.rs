//! Options for the machine: memory, processors, network, kernel, QEMU.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueHint;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use files::named::Named;
use machine::kernel::find::UserKernel;
use machine::kernel::signatures::StripWhen;
use machine::kernel::small::cache::SmallKernels;
use machine::kernel::vmlinux::pvh::Pvh;
use machine::plan::architecture::{self, ARCHITECTURES, Architecture};
use machine::plan::machine_plan::Network;
use machine::plan::machine_plan::Publish;
use machine::plan::memory::{self, Memory, MemoryUse};
use machine::process::qemu::AccelOption;
use proto::settings::Record;

use super::additions::Additions;
use crate::line::named::named;
use crate::line::sizes::parse_memory;
use crate::line::values::{parse_name, parse_publish};

/// Kind of machine
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(super) struct MachineOptions {
    /// Memory, such as 512M or 1.5G, or a number of MiB [default: 1G, more for a large --overlay,
    /// less if the host has less to spare]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<u64>,
    /// Number of processors [default: as many as the host has]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus: Option<u16>,
    /// Network of the guest: none is only loopback; with user, the guest reaches what this host
    /// reaches [default: none, or user with --publish or --publish-all]
    #[arg(long, value_enum)]
    net: Option<Net>,
    /// Forward the port HOST of this host, at 127.0.0.1 unless ADDRESS is given, to the port GUEST
    /// of the guest; implies --net user; repeatable
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_publish)]
    pub(super) publish: Vec<Publish>,
    /// Forward a free port of 127.0.0.1 to each port that the OCI image names, and print them;
    /// implies --net user
    #[arg(short = 'P', long)]
    pub(super) publish_all: bool,
    /// Host name of the guest [default: that of --name, else localhost with COMMAND and (none) with
    /// INIT]
    #[arg(long, value_parser = parse_name)]
    hostname: Option<String>,
    /// Kernel to boot [default: the newest in ROOTFS that has an image and modules, or
    /// else one of this host]
    ///
    /// FILE is a bzImage, a vmlinux that can be entered directly, or an Image; also compressed
    /// (gzip, xz, zstd, lz4, bzip2, lzma, lzo), in a UKI, or as an EFI zboot image. DIR is a kernel
    /// tree: the directory in which make built a kernel and its modules.
    #[arg(long, value_hint = ValueHint::AnyPath, value_name = "FILE|DIR")]
    pub(super) kernel: Option<PathBuf>,
    /// Whether to unpack the kernel here and enter it directly, which is quicker than letting it
    /// unpack itself
    ///
    /// The entry that this takes is called PVH. The skipped code would also have put the kernel at
    /// a random address (KASLR). Unpacked kernels are kept in ~/.cache/virtinitrd/vmlinux.
    #[arg(long, value_name = "WHEN", value_parser = named::<Pvh>(), default_value = Pvh::default().name())]
    pub(super) pvh: Pvh,
    /// Boot the small kernel that `chrootvm kernel build` has built for this user, instead of one
    /// of ROOTFS or of --kernel
    ///
    /// It boots quicker, and has no modules.
    #[arg(long, conflicts_with_all = ["kernel", "modules", "extra_modules"])]
    pub(super) kernel_builtin: bool,
    /// Directory with the modules of the kernel, such as /usr/lib/modules/6.1.0-50-cloud-amd64
    /// [default: those of that kernel in ROOTFS, or of this host's kernel]
    #[arg(long, value_hint = ValueHint::DirPath, value_name = "DIR")]
    pub(super) modules: Option<PathBuf>,
    /// One more module that is loaded before the root is mounted, such as xfs; repeatable
    ///
    /// It is packed into the initrd, with the modules that it needs. The modules that chrootvm
    /// itself needs are loaded without this option.
    #[arg(long = "module", value_name = "NAME")]
    pub(super) extra_modules: Vec<String>,
    /// Whether to remove from modules what a boot does not need, so that they load quicker
    ///
    /// These parts are type information for BPF programs (BTF), tracing calls and the signature.
    /// Without a signature, a module taints a kernel that checks signatures.
    #[arg(long, value_parser = named::<StripWhen>(), value_name = "WHEN",
          default_value = StripWhen::default().name())]
    pub(super) strip: StripWhen,
    /// Boot this initrd, as mkvirtinitrd makes it, instead of packing one
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE", conflicts_with_all = ["modules", "extra_modules", "strip"])]
    pub(super) initrd: Option<PathBuf>,
    /// Whether a COMMAND starts from a saved machine instead of booting
    ///
    /// The first run of a kernel and its options boots, and is saved when it waits for its orders;
    /// later ones start from there. Saved machines are kept in ~/.cache/virtinitrd/warm.
    #[arg(long, value_name = "WHEN", value_parser = named::<WarmWhen>(), default_value = WarmWhen::default().name())]
    pub(super) warm: WarmWhen,
    /// More words for the kernel command line; they win over those of chrootvm; repeatable
    ///
    /// virtinitrd(7) describes the words that /init reads.
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(super) append: Vec<OsString>,
    /// Architecture of the machine [default: that of the programs in ROOTFS, or of the kernel]
    ///
    /// Code of another architecture than this host's is emulated. A host of another architecture
    /// shares no directories with a machine of ppc64le or s390x.
    #[arg(long, value_name = "ARCH", value_parser = architecture())]
    pub(super) arch: Option<&'static Architecture>,
    /// How QEMU runs the code of the guest
    #[arg(long, value_parser = named::<AccelOption>(), value_name = "ACCEL",
          default_value = AccelOption::default().name())]
    pub(super) accel: AccelOption,
    /// QEMU's machine type; `qemu-system-ARCH -machine help` lists them
    #[arg(long, value_name = "TYPE")]
    pub(super) machine: Option<String>,
    /// QEMU's processor model; `qemu-system-ARCH -cpu help` lists them
    #[arg(long, value_name = "MODEL")]
    pub(super) cpu: Option<String>,
    /// The program of QEMU to run [default: the installed one]
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub(super) qemu: Option<PathBuf>,
    /// One more argument for QEMU, passed on unchanged; repeatable
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(super) qemu_arguments: Vec<OsString>,
    /// The /init binary
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) init: Option<PathBuf>,
}

/// Parser of `--arch`.
fn architecture() -> impl TypedValueParser<Value = &'static Architecture> {
    let names = ARCHITECTURES.iter().map(|row| row.arch);
    let find = |name: String| architecture::named(&name).ok_or("no such architecture");
    PossibleValuesParser::new(names).try_map(find)
}

/// Value of `--net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Net {
    None,
    User,
}

/// Value of `--warm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WarmWhen {
    /// Boot.
    Never,
    /// Start from a saved machine, if this run can.
    #[default]
    Auto,
    /// Start from a saved machine.
    Always,
}

#[rustfmt::skip]
impl Named for WarmWhen {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "start from a saved machine if possible, else boot"),
        ("never", Self::Never, "boot"),
        ("always", Self::Always, "start from a saved machine; fail where that is impossible"),
    ];
}

impl MachineOptions {
    /// The guest's network.
    ///
    /// # Errors
    /// `--publish` is given with `--net none`, or gives a port of the host twice.
    pub(super) fn network(&self) -> Result<Network> {
        for (number, publish) in self.publish.iter().enumerate() {
            if let Some(other) = self.publish[..number].iter().find(|other| other.collides(publish))
            {
                bail!("--publish {other} and {publish} take the same port of the host");
            }
        }
        let publishes_none = self.publish.is_empty() && !self.publish_all;
        match (self.net, publishes_none) {
            (Some(Net::None), false) => bail!(
                "--publish needs a network, and --net none switches it off: leave out one of them"
            ),
            (None | Some(Net::None), true) => Ok(Network::None),
            (None | Some(Net::User), _) => Ok(Network::User(self.publish.clone())),
        }
    }

    /// Parts that the options add to the run. `hostname` is used without `--hostname`.
    pub(super) fn additions(&self, hostname: Option<&str>) -> Result<Additions> {
        let mut additions = Additions::default();
        if let Some(name) = self.hostname.as_deref().or(hostname) {
            additions.records.push(Record::Hostname(name.as_bytes()).to_bytes());
        }
        if self.network()? != Network::None {
            additions.records.push(Record::Network.to_bytes());
            additions.modules.push("virtio_net".into());
        }
        Ok(additions)
    }

    /// The kernel of `--kernel` or `--kernel-builtin`, if one of them is given.
    ///
    /// # Errors
    /// There is no such kernel.
    pub(super) fn user_kernel(&self) -> Result<Option<UserKernel>> {
        let find = || SmallKernels::of_user()?.current().context("--kernel-builtin");
        let builtin = self.kernel_builtin.then(find).transpose()?;
        builtin.as_deref().or(self.kernel.as_deref()).map(UserKernel::at).transpose()
    }

    /// The words of `--append`, as a part of the kernel command line.
    pub(super) fn appended(&self) -> OsString {
        self.append.join(OsStr::new(" "))
    }

    /// Memory of the guest, which keeps `used` in it; `meminfo` is the host's.
    /// Its size is a multiple of `step` MiB.
    pub(super) fn memory(&self, used: MemoryUse, meminfo: &str, step: u64) -> Result<Memory> {
        memory::choose(self.memory, used, meminfo, step)
    }

    /// Number of the guest's processors. The host has `processors`, and the machine can
    /// have `most`.
    pub(super) fn cpus(&self, processors: usize, most: usize) -> usize {
        self.cpus.map_or(processors.min(most), usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct MachineLine {
        #[command(flatten)]
        options: MachineOptions,
    }

    #[test]
    fn a_port_is_never_published_without_a_network() {
        for (words, expected) in [
            (&[][..], Ok(0)),
            (&["--net", "none"], Ok(0)),
            (&["--net", "user"], Ok(1)),
            (&["--publish", "1:2"], Ok(1)),
            (&["--net", "user", "-p", "1:2"], Ok(1)),
            (&["--net", "none", "-p", "1:2"], Err("--net none")),
            (&["-p", "1:2", "-p", "1:3"], Err("--publish 1:2 and 1:3 take the same port")),
            (&["-p", "1:2", "-p", "0.0.0.0:1:3"], Err("--publish 1:2 and 0.0.0.0:1:3 take")),
            (&["-p", "1:2", "-p", "1:2/udp", "-p", "127.0.0.2:1:2"], Ok(1)),
            (&["-p", "1:2", "--net=none"], Err("--publish")),
            (&["-P"], Ok(1)),
            (&["-P", "--net=none"], Err("--publish")),
        ] {
            let line = MachineLine::parse_from([&["x"], words].concat());
            match (line.options.network(), expected) {
                (Ok(network), Ok(count)) => {
                    assert_eq!(usize::from(network != Network::None), count, "{words:?}");
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{words:?}: {error}");
                }
                (found, _) => panic!("{words:?}: {found:?}"),
            }
        }
    }
}
