//! Tests with servers on this machine: a small one that misbehaves, and a real registry.

mod authentication;
mod blobs;
mod documents;
mod encryption;
mod files;
mod pki;
mod real;
mod server;
mod tunnel;
mod waiting;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::retry::Limits;
use super::settings::environment::Environment;
use super::transport::Patience;
use super::{Pace, Registry, RegistryOptions};
use crate::document::manifest::Descriptor;
use crate::name::digest::Digest;

/// Time limits of tests: short where a test waits for their end, long enough elsewhere.
const PACE: Pace = Pace {
    patience: Patience { connect: Duration::from_secs(20), stall: Duration::from_secs(20) },
    limits: Limits { attempts: 5, pause: Duration::from_millis(1), total: Duration::from_secs(5) },
};

/// A manifest without layers.
const MANIFEST: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
/// Its media type.
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Options that nothing on this machine has a part in.
fn options() -> RegistryOptions {
    options_with(&[], Path::new("/nonexistent"))
}

/// Options with variables, and with a directory in which settings are looked up.
fn options_with(variables: &[(&str, OsString)], root: &Path) -> RegistryOptions {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let find = move |name: &str| {
        variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.clone())
    };
    RegistryOptions { environment: Environment::new(find, root), ..RegistryOptions::default() }
}

fn open(reference: &str, options: &RegistryOptions) -> Registry {
    open_at(reference, options, PACE)
}

fn open_at(reference: &str, options: &RegistryOptions, pace: Pace) -> Registry {
    Registry::open_at(&reference.parse().unwrap(), options, pace).unwrap()
}

/// The text of an error.
fn text<T>(outcome: anyhow::Result<T>) -> String {
    match outcome {
        Ok(_) => panic!("an error was expected"),
        Err(error) => format!("{error:#}"),
    }
}

/// The descriptor of a layer.
fn layer(contents: &[u8]) -> Descriptor {
    serde_json::from_value(serde_json::json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": Digest::of(contents),
        "size": contents.len(),
    }))
    .unwrap()
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
