//! Registries that are busy, and what they say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::server::{End, Reply, Seen, Server};
use super::{MANIFEST, PACE, Pace, open, open_at, options, text};
use crate::origin::Origin;
use crate::registry::retry::Limits;

/// A server that gives a manifest after `refusals` other answers.
fn busy(refusals: usize, refusal: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    let number = AtomicUsize::new(0);
    Server::start(move |seen| match number.fetch_add(1, Ordering::SeqCst) < refusals {
        true => refusal(seen),
        false => Reply::new(200, MANIFEST),
    })
}

fn at(server: &Server) -> super::Registry {
    open(&format!("{}/a", server.authority()), &options())
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = busy(3, move |_| Reply::new(status, ""));
        assert!(at(&server).top().is_ok(), "{status}");
        assert_eq!(server.seen().len(), 4, "{status}");
    }
}

#[test]
fn a_registry_that_stays_busy_is_left() {
    let server = busy(100, |_| Reply::new(503, "<html>"));
    let error = text(at(&server).top());
    assert!(error.ends_with("503 Service Unavailable"), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn other_refusals_are_final() {
    for status in [400, 403, 404, 410, 501] {
        let server = busy(100, move |_| Reply::new(status, ""));
        let error = text(at(&server).top());
        assert!(error.contains(&status.to_string()), "{error}");
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[test]
fn the_time_that_a_registry_asks_for_is_waited() {
    let server = busy(1, |_| Reply::new(429, "").with("Retry-After", "1"));
    let start = Instant::now();
    assert!(at(&server).top().is_ok());
    assert!(start.elapsed() >= Duration::from_secs(1));
    // A date that is past.
    let server =
        busy(2, |_| Reply::new(503, "").with("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"));
    let limits = Limits { pause: Duration::from_secs(3600), ..PACE.limits };
    let pace = Pace { limits, ..PACE };
    let registry = open_at(&format!("{}/a", server.authority()), &options(), pace);
    assert!(registry.top().is_ok());
}

#[test]
fn a_limit_that_lasts_is_told_with_what_helps() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. \u001b[31m"}]}"#;
    let server = busy(100, move |_| Reply::new(429, body).with("Retry-After", "3600"));
    let error = text(at(&server).top());
    assert!(error.contains("unauthenticated pull rate limit"), "{error}");
    assert!(error.contains("--creds") && error.contains("429"), "{error}");
    assert!(!error.contains('\u{1b}'), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_outage_is_told_from_a_refusal() {
    for (status, expected) in [
        (401, false),
        (403, false),
        (404, false),
        (400, false),
        (429, true),
        (500, true),
        (505, true),
    ] {
        let server = Server::start(move |_| Reply::new(status, ""));
        let error = open(&format!("{}/a", server.authority()), &options()).top().unwrap_err();
        assert_eq!(crate::registry::is_outage(&error), expected, "{status}");
    }
    let server = Server::start(|_| Reply::new(200, "{}").ending(End::CutAt(1)));
    let name = format!("{}/a", server.authority());
    let error = open(&name, &options()).top().unwrap_err();
    assert!(crate::registry::is_outage(&error), "broken off: {error:#}");
    drop(server);
    let error = open(&name, &options()).top().unwrap_err();
    assert!(crate::registry::is_outage(&error), "gone: {error:#}");
    let ca = vec!["/nonexistent/ca.crt".into()];
    let options = crate::registry::RegistryOptions { ca, ..options() };
    let error = open(&name, &options).top().unwrap_err();
    assert!(!crate::registry::is_outage(&error), "no file: {error:#}");
}
