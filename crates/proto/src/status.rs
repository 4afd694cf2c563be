//! Exit statuses of a command, as shells and container engines use them.

/// Exit status if virtinitrd itself failed, so that the command has no status of its own.
pub const TROUBLE: u8 = 125;

/// Exit status of a command that was found but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// Exit status of a command that was not found.
pub const NOT_FOUND: u8 = 127;

/// Exit status of a command that signal N killed, less N.
pub const SIGNALLED: u8 = 128;
