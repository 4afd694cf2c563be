//! The files of the network in a step: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! A file of ours lies in the machine's memory and is mounted over that of the image, so what the
//! step writes to it never reaches the layer. [`EtcFiles`] says when a step has one.

use std::path::Path;

use anyhow::Result;
use virtinitrd_step::request::{EtcFiles, HOSTNAME, Network, Request, RunDirectory};

use crate::locate::{self, locate};
use crate::mounts::{RUN, bind_mount, target};
use crate::paths;
use crate::tree::{self, Point};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Names of the loopback addresses, in a step whose image has no `/etc/hosts`.
const HOSTS_TEXT: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Permissions of a file that everybody may read.
const PUBLIC_MODE: u32 = 0o644;

/// Paths of the image at which a step may need a mount point.
pub(crate) fn points(request: &Request) -> Vec<&'static str> {
    match (request.etc, &request.network) {
        (EtcFiles::Image, Network::None) => vec![HOSTS],
        (EtcFiles::Private, _) | (_, Network::User { .. }) => vec![HOSTS, RESOLV_CONF],
    }
}

/// Mounts the files in the image at `root`.
pub(crate) fn mount_all(request: &Request, root: &Path) -> Result<()> {
    if let Some(text) = resolv_conf(request, root)? {
        let found = locate(root, Path::new(RESOLV_CONF))?;
        let file = target(root, &found, Point::File)?;
        // A program may replace a file there, which it cannot do with a mount point.
        match request.run == RunDirectory::Fresh && found.starts_with(RUN) {
            true => tree::write(&file, PUBLIC_MODE, &text)?,
            false => mount(&text, Path::new(paths::RESOLV_CONF), &file)?,
        }
    }
    let file = target(root, Path::new(HOSTS), Point::File)?;
    hosts(request, root)?.map_or(Ok(()), |text| mount(&text, Path::new(paths::HOSTS), &file))
}

/// Mounts a file with `text` at `target`, unless a device is there, such as `/dev/null` behind a
/// link: the step cannot change the layer through it.
fn mount(text: &[u8], source: &Path, target: &Path) -> Result<()> {
    if target.metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Ok(());
    }
    tree::write(source, PUBLIC_MODE, text)?;
    bind_mount(source, target)
}

/// Text of the `/etc/resolv.conf` of ours; `None` if the step has that of the image.
fn resolv_conf(request: &Request, root: &Path) -> Result<Option<Vec<u8>>> {
    match (&request.network, request.etc) {
        (Network::User { resolv_conf }, _) => Ok(Some(resolv_conf.clone())),
        (Network::None, EtcFiles::Private) => locate::read(root, RESOLV_CONF).map(Some),
        (Network::None, EtcFiles::Image) => Ok(None),
    }
}

/// Text of the `/etc/hosts` of ours; `None` if the step has that of the image.
fn hosts(request: &Request, root: &Path) -> Result<Option<Vec<u8>>> {
    let text = locate::read(root, HOSTS)?;
    match (request.etc, text.is_empty()) {
        (EtcFiles::Image, false) => Ok(None),
        (EtcFiles::Private, false) => Ok(Some(text)),
        (_, true) => Ok(Some(generated_hosts(&request.hostname))),
    }
}

fn generated_hosts(hostname: &[u8]) -> Vec<u8> {
    let mut text = HOSTS_TEXT.as_bytes().to_vec();
    if hostname != HOSTNAME {
        text.extend([b"127.0.1.1\t", hostname, b"\n"].concat());
    }
    text
}
