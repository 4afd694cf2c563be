//! What will be run, as a value: QEMU's command line and the daemons beside it.
//!
//! A [`Plan`] names files, never descriptors; [`Wiring`] says how the running
//! programs are handed them. `--dry-run` prints the same plan wired by paths.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::machine::Machine;
use super::virtiofsd::{Socket, Virtiofsd};

/// The tag of the root file system; what `/init` takes by default.
pub const ROOT_TAG: &str = "rootfs";

/// Whether the guest may write to a share.
pub use virtinitrd_init::cmdline::Access;

/// A directory of the host in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// virtiofs tag.
    pub tag: String,
    /// Canonical path of the directory.
    pub source: PathBuf,
    /// What the guest may do with it.
    pub access: Access,
}

/// How guest code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

/// What the guest's console is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// A terminal, in raw mode; Ctrl-A X leaves, Ctrl-A C opens QEMU's monitor.
    Terminal,
    /// A pipe or file; every byte goes through.
    Stream,
}

/// A machine to run.
#[derive(Debug)]
pub struct Plan {
    /// QEMU's program.
    pub qemu: PathBuf,
    /// The machine's kind.
    pub machine: &'static Machine,
    /// How it executes.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory: u64,
    /// The text of `-append`.
    pub command_line: OsString,
    /// Where the console goes.
    pub console: Console,
    /// The daemon to export shares with.
    pub virtiofsd: Virtiofsd,
    /// All shares, the root first.
    pub shares: Vec<Share>,
}

/// What stands for files and sockets on the command lines.
#[derive(Debug)]
pub struct Wiring {
    /// Path of the kernel.
    pub kernel: OsString,
    /// Path of the initrd.
    pub initrd: OsString,
    /// Descriptor of the connected QMP socket, where there is one.
    pub qmp: Option<i32>,
    /// QEMU's end of each share's socket, in the plan's order.
    pub shares: Vec<Socket>,
}

impl Plan {
    /// QEMU's arguments.
    #[must_use]
    pub fn qemu_arguments(&self, wiring: &Wiring) -> Vec<OsString> {
        let memory = self.memory;
        // `max` has what every root file system asks for, x86-64-v3 included.
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", "max"),
        };
        let machine = self.machine.machine;
        let mut list = Arguments::default();
        list.flags(["-no-user-config", "-nodefaults", "-no-reboot"]);
        list.option("-display", "none");
        list.option("-machine", format!("{machine},accel={accelerator},memory-backend=mem"));
        list.option("-cpu", cpu);
        list.option("-m", format!("{memory}M"));
        // virtiofsd maps the guest's memory, hence share=on.
        list.option("-object", format!("memory-backend-memfd,id=mem,size={memory}M,share=on"));
        list.option("-kernel", wiring.kernel.clone());
        list.option("-initrd", wiring.initrd.clone());
        list.option("-append", self.command_line.clone());
        match self.console {
            Console::Terminal => {
                list.option("-chardev", "stdio,id=console,mux=on,signal=off");
                list.option("-mon", "chardev=console");
            }
            Console::Stream => list.option("-chardev", "stdio,id=console"),
        }
        list.option("-serial", "chardev:console");
        if let Some(fd) = wiring.qmp {
            list.option("-chardev", format!("socket,id=qmp,fd={fd}"));
            list.option("-mon", "chardev=qmp,mode=control");
        }
        for (number, (share, socket)) in self.shares.iter().zip(&wiring.shares).enumerate() {
            let end = match socket {
                Socket::Fd(fd) => format!("fd={fd}").into(),
                Socket::Path(path) => [OsStr::new("path="), &escape(path.as_os_str())]
                    .into_iter()
                    .collect::<OsString>(),
            };
            let chardev = OsString::from(format!("socket,id=fs{number},"));
            list.option("-chardev", [chardev, end].into_iter().collect::<OsString>());
            let tag = escape(OsStr::new(&share.tag));
            let device = format!(
                "vhost-user-fs-pci,queue-size=1024,chardev=fs{number},tag={}",
                tag.display()
            );
            list.option("-device", device);
        }
        list.0
    }
}

/// A list of arguments that grows by option and value.
#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags<const N: usize>(&mut self, flags: [&str; N]) {
        self.0.extend(flags.map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.extend([name.into(), value.into()]);
    }
}

/// A value inside a comma-separated option of QEMU: its commas are doubled.
fn escape(value: &OsStr) -> OsString {
    let bytes: Vec<&[u8]> = value.as_bytes().split(|&byte| byte == b',').collect();
    std::os::unix::ffi::OsStringExt::from_vec(bytes.join(&b",,"[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::machine;
    use crate::vm::virtiofsd::{Flavour, Sandbox};

    fn plan(console: Console) -> Plan {
        let share =
            |tag: &str| Share { tag: tag.into(), source: "/r".into(), access: Access::ReadOnly };
        Plan {
            qemu: "qemu".into(),
            machine: machine::of_host().unwrap(),
            accelerator: Accelerator::Tcg,
            memory: 512,
            command_line: "quiet -- \"a b\"".into(),
            console,
            virtiofsd: Virtiofsd {
                program: "v".into(),
                flavour: Flavour::C,
                sandbox: Sandbox::Namespace,
                is_root: true,
                cache: None,
            },
            shares: vec![share(ROOT_TAG), share("a,b")],
        }
    }

    fn line(console: Console, qmp: Option<i32>) -> String {
        let wiring = Wiring {
            kernel: "/k".into(),
            initrd: "i".into(),
            qmp,
            shares: vec![Socket::Fd(7), Socket::Path("x,y".into())],
        };
        let arguments = plan(console).qemu_arguments(&wiring);
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn shares_are_wired_and_their_names_escaped() {
        let line = line(Console::Stream, None);
        assert!(line.contains("-chardev socket,id=fs0,fd=7 -device vhost-user-fs-pci,queue-size=1024,chardev=fs0,tag=rootfs"), "{line}");
        assert!(line.contains("-chardev socket,id=fs1,path=x,,y "), "{line}");
        assert!(line.ends_with(",tag=a,,b"), "{line}");
        assert!(!line.contains("-mon"), "{line}");
    }

    #[test]
    fn only_a_terminal_has_a_monitor_behind_its_escape() {
        assert!(line(Console::Terminal, None).contains("mux=on"));
        assert!(!line(Console::Stream, Some(9)).contains("mux=on"));
        assert!(
            line(Console::Stream, Some(9))
                .contains("socket,id=qmp,fd=9 -mon chardev=qmp,mode=control")
        );
    }
}
