//! Single requests: connections with their certificates, proxies and time limits.
//!
//! One ureq agent, with its idle connections, serves one server. Nothing is followed, decoded,
//! repeated or interpreted here: whoever asks gets the answer as it came.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use super::failure::Failure;
use super::settings::certificates;
use super::settings::environment::Environment;
use super::settings::proxy::{ProxySetting, Traffic, proxy_for};
use super::url::{Scheme, Url};

/// Name of this program in requests.
const USER_AGENT: &str = concat!("virtinitrd/", env!("CARGO_PKG_VERSION"));
/// Idle connections to a server that are kept: as many as layers are read at a time.
const IDLE_CONNECTIONS: usize = 4;
/// Most bytes of the header of an answer.
const HEADER_MAX: usize = 64 << 10;

/// Whether the certificate of a server is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verify {
    /// Yes.
    Yes,
    /// No: anybody on the way may answer.
    No,
}

/// How long parts of a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Longest time until a name has an address, and again until there is a connection.
    pub(super) connect: Duration,
    /// Longest time in which no byte comes or goes.
    pub(super) stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(20), stall: Duration::from_secs(30) }
    }
}

/// A server, as agents are kept for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Site {
    scheme: Scheme,
    authority: String,
    verify: Verify,
}

/// What is kept for a server.
#[derive(Clone)]
struct Line {
    agent: Agent,
    /// The variable and the address of the proxy, without its user and password.
    proxy: Option<(&'static str, String)>,
}

/// Makes requests.
pub(super) struct Transport {
    environment: Environment,
    /// Files of certificates that the user adds.
    ca: Vec<PathBuf>,
    patience: Patience,
    /// The host's certificates and those of `ca`; read when a server is asked by https.
    roots: OnceLock<Result<Vec<Certificate<'static>>, String>>,
    lines: Mutex<HashMap<Site, Line>>,
}

impl fmt::Debug for Transport {
    /// Without the agents: their proxies may have passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Transport {
    /// Requests that also trust the certificates in the files `ca`.
    #[must_use]
    pub(super) fn new(environment: Environment, ca: Vec<PathBuf>, patience: Patience) -> Self {
        Self { environment, ca, patience, roots: OnceLock::new(), lines: Mutex::default() }
    }

    /// Sends a request to the server of `url`. An answer of any status is an answer.
    ///
    /// # Errors
    /// Settings that cannot be used; a [`Failure`] if there is no answer.
    pub(super) fn send(
        &self,
        url: &Url,
        verify: Verify,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Body>> {
        let line = self.line(url, verify)?;
        let has_body = !request.body().is_empty();
        let answer = match has_body {
            true => line.agent.run(request),
            false => line.agent.run(request.map(|_| ())),
        };
        answer.map_err(|error| Failure::new(&url.authority, line.proxy, error).into())
    }

    /// The agent for a server. It is made when first needed.
    fn line(&self, url: &Url, verify: Verify) -> Result<Line> {
        let site = Site { scheme: url.scheme, authority: url.authority.clone(), verify };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&site) {
            return Ok(line.clone());
        }
        let line = self.connect(url, verify)?;
        lines.insert(site, line.clone());
        Ok(line)
    }

    fn connect(&self, url: &Url, verify: Verify) -> Result<Line> {
        let traffic = match url.scheme {
            Scheme::Https => Traffic::Encrypted,
            Scheme::Http => Traffic::Plain,
        };
        let of_host = || proxy_for(&self.environment, traffic, url.host(), url.port());
        let setting = (!url.is_loopback()).then(of_host).flatten();
        let proxy = setting.as_ref().map(opened).transpose()?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .max_response_header_size(HEADER_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .timeout_resolve(Some(self.patience.connect))
            .timeout_connect(Some(self.patience.connect))
            .timeout_per_read(Some(self.patience.stall))
            .timeout_per_write(Some(self.patience.stall))
            .tls_config(self.tls(url, verify)?)
            .proxy(proxy.clone())
            .build();
        let shown = |proxy: Proxy| format!("{}:{}", proxy.host(), proxy.port());
        let proxy = setting.map(|setting| setting.variable).zip(proxy.map(shown));
        Ok(Line { agent: config.new_agent(), proxy })
    }

    fn tls(&self, url: &Url, verify: Verify) -> Result<TlsConfig> {
        let tls = TlsConfig::builder();
        let roots = match (url.scheme, verify) {
            (Scheme::Http, _) => return Ok(tls.root_certs(RootCerts::new_with_certs(&[])).build()),
            (Scheme::Https, Verify::No) => {
                return Ok(tls
                    .root_certs(RootCerts::new_with_certs(&[]))
                    .disable_verification(true)
                    .build());
            }
            (Scheme::Https, Verify::Yes) => self.roots.get_or_init(|| self.read_roots()),
        };
        let mut roots = roots.clone().map_err(anyhow::Error::msg)?;
        roots.extend(certificates::of_directories(&self.environment, &url.authority)?);
        if roots.is_empty() && !url.is_loopback() {
            log::warn!(
                "this host has no certificates of authorities: install ca-certificates, or use --ca FILE"
            );
        }
        Ok(tls.root_certs(RootCerts::new_with_certs(&roots)).build())
    }

    fn read_roots(&self) -> Result<Vec<Certificate<'static>>, String> {
        let mut roots = certificates::of_host();
        for path in &self.ca {
            roots.extend(certificates::read(path).map_err(|error| format!("{error:#}"))?);
        }
        Ok(roots)
    }
}

fn opened(setting: &ProxySetting) -> Result<Proxy> {
    // The address may contain a password, so the message names only the variable.
    let proxy = Proxy::new(&setting.address);
    proxy
        .with_context(|| format!("the variable {} is not the address of a proxy", setting.variable))
}
