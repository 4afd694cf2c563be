//! Reports of the boot: messages on the kernel log and the consoles, the kernel's own
//! messages, and the watch on a boot that hangs.
//!
//! No file here decides about the boot. Imports `sys` and `rt`.

pub mod kernel_log;
pub(crate) mod log;
pub mod logger;
pub mod watch;
