//! Certificates, plain http, and proxies.

use std::ffi::OsString;
use std::path::Path;

use virtinitrd_vm_tests::{has, skip};

use super::pki::Authority;
use super::server::{Reply, Server};
use super::tunnel::Tunnel;
use super::{MANIFEST, layer, open, options, options_with, text};
use crate::document::manifest::Descriptor;
use crate::origin::Origin;
use crate::registry::{Insecure, RegistryOptions, UserPassword};

/// Options that lead every host but this one to `tunnel`.
fn through(tunnel: &Tunnel, root: &Path) -> RegistryOptions {
    let url = OsString::from(tunnel.url());
    options_with(&[("HTTPS_PROXY", url.clone()), ("http_proxy", url)], root)
}

fn manifest_server(authority: &Authority, names: &str) -> Server {
    Server::start_tls(authority.server("server", names), |_| Reply::new(200, MANIFEST))
}

#[test]
fn http_is_used_on_this_machine_without_being_asked() {
    let server = Server::start(|_| Reply::new(200, MANIFEST));
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost"] {
        open(&format!("{host}:{port}/a"), &options()).top().unwrap();
    }
}

#[test]
fn addresses_of_ipv6_are_asked() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("there is no [::1]");
    }
    let server = Server::listen("[::1]:0", None, |_| Reply::new(200, MANIFEST));
    open(&format!("{}/a", server.authority()), &options()).top().unwrap();
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let config = authority.server("server", "IP:::1");
    let server = Server::listen("[::1]:0", Some(config), |_| Reply::new(200, MANIFEST));
    let options = RegistryOptions { ca: vec![authority.file()], ..options() };
    open(&format!("{}/a", server.authority()), &options).top().unwrap();
}

#[test]
fn an_authority_is_added_by_a_file() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let server = manifest_server(&authority, "IP:127.0.0.1,DNS:r.example");
    let tunnel = Tunnel::start(server.address);
    let local = format!("{}/a", server.authority());
    for (name, options) in
        [(local.as_str(), options()), ("r.example/a", through(&tunnel, dir.path()))]
    {
        let error = text(open(name, &options).top());
        assert!(error.contains("unknown authority") && error.contains("--ca FILE"), "{error}");
        let options = RegistryOptions { ca: vec![authority.file()], ..options };
        open(name, &options).top().unwrap();
    }
    assert_eq!(tunnel.asked(), ["r.example:443", "r.example:443"]);
    let missing = RegistryOptions { ca: vec![dir.path().join("none.crt")], ..options() };
    assert!(text(open(&local, &missing).top()).contains("none.crt"));
    std::fs::write(dir.path().join("empty.crt"), "no certificate").unwrap();
    let empty = RegistryOptions { ca: vec![dir.path().join("empty.crt")], ..options() };
    assert!(text(open(&local, &empty).top()).contains("no PEM block CERTIFICATE"));
}

#[test]
fn directories_of_certificates_are_read() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let server = manifest_server(&authority, "IP:127.0.0.1");
    let name = format!("{}/a", server.authority());
    let home = [("HOME", dir.path().join("home").into())];
    for place in ["etc/containers/certs.d", "etc/docker/certs.d", "home/.config/containers/certs.d"]
    {
        let options = || options_with(&home, dir.path());
        assert!(open(&name, &options()).top().is_err(), "{place}");
        let place = dir.path().join(place).join(server.authority());
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(authority.file(), place.join("any.crt")).unwrap();
        open(&name, &options()).top().unwrap();
        std::fs::remove_dir_all(place).unwrap();
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let server = manifest_server(&authority, "DNS:other.example");
    let name = format!("{}/a", server.authority());
    let options = RegistryOptions { ca: vec![authority.file()], ..options() };
    let error = text(open(&name, &options).top());
    assert!(error.contains("for another name") && error.contains("other.example"), "{error}");
    assert!(error.contains("--insecure"), "{error}");
    open(&name, &RegistryOptions { insecure: Insecure::Permit, ..options }).top().unwrap();
}

