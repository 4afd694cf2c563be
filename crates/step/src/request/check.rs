//! What a request may say. Host and guest check alike.

use std::collections::HashSet;

use proto::error::{Error, Result};
use proto::text::show;

use super::{Bind, Cache, Lower, Network, Request, Secret};

/// Longest host name in bytes (`__NEW_UTS_LEN`).
const HOSTNAME_MAX: usize = 64;

/// Longest name of a secret in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

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
    for Bind { source, path, .. } in &request.binds {
        check_path("source of a bind", source)?;
        check_mount_point("path of a bind", path)?;
    }
    for Cache { device, path, .. } in &request.caches {
        device.as_deref().map_or(Ok(()), check_device)?;
        check_mount_point("path of a cache", path)?;
    }
    let mut names = HashSet::new();
    for Secret { name, .. } in &request.secrets {
        check_name(name)?;
        ensure(names.insert(name), "secret", name.as_bytes(), "it is given twice")?;
    }
    texts(request)
        .try_for_each(|text| ensure(!text.contains(&0), "value", text, "it must have no NUL"))
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
    texts.chain(request.caches.iter().map(|cache| &cache.path)).map(Vec::as_slice)
}

/// Checks a device: its name becomes part of a mount option.
fn check_device(device: &str) -> Result<()> {
    let name = device.strip_prefix(DEV).unwrap_or_default();
    let fits = (1..=DEVICE_MAX).contains(&name.len());
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ensure(fits && is_plain, "device", device.as_bytes(), "it must be a disk such as /dev/vdb")
}

fn check_path(what: &str, path: &[u8]) -> Result<()> {
    let is_inside = !path.split(|&byte| byte == b'/').any(|part| part == b"..");
    ensure(path.starts_with(b"/") && is_inside, what, path, "it must be absolute, without ..")
}

fn check_mount_point(what: &str, path: &[u8]) -> Result<()> {
    check_path(what, path)?;
    let is_below = path.split(|&byte| byte == b'/').any(|part| !part.is_empty() && part != b".");
    ensure(is_below, what, path, "nothing can be mounted at the root of the image")
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && name != "." && name != "..";
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let hint = "it must have letters, digits, dots, dashes and underscores";
    ensure(fits && is_plain, "name of a secret", name.as_bytes(), hint)
}
