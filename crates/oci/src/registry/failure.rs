//! Reasons why a request has no answer, and what a user can do about each.
//!
//! The reasons come from ureq(3) and, for TLS, from rustls; errors of rustls arrive either as
//! such or inside an I/O error of the handshake.

use std::fmt;
use std::io::{self, ErrorKind};

use rustls::{CertificateError, InvalidMessage};
use ureq::Timeout;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The name has no address.
    NoSuchHost,
    /// No connection comes about.
    Unreachable,
    /// Nobody listens at the port.
    Refused,
    /// The answer to a TLS handshake is no TLS.
    NotTls,
    /// The authority of the certificate is not known.
    UnknownAuthority,
    /// The certificate is for other names.
    OtherName,
    /// The certificate is not valid now.
    OtherTime,
    /// The certificate is one that certifies others. What makes certificates in one step often
    /// makes such a one.
    OfAuthority,
    /// The certificate cannot be used for another reason.
    BadCertificate,
    /// Nothing came for too long.
    TimedOut,
    /// The connection ended early.
    Broken,
    /// The proxy did not connect.
    Proxy,
    /// Anything else.
    Other,
}

/// What each reason means, and what helps; empty if nothing can be said.
#[rustfmt::skip]
const REASONS: &[(Reason, &str, &str)] = &[
    (Reason::NoSuchHost,       "no such host",                                   "is the name right, and is there a network?"),
    (Reason::Unreachable,      "no connection in time",                          "is there a network, and does it need a proxy?"),
    (Reason::Refused,          "connection refused",                             "is the server running, and is the port right?"),
    (Reason::NotTls,           "the server does not speak TLS",                  "--insecure permits http"),
    (Reason::UnknownAuthority, "its certificate is of an unknown authority",     "--ca FILE adds the authority's certificate; --insecure skips the check"),
    (Reason::OtherName,        "its certificate is for another name",            "use a name that the certificate has; --insecure skips the check"),
    (Reason::OtherTime,        "its certificate is not valid now",               "is the clock of this host right? --insecure skips the check"),
    (Reason::OfAuthority,      "its certificate is that of an authority",        "a server needs one with basicConstraints=CA:FALSE; --insecure skips the check"),
    (Reason::BadCertificate,   "its certificate cannot be used",                 "--insecure skips the check"),
    (Reason::TimedOut,         "no answer in time",                              ""),
    (Reason::Broken,           "the connection broke",                           ""),
    (Reason::Proxy,            "the proxy does not connect",                     ""),
    (Reason::Other,            "the request failed",                             ""),
];

/// Name of the error for a certificate of an authority (crate rustls-webpki, `Error`). It arrives
/// without its type.
const OF_AUTHORITY: &str = "CaUsedAsEndEntity";

impl Reason {
    /// The reason behind an error of ureq.
    #[must_use]
    pub(super) fn of(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::HostNotFound => Self::NoSuchHost,
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => Self::Unreachable,
            ureq::Error::Timeout(_) => Self::TimedOut,
            ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => Self::Proxy,
            ureq::Error::Rustls(error) => Self::of_tls(error),
            ureq::Error::Io(error) => Self::of_io(error),
            _ => Self::Other,
        }
    }

    /// The reason behind an I/O error.
    #[must_use]
    pub(super) fn of_io(error: &io::Error) -> Self {
        if let Some(inner) = error.get_ref() {
            if let Some(error) = inner.downcast_ref() {
                return Self::of_tls(error);
            }
            if let Some(error) = inner.downcast_ref() {
                return Self::of(error);
            }
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::Broken,
            _ => Self::Other,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::OtherTime,
                CertificateError::Other(other) if other.to_string().contains(OF_AUTHORITY) => {
                    Self::OfAuthority
                }
                _ => Self::BadCertificate,
            },
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            _ => Self::Other,
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub(super) fn is_passing(self) -> bool {
        matches!(self, Self::TimedOut | Self::Broken)
    }

    /// Whether a server that has answered before may answer again when the network, or the
    /// server, is back.
    #[must_use]
    pub(super) fn is_outage(self) -> bool {
        let is_gone = matches!(self, Self::NoSuchHost | Self::Unreachable | Self::Refused);
        is_gone || self.is_passing()
    }

    /// Whether the reason is what the server itself showed, proxy or not.
    fn is_of_server(self) -> bool {
        matches!(
            self,
            Self::NotTls
                | Self::UnknownAuthority
                | Self::OtherName
                | Self::OtherTime
                | Self::OfAuthority
                | Self::BadCertificate
        )
    }

    /// Whether a server that speaks plain http could answer a TLS handshake so.
    #[must_use]
    pub(super) fn may_be_plain(self) -> bool {
        matches!(self, Self::Refused | Self::NotTls | Self::Broken | Self::TimedOut)
    }
}

