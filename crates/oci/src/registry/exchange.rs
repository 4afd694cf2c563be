//! Requests with what every one of them needs: redirects are followed, and what fails for a
//! moment is repeated.
//!
//! Redirects (RFC 9110 §15.4) lead to storage of other hosts with queries that are signed. The
//! header `Authorization` never goes to another server than the one that it is meant for. A
//! redirect leads to a plain connection in three cases only: from this machine to this machine, to
//! the host that the user permitted to be insecure, and from a plain connection if the caller has
//! a digest of the contents ([`Trust::may_lead`]).

use std::fmt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use ureq::Body;
use ureq::http::header::{AUTHORIZATION, HeaderName, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use super::failure::Failure;
use super::refusal::Refusal;
use super::retry::{Limits, Retry, retry_after};
use super::settings::options::Insecure;
use super::transport::{Transport, Verify};
use super::url::{Scheme, Url};

/// Most redirects of one request.
const REDIRECTS_MAX: usize = 10;
/// Waits of at least this time are shown to the user.
const SHOWN_WAIT: Duration = Duration::from_secs(2);

/// Whether an answer that came over a plain connection may lead to a further plain connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlainRedirect {
    /// No.
    Refuse,
    /// Yes: nothing secret is sent, and a digest protects the contents.
    Permit,
}

/// The server that a user named, and what is permitted with it.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// Its host, without port.
    pub(super) host: String,
    /// What is permitted with this host. Nothing is permitted with others.
    pub(super) insecure: Insecure,
    /// What is permitted with a redirect of any host.
    pub(super) plain_redirect: PlainRedirect,
}

impl Trust {
    fn permits(&self, url: &Url) -> bool {
        self.insecure == Insecure::Permit && url.host().eq_ignore_ascii_case(&self.host)
    }

    /// Whether the certificate of the server of `url` is checked.
    #[must_use]
    pub(super) fn verify(&self, url: &Url) -> Verify {
        match self.permits(url) {
            true => Verify::No,
            false => Verify::Yes,
        }
    }

    /// Whether `url` may be asked because `from` says so.
    #[must_use]
    pub(super) fn may_lead(&self, from: &Url, url: &Url) -> bool {
        let is_local = from.is_loopback() && url.is_loopback();
        let is_plain = from.scheme == Scheme::Http && self.plain_redirect == PlainRedirect::Permit;
        url.scheme == Scheme::Https || is_local || is_plain || self.permits(url)
    }
}

/// Whether a request is made again if there is no answer for a moment. One whose answer asks for
/// it is always made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    /// No: there is another way to make it.
    One,
    /// Yes, as often as the limits permit.
    Several,
}

/// A request. It is shown without its header `Authorization` and its body, which may be a token.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    /// HTTP method.
    pub(super) method: Method,
    /// The address.
    pub(super) url: Url,
    /// Further headers.
    pub(super) headers: Vec<(HeaderName, String)>,
    /// Header `Authorization`, for the server of `url` only.
    pub(super) authorization: Option<String>,
    /// A body; empty for none. A request with a body is not redirected.
    pub(super) body: Vec<u8>,
    /// What is permitted.
    pub(super) trust: &'a Trust,
    /// Whether it is made again if there is no answer.
    pub(super) attempts: Attempts,
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, headers, attempts, .. } = self;
        let mut shown = f.debug_struct("Ask");
        let shown = shown.field("method", method).field("url", url).field("headers", headers);
        shown.field("attempts", attempts).finish_non_exhaustive()
    }
}

/// An answer. Its status is any but those of redirects.
#[derive(Debug)]
pub(super) struct Answer {
    /// The address that answered.
    pub(super) url: Url,
    /// HTTP status.
    pub(super) status: StatusCode,
    /// Headers.
    pub(super) headers: HeaderMap,
    /// The body, not yet read.
    pub(super) body: Body,
}

impl Answer {
    /// The value of a header, if it is text.
    #[must_use]
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer as an error.
    #[must_use]
    pub(super) fn refusal(self) -> Refusal {
        Refusal::read(&self.url.authority, self.status, self.body.into_reader())
    }
}

/// Makes requests.
#[derive(Debug)]
pub(super) struct Exchange {
    transport: Arc<Transport>,
    limits: Limits,
}

