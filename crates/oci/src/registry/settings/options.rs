//! What a user says about registries.

use std::path::PathBuf;

use super::environment::Environment;
use super::login::UserPassword;

/// Whether a server may be asked by plain http, or by https with a certificate that proves
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Insecure {
    /// No; only servers on this machine may be asked by http.
    #[default]
    Refuse,
    /// Yes.
    Permit,
}

/// What a user says about registries. All of it can be left out.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// User and password for the registry that the reference names; for no other host.
    pub credentials: Option<UserPassword>,
    /// A file of credentials, in place of those that are looked up.
    pub auth_file: Option<PathBuf>,
    /// Files of certificates (PEM) of further authorities.
    pub ca: Vec<PathBuf>,
    /// Whether registries may be asked without encryption and without a valid certificate.
    pub insecure: Insecure,
    /// Where everything else comes from.
    pub environment: Environment,
}
