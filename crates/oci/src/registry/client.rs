//! One registry, for one repository: manifests and blobs by their paths.
//!
//! Protocol: OCI distribution specification, "Pull". A registry on this machine, or one that may
//! be insecure, is asked by https first; if it does not speak TLS, by http.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use ureq::http::header::{ACCEPT, HeaderName, RANGE, WWW_AUTHENTICATE};
use ureq::http::{Method, StatusCode};

use super::auth::{Auth, Next, Secrecy};
use super::challenge;
use super::exchange::{Answer, Ask, Attempts, Exchange, PlainRedirect, Trust, succeeded};
use super::failure::Failure;
use super::settings::options::Insecure;
use super::url::{Scheme, Url, host_of, is_loopback};
use crate::document::manifest::{DOCUMENT_MAX, Media};
use crate::name::digest::{Digest, Hasher};
use crate::origin::RawDocument;

/// Header of a registry with the digest of what it sends.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Attempts to read a document whose connection breaks in its middle.
const DOCUMENT_ATTEMPTS: usize = 3;

/// One registry, for one repository.
#[derive(Debug)]
pub(super) struct Client {
    exchange: Arc<Exchange>,
    auth: Auth,
    trust: Trust,
    /// Host, and port if there is one, at which the registry is asked.
    authority: String,
    repository: String,
    /// The scheme by which the registry answers; empty until it has answered.
    scheme: OnceLock<Scheme>,
    /// Set when the registry failed and there is another one to ask.
    is_left: AtomicBool,
}

/// What is asked of a registry.
#[derive(Clone, Debug)]
pub(super) struct Want<'a> {
    /// Path below that of the repository.
    pub(super) path: &'a str,
    /// HTTP method.
    pub(super) method: Method,
    /// First byte; 0 for all.
    pub(super) offset: u64,
    /// Whether it is a manifest or an index.
    pub(super) is_manifest: IsManifest,
}

/// Whether something is a manifest or an index, of which the formats have to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsManifest {
    /// It is one.
    Yes,
    /// It is a blob.
    No,
}

impl Client {
    /// The repository at `authority`.
    #[must_use]
    pub(super) fn new(
        exchange: Arc<Exchange>,
        auth: Auth,
        insecure: Insecure,
        authority: &str,
        repository: &str,
    ) -> Self {
        let trust = Trust {
            host: host_of(authority).to_owned(),
            insecure,
            plain_redirect: PlainRedirect::Refuse,
        };
        Self {
            exchange,
            auth,
            trust,
            authority: authority.to_owned(),
            repository: repository.to_owned(),
            scheme: OnceLock::new(),
            is_left: AtomicBool::new(false),
        }
    }

    /// Whether the registry is worth asking.
    pub(super) fn is_in_use(&self) -> bool {
        !self.is_left.load(Ordering::Relaxed)
    }

    /// Host, and port if there is one.
    #[must_use]
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Notes that the registry is not worth asking again.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// How requests are made.
    #[must_use]
    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Reads a manifest or an index by its tag or digest.
    ///
    /// # Errors
    /// It does not exist or cannot be read; it has another digest than `selector` or the
    /// registry says.
    pub(super) fn manifest(&self, selector: &str) -> Result<RawDocument> {
        let path = format!("manifests/{selector}");
        let document = self.document(&path, IsManifest::Yes)?;
        if let Ok(digest) = selector.parse() {
            self.compare(&document.bytes, &digest, "the manifest that was asked for")?;
        }
        Ok(document)
    }

