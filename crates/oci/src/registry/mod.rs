//! Images in registries, read by HTTP.
//!
//! Protocol: OCI distribution specification 1.1, "Pull".
//!
//! | Module | Contents |
//! |---|---|
//! | [`settings`] | what the user and the system say about registries |
//! | [`url`] | addresses, and to which of them a redirect may lead |
//! | [`transport`] | single requests, with certificates, proxies and time limits |
//! | [`failure`] | why a request has no answer, and what helps |
//! | [`refusal`] | answers that refuse a request |
//! | [`retry`] | when a request is repeated |
//! | [`exchange`] | requests with redirects and repetition |
//! | [`challenge`], [`auth`] | showing a registry who asks |
//! | [`client`] | manifests and blobs of one repository |
//! | [`download`] | a blob as a stream that survives broken connections |
//!
//! Nothing here is trusted: not the registry, and not whoever the registry points to. A
//! [`Registry`] has all its state in itself.

mod auth;
pub mod challenge;
mod client;
mod download;
mod exchange;
mod failure;
mod refusal;
mod retry;
pub mod settings;
mod transport;
mod url;

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ureq::http::Method;

use self::auth::Auth;
use self::client::{Client, IsManifest, Want, succeeded};
use self::download::Download;
use self::exchange::Exchange;
use self::retry::Limits;
pub use self::settings::login::UserPassword;
pub use self::settings::options::{Insecure, RegistryOptions};
use self::transport::{Patience, Transport};
use crate::document::manifest::{Descriptor, Media};
use crate::name::digest::Digest;
use crate::name::reference::Reference;
use crate::origin::{Origin, RawDocument};

/// How long a registry may take.
const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(20), stall: Duration::from_secs(30) };

/// One image in a registry.
#[derive(Debug)]
pub struct Registry {
    reference: Reference,
    client: Arc<Client>,
}

impl Registry {
    /// The image `reference`. Nothing is asked of the registry yet.
    ///
    /// # Errors
    /// Settings that make no sense.
    pub fn open(reference: &Reference, options: &RegistryOptions) -> Result<Self> {
        let transport = Transport::new(options.environment.clone(), options.ca.clone(), PATIENCE);
        let exchange = Arc::new(Exchange::new(transport, Limits::default()));
        let login = options.credentials.clone().map(settings::login::Login::Password);
        let auth = Auth::new(&reference.repository, move || Ok(login.clone()));
        let client =
            Client::new(exchange, auth, options.insecure, &reference.host, &reference.repository);
        Ok(Self { reference: reference.clone(), client: Arc::new(client) })
    }
}

impl Origin for Registry {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn top(&self) -> Result<RawDocument> {
        self.client.manifest(self.reference.selector())
    }

    fn top_digest(&self) -> Result<Option<Digest>> {
        match &self.reference.digest {
            Some(digest) => Ok(Some(digest.clone())),
            None => self.client.manifest_digest(self.reference.selector()),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument> {
        match Media::of(&descriptor.media_type) {
            Some(Media::Manifest | Media::Index) => {
                self.client.manifest(descriptor.digest.as_str())
            }
            _ => self.client.blob_document(&descriptor.digest),
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let client = Arc::clone(&self.client);
        let path = format!("blobs/{}", descriptor.digest);
        let limits = client.exchange().limits();
        let open = move |offset| {
            let want =
                Want { path: &path, method: Method::GET, offset, is_manifest: IsManifest::No };
            succeeded(client.ask(&want)?)
        };
        Ok(Box::new(Download::start(offset, descriptor.size, limits, open)?))
    }
}
