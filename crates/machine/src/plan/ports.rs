//! Virtio-serial ports, by which the streams of a session reach the guest.
//!
//! Interfaces: `-chardev` and `-device virtserialport` of qemu(1) for ports that exist
//! from the start; `getfd`, `chardev-add` and `device_add` of QMP (QEMU doc:
//! interop/qemu-qmp-ref) for ports that are plugged in later.
//!
//! Another transport for sessions, such as vsock, would change this file and
//! `crate::session::channels` on the host, and nothing else there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use proto::port::port_name;
use serde_json::{Value, json};

use super::transport::Transport;

/// Names of the streams of a session, in the order in which their ports are made.
pub const STREAMS: [&str; 4] = ["control", "stdin", "stdout", "stderr"];

/// Id of the controller of all ports.
const CONTROLLER: &str = "serial";

/// QEMU's name for the bus of the virtio-serial ports, which belongs to [`CONTROLLER`].
const BUS: &str = "serial.0";

/// The host's end of a character device of QEMU (`-chardev`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChardevBackend {
    /// A connected socket, which QEMU inherits under this number.
    Fd(i32),
    /// QEMU's standard input and output.
    Stdio,
    /// A file; QEMU appends the guest's output to it.
    File(OsString),
}

impl ChardevBackend {
    /// Value of `-chardev` for a character device named `id`.
    #[must_use]
    pub fn chardev(&self, id: &str) -> OsString {
        match self {
            ChardevBackend::Fd(fd) => format!("socket,id={id},fd={fd}").into(),
            ChardevBackend::Stdio => format!("stdio,id={id},signal=off").into(),
            ChardevBackend::File(path) => {
                let head = format!("file,id={id},append=on,path=");
                [OsStr::new(&head), &escape(path)].into_iter().collect()
            }
        }
    }
}

/// A virtio-serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// Name of the port, in the guest as well as in QEMU.
    pub name: String,
    /// Host's end of the port.
    pub backend: ChardevBackend,
}

/// QEMU's arguments for `ports`, whose controller is on the bus `transport`, as pairs of option and
/// value.
#[must_use]
pub fn arguments(transport: Transport, ports: &[SerialPort]) -> Vec<(&'static str, OsString)> {
    let device = format!("{},id={CONTROLLER}", transport.device("virtio-serial"));
    let controller = (!ports.is_empty()).then(|| ("-device", device.into()));
    let port = |SerialPort { name, backend }: &SerialPort| {
        let device = format!("virtserialport,bus={BUS},chardev={name},name={name}");
        [("-chardev", backend.chardev(name)), ("-device", device.into())]
    };
    controller.into_iter().chain(ports.iter().flat_map(port)).collect()
}

/// Descriptor of QEMU for the standard output of the command of [`unrelayed`].
pub const OUTPUT_FD: i32 = 3;

/// Descriptor of QEMU for the standard error of the command of [`unrelayed`].
pub const ERROR_FD: i32 = 4;

/// Ports of a command whose streams no chrootvm relays, as in a script: the command uses the
/// standard input of QEMU, and writes to [`OUTPUT_FD`] and [`ERROR_FD`], which must be pipes.
/// The guest's control messages go to the file `control`.
#[must_use]
pub fn unrelayed(control: &OsStr) -> Vec<SerialPort> {
    let backend = |stream| match stream {
        "stdin" => ChardevBackend::Stdio,
        "control" => ChardevBackend::File(control.to_owned()),
        "stdout" => ChardevBackend::File(format!("/dev/fd/{OUTPUT_FD}").into()),
        _ => ChardevBackend::File(format!("/dev/fd/{ERROR_FD}").into()),
    };
    let port = |stream| SerialPort { name: port_name(0, stream), backend: backend(stream) };
    STREAMS.into_iter().map(port).collect()
}

/// A QMP command and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpCommand {
    /// Name of the command.
    pub name: &'static str,
    /// Arguments, a JSON object.
    pub arguments: Value,
}

/// The commands that make a character device `id` of a connected socket, which is handed to QEMU
/// together with the first command.
#[must_use]
pub fn connect(id: &str) -> [QmpCommand; 2] {
    let address = json!({ "type": "fd", "data": { "str": id } });
    let data = json!({ "addr": address, "server": false });
    let backend = json!({ "type": "socket", "data": data });
    [
        QmpCommand { name: "getfd", arguments: json!({ "fdname": id }) },
        QmpCommand { name: "chardev-add", arguments: json!({ "id": id, "backend": backend }) },
    ]
}

/// The commands that plug in a port `name`. The socket that becomes the host's end of the
/// port is handed to QEMU together with the first command.
#[must_use]
pub fn plug(name: &str) -> [QmpCommand; 3] {
    let [getfd, chardev] = connect(name);
    let device = QmpCommand {
        name: "device_add",
        arguments: json!({
            "driver": "virtserialport", "bus": BUS, "id": name, "chardev": name, "name": name
        }),
    };
    [getfd, chardev, device]
}

/// The commands that remove a port `name`.
#[must_use]
pub fn unplug(name: &str) -> [QmpCommand; 2] {
    ["device_del", "chardev-remove"]
        .map(|command| QmpCommand { name: command, arguments: json!({ "id": name }) })
}

/// Escapes `value` for a comma-separated option of QEMU, where a comma is doubled.
#[must_use]
pub fn escape(value: &OsStr) -> OsString {
    let bytes: Vec<&[u8]> = value.as_bytes().split(|&byte| byte == b',').collect();
    OsString::from_vec(bytes.join(&b",,"[..]))
}
