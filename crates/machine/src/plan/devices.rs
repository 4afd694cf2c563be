//! Virtio devices of a machine, as options of QEMU and as commands of QMP.
//!
//! A machine that waits for orders ([`MachineStart::Orders`](super::machine_plan::MachineStart))
//! starts without the devices of its run: QEMU saves no machine with a vhost-user device. Each of
//! them has a root port, into which it is plugged before the orders. QEMU's `pcie.0` itself takes
//! no device later.
//!
//! Interfaces: `-device` of qemu(1); `device_add`, `blockdev-add` and `netdev_add` of QMP (QEMU
//! doc: interop/qemu-qmp-ref).

use std::ffi::{OsStr, OsString};

use serde_json::{Map, Value, json};

use super::disks::Disk;
use super::machine_plan::{MachinePlan, Network, Publish};
use super::ports::{self, QmpCommand, escape};
use super::shares::Access;
use super::transport::Transport;

/// A virtio device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// QEMU's name for the kind of device.
    driver: String,
    /// Its properties.
    properties: Vec<(&'static str, Value)>,
}

impl Device {
    /// The device of share `number`, with this virtiofs `tag`, on the bus `transport`.
    #[must_use]
    pub fn share(transport: Transport, number: usize, tag: &str) -> Self {
        let properties = vec![
            ("queue-size", json!(1024)),
            ("chardev", json!(share_chardev(number))),
            ("tag", json!(tag)),
        ];
        Self { driver: transport.device("vhost-user-fs"), properties }
    }

    /// The device of disk `number`, on the bus `transport`.
    #[must_use]
    pub fn disk(transport: Transport, number: usize) -> Self {
        let properties = vec![("drive", json!(disk_node(number)))];
        Self { driver: transport.device("virtio-blk"), properties }
    }

    /// The network card, on the bus `transport`.
    #[must_use]
    pub fn network_card(transport: Transport) -> Self {
        // The option ROM of a PCI device only serves to boot from the network.
        let rom = (transport == Transport::Pci).then(|| ("romfile", json!("")));
        let properties = [("netdev", json!(NETDEV))].into_iter().chain(rom).collect();
        Self { driver: transport.device("virtio-net"), properties }
    }

    /// Value of `-device`.
    #[must_use]
    pub fn option(&self) -> OsString {
        let mut text = OsString::from(&self.driver);
        for (name, value) in &self.properties {
            text.push(format!(",{name}="));
            match value {
                Value::String(value) => text.push(escape(OsStr::new(value))),
                value => text.push(value.to_string()),
            }
        }
        text
    }

    /// The command that plugs the device into `port`.
    fn plug(&self, port: usize) -> QmpCommand {
        let mut arguments: Map<_, _> = self
            .properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        arguments.insert("driver".into(), json!(self.driver));
        arguments.insert("bus".into(), json!(port_name(port)));
        arguments.insert("id".into(), json!(format!("in-{}", port_name(port))));
        QmpCommand { name: "device_add", arguments: arguments.into() }
    }
}

/// Id of the user network.
pub const NETDEV: &str = "net";

/// Name of the character device of share `number`.
#[must_use]
pub fn share_chardev(number: usize) -> String {
    format!("fs{number}")
}

/// Name of the block node of disk `number`.
#[must_use]
pub fn disk_node(number: usize) -> String {
    format!("disk{number}")
}

/// Name of root port `number`.
fn port_name(number: usize) -> String {
    format!("port{number}")
}

/// Value of `-device` for root port `number`. A guest without a driver for it, as on aarch64, never
/// switches its power on, and with a power controller QEMU hides the device behind it till then.
#[must_use]
pub fn root_port(number: usize) -> String {
    let name = port_name(number);
    let chassis = number + 1;
    format!("pcie-root-port,id={name},chassis={chassis},power_controller_present=off")
}

/// The commands that plug in one device and what is behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugging {
    /// The commands, in their order.
    pub commands: Vec<QmpCommand>,
    /// Number of the share whose socket goes with the first command.
    pub share: Option<usize>,
}

