//! Parts that a group of options adds to a run, in addition to values of its own.
//!
//! A new option that needs modules, settings of the guest or arguments of QEMU adds them
//! where it is declared; the plan takes the sum of all groups.

use std::ffi::OsString;

/// Parts of a run that several groups of options add to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Additions {
    /// Words of the kernel command line.
    pub(super) words: Vec<String>,
    /// Records of [`proto::settings`] for the guest.
    pub(super) records: Vec<Vec<u8>>,
    /// Modules that `/init` loads before it mounts the root, in this order.
    pub(super) modules: Vec<String>,
    /// Arguments of QEMU.
    pub(super) qemu_arguments: Vec<OsString>,
}

impl Additions {
    /// These parts, followed by the `others`.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.words.extend(others.words);
        self.records.extend(others.records);
        self.modules.extend(others.modules);
        self.qemu_arguments.extend(others.qemu_arguments);
        self
    }
}
