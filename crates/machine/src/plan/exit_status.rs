//! Exit statuses of chrootvm that are not the command's own.

use proto::status;

/// Exit status if chrootvm or the machine failed, as podman(1) and env(1) use it.
pub const EXIT_TROUBLE: u8 = status::TROUBLE;

/// Exit status if the time limit was reached, as timeout(1) uses it.
pub const EXIT_TIMEOUT: u8 = 124;

/// Base of the exit status if signal N ended chrootvm: the status is this number plus N, as
/// in a shell.
pub const EXIT_SIGNAL: u8 = status::SIGNALLED;
