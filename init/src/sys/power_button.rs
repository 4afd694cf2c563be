//! The power button of the machine, which a host presses to end it.
//!
//! Interface: kernel doc input/input.rst ("Event interface"); codes in
//! `include/uapi/linux/input-event-codes.h`. The kernel needs its drivers `button` (or
//! `gpio_keys`) and `evdev`.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;

use crate::sys::devices::Devices;
use crate::sys::file;

/// Names of the device in sysfs: by ACPI, and by the device tree of QEMU's machines for Arm.
const NAMES: &[&[u8]] = &[b"Power Button\n", b"gpio-keys\n"];

/// Size of `struct input_event` with a time of 64 bits; the type follows that time.
const EVENT: usize = 24;

/// The end of an event in which the button goes down: `EV_KEY`, `KEY_POWER` and 1, as two
/// little-endian numbers of 16 bits and one of 32 bits.
const PRESSED: [u8; 8] = [1, 0, 116, 0, 1, 0, 0, 0];

/// Opens the button. `None`: the machine has none, or the kernel lacks a driver.
#[must_use]
pub fn open(devices: &Devices) -> Option<OwnedFd> {
    let class = devices.open_class(c"class/input").ok()?;
    let names = file::names_in(&class, &|name| name.to_bytes().starts_with(b"event")).ok()?;
    for name in names {
        let path = file::c_string(&[name.as_bytes(), b"/device/name"]).ok()?;
        let title = file::read_at(class.as_fd(), &path).unwrap_or_default();
        if NAMES.contains(&&*title) {
            let node = file::c_string(&[b"input/", name.as_bytes()]).ok()?;
            return devices.open_node(&node, OFlags::RDONLY | OFlags::NONBLOCK).ok();
        }
    }
    None
}

/// Reads all events that are pending; returns whether the button was pressed.
#[must_use]
pub fn is_pressed(button: &OwnedFd) -> bool {
    let (mut event, mut is_pressed) = ([0; EVENT], false);
    while let Ok(EVENT) = rustix::io::read(button, &mut event) {
        is_pressed |= event.ends_with(&PRESSED);
    }
    is_pressed
}
