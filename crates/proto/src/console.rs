//! Lines that `/init` writes to the console, as far as the host recognises them.

/// Start of every line of `/init`.
pub const PREFIX: &str = "virtinit: ";

/// Start of the debug message that follows a fatal error if osbuild's port is missing.
pub const NO_PORT: &str = "the port ipc.0 did not take the message";
