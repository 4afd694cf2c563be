//! What will be run, as a value: QEMU's command line and the daemons beside it.
//!
//! A [`Plan`] names files, never descriptors; [`Wiring`] says how the running
//! programs are handed them. `--dry-run` prints the same plan wired by paths.

pub mod architecture;
pub mod clock;
pub mod cmdline;
pub mod disks;
pub mod name_server;
pub mod options;
pub mod payload;
pub mod script;
pub mod source;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::plan::architecture::Machine;
use crate::plan::disks::Disk;
use crate::plan::options::Publish;
use crate::process::virtiofsd::{Socket, Virtiofsd};

/// The tag of the root file system; what `/init` takes by default.
pub const ROOT_TAG: &str = "rootfs";

/// Whether the guest may write to a share.
pub use virtinitrd_proto::access::Access;

/// A directory of the host in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// virtiofs tag.
    pub tag: String,
    /// Canonical path of the directory.
    pub source: PathBuf,
    /// What the guest may do with it.
    pub access: Access,
    /// Where the guest mounts it.
    pub place: Place,
}

/// A place in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `/`
    Root,
    /// `/run/mnt/TAG`
    Tag,
    /// A path that a record tells.
    Volume,
}

/// How guest code is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

/// Which guest code goes to, and comes from, our own standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The console; `monitor` is behind Ctrl-A C of a terminal.
    Console {
        /// Whether there is a terminal: raw mode, Ctrl-A X leaves.
        monitor: bool,
    },
    /// A command's streams.
    Command {
        /// Whether it has a terminal.
        terminal: bool,
    },
}

/// The network of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// None but loopback.
    None,
    /// QEMU's user network, with these ports of the host.
    User(Vec<Publish>),
}

/// A machine to run.
#[derive(Debug)]
pub struct Plan {
    /// QEMU's program.
    pub qemu: PathBuf,
    /// The machine's kind.
    pub machine: &'static Machine,
    /// `-machine`, where it is not the usual one.
    pub machine_type: Option<String>,
    /// `-bios`, where it is not QEMU's default.
    pub firmware: Option<PathBuf>,
    /// `-cpu`, where it is not the usual one.
    pub cpu: Option<String>,
    /// How it executes.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory: u64,
    /// Processors.
    pub cpus: usize,
    /// The text of `-append`.
    pub command_line: OsString,
    /// What our standard streams are connected to.
    pub mode: Mode,
    /// What [`virtinitrd_proto::settings`] tells the guest, one record each.
    pub records: Vec<Vec<u8>>,
    /// The machine's network.
    pub network: Network,
    /// What exports the shares, where there are any.
    pub virtiofsd: Option<Virtiofsd>,
    /// All shares; the root, where it is one, first.
    pub shares: Vec<Share>,
    /// All disks; the root, where it is one, first.
    pub disks: Vec<Disk>,
    /// Arguments of the user's for QEMU, after all others.
    pub qemu_arguments: Vec<OsString>,
}

/// What a character device of QEMU's is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// An open socket.
    Fd(i32),
    /// QEMU's own standard input and output.
    Stdio,
    /// A file that is written to.
    File(OsString),
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
    /// Path of each disk, in the plan's order.
    pub disks: Vec<OsString>,
    /// The console.
    pub console: End,
    /// The virtio-serial ports by name.
    pub ports: Vec<(String, End)>,
    /// Whether QEMU is to lock itself in (`-sandbox`).
    pub sandbox: bool,
}

/// What QEMU needs no more once it runs (qemu(1), `-sandbox`).
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The bus of the virtio-serial ports.
pub const SERIAL_BUS: &str = "serial.0";

impl Plan {
    /// QEMU's arguments.
    #[must_use]
    pub fn qemu_arguments(&self, wiring: &Wiring) -> Vec<OsString> {
        let memory = self.memory;
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", self.machine.emulated_cpu),
        };
        let machine = self.machine_type.as_deref().unwrap_or(self.machine.machine);
        let cpu = self.cpu.as_deref().unwrap_or(cpu);
        let mut list = Arguments::default();
        list.flags(["-no-user-config", "-nodefaults", "-no-reboot"]);
        if wiring.sandbox {
            list.option("-sandbox", SANDBOX);
        }
        list.option("-display", "none");
        list.option("-machine", format!("{machine},accel={accelerator},memory-backend=mem"));
        if let Some(firmware) = &self.firmware {
            list.option("-bios", firmware);
        }
        list.option("-cpu", cpu);
        list.option("-smp", self.cpus.to_string());
        list.option("-m", format!("{memory}M"));
        // virtiofsd maps the guest's memory, hence share=on.
        list.option("-object", format!("memory-backend-memfd,id=mem,size={memory}M,share=on"));
        list.option("-kernel", wiring.kernel.clone());
        list.option("-initrd", wiring.initrd.clone());
        list.option("-append", self.command_line.clone());
        if self.mode == (Mode::Console { monitor: true }) {
            list.option("-chardev", "stdio,id=console,mux=on,signal=off");
            list.option("-mon", "chardev=console");
        } else {
            list.option("-chardev", chardev("console", &wiring.console));
        }
        list.option("-serial", "chardev:console");
        if let Some(fd) = wiring.qmp {
            list.option("-chardev", chardev("qmp", &End::Fd(fd)));
            list.option("-mon", "chardev=qmp,mode=control");
        }
        if !wiring.ports.is_empty() {
            list.option("-device", "virtio-serial-pci,id=serial");
        }
        for (name, end) in &wiring.ports {
            list.option("-chardev", chardev(name, end));
            list.option(
                "-device",
                format!("virtserialport,bus={SERIAL_BUS},chardev={name},name={name}"),
            );
        }
        if let Network::User(published) = &self.network {
            list.option("-netdev", netdev(published));
            // Its option ROM would only boot from the network.
            list.option("-device", "virtio-net-pci,netdev=net,romfile=");
        }
        for (number, (disk, file)) in self.disks.iter().zip(&wiring.disks).enumerate() {
            let [backend, device] = disk.options(number, file);
            list.option("-blockdev", backend);
            list.option("-device", device);
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
        list.0.extend(self.qemu_arguments.iter().cloned());
        list.0
    }
}