/// A request that has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why.
    pub(super) reason: Reason,
    /// Host and port that were asked.
    authority: String,
    /// The variable that names the proxy, and the proxy without its user and password.
    proxy: Option<(&'static str, String)>,
    /// What helps, if it is not what the row of the reason says.
    hint: Option<&'static str>,
    error: ureq::Error,
}

impl Failure {
    /// The failure of a request to `authority`, perhaps through a proxy, which is the variable
    /// that names it and its address.
    #[must_use]
    pub(super) fn new(
        authority: &str,
        proxy: Option<(&'static str, String)>,
        error: ureq::Error,
    ) -> Self {
        let authority = authority.to_owned();
        Self { reason: Reason::of(&error), authority, proxy, hint: None, error }
    }

    /// The same failure with another hint.
    #[must_use]
    pub(super) fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = REASONS.iter().find(|row| row.0 == self.reason);
        let (meaning, hint) = row.map_or(("the request failed", ""), |row| (row.1, row.2));
        let hint = self.hint.unwrap_or(hint);
        write!(f, "{}: {meaning}", self.authority)?;
        let is_known = !matches!(
            self.reason,
            Reason::Proxy | Reason::Other | Reason::BadCertificate | Reason::OtherName
        );
        if !is_known {
            write!(f, " ({})", self.error.to_string().escape_debug())?;
        }
        let Some((variable, address)) = &self.proxy else {
            return if hint.is_empty() { Ok(()) } else { write!(f, ": {hint}") };
        };
        if self.reason.is_of_server() {
            write!(f, ": {hint}")?;
        }
        let host = super::url::host_of(&self.authority);
        write!(
            f,
            "; the connection goes through the proxy {address} of the variable {variable}, NO_PROXY={host} makes it direct"
        )
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_row() {
        for reason in [
            Reason::NoSuchHost,
            Reason::Unreachable,
            Reason::Refused,
            Reason::NotTls,
            Reason::UnknownAuthority,
            Reason::OtherName,
            Reason::OtherTime,
            Reason::OfAuthority,
            Reason::BadCertificate,
            Reason::TimedOut,
            Reason::Broken,
            Reason::Proxy,
            Reason::Other,
        ] {
            assert_eq!(REASONS.iter().filter(|row| row.0 == reason).count(), 1, "{reason:?}");
        }
    }

    #[test]
    fn errors_are_recognised_inside_of_others() {
        let name = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inner = io::Error::new(ErrorKind::InvalidData, name);
        assert_eq!(Reason::of(&ureq::Error::Io(inner)), Reason::UnknownAuthority);
        for (timeout, reason) in [
            (Timeout::PerRead, Reason::TimedOut),
            (Timeout::Connect, Reason::Unreachable),
            (Timeout::Resolve, Reason::Unreachable),
        ] {
            let inner = io::Error::other(ureq::Error::Timeout(timeout));
            assert_eq!(Reason::of(&ureq::Error::Io(inner)), reason);
        }
        let reset = io::Error::from(ErrorKind::ConnectionReset);
        assert_eq!(Reason::of(&ureq::Error::Io(reset)), Reason::Broken);
    }
}
