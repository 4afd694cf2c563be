//! A file by its address, which need not be that of a registry.
//!
//! Protocol: HTTP GET (RFC 9110), with the certificates, proxies, time limits, repetition and
//! continuation of blobs. No user and no password is ever sent. Because the caller knows the
//! digest of the file, plain http is good enough; an encrypted answer still leads to no plain
//! connection.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::Result;
use ureq::http::{Method, StatusCode};

use super::client::range;
use super::download::{Download, Size};
use super::exchange::{Answer, Ask, Attempts, Exchange, PlainRedirect, Trust};
use super::failure::{Failure, Reason};
use super::refusal::Refusal;
use super::settings::options::RegistryOptions;
use super::transport::Transport;
use super::url::Url;
use super::{Pace, is_outage};

/// What helps if a server with an address of https speaks http.
const PLAIN: &str = "begin the address with http:// if that is meant";

/// A file of a server. It is shown as its address, without the query.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    url: Url,
    trust: Trust,
    exchange: Arc<Exchange>,
}

impl RemoteFile {
    /// The file at `address`. Nothing is asked of its server yet. The credentials of `options` are
    /// not used.
    ///
    /// # Errors
    /// An address that is neither https nor http, or that has a user name.
    pub(crate) fn new(address: &str, options: &RegistryOptions) -> Result<Self> {
        Self::new_at(address, options, Pace::default())
    }

    /// As [`RemoteFile::new`], with other time limits.
    pub(super) fn new_at(address: &str, options: &RegistryOptions, pace: Pace) -> Result<Self> {
        let url = Url::parse(address)?;
        let trust = Trust {
            host: url.host().to_owned(),
            insecure: options.insecure,
            plain_redirect: PlainRedirect::Permit,
        };
        let transport =
            Transport::new(options.environment.clone(), options.ca.clone(), pace.patience);
        let exchange = Arc::new(Exchange::new(Arc::new(transport), pace.limits));
        Ok(Self { url, trust, exchange })
    }

    /// The bytes from `offset` on. A server that tells the size of the file must tell at most
    /// `max`; one that does not tell it may send more.
    ///
    /// # Errors
    /// There is no answer, or one that refuses; a file that is too large. [`may_continue`] tells
    /// whether bytes that were read before are still of use.
    pub(crate) fn read(&self, offset: u64, max: u64) -> Result<Box<dyn Read + Send>> {
        let file = self.clone();
        let open = move |offset| file.ask(offset);
        let limits = self.exchange.limits();
        Ok(Box::new(Download::start(offset, Size::AtMost(max), limits, open)?))
    }

    fn ask(&self, offset: u64) -> Result<Answer> {
        let answer = self.exchange.run(&Ask {
            method: Method::GET,
            url: self.url.clone(),
            headers: range(offset),
            authorization: None,
            body: Vec::new(),
            trust: &self.trust,
            attempts: Attempts::Several,
        });
        let answer = answer.map_err(hinted)?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(answer.refusal().of_file().into()),
        }
    }
}

impl fmt::Display for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// Whether the bytes of a file that were read before an error can be continued later. Otherwise
/// they, or the answer, are not what the file has.
#[must_use]
pub(crate) fn may_continue(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<Refusal>();
    let is_refused = refusal.is_some_and(|refusal| {
        // The file is not as long as what is kept of it.
        refusal.status != StatusCode::RANGE_NOT_SATISFIABLE.as_u16()
    });
    is_refused || is_outage(error) || error.is::<Failure>() || error.is::<io::Error>()
}

/// Replaces a hint that is of use only for registries.
fn hinted(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Failure>() {
        Some(failure) if failure.reason == Reason::NotTls => match error.downcast::<Failure>() {
            Ok(failure) => failure.with_hint(PLAIN).into(),
            Err(error) => error,
        },
        _ => error,
    }
}