fn chardev(id: &str, end: &End) -> OsString {
    match end {
        End::Fd(fd) => format!("socket,id={id},fd={fd}").into(),
        End::Stdio => format!("stdio,id={id},signal=off").into(),
        End::File(path) => {
            let head = format!("file,id={id},append=on,path=");
            [OsStr::new(&head), &escape(path)].into_iter().collect()
        }
    }
}

fn netdev(published: &[Publish]) -> String {
    let forward = |Publish { address, host, guest, protocol }: &Publish| {
        format!("hostfwd={protocol}:{address}:{host}-:{guest}")
    };
    let options = ["user".into(), "id=net".into()].into_iter().chain(published.iter().map(forward));
    options.collect::<Vec<_>>().join(",")
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
pub(super) fn escape(value: &OsStr) -> OsString {
    let bytes: Vec<&[u8]> = value.as_bytes().split(|&byte| byte == b',').collect();
    std::os::unix::ffi::OsStringExt::from_vec(bytes.join(&b",,"[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::architecture;
    use crate::process::virtiofsd::{self, Flavour};

    const CONSOLE: Mode = Mode::Console { monitor: false };

    fn plan(mode: Mode) -> Plan {
        let share = |tag: &str| Share {
            tag: tag.into(),
            source: "/r".into(),
            access: Access::ReadOnly,
            place: Place::Tag,
        };
        Plan {
            qemu: "qemu".into(),
            machine: architecture::of_host().unwrap(),
            accelerator: Accelerator::Tcg,
            machine_type: None,
            firmware: Some("/f".into()),
            cpu: None,
            memory: 512,
            cpus: 2,
            command_line: "quiet -- \"a b\"".into(),
            mode,
            records: Vec::new(),
            network: Network::None,
            qemu_arguments: Vec::new(),
            virtiofsd: Some(virtiofsd::sample(Flavour::C)),
            shares: vec![share(ROOT_TAG), share("a,b")],
            disks: vec![Disk::new("/d".into(), Access::ReadWrite)],
        }
    }

    fn line(mode: Mode, qmp: Option<i32>) -> String {
        line_of(&plan(mode), qmp)
    }

    fn line_of(plan: &Plan, qmp: Option<i32>) -> String {
        let wiring = Wiring {
            kernel: "/k".into(),
            initrd: "i".into(),
            qmp,
            shares: vec![Socket::Fd(7), Socket::Path("x,y".into())],
            disks: vec!["/dev/fd/6".into()],
            console: End::Stdio,
            ports: vec![("virtinit.0.stdin".into(), End::Fd(8))],
            sandbox: true,
        };
        let arguments = plan.qemu_arguments(&wiring);
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn shares_are_wired_and_their_names_escaped() {
        let line = line(CONSOLE, None);
        assert!(line.contains("-chardev socket,id=fs0,fd=7 -device vhost-user-fs-pci,queue-size=1024,chardev=fs0,tag=rootfs"), "{line}");
        assert!(line.contains("-chardev socket,id=fs1,path=x,,y "), "{line}");
        assert!(line.ends_with(",tag=a,,b"), "{line}");
        assert!(!line.contains("-mon"), "{line}");
    }

    #[test]
    fn only_a_terminal_has_a_monitor_behind_its_escape() {
        assert!(line(Mode::Console { monitor: true }, None).contains("mux=on"));
        assert!(!line(CONSOLE, Some(9)).contains("mux=on"));
        assert!(
            line(CONSOLE, Some(9)).contains("socket,id=qmp,fd=9 -mon chardev=qmp,mode=control")
        );
    }

    #[test]
    fn ports_and_networks_are_devices() {
        let mut plan = plan(Mode::Command { terminal: false });
        let publish =
            Publish { address: [127, 0, 0, 1].into(), host: 80, guest: 8, protocol: "tcp" };
        plan.network = Network::User(vec![publish]);
        plan.qemu_arguments = vec!["-name".into(), "x".into()];
        let line = line_of(&plan, None);
        for part in [
            "-sandbox on,",
            "-bios /f ",
            "-smp 2 ",
            "-device virtio-serial-pci,id=serial -chardev socket,id=virtinit.0.stdin,fd=8 -device \
             virtserialport,bus=serial.0,chardev=virtinit.0.stdin,name=virtinit.0.stdin ",
            "-blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,file.driver=file,\
             file.filename=/dev/fd/6 -device virtio-blk-pci,drive=disk0 ",
            "-netdev user,id=net,hostfwd=tcp:127.0.0.1:80-:8 ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.ends_with(" -name x"), "{line}");
    }
}
