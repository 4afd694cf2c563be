//! The command line of QEMU for a plan.
//!
//! Interface: qemu(1). A plan names files; [`Wiring`] says by which path or descriptor
//! QEMU finds each of them. chrootvm wires by descriptors, `--dry-run` by paths.
//!
//! A disk is always declared raw: if QEMU detected the format, the guest could write
//! another format's header to the disk, and that header can name other files of the host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::devices::{self, Device, NETDEV};
use super::disks::Disk;
use super::machine_plan::Publish;
use super::machine_plan::{Accelerator, MachinePlan, MachineStart, Network, RunMode};
use super::ports::{self, ChardevBackend, SerialPort, escape};
use super::shares::{Access, Share};
use super::transport::Transport;
use super::virtiofsd::DaemonSocket;

/// Value of `-sandbox`: QEMU gives up the rights that it does not need once it runs.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Paths and descriptors by which QEMU reaches the files and sockets of a plan.
#[derive(Debug)]
pub struct Wiring<'a> {
    /// What the machine begins with.
    pub contents: Contents,
    /// Memory of the machine; `None` if QEMU makes it.
    pub memory: Option<MemoryFile>,
    /// Descriptor of the connected QMP socket; `None` for a machine without QMP.
    pub qmp: Option<i32>,
    /// The shares of the plan, in its order.
    pub shares: Vec<ExportedShare<'a>>,
    /// The disks of the plan, in its order.
    pub disks: Vec<AttachedDisk<'a>>,
    /// Host's end of the serial console.
    pub console: ChardevBackend,
    /// The virtio-serial ports.
    pub ports: Vec<SerialPort>,
    /// Whether QEMU is started with [`SANDBOX`].
    pub sandbox: bool,
}

/// What a machine begins with.
#[derive(Debug)]
pub enum Contents {
    /// It boots.
    Boot {
        /// Path of the kernel.
        kernel: OsString,
        /// Path of the initrd.
        initrd: OsString,
    },
    /// It is empty, and waits for the state of a saved machine.
    Incoming,
}

/// A file that is the memory of a machine.
#[derive(Debug)]
pub struct MemoryFile {
    /// Path of the file.
    pub path: OsString,
    /// Whether what the guest writes stays in QEMU, and does not reach the file.
    pub is_private: bool,
}

/// A share, and QEMU's end of the socket to the share's virtiofsd.
#[derive(Debug)]
pub struct ExportedShare<'a> {
    /// The share.
    pub share: &'a Share,
    /// Socket to the share's virtiofsd.
    pub socket: DaemonSocket,
}

/// A disk, and the path by which QEMU opens it.
#[derive(Debug)]
pub struct AttachedDisk<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// Path for QEMU, such as `/dev/fd/6`.
    pub file: OsString,
}

impl MachinePlan {
    /// QEMU's arguments.
    #[must_use]
    pub fn qemu_arguments(&self, wiring: &Wiring<'_>) -> Vec<OsString> {
        let memory = self.memory;
        let architecture = self.architecture;
        let transport = architecture.transport;
        let accelerator = self.accelerator.name();
        let cpu = match self.accelerator {
            Accelerator::Kvm => "host",
            Accelerator::Tcg => architecture.emulated_cpu,
        };
        let machine = match (&self.machine_type, self.accelerator) {
            (Some(given), _) => given.clone(),
            (None, Accelerator::Kvm) => architecture.machine.to_owned(),
            (None, Accelerator::Tcg) => {
                [architecture.machine, architecture.emulated_properties].concat()
            }
        };
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
        list.option("-object", memory_backend(memory, wiring.memory.as_ref()));
        match &wiring.contents {
            Contents::Boot { kernel, initrd } => {
                list.option("-kernel", kernel.clone());
                list.option("-initrd", initrd.clone());
                list.option("-append", self.command_line.clone());
            }
            // The machine stands still until its devices are plugged in.
            Contents::Incoming => list.flags(["-S", "-incoming", "defer"]),
        }
        let console = wiring.console.chardev("console");
        if self.mode == (RunMode::Console { monitor: true }) {
            let mux = [&console, OsStr::new(",mux=on")];
            list.option("-chardev", mux.into_iter().collect::<OsString>());
            list.option("-mon", "chardev=console");
        } else {
            list.option("-chardev", console);
        }
        list.option("-serial", "chardev:console");
        if let Some(fd) = wiring.qmp {
            list.option("-chardev", ChardevBackend::Fd(fd).chardev("qmp"));
            list.option("-mon", "chardev=qmp,mode=control");
        }
        for (name, value) in ports::arguments(transport, &wiring.ports) {
            list.option(name, value);
        }
        if matches!(self.start, MachineStart::Orders { .. }) {
            for number in 0..self.devices_of_run() {
                list.option("-device", devices::root_port(number));
            }
            list.0.extend(self.qemu_arguments.iter().cloned());
            return list.0;
        }
        if let Network::User(published) = &self.network {
            list.option("-netdev", netdev(published));
            list.option("-device", Device::network_card(transport).option());
        }
        for (number, disk) in wiring.disks.iter().enumerate() {
            let [backend, device] = disk.options(transport, number);
            list.option("-blockdev", backend);
            list.option("-device", device);
        }
        for (number, share) in wiring.shares.iter().enumerate() {
            let [backend, device] = share.options(transport, number);
            list.option("-chardev", backend);
            list.option("-device", device);
        }
        list.0.extend(self.qemu_arguments.iter().cloned());
        list.0
    }
}