    /// The digest of a manifest or an index, if the registry tells it without sending the
    /// document.
    ///
    /// # Errors
    /// It does not exist or cannot be read.
    pub(super) fn manifest_digest(&self, selector: &str) -> Result<Option<Digest>> {
        let path = format!("manifests/{selector}");
        let want =
            Want { path: &path, method: Method::HEAD, offset: 0, is_manifest: IsManifest::Yes };
        let answer = self.ask(&want)?;
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(None);
        }
        let answer = succeeded(answer)?;
        Ok(answer.header(&CONTENT_DIGEST).and_then(|digest| digest.parse().ok()))
    }

    /// Reads a document that is a blob.
    ///
    /// # Errors
    /// It does not exist or cannot be read; it has another digest.
    pub(super) fn blob_document(&self, digest: &Digest) -> Result<RawDocument> {
        let path = format!("blobs/{digest}");
        let document = self.document(&path, IsManifest::No)?;
        self.compare(&document.bytes, digest, "the document that was asked for")?;
        // Storage calls all blobs by one type, which says nothing about the document.
        Ok(RawDocument { media_type: String::new(), ..document })
    }

    fn document(&self, path: &str, is_manifest: IsManifest) -> Result<RawDocument> {
        let mut attempt = 1;
        loop {
            let want = Want { path, method: Method::GET, offset: 0, is_manifest };
            let answer = succeeded(self.ask(&want)?)?;
            let at = format!("{}: {path}", self.authority);
            let announced = answer.body.content_length().unwrap_or_default();
            ensure!(announced <= DOCUMENT_MAX, "{at}: {announced} bytes, more than {DOCUMENT_MAX}");
            let media_type = answer.header(&ureq::http::header::CONTENT_TYPE);
            let media_type = media_type.unwrap_or_default().to_owned();
            let told = answer.header(&CONTENT_DIGEST).map(str::to_owned);
            let mut bytes = Vec::new();
            match answer.body.into_reader().take(DOCUMENT_MAX + 1).read_to_end(&mut bytes) {
                Ok(_) => {}
                Err(error) if attempt < DOCUMENT_ATTEMPTS => {
                    log::debug!("{at}: {error}");
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error).context(at),
            }
            ensure!(bytes.len() as u64 <= DOCUMENT_MAX, "{at}: more than {DOCUMENT_MAX} bytes");
            if let Some(told) = told.and_then(|told| told.parse().ok()) {
                self.compare(&bytes, &told, "what the registry says that it sends")?;
            }
            return Ok(RawDocument { bytes, media_type });
        }
    }

    fn compare(&self, bytes: &[u8], expected: &Digest, what: &str) -> Result<()> {
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(bytes);
        let found = hasher.finish();
        ensure!(
            &found == expected,
            "{}: what the registry sends has the digest {found}; {what} has {expected}",
            self.authority
        );
        Ok(())
    }

    /// Asks the registry, and shows who asks if it wants to know. The status may be any.
    ///
    /// # Errors
    /// There is no answer; a login cannot be looked up; a token server refuses.
    pub(super) fn ask(&self, want: &Want<'_>) -> Result<Answer> {
        let is_http_permitted =
            self.trust.insecure == Insecure::Permit || is_loopback(host_of(&self.authority));
        match (self.scheme.get(), is_http_permitted) {
            (Some(scheme), _) => self.ask_by(*scheme, want, Attempts::Several),
            (None, false) => self.ask_by(Scheme::Https, want, Attempts::Several),
            (None, true) => match self.ask_by(Scheme::Https, want, Attempts::One) {
                Err(error) if may_be_plain(&error) => {
                    log::debug!("{error:#}: trying http");
                    self.ask_by(Scheme::Http, want, Attempts::Several)
                }
                outcome => outcome,
            },
        }
    }

    fn ask_by(&self, scheme: Scheme, want: &Want<'_>, attempts: Attempts) -> Result<Answer> {
        let path = format!("/v2/{}/{}", self.repository, want.path);
        let url = Url::new(scheme, &self.authority, &path);
        let (answer, shown) = self.attempt(&url, want, attempts)?;
        // Which of two threads says it first does not matter: both had an answer.
        let _ = self.scheme.set(scheme);
        let is_ours = answer.url.is_same_server(&url);
        if answer.status != StatusCode::UNAUTHORIZED || !is_ours {
            return Ok(answer);
        }
        let headers = answer.headers.get_all(WWW_AUTHENTICATE);
        let challenges: Vec<_> = headers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        if challenges.is_empty() {
            return Ok(answer);
        }
        match self.auth.answer(&url, &self.trust, &challenges, shown.as_deref())? {
            Next::Again => Ok(self.attempt(&url, want, Attempts::Several)?.0),
            Next::Refused => Ok(answer),
        }
    }

    /// Makes one request; returns also the header `Authorization` that was sent.
    fn attempt(
        &self,
        url: &Url,
        want: &Want<'_>,
        attempts: Attempts,
    ) -> Result<(Answer, Option<String>)> {
        let header = self.auth.header(&self.exchange, &self.trust)?;
        if let Some((_, Secrecy::Secret)) = header {
            ensure!(
                url.is_private(),
                "{}: a password is not sent unencrypted to another machine",
                self.authority
            );
        }
        let authorization = header.map(|header| header.0);
        let mut headers = range(want.offset);
        if want.is_manifest == IsManifest::Yes {
            headers.push((ACCEPT, Media::accepted().collect::<Vec<_>>().join(", ")));
        }
        let ask = Ask {
            method: want.method.clone(),
            url: url.clone(),
            headers,
            authorization: authorization.clone(),
            body: Vec::new(),
            trust: &self.trust,
            attempts,
        };
        Ok((self.exchange.run(&ask)?, authorization))
    }
}

/// The header that asks for the bytes from `offset` on; none for all of them.
pub(super) fn range(offset: u64) -> Vec<(HeaderName, String)> {
    match offset {
        0 => Vec::new(),
        offset => vec![(RANGE, format!("bytes={offset}-"))],
    }
}

fn may_be_plain(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.reason.may_be_plain())
}
