//! Redirects, certificates and refusals of a file by its address.

use std::io::{Read, Write};
use std::net::TcpListener;

use virtinitrd_vm_tests::has;

use super::{Sample, serving, url};
use crate::name::digest::Digest;
use crate::registry::tests::pki::Authority;
use crate::registry::tests::server::{Reply, Seen, Server};
use crate::registry::tests::tunnel::Tunnel;
use crate::registry::tests::{noise, options, options_with, text};
use crate::registry::{Insecure, RegistryOptions, UserPassword};

#[test]
fn redirects_are_followed_and_end() {
    let file = noise(1000);
    let storage = serving(&file, |_, seen, file| Reply::part(file, seen));
    let target = format!("http://{}/real", storage.authority());
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/loop" => Reply::new(302, "").with("Location", "/loop"),
        "/ftp" => Reply::new(302, "").with("Location", "ftp://user:secret@r.example/x?secret"),
        _ => Reply::new(302, "").with("Location", &target),
    });
    let sample = Sample::new();
    assert!(sample.fetch(&url(&server), &Digest::of(&file)).unwrap() == file);
    let at = |path: &str| format!("http://{}{path}", server.authority());
    let error = text(sample.fetch(&at("/loop"), &Digest::of(b"x")));
    assert!(error.contains("more than 10 redirects"), "{error}");
    let error = text(sample.fetch(&at("/ftp"), &Digest::of(b"x")));
    assert!(error.contains("neither https nor http") && !error.contains("secret"), "{error}");
}

/// The names lead to servers on this machine by a proxy, as those of other machines would.
#[test]
fn plain_http_leads_to_plain_http_and_https_does_not() {
    if !has("openssl") {
        return;
    }
    let redirects = |seen: &Seen| match seen.header("host") {
        Some("first.example") => Reply::new(302, "").with("Location", "http://second.example/x"),
        _ => Reply::new(200, "x"),
    };
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let secure = Server::start_tls(authority.server("server", "DNS:first.example"), redirects);
    let plain = Server::start(redirects);
    let (to_secure, to_plain) = (Tunnel::start(secure.address), Tunnel::start(plain.address));
    let proxies = [("https_proxy", to_secure.url().into()), ("http_proxy", to_plain.url().into())];
    let options = options_with(&proxies, dir.path());
    let options = RegistryOptions { ca: vec![authority.file()], ..options };
    let digest = Digest::of(b"x");
    let sample = Sample::new();
    let error = text(sample.fetch_by("https://first.example/x", &digest, &options));
    assert!(error.contains("a redirect to http://second.example/x, which is not"), "{error}");
    assert_eq!(sample.fetch_by("http://first.example/x", &digest, &options).unwrap(), b"x");
    assert_eq!(to_plain.asked().last().map(String::as_str), Some("second.example:80"));
}

#[test]
fn certificates_are_those_of_registries() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let server =
        Server::start_tls(authority.server("server", "IP:127.0.0.1"), |_| Reply::new(200, "x"));
    let url = format!("https://{}/x", server.authority());
    let (sample, digest) = (Sample::new(), Digest::of(b"x"));
    let error = text(sample.fetch(&url, &digest));
    assert!(error.contains("unknown authority") && error.contains("--ca FILE"), "{error}");
    for options in [
        RegistryOptions { ca: vec![authority.file()], ..options() },
        RegistryOptions { insecure: Insecure::Permit, ..options() },
    ] {
        assert_eq!(Sample::new().fetch_by(&url, &digest, &options).unwrap(), b"x");
    }
}

#[test]
fn no_credentials_are_sent() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some(_) => Reply::new(200, "x"),
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let credentials = UserPassword { user: "user".into(), password: "pass".into() };
    let dir = tempfile::tempdir().unwrap();
    let auth_file = dir.path().join("auth.json");
    let logins = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.authority());
    std::fs::write(&auth_file, logins).unwrap();
    let options =
        RegistryOptions { credentials: Some(credentials), auth_file: Some(auth_file), ..options() };
    let error = text(Sample::new().fetch_by(&url(&server), &Digest::of(b"x"), &options));
    assert!(error.contains("401") && error.contains("no user or password is sent"), "{error}");
    assert!(!error.contains("--creds"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn refusals_and_bad_addresses_say_what_helps() {
    for (status, word) in [
        (403, "fetch it by another program"),
        (404, "is the address right?"),
        (410, "another server may have it"),
        (429, "try again later"),
    ] {
        let server = Server::start(move |_| Reply::new(status, "").with("Retry-After", "3600"));
        let sample = Sample::new();
        let error = text(sample.fetch(&url(&server), &Digest::of(b"x")));
        assert!(error.contains(word) && error.contains(&status.to_string()), "{error}");
        assert!(error.contains("/dir/file.bin: ") && !error.contains("secret"), "{error}");
        assert_eq!((sample.kept(), server.seen().len()), (Vec::new(), 1), "{status}");
    }
    for (address, word) in [
        ("file:///etc/passwd", "neither https nor http"),
        ("ftp://user:secret@r.example/x?secret", "\"ftp://…@r.example/x\" is neither"),
        ("https://user:secret@r.example/x", "a user name, which is never sent"),
        ("https:///x", "not a host"),
        ("r.example/x", "neither https nor http"),
        ("", "neither https nor http"),
        ("http://127.0.0.1:1/x?secret", "connection refused: is the server running"),
    ] {
        let sample = Sample::new();
        let error = text(sample.fetch(address, &Digest::of(b"x")));
        assert!(error.contains(word) && !error.contains("secret"), "{address}: {error}");
        assert_eq!(sample.kept(), [], "{address}");
    }
}

/// As nginx does, which answers a handshake by a page.
#[test]
fn https_to_a_server_of_http_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/x?secret", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        // Until the client has read the answer and goes away.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = text(Sample::new().fetch(&url, &Digest::of(b"x")));
    assert!(error.contains("does not speak TLS: begin the address with http://"), "{error}");
    assert!(!error.contains("--insecure") && !error.contains("secret"), "{error}");
    server.join().unwrap();
}
