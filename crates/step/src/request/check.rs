//! What a request may say. Host and guest check alike.

use std::collections::HashSet;

use proto::error::{Error, Result};
use proto::text::show;

use super::{Bind, Cache, Lower, MODE_MAX, Network, Request, Secret, Tmpfs};

/// Longest host name in bytes (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;

/// Longest path in bytes. The kernel's limit is 4096 (`PATH_MAX`); the machine puts its own
/// directories before the path.
const PATH_MAX: usize = 4000;

/// Most bytes of a long path in a message.
const SHOWN_MAX: usize = 100;

/// Most mounts of one step. The kernel has a limit for all mounts of a namespace
/// (`fs.mount-max`, 100,000).
pub(super) const MOUNTS_MAX: usize = 10_000;

/// Most bytes of a tmpfs: the largest file offset (`loff_t`). The kernel rounds the size up to
/// pages, and takes 0 pages for no limit.
const TMPFS_MAX: u64 = i64::MAX.cast_unsigned();

/// chown(2) takes this number for an owner that does not change.
const UNCHANGED: u32 = u32::MAX;

/// Where the file system of processes is mounted, after all mounts of the request.
const PROC: &[u8] = b"proc";

/// Most lower layers; overlayfs allows a few more (`OVL_MAX_STACK`, `fs/overlayfs/super.c`).
pub(super) const LOWERS_MAX: usize = 400;

/// Where devices are.
const DEV: &str = "/dev/";

/// Longest name of a device in `/dev`.
const DEVICE_MAX: usize = 16;

fn bad(what: &str, value: &[u8], hint: &str) -> Error {
    Error::new(format_args!("request of a step: {what} \"{}\"", show(value)), hint)
}

fn ensure(holds: bool, what: &str, value: &[u8], hint: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(bad(what, value, hint)) }
}

/// Checks a request.
///
/// # Errors
/// The first value that the guest cannot obey.
pub(super) fn check(request: &Request) -> Result<()> {
    let program = request.args.first().map_or(&[][..], Vec::as_slice);
    ensure(!program.is_empty(), "program", program, "the command needs a first word (arg=)")?;
    for variable in &request.env {
        let name = variable.iter().position(|&byte| byte == b'=');
        ensure(name > Some(0), "variable", variable, "it must be NAME=VALUE")?;
    }
    for lower in &request.lowers {
        match lower {
            Lower::Disk(device) => check_device(device)?,
            Lower::Step(number) => {
                let text = number.to_string();
                let hint = "a step is not its own lower layer";
                ensure(*number != request.number, "lower step", text.as_bytes(), hint)?;
            }
        }
    }
    let count = request.lowers.len();
    let hint = "these layers are too many: put several into one";
    ensure(count <= LOWERS_MAX, "lower count", count.to_string().as_bytes(), hint)?;
    for (index, lower) in request.lowers.iter().enumerate() {
        let is_twice = request.lowers.iter().skip(index + 1).any(|other| other == lower);
        ensure(!is_twice, "lower", format!("{lower:?}").as_bytes(), "it is given twice")?;
    }
    request.disks.iter().try_for_each(|device| check_device(device))?;
    check_path("cwd", &request.cwd)?;
    let name = &request.hostname;
    let fits = (1..=HOSTNAME_MAX).contains(&name.len());
    ensure(fits, "hostname", name, "it must have 1 to 64 bytes")?;
    check_mounts(request)?;
    texts(request)
        .try_for_each(|text| ensure(!text.contains(&0), "value", text, "it must have no NUL"))
}

fn check_mounts(request: &Request) -> Result<()> {
    let Request { binds, caches, tmpfs, secrets, .. } = request;
    let count = binds.len() + caches.len() + tmpfs.len() + secrets.len();
    let hint = "these mounts are too many: put several files into one directory";
    ensure(count <= MOUNTS_MAX, "mount count", count.to_string().as_bytes(), hint)?;
    for Bind { source, path, .. } in binds {
        check_path("source of a bind", source)?;
        check_mount_point("path of a bind", path)?;
    }
    for Cache { device, path, mode, uid, gid, .. } in caches {
        device.as_deref().map_or(Ok(()), check_device)?;
        check_mount_point("path of a cache", path)?;
        check_attributes("cache", *mode, [*uid, *gid])?;
    }
    for Tmpfs { size, path } in tmpfs {
        check_mount_point("path of a tmpfs", path)?;
        let size = size.unwrap_or(TMPFS_MAX);
        let hint = "it must be at least 1, and less than 2^63";
        let fits = (1..=TMPFS_MAX).contains(&size);
        ensure(fits, "size of a tmpfs", size.to_string().as_bytes(), hint)?;
    }
    let mut paths = HashSet::new();
    for Secret { path, mode, uid, gid, .. } in secrets {
        check_mount_point("path of a secret", path)?;
        check_attributes("secret", *mode, [*uid, *gid])?;
        let is_new = paths.insert(parts(path).collect::<Vec<_>>());
        ensure(is_new, "path of a secret", path, "it is given twice")?;
    }
    Ok(())
}

fn check_attributes(what: &str, mode: u16, owner: [u32; 2]) -> Result<()> {
    let shown = format!("{mode:o}");
    let hint = "it must be at most 7777, octal";
    ensure(mode <= MODE_MAX, &format!("mode of a {what}"), shown.as_bytes(), hint)?;
    let shown = UNCHANGED.to_string();
    let is_owner = !owner.contains(&UNCHANGED);
    ensure(is_owner, &format!("owner of a {what}"), shown.as_bytes(), "it is no user or group")
}

/// All values that are written as they are.
fn texts(request: &Request) -> impl Iterator<Item = &[u8]> {
    let resolv_conf = match &request.network {
        Network::None => None,
        Network::User { resolv_conf } => Some(resolv_conf),
    };
    let binds = request.binds.iter().flat_map(|bind| [&bind.source, &bind.path]);
    let one = [&request.cwd, &request.hostname].into_iter();
    let texts = request.args.iter().chain(&request.env).chain(&request.user).chain(one);
    let texts = texts.chain(resolv_conf).chain(binds);
    let texts = texts.chain(request.caches.iter().map(|cache| &cache.path));
    let texts = texts.chain(request.tmpfs.iter().map(|tmpfs| &tmpfs.path));
    texts.chain(request.secrets.iter().map(|secret| &secret.path)).map(Vec::as_slice)
}

/// Checks a device: its name becomes part of a mount option.
fn check_device(device: &str) -> Result<()> {
    let name = device.strip_prefix(DEV).unwrap_or_default();
    let fits = (1..=DEVICE_MAX).contains(&name.len());
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ensure(fits && is_plain, "device", device.as_bytes(), "it must be a disk such as /dev/vdb")
}

fn check_path(what: &str, path: &[u8]) -> Result<()> {
    let is_inside = parts(path).all(|part| part != b"..");
    ensure(path.starts_with(b"/") && is_inside, what, path, "it must be absolute, without ..")?;
    let shown = path.get(..SHOWN_MAX).unwrap_or(path);
    ensure(path.len() <= PATH_MAX, what, shown, "it is longer than 4000 bytes")
}

fn check_mount_point(what: &str, path: &[u8]) -> Result<()> {
    check_path(what, path)?;
    let first = parts(path).next();
    ensure(first.is_some(), what, path, "nothing can be mounted at the root of the image")?;
    ensure(first != Some(PROC), what, path, "nothing can be mounted in /proc")
}

/// The names in a path.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}
