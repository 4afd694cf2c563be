//! Images in registries, read by HTTP.
//!
//! Protocol: OCI distribution specification 1.1, "Pull".
//!
//! | Module | Contents |
//! |---|---|
//! | [`settings`] | what the user and the system say about registries |
//! | `url` | addresses, and to which of them a redirect may lead |
//! | `transport` | single requests, with certificates, proxies and time limits |
//! | `failure` | why a request has no answer, and what helps |
//! | `refusal` | answers that refuse a request |
//! | `retry` | when a request is repeated |
//! | `exchange` | requests with redirects and repetition |
//! | [`challenge`], `auth` | showing a registry who asks |
//! | `client` | manifests and blobs of one repository |
//! | `download` | a blob or file as a stream that survives broken connections |
//! | `file` | a file by its address, which need not be that of a registry |
//!
//! Nothing here is trusted: not the registry, and not whoever the registry points to. A
//! [`Registry`] has all its state in itself.

mod auth;
pub mod challenge;
mod client;
mod download;
mod exchange;
mod failure;
mod file;
mod refusal;
mod retry;
pub mod settings;
mod transport;
mod url;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use ureq::http::Method;

use self::auth::Auth;
use self::client::{Client, IsManifest, Want};
use self::download::{Download, Size};
use self::exchange::{Answer, Ask, Attempts, Exchange, PlainRedirect, Trust, succeeded};
use self::failure::{Failure, Reason};
pub(crate) use self::file::{RemoteFile, may_continue};
use self::refusal::Refusal;
use self::retry::Limits;
use self::settings::credentials;
use self::settings::login::Login;
pub use self::settings::login::UserPassword;
use self::settings::mirrors::{Place, places};
pub use self::settings::options::{Insecure, RegistryOptions};
use self::settings::registries_conf::RegistriesConf;
use self::transport::{Patience, Transport};
use self::url::{Scheme, Url};
use crate::document::manifest::{Descriptor, Media};
use crate::name::digest::Digest;
use crate::name::reference::Reference;
use crate::origin::{Origin, RawDocument};

/// Docker Hub in references, and the host at which it is asked.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Attempts at a mirror, for a request or for a blob: there is another place to ask.
const MIRROR_ATTEMPTS: u32 = 2;

/// How long everything may take. Tests need not wait as long as people.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    patience: Patience,
    limits: Limits,
}

/// One image in a registry.
#[derive(Debug)]
pub struct Registry {
    reference: Reference,
    clients: Arc<Clients>,
}

/// The places at which the image is.
#[derive(Debug)]
struct Clients {
    /// The mirrors, in the order in which they are asked.
    mirrors: Vec<Client>,
    /// The registry itself.
    own: Client,
}

impl Clients {
    /// Gets something from the first place that has it. A mirror that has it not, or does not
    /// answer, is not asked again. The error is that of the registry itself.
    fn first<T>(&self, get: impl Fn(&Client) -> Result<T>) -> Result<T> {
        for mirror in self.mirrors.iter().filter(|mirror| mirror.is_in_use()) {
            match get(mirror) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    log::warn!("mirror {error:#}");
                    mirror.leave();
                }
            }
        }
        get(&self.own)
    }
}

impl Registry {
    /// The image `reference`. Nothing is asked of the registry yet.
    ///
    /// # Errors
    /// Settings that make no sense, or that block the registry.
    pub fn open(reference: &Reference, options: &RegistryOptions) -> Result<Self> {
        Self::open_at(reference, options, Pace::default())
    }

    fn open_at(reference: &Reference, options: &RegistryOptions, pace: Pace) -> Result<Self> {
        let conf = RegistriesConf::read(&options.environment)?;
        let mut places = places(reference, &conf)?;
        let own = places.pop().context("an image without a place")?;
        let transport =
            Transport::new(options.environment.clone(), options.ca.clone(), pace.patience);
        let transport = Arc::new(transport);
        let few = Limits { attempts: MIRROR_ATTEMPTS, ..pace.limits };
        let few = Arc::new(Exchange::new(Arc::clone(&transport), few));
        let many = Arc::new(Exchange::new(transport, pace.limits));
        let client = |place: Place, exchange: &Arc<Exchange>| {
            client(place, Arc::clone(exchange), &reference.host, options)
        };
        let mirrors = places.into_iter().map(|place| client(place, &few)).collect();
        let clients = Clients { mirrors, own: client(own, &many) };
        Ok(Self { reference: reference.clone(), clients: Arc::new(clients) })
    }

