//! Certificates of authorities that may vouch for a registry.
//!
//! The host's own come from the files that OpenSSL would read, or from `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`. A user adds others by a flag, or by `*.crt` files in
//! `/etc/containers/certs.d/HOST[:PORT]` (containers-certs.d(5)), `/etc/docker/certs.d` and the
//! same directory in the user's configuration.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ureq::tls::{Certificate, PemItem};

use super::environment::Environment;
use super::is_missing;

/// Directories of certificates by host: those of the system, below `/`.
const OF_SYSTEM: [&str; 2] = ["etc/containers/certs.d", "etc/docker/certs.d"];
/// The same in the user's configuration.
const OF_USER: &str = "containers/certs.d";
/// Most bytes of a file of certificates; the host's own has about 250 kB.
const FILE_MAX: u64 = 4 << 20;

/// The certificates that the host trusts. Those that cannot be read are left out: with the rest,
/// nearly all registries can be asked.
#[must_use]
pub fn of_host() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::debug!("certificates of this host: {error}");
    }
    found.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect()
}

/// The certificates in a PEM file.
///
/// # Errors
/// The file cannot be read or has no certificate.
pub fn read(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let at = || format!("certificates in {}", path.display());
    let size = fs::metadata(path).with_context(at)?.len();
    ensure!(size <= FILE_MAX, "{}: more than {FILE_MAX} bytes", at());
    let bytes = fs::read(path).with_context(at)?;
    let items: Result<Vec<_>, _> = ureq::tls::parse_pem(&bytes).collect();
    let items = items.map_err(|error| anyhow::anyhow!("{}: {error}", at()))?;
    let is_certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    let found: Vec<_> = items.into_iter().filter_map(is_certificate).collect();
    ensure!(!found.is_empty(), "{}: no PEM block CERTIFICATE", at());
    Ok(found)
}

/// The certificates that directories hold for one host.
///
/// # Errors
/// A file that is there cannot be read.
pub fn of_directories(
    environment: &Environment,
    authority: &str,
) -> Result<Vec<Certificate<'static>>> {
    let system = OF_SYSTEM.iter().map(|dir| environment.in_system(dir));
    let dirs = environment.in_config(OF_USER).into_iter().chain(system);
    let mut found = Vec::new();
    for path in dirs.flat_map(|dir| files_of(&dir.join(authority))) {
        found.extend(read(&path)?);
    }
    Ok(found)
}

/// The `*.crt` files of a directory, by name. A missing directory is not an error.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_missing(error.kind()) => return Vec::new(),
        Err(error) => {
            log::warn!("list {}: {error}", dir.display());
            return Vec::new();
        }
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_certificate = |path: &PathBuf| path.extension().is_some_and(|name| name == "crt");
    let mut paths: Vec<_> = paths.filter(is_certificate).collect();
    paths.sort();
    paths
}