#[test]
fn a_certificate_of_an_authority_is_none_of_a_server() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = Authority::new(dir.path()).self_signed("IP:127.0.0.1");
    let server = Server::start_tls(config, |_| Reply::new(200, MANIFEST));
    let options = RegistryOptions { ca: vec![file], ..options() };
    let error = text(open(&format!("{}/a", server.authority()), &options).top());
    assert!(error.contains("is that of an authority"), "{error}");
    assert!(error.contains("CA:FALSE") && error.contains("--insecure"), "{error}");
}

#[test]
fn http_elsewhere_is_permitted_by_a_flag_only() {
    let server = Server::start(|_| Reply::new(200, MANIFEST));
    let tunnel = Tunnel::start(server.address);
    let dir = tempfile::tempdir().unwrap();
    let options = through(&tunnel, dir.path());
    assert!(open("r.example/a", &options).top().is_err());
    assert!(server.seen().is_empty());
    let options = RegistryOptions { insecure: Insecure::Permit, ..options };
    open("r.example/a", &options).top().unwrap();
    let last = tunnel.asked().pop();
    assert_eq!(last.as_deref(), Some("r.example:80"));
}

#[test]
fn an_encrypted_registry_on_this_machine_may_be_busy_at_first() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let number = std::sync::atomic::AtomicUsize::new(0);
    let config = authority.server("server", "IP:127.0.0.1");
    let server = Server::start_tls(config, move |_| {
        match number.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::new(503, ""),
            _ => Reply::new(200, MANIFEST),
        }
    });
    let options = RegistryOptions { ca: vec![authority.file()], ..options() };
    open(&format!("{}/a", server.authority()), &options).top().unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_server_without_tls_is_told() {
    // As Go's servers answer: with text instead of a handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tunnel = Tunnel::start(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.0 400 Bad Request\r\n\r\n").unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let error = text(open("r.example/a", &through(&tunnel, dir.path())).top());
    assert!(error.contains("does not speak TLS"), "{error}");
    assert!(error.contains("--insecure"), "{error}");
    server.join().unwrap();
}

#[test]
fn a_password_is_never_sent_unencrypted_to_another_machine() {
    let server = Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"));
    let tunnel = Tunnel::start(server.address);
    let dir = tempfile::tempdir().unwrap();
    let credentials = Some(UserPassword { user: "u".into(), password: "p".into() });
    let options =
        RegistryOptions { credentials, insecure: Insecure::Permit, ..through(&tunnel, dir.path()) };
    let error = text(open("r.example/a", &options).top());
    assert!(error.contains("not sent unencrypted"), "{error}");
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn an_unencrypted_answer_names_no_token_server_for_a_password() {
    if !has("openssl") {
        return;
    }
    // Whoever is on the way breaks the handshake, answers in place of the registry, and names a
    // server of his own, whose certificate is good.
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let config = authority.server("server", "IP:127.0.0.1");
    let tokens = Server::start_tls(config, |_| Reply::new(200, r#"{"token":"t"}"#));
    let challenge = format!("Bearer realm=\"https://{}/token\"", tokens.authority());
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(_) => Reply::new(200, MANIFEST),
        None => Reply::new(401, "").with("WWW-Authenticate", &challenge),
    });
    let tunnel = Tunnel::start(server.address);
    let insecure = RegistryOptions {
        ca: vec![authority.file()],
        insecure: Insecure::Permit,
        ..through(&tunnel, dir.path())
    };
    let credentials = Some(UserPassword { user: "u".into(), password: "p".into() });
    let with_password = RegistryOptions { credentials, ..insecure.clone() };
    let error = text(open("r.example/a", &with_password).top());
    assert!(error.contains("unencrypted answer of r.example"), "{error}");
    assert!(tokens.seen().is_empty());
    // What anybody gets may be asked for.
    open("r.example/a", &insecure).top().unwrap();
    // On this machine nobody is on the way.
    open(&format!("{}/a", server.authority()), &with_password).top().unwrap();
}

#[test]
fn an_encrypted_registry_leads_to_encrypted_places_only() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let plain = Server::start(|_| Reply::new(200, "x"));
    let config = authority.server("server", "DNS:r.example,DNS:cdn.example");
    let target = format!("http://{}/x", plain.authority());
    let server = Server::start_tls(config, move |seen| match seen.path.as_str() {
        "/v2/a/manifests/local" => Reply::new(307, "").with("Location", &target),
        "/v2/a/manifests/token" => {
            let challenge = format!("Bearer realm=\"{target}\"");
            Reply::new(401, "").with("WWW-Authenticate", challenge)
        }
        "/v2/a/manifests/cdn" => Reply::new(307, "").with("Location", "https://cdn.example/x"),
        _ => Reply::new(200, "x"),
    });
    let tunnel = Tunnel::start(server.address);
    let options = RegistryOptions { ca: vec![authority.file()], ..through(&tunnel, dir.path()) };
    for tag in ["local", "token"] {
        let error = text(open(&format!("r.example/a:{tag}"), &options).top());
        assert!(error.contains("not encrypted"), "{tag}: {error}");
    }
    assert!(plain.seen().is_empty(), "a registry elsewhere asks nothing of this machine");
    assert_eq!(open("r.example/a:cdn", &options).top().unwrap().bytes, b"x");
}