impl Exchange {
    /// Requests over `transport`, repeated within `limits`.
    #[must_use]
    pub(super) fn new(transport: Arc<Transport>, limits: Limits) -> Self {
        Self { transport, limits }
    }

    /// The limits of repetition.
    #[must_use]
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Makes a request. The last answer counts if all of them ask to come again.
    ///
    /// # Errors
    /// A [`Failure`] if there is no answer; a redirect that is not followed.
    pub(super) fn run(&self, ask: &Ask<'_>) -> Result<Answer> {
        let mut retry = Retry::new(self.limits);
        loop {
            let outcome = self.follow(ask);
            let asked = match &outcome {
                Ok(answer) if is_passing(answer.status.as_u16()) => {
                    let value = answer.header(&RETRY_AFTER);
                    value.and_then(|value| retry_after(value, SystemTime::now()))
                }
                Err(error) if is_passing_failure(error) && ask.attempts == Attempts::Several => {
                    None
                }
                _ => return outcome,
            };
            let Some(pause) = retry.after_failure(asked) else {
                return outcome.map_err(|error| error.context("given up after several attempts"));
            };
            let why = match &outcome {
                Ok(answer) => format!("{}: {}", answer.url.authority, answer.status),
                Err(error) => format!("{error:#}"),
            };
            tell_wait(&why, pause);
            // The connection is not needed while waiting.
            drop(outcome);
            sleep(pause);
        }
    }

    fn follow(&self, ask: &Ask<'_>) -> Result<Answer> {
        let mut url = ask.url.clone();
        let mut authorization = ask.authorization.as_deref();
        for _ in 0..=REDIRECTS_MAX {
            let request = request(ask, &url, authorization)?;
            let response = self.transport.send(&url, ask.trust.verify(&url), request)?;
            let (head, body) = response.into_parts();
            let answer = Answer { url, status: head.status, headers: head.headers, body };
            if !is_redirect(answer.status) {
                return Ok(answer);
            }
            let from = &answer.url;
            ensure!(ask.body.is_empty(), "{from}: redirects a request that has a body");
            let location = answer.header(&LOCATION);
            let location = location.with_context(|| format!("{from}: a redirect to nowhere"))?;
            let next = from.join(location).with_context(|| format!("{from}: a redirect"))?;
            ensure!(
                ask.trust.may_lead(from, &next),
                "{from}: a redirect to {next}, which is not encrypted"
            );
            authorization = authorization.filter(|_| next.is_same_server(from));
            url = next;
        }
        bail!("{}: more than {REDIRECTS_MAX} redirects", ask.url)
    }
}

/// The answer, if its status says that it is one.
///
/// # Errors
/// The refusal that it is otherwise.
pub(super) fn succeeded(answer: Answer) -> Result<Answer> {
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(answer.refusal().into()),
    }
}

fn request(ask: &Ask<'_>, url: &Url, authorization: Option<&str>) -> Result<Request<Vec<u8>>> {
    let mut builder = Request::builder().method(ask.method.clone()).uri(url.whole());
    for (name, value) in &ask.headers {
        builder = builder.header(name, value);
    }
    if let Some(value) = authorization {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            anyhow::anyhow!("{url}: the password or token has characters that no header may have")
        })?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    builder.body(ask.body.clone()).with_context(|| format!("{url}: the request"))
}

/// Reports a wait: long ones to the user.
pub(super) fn tell_wait(why: &str, pause: Duration) {
    let seconds = pause.as_secs_f32();
    let level = if pause >= SHOWN_WAIT { log::Level::Warn } else { log::Level::Debug };
    log::log!(level, "{why}: next attempt in {seconds:.0} s");
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether an HTTP status says that the same request may succeed later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn is_passing_failure(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.reason.is_passing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_without_secrets() {
        let trust = Trust {
            host: "h".to_owned(),
            insecure: Insecure::Refuse,
            plain_redirect: PlainRedirect::Refuse,
        };
        let ask = Ask {
            method: Method::POST,
            url: Url::new(Scheme::Https, "h", "/x?signature=secret"),
            headers: Vec::new(),
            authorization: Some("Basic secret".to_owned()),
            body: b"secret".to_vec(),
            trust: &trust,
            attempts: Attempts::One,
        };
        let shown = format!("{ask:?}");
        assert!(shown.contains("https://h/x") && !shown.contains("secret"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", ask.body)), "{shown}");
    }
}
