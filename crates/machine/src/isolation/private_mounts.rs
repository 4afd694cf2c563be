//! A mount namespace of its own for one daemon: its mounts reach no other process.
//!
//! Interfaces: mount_namespaces(7), mount(2).

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// An argument of mount(2) that the call does not need.
pub(super) const NOTHING: Option<&str> = None;

/// Gives this process and its children a copy of the mounts.
///
/// # Errors
/// unshare(2) or mount(2) failed.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .context("make all mounts private")
}