#[test]
fn a_layer_that_is_kept_elsewhere_is_read_without_credentials() {
    if !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let config = authority.server("server", "DNS:r.example,DNS:cdn.example");
    let server = Server::start_tls(config, |seen| match seen.header("authorization") {
        Some(_) if seen.path.starts_with("/v2/") => Reply::new(404, ""),
        None if seen.path.starts_with("/v2/") => {
            Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x")
        }
        None => Reply::part(b"layer", seen),
        Some(_) => Reply::new(400, ""),
    });
    let tunnel = Tunnel::start(server.address);
    let credentials = Some(UserPassword { user: "u".into(), password: "p".into() });
    let options =
        RegistryOptions { ca: vec![authority.file()], credentials, ..through(&tunnel, dir.path()) };
    let urls =
        ["http://cdn.example/layer", "https://cdn.example/layer"].map(str::to_owned).to_vec();
    let descriptor = Descriptor { urls, ..layer(b"layer") };
    let mut bytes = Vec::new();
    let mut blob = open("r.example/a", &options).blob(&descriptor, 1).unwrap();
    std::io::Read::read_to_end(&mut blob, &mut bytes).unwrap();
    assert_eq!(bytes, b"ayer");
}

#[test]
fn a_proxy_that_does_not_connect_is_named() {
    let server = Server::start(|_| Reply::new(200, MANIFEST));
    let tunnel = Tunnel::start(server.address);
    let dir = tempfile::tempdir().unwrap();
    let error = text(open("refused.example/a", &through(&tunnel, dir.path())).top());
    let proxy = tunnel.url().replace("http://", "");
    for part in ["403", &proxy, "HTTPS_PROXY", "NO_PROXY=refused.example"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let with = |value: String| options_with(&[("ALL_PROXY", value.into())], dir.path());
    let error = text(open("r.example/a", &with(format!("http://u:secret@{gone}"))).top());
    assert!(error.contains("refused") && error.contains("ALL_PROXY"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let error = text(open("r.example/a", &with("ftp://secret@x".to_owned())).top());
    assert!(error.contains("ALL_PROXY") && !error.contains("secret"), "{error}");
    // This machine is reached without it.
    open(&format!("{}/a", server.authority()), &with(format!("http://{gone}"))).top().unwrap();
}
