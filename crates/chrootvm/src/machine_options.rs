//! The machine that is run: memory, processors, network, kernel, QEMU.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use files::named::Named;
use machine::kernel::signatures::StripWhen;
use machine::kernel::small::cache::SmallKernels;
use machine::kernel::vmlinux::pvh::Pvh;
use machine::plan::machine_plan::Network;
use machine::plan::options::{self, Publish, parse_memory, parse_name, parse_publish};
use machine::process::qemu::AccelOption;

use crate::named::named;

/// The machine
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineOptions {
    /// Memory, in MiB or with a suffix M or G [default: 1G, or what this host can spare]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<u64>,
    /// Number of processors [default: as many as here]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus: Option<u16>,
    /// Network of the guest: only loopback, or QEMU's user network too [default: none, or user
    /// with --publish]
    #[arg(long, value_enum)]
    net: Option<Net>,
    /// Forward a port of this host, at 127.0.0.1 without ADDRESS, to the guest; means --net user;
    /// repeatable
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]", value_parser = parse_publish)]
    publish: Vec<Publish>,
    /// The guest's hostname [default: --name, or localhost]
    #[arg(long, value_parser = parse_name)]
    pub hostname: Option<String>,
    /// Kernel image: a bzImage or a vmlinux, also compressed, in a UKI or as EFI zboot [default: the
    /// newest in ROOTFS]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Enter the kernel directly, without its own unpacking (PVH): where it can be done, or never
    #[arg(long, value_parser = named::<Pvh>(), default_value = Pvh::default().name())]
    pub pvh: Pvh,
    /// Boot the kernel that `chrootvm kernel build` built; it needs no modules
    #[arg(long, conflicts_with_all = ["kernel", "modules", "extra_modules"])]
    pub kernel_builtin: bool,
    /// The kernel's modules [default: those of that kernel in ROOTFS]
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// Load one more module before the root is mounted; repeatable
    #[arg(long = "module", value_name = "NAME")]
    pub extra_modules: Vec<String>,
    /// Load modules without BTF, tracing and signature, which is quicker but taints the kernel; auto:
    /// unless the kernel asks for signatures
    #[arg(long, value_parser = named::<StripWhen>(), value_name = "WHEN",
          default_value = StripWhen::default().name())]
    pub strip: StripWhen,
    /// Boot this initrd instead of packing one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["modules", "extra_modules", "strip"])]
    pub initrd: Option<PathBuf>,
    /// More words for the kernel command line; they win over ours; repeatable
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<OsString>,
    /// How to run guest code; auto is kvm where that works
    #[arg(long, value_parser = named::<AccelOption>(), default_value = AccelOption::default().name())]
    pub accel: AccelOption,
    /// QEMU's machine type
    #[arg(long, value_name = "TYPE")]
    pub machine: Option<String>,
    /// QEMU's processor model
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// QEMU's program
    #[arg(long, value_name = "FILE")]
    pub qemu: Option<PathBuf>,
    /// One more argument for QEMU, as it is; repeatable
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arguments: Vec<OsString>,
    /// The /init binary
    #[arg(long, value_name = "FILE", hide = true)]
    pub init: Option<PathBuf>,
}

/// `--net`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Net {
    None,
    User,
}

impl MachineOptions {
    /// The network; a published port needs one.
    ///
    /// # Errors
    /// A published port where the network is switched off.
    pub fn network(&self) -> Result<Network> {
        match (self.net, self.publish.is_empty()) {
            (Some(Net::None), false) => bail!(
                "--publish needs a network, and --net none switches it off: leave out one of them"
            ),
            (None | Some(Net::None), true) => Ok(Network::None),
            (None | Some(Net::User), _) => Ok(Network::User(self.publish.clone())),
        }
    }

    /// The image of `--kernel-builtin`, where that is asked for.
    pub fn builtin_kernel(&self) -> Result<Option<PathBuf>> {
        let find = || SmallKernels::of_user()?.current().context("--kernel-builtin");
        self.kernel_builtin.then(find).transpose()
    }

    /// MiB.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let here = || std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        self.memory.unwrap_or_else(|| options::default_memory(&here()))
    }

    /// How many, of `most` that the machine can have.
    #[must_use]
    pub fn cpus(&self, most: usize) -> usize {
        let here = || std::thread::available_parallelism().map_or(1, usize::from);
        self.cpus.map_or_else(|| here().min(most), usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
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
            (&["-p", "1:2", "--net=none"], Err("--publish")),
        ] {
            let line = Line::parse_from([&["x"], words].concat());
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