    /// A blob that a registry may not have, from the addresses in its descriptor.
    fn foreign(&self, descriptor: &Descriptor, offset: u64) -> Result<Download> {
        let mut last = None;
        for address in &descriptor.urls {
            match self.foreign_at(address, descriptor.size, offset) {
                Ok(found) => return Ok(found),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no address")?)
    }

    fn foreign_at(&self, address: &str, size: u64, offset: u64) -> Result<Download> {
        let url = Url::parse(address)?;
        ensure!(url.scheme == Scheme::Https, "the address {url} of a layer is not encrypted");
        let exchange = Arc::clone(self.clients.own.exchange());
        let trust = Trust {
            host: String::new(),
            insecure: Insecure::Refuse,
            plain_redirect: PlainRedirect::Refuse,
        };
        let limits = exchange.limits();
        let open = move |offset| -> Result<Answer> {
            succeeded(exchange.run(&Ask {
                method: Method::GET,
                url: url.clone(),
                headers: client::range(offset),
                authorization: None,
                body: Vec::new(),
                trust: &trust,
                attempts: Attempts::Several,
            })?)
        };
        Download::start(offset, Size::Exact(size), limits, open)
    }
}

/// The client for one place of an image of `named`, the host in the reference.
fn client(place: Place, exchange: Arc<Exchange>, named: &str, options: &RegistryOptions) -> Client {
    let insecure = match (options.insecure, place.insecure) {
        (Insecure::Refuse, Insecure::Refuse) => Insecure::Refuse,
        _ => Insecure::Permit,
    };
    let given = options.credentials.clone().filter(|_| place.host == named).map(Login::Password);
    let (environment, auth_file) = (options.environment.clone(), options.auth_file.clone());
    let Place { host, repository, .. } = place;
    let authority = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &host }.to_owned();
    let name = repository.clone();
    let auth = Auth::new(&repository, move || match &given {
        Some(login) => Ok(Some(login.clone())),
        None => credentials::find(&environment, auth_file.as_deref(), &host, &name),
    });
    Client::new(exchange, auth, insecure, &authority, &repository)
}

impl Origin for Registry {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn top(&self) -> Result<RawDocument> {
        self.clients.first(|client| client.manifest(self.reference.selector()))
    }

    fn top_digest(&self) -> Result<Option<Digest>> {
        match &self.reference.digest {
            Some(digest) => Ok(Some(digest.clone())),
            None => self.clients.first(|client| client.manifest_digest(self.reference.selector())),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument> {
        let digest = &descriptor.digest;
        let is_manifest =
            matches!(Media::of(&descriptor.media_type), Some(Media::Manifest | Media::Index));
        self.clients.first(|client| match is_manifest {
            true => client.manifest(digest.as_str()),
            false => client.blob_document(digest),
        })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let path = format!("blobs/{}", descriptor.digest);
        let clients = Arc::clone(&self.clients);
        let limits = clients.own.exchange().limits();
        let requests = AtomicU32::new(0);
        // The contents are the same everywhere, so another place may send the rest.
        let open = move |offset| {
            if requests.fetch_add(1, Ordering::Relaxed) >= MIRROR_ATTEMPTS {
                clients.mirrors.iter().for_each(Client::leave);
            }
            let want =
                Want { path: &path, method: Method::GET, offset, is_manifest: IsManifest::No };
            clients.first(|client| succeeded(client.ask(&want)?))
        };
        let found = Download::start(offset, Size::Exact(descriptor.size), limits, open);
        let found = match found {
            Err(error) if !descriptor.urls.is_empty() && is_missing(&error) => {
                self.foreign(descriptor, offset).context("a layer that is kept elsewhere")
            }
            found => found,
        };
        Ok(Box::new(found?))
    }

    fn leave_mirrors(&self) -> bool {
        for mirror in self.clients.mirrors.iter().filter(|mirror| mirror.is_in_use()) {
            log::warn!("mirror {}: left, because a layer was damaged", mirror.authority());
            mirror.leave();
        }
        // Another thread may have left them while this layer was read.
        !self.clients.mirrors.is_empty()
    }
}

/// Whether an error says that the registry cannot be reached, or cannot answer now, and not
/// something about the image.
#[must_use]
pub(crate) fn is_outage(error: &anyhow::Error) -> bool {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return exchange::is_passing(refusal.status) || refusal.status >= 500;
    }
    let failure = error.downcast_ref::<Failure>().map(|failure| failure.reason);
    // A connection that ends within an answer.
    let broken = || error.downcast_ref::<std::io::Error>().map(Reason::of_io);
    failure.or_else(broken).is_some_and(Reason::is_outage)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == 404)
}
