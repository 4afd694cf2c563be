//! `chrootvm ROOTFS -- COMMAND`: arguments, streams, terminals, statuses, sudden ends.

pub(crate) mod arguments;
pub(crate) mod command;
pub(crate) mod command_host;
pub(crate) mod command_kills;
pub(crate) mod detach;
pub(crate) mod exec;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod report;
pub(crate) mod streams;
pub(crate) mod tty;