impl AttachedDisk<'_> {
    /// Values of `-blockdev` and `-device` for disk `number`.
    fn options(&self, transport: Transport, number: usize) -> [OsString; 2] {
        let read_only = match self.disk.access {
            Access::ReadOnly => "on",
            Access::ReadWrite => "off",
        };
        let head = format!(
            "driver=raw,node-name={},read-only={read_only},discard=unmap,\
             file.driver={},file.filename=",
            devices::disk_node(number),
            self.disk.backing.driver()
        );
        let backend = [head.as_bytes(), escape(&self.file).as_bytes()].concat();
        [OsString::from_vec(backend), Device::disk(transport, number).option()]
    }
}

impl ExportedShare<'_> {
    /// Values of `-chardev` and `-device` for share `number`.
    fn options(&self, transport: Transport, number: usize) -> [OsString; 2] {
        let socket = match &self.socket {
            DaemonSocket::Fd(fd) => format!("fd={fd}").into(),
            DaemonSocket::Path(path) => {
                [OsStr::new("path="), &escape(path.as_os_str())].into_iter().collect::<OsString>()
            }
        };
        let backend = OsString::from(format!("socket,id={},", devices::share_chardev(number)));
        let device = Device::share(transport, number, &self.share.tag);
        [[backend, socket].into_iter().collect(), device.option()]
    }
}

/// Value of `-netdev` for the user network with `published` ports.
fn netdev(published: &[Publish]) -> String {
    let forward = |publish| format!("hostfwd={}", devices::forward(publish));
    let head = ["user".into(), format!("id={NETDEV}")];
    head.into_iter().chain(published.iter().map(forward)).collect::<Vec<_>>().join(",")
}

/// Value of `-object` for `size` MiB of memory. virtiofsd maps it, which needs share=on.
fn memory_backend(size: u64, file: Option<&MemoryFile>) -> OsString {
    let Some(MemoryFile { path, is_private }) = file else {
        return format!("memory-backend-memfd,id=mem,size={size}M,share=on").into();
    };
    let share = if *is_private { "off" } else { "on" };
    let mut text =
        OsString::from(format!("memory-backend-file,id=mem,size={size}M,share={share},mem-path="));
    text.push(escape(path));
    text
}