impl MachinePlan {
    /// Number of devices that only this run has.
    #[must_use]
    pub fn devices_of_run(&self) -> usize {
        self.shares.len() + self.disks.len() + usize::from(self.network != Network::None)
    }

    /// How the devices of the run are plugged in. QEMU opens the disks by the paths `disk_files`.
    ///
    /// The network card and the disks come first: if the root is a disk, the guest calls it
    /// `/dev/vda`.
    #[must_use]
    pub fn pluggings(&self, disk_files: &[String]) -> Vec<Plugging> {
        let transport = self.architecture.transport;
        let mut list = Vec::new();
        if let Network::User(published) = &self.network {
            let backend = QmpCommand { name: "netdev_add", arguments: netdev(published) };
            let device = Device::network_card(transport).plug(list.len());
            list.push(Plugging { commands: vec![backend, device], share: None });
        }
        for (number, (disk, file)) in self.disks.iter().zip(disk_files).enumerate() {
            let backend = QmpCommand { name: "blockdev-add", arguments: node(number, disk, file) };
            let device = Device::disk(transport, number).plug(list.len());
            list.push(Plugging { commands: vec![backend, device], share: None });
        }
        for (number, share) in self.shares.iter().enumerate() {
            let mut commands = Vec::from(ports::connect(&share_chardev(number)));
            commands.push(Device::share(transport, number, &share.tag).plug(list.len()));
            list.push(Plugging { commands, share: Some(number) });
        }
        list
    }
}

/// Rule of slirp for a forwarded port.
#[must_use]
pub fn forward(publish: &Publish) -> String {
    let Publish { address, host, guest, protocol } = publish;
    format!("{protocol}:{address}:{host}-:{guest}")
}

fn netdev(published: &[Publish]) -> Value {
    let rules: Vec<_> = published.iter().map(|one| json!({ "str": forward(one) })).collect();
    json!({ "type": "user", "id": NETDEV, "hostfwd": rules })
}

/// The block node of a disk; always raw, as on the command line.
fn node(number: usize, disk: &Disk, file: &str) -> Value {
    json!({
        "driver": "raw",
        "node-name": disk_node(number),
        "read-only": disk.access == Access::ReadOnly,
        "discard": "unmap",
        "file": { "driver": disk.backing.driver(), "filename": file },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::disks::DiskBacking;

    #[test]
    fn options_double_commas_and_commands_keep_types() {
        let share = Device::share(Transport::Pci, 1, "a,b");
        assert_eq!(share.option(), "vhost-user-fs-pci,queue-size=1024,chardev=fs1,tag=a,,b");
        let QmpCommand { name, arguments } = share.plug(2);
        let expected = json!({
            "driver": "vhost-user-fs-pci", "queue-size": 1024, "chardev": "fs1", "tag": "a,b",
            "bus": "port2", "id": "in-port2",
        });
        assert_eq!((name, arguments), ("device_add", expected));
        for (transport, card) in [
            (Transport::Pci, "virtio-net-pci,netdev=net,romfile="),
            (Transport::Ccw, "virtio-net-ccw,netdev=net"),
        ] {
            assert_eq!(Device::network_card(transport).option(), card);
        }
        let port = "pcie-root-port,id=port0,chassis=1,power_controller_present=off";
        assert_eq!(root_port(0), port);
    }

    #[test]
    fn nodes_are_raw_and_read_only_as_the_guest_may_use_them() {
        for (access, is_read_only) in [(Access::ReadOnly, true), (Access::ReadWrite, false)] {
            let disk = Disk { path: "/d".into(), access, backing: DiskBacking::BlockDevice };
            let node = node(3, &disk, "/dev/fd/9");
            assert_eq!(node["driver"], "raw");
            assert_eq!(node["read-only"], is_read_only);
            assert_eq!(node["file"], json!({ "driver": "host_device", "filename": "/dev/fd/9" }));
        }
    }

    #[test]
    fn published_ports_become_rules() {
        let publish =
            Publish { address: [127, 0, 0, 1].into(), host: 80, guest: 8, protocol: "tcp" };
        assert_eq!(netdev(&[publish])["hostfwd"], json!([{ "str": "tcp:127.0.0.1:80-:8" }]));
    }
}