/// A list of arguments that grows by one option and its value at a time.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::architecture;
    use crate::plan::disks::DiskBacking;
    use crate::plan::machine_plan::MachineStart;
    use crate::plan::shares::{MountPoint, ROOT_TAG};
    use crate::plan::virtiofsd::{self, Flavour};

    const CONSOLE: RunMode = RunMode::Console { monitor: false };

    fn plan(mode: RunMode) -> MachinePlan {
        let share = |tag: &str| Share {
            tag: tag.into(),
            source: "/r".into(),
            access: Access::ReadOnly,
            mount_point: MountPoint::Tag,
        };
        MachinePlan {
            qemu: "qemu".into(),
            architecture: architecture::named("x86_64").unwrap(),
            accelerator: Accelerator::Tcg,
            machine_type: None,
            firmware: Some("/f".into()),
            cpu: None,
            memory: 512,
            cpus: 2,
            command_line: "quiet -- \"a b\"".into(),
            mode,
            records: Vec::new(),
            start: MachineStart::Boot,
            network: Network::None,
            qemu_arguments: Vec::new(),
            virtiofsd: Some(virtiofsd::sample(Flavour::C)),
            shares: vec![share(ROOT_TAG), share("a,b")],
            disks: vec![Disk {
                path: "/d".into(),
                access: Access::ReadWrite,
                backing: DiskBacking::File,
            }],
        }
    }

    fn line(mode: RunMode, qmp: Option<i32>) -> String {
        line_of(&plan(mode), qmp)
    }

    fn line_of(plan: &MachinePlan, qmp: Option<i32>) -> String {
        let wiring = Wiring {
            contents: Contents::Boot { kernel: "/k".into(), initrd: "i".into() },
            memory: None,
            qmp,
            shares: plan
                .shares
                .iter()
                .zip([DaemonSocket::Fd(7), DaemonSocket::Path("x,y".into())])
                .map(|(share, socket)| ExportedShare { share, socket })
                .collect(),
            disks: vec![AttachedDisk { disk: &plan.disks[0], file: "/dev/fd/6".into() }],
            console: ChardevBackend::Stdio,
            ports: vec![SerialPort {
                name: "virtinit.0.stdin".into(),
                backend: ChardevBackend::Fd(8),
            }],
            sandbox: true,
        };
        let arguments = plan.qemu_arguments(&wiring);
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn shares_have_a_socket_each_and_commas_are_doubled() {
        let line = line(CONSOLE, None);
        assert!(line.contains("-chardev socket,id=fs0,fd=7 -device vhost-user-fs-pci,queue-size=1024,chardev=fs0,tag=rootfs"), "{line}");
        assert!(line.contains("-chardev socket,id=fs1,path=x,,y "), "{line}");
        assert!(line.ends_with(",tag=a,,b"), "{line}");
        assert!(!line.contains("-mon"), "{line}");
    }

    #[test]
    fn only_a_console_on_a_terminal_has_a_monitor() {
        assert!(line(RunMode::Console { monitor: true }, None).contains("mux=on"));
        assert!(!line(CONSOLE, Some(9)).contains("mux=on"));
        assert!(
            line(CONSOLE, Some(9)).contains("socket,id=qmp,fd=9 -mon chardev=qmp,mode=control")
        );
    }

    #[test]
    fn ports_disks_and_networks_become_devices() {
        let mut plan = plan(RunMode::Command { terminal: false });
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

    #[test]
    fn devices_are_on_the_bus_of_the_machine() {
        let mut plan = plan(RunMode::Command { terminal: false });
        plan.architecture = architecture::named("s390x").unwrap();
        plan.network = Network::User(Vec::new());
        let line = line_of(&plan, None);
        for part in [
            "-device virtio-serial-ccw,id=serial ",
            "-device virtio-blk-ccw,drive=disk0 ",
            "-device virtio-net-ccw,netdev=net ",
            "-device vhost-user-fs-ccw,queue-size=1024,",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("-pci"), "{line}");
    }

    #[test]
    fn mitigations_of_power_are_switched_off_for_an_emulator_only() {
        let mut plan = plan(CONSOLE);
        plan.architecture = architecture::named("ppc64le").unwrap();
        for (accelerator, is_off) in [(Accelerator::Tcg, true), (Accelerator::Kvm, false)] {
            plan.accelerator = accelerator;
            let line = line_of(&plan, None);
            assert_eq!(line.contains("pseries,x-vof=on,cap-cfpc=broken,"), is_off, "{line}");
        }
    }

    #[test]
    fn a_disk_is_raw_and_commas_in_its_path_are_doubled() {
        for (backing, driver) in
            [(DiskBacking::File, "file"), (DiskBacking::BlockDevice, "host_device")]
        {
            let disk = Disk { path: "/x".into(), access: Access::ReadOnly, backing };
            let attached = AttachedDisk { disk: &disk, file: "/a,b".into() };
            let [backend, device] = attached.options(Transport::Pci, 1);
            let expected = format!(
                "driver=raw,node-name=disk1,read-only=on,discard=unmap,file.driver={driver},\
                 file.filename=/a,,b"
            );
            assert_eq!(backend, expected.as_str());
            assert_eq!(device, "virtio-blk-pci,drive=disk1");
        }
    }
}
