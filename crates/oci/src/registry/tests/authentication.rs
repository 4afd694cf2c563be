//! Passwords and tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{Reply, Seen, Server};
use super::{MANIFEST, layer, open, options, options_with, text};
use crate::origin::Origin;
use crate::registry::{RegistryOptions, UserPassword};

/// `user:pass` as a header.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn with_password() -> RegistryOptions {
    let credentials = Some(UserPassword { user: "user".into(), password: "pass".into() });
    RegistryOptions { credentials, ..options() }
}

/// A registry that wants tokens, which `accept` judges.
fn registry(
    challenge: impl Fn() -> String + Send + Sync + 'static,
    accept: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    Server::start(move |seen| match seen.header("authorization") {
        Some(header) if accept(header) => Reply::new(200, MANIFEST),
        _ => Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"who is it?"}]}"#)
            .with("WWW-Authenticate", challenge()),
    })
}

fn bearer(tokens: &Server) -> String {
    let realm = format!("http://{}/token?fixed=1", tokens.authority());
    format!(r#"Bearer realm="{realm}",service="a, \"b\"",scope="repository:a:pull""#)
}

fn token(value: &str, lifetime: u64) -> Reply {
    Reply::new(200, format!(r#"{{"token":"{value}","expires_in":{lifetime},"more":1}}"#))
}

#[test]
fn anybody_gets_a_token_for_reading() {
    let tokens = Server::start(|_| token("t", 300));
    let challenge = bearer(&tokens);
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    let registry = open(&format!("{}/a", server.authority()), &options());
    for _ in 0..3 {
        registry.top().unwrap();
    }
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1, "one token serves all requests");
    assert_eq!(asked[0].path, "/token?fixed=1&service=a%2C%20%22b%22&scope=repository%3Aa%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(server.seen().len(), 4, "only the first request is refused");
}

#[test]
fn a_password_goes_to_the_token_server() {
    let tokens = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => Reply::new(200, r#"{"token":"","access_token":"t","expires_in":-1.5}"#),
        _ => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
    });
    let challenge = bearer(&tokens);
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    let name = format!("{}/a", server.authority());
    open(&name, &with_password()).top().unwrap();
    assert!(tokens.seen()[0].path.ends_with("&account=user"), "{:?}", tokens.seen());
    for seen in server.seen() {
        assert_ne!(seen.header("authorization"), Some(BASIC));
    }
    let error = text(open(&name, &options()).top());
    assert!(error.contains("incorrect username or password"), "{error}");
    let realm = format!("ask the token server http://{}/token:", tokens.authority());
    assert!(error.contains(&realm), "{error}");
    assert!(error.contains("--creds"), "{error}");
}

#[test]
fn a_token_that_ends_is_renewed() {
    let number = AtomicUsize::new(0);
    // The first token ends at once; the others after an hour.
    let tokens = Server::start(move |_| match number.fetch_add(1, Ordering::SeqCst) {
        0 => token("t0", 0),
        number => token(&format!("t{number}"), 3600),
    });
    let challenge = bearer(&tokens);
    let is_shut = Arc::new(AtomicBool::new(false));
    let of_registry = Arc::clone(&is_shut);
    let server = registry(
        move || challenge.clone(),
        move |header| header.starts_with("Bearer t") && !of_registry.load(Ordering::SeqCst),
    );
    let registry = open(&format!("{}/a", server.authority()), &options());
    registry.top().unwrap();
    registry.top().unwrap();
    let sent: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    let expected = [None, Some("Bearer t0"), Some("Bearer t1")].map(|it| it.map(str::to_owned));
    assert_eq!(sent, expected, "renewed before the registry refuses it");
    // The registry does not take tokens any more.
    is_shut.store(true, Ordering::SeqCst);
    assert!(text(registry.top()).contains("401"));
    assert_eq!(tokens.seen().len(), 3, "renewed once");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_token_that_is_refused_in_mid_pull_is_renewed() {
    let tokens = Server::start({
        let number = AtomicUsize::new(0);
        move |_| token(&format!("t{}", number.fetch_add(1, Ordering::SeqCst)), 3600)
    });
    let challenge = bearer(&tokens);
    let contents = b"0123456789".to_vec();
    let all = contents.clone();
    // A token is good for one request.
    let used = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let server = Server::start(move |seen: &Seen| {
        let header = seen.header("authorization").unwrap_or_default().to_owned();
        if !header.starts_with("Bearer t") || !used.lock().unwrap().insert(header) {
            return Reply::new(401, "").with("WWW-Authenticate", &challenge);
        }
        let reply = Reply::part(&all, seen);
        match seen.offset() {
            0 => reply.ending(super::server::End::CutAt(4)),
            _ => reply,
        }
    });
    let registry = open(&format!("{}/a", server.authority()), &options());
    let mut bytes = Vec::new();
    let mut blob = registry.blob(&layer(&contents), 0).unwrap();
    std::io::Read::read_to_end(&mut blob, &mut bytes).unwrap();
    assert_eq!(bytes, contents);
    assert_eq!(tokens.seen().len(), 2);
}

#[test]
fn an_identity_token_is_exchanged() {
    let tokens = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::new(200, r#"{"access_token":"t","refresh_token":"new","expires_in":60}"#),
        _ => Reply::new(400, ""),
    });
    let challenge = bearer(&tokens);
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let stored = r#"{"auth":"PHRva2VuPjo=","identitytoken":"i&d"}"#;
    std::fs::write(&file, format!(r#"{{"auths":{{"{}":{stored}}}}}"#, server.authority())).unwrap();
    let options = options_with(&[("REGISTRY_AUTH_FILE", file.into())], dir.path());
    open(&format!("{}/a", server.authority()), &options).top().unwrap();
    let asked = &tokens.seen()[0];
    assert_eq!(
        asked.body,
        "grant_type=refresh_token&service=a%2C%20%22b%22&scope=repository%3Aa%3Apull&client_id=virtinitrd&refresh_token=i%26d"
    );
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn a_password_goes_to_a_registry_that_asks_for_it() {
    let server = registry(|| "Basic realm=\"x\"".to_owned(), |header| header == BASIC);
    let name = format!("{}/a", server.authority());
    let registry = open(&name, &with_password());
    registry.top().unwrap();
    registry.top().unwrap();
    let sent: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
    let error = text(open(&name, &options()).top());
    assert!(error.contains("who is it?") && error.contains("--creds"), "{error}");
    let credentials = Some(UserPassword { user: "user".into(), password: "secret".into() });
    let wrong = RegistryOptions { credentials, ..options() };
    assert!(!format!("{wrong:?}").contains("secret"));
    let before = server.seen().len();
    let error = text(open(&name, &wrong).top());
    assert!(error.contains("401") && !error.contains("secret"), "{error}");
    assert_eq!(server.seen().len(), before + 2);
}

#[test]
fn a_token_is_preferred_and_other_challenges_are_told() {
    let tokens = Server::start(|_| token("t", 300));
    let challenge = format!("Basic realm=\"x\", {}", bearer(&tokens));
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    open(&format!("{}/a", server.authority()), &with_password()).top().unwrap();
    for challenge in ["Negotiate", "Bearer service=\"no realm\""] {
        let server = registry(move || challenge.to_owned(), |_| false);
        let error = text(open(&format!("{}/a", server.authority()), &options()).top());
        assert!(error.contains("401"), "{challenge}: {error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn token_servers_that_make_no_sense_are_errors() {
    for (answer, word) in [
        ("", "not JSON"),
        ("{}", "no token"),
        (r#"{"token":""}"#, "no token"),
        (r#"{"token":"a\nb: c"}"#, "characters that no header may have"),
    ] {
        let tokens = Server::start(move |_| Reply::new(200, answer));
        let challenge = bearer(&tokens);
        let server = registry(move || challenge.clone(), |_| true);
        // Without a token there is no answer at all.
        let error = text(open(&format!("{}/a", server.authority()), &options()).top());
        assert!(error.contains(word), "{answer}: {error}");
    }
    for (realm, word) in [
        ("http://tokens.example/", "not encrypted"),
        ("file:///etc/passwd", "neither https nor http"),
        ("https://user:pass@tokens.example/", "user name"),
    ] {
        let server = registry(move || format!("Bearer realm=\"{realm}\""), |_| false);
        let error = text(open(&format!("{}/a", server.authority()), &with_password()).top());
        assert!(error.contains(word), "{realm}: {error}");
    }
}

#[test]
fn a_token_server_that_is_busy_is_asked_again() {
    let number = AtomicUsize::new(0);
    let tokens = Server::start(move |_| match number.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "").with("Retry-After", "0"),
        1 => Reply::new(503, ""),
        _ => token("t", 300),
    });
    let challenge = bearer(&tokens);
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    open(&format!("{}/a", server.authority()), &options()).top().unwrap();
    assert_eq!(tokens.seen().len(), 3);
}

#[test]
fn layers_at_once_share_one_token() {
    let tokens = Server::start(|_| {
        // Time for the other threads to want one, too.
        std::thread::sleep(Duration::from_millis(100));
        token("t", 300)
    });
    let challenge = bearer(&tokens);
    let server = registry(move || challenge.clone(), |header| header == "Bearer t");
    let registry = open(&format!("{}/a", server.authority()), &options());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| registry.top().unwrap());
        }
    });
    assert_eq!(tokens.seen().len(), 1);
}

#[test]
fn credentials_belong_to_the_host_that_is_asked() {
    let own = registry(|| "Basic realm=\"x\"".to_owned(), |header| header == BASIC);
    let mirror =
        registry(|| "Basic realm=\"x\"".to_owned(), |header| header == "Basic bWlycm9yOnA=");
    let dir = tempfile::tempdir().unwrap();
    let (conf, auth) = (dir.path().join("registries.conf"), dir.path().join("auth.json"));
    let text_of = |own: &str, mirror: &str| {
        format!(
            "[[registry]]\nprefix = \"{own}\"\n[[registry.mirror]]\nlocation = \"{mirror}/hub\"\n"
        )
    };
    std::fs::write(&conf, text_of(&own.authority(), &mirror.authority())).unwrap();
    let stored =
        format!(r#"{{"auths":{{"{}/hub":{{"auth":"bWlycm9yOnA="}}}}}}"#, mirror.authority());
    std::fs::write(&auth, stored).unwrap();
    let variables = [("CONTAINERS_REGISTRIES_CONF", conf.into())];
    let options = RegistryOptions {
        auth_file: Some(auth),
        credentials: with_password().credentials,
        ..options_with(&variables, dir.path())
    };
    let name = format!("{}/a", own.authority());
    open(&name, &options).top().unwrap();
    assert!(own.seen().is_empty());
    // Without a login for the mirror, the registry itself is asked with its own.
    let options = RegistryOptions { auth_file: None, ..options };
    open(&name, &options).top().unwrap();
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization") != Some(BASIC)));
}

#[test]
fn a_helper_that_fails_is_named() {
    let server = registry(|| "Basic realm=\"x\"".to_owned(), |_| false);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let helpers = format!(r#"{{"credHelpers":{{"{}":"gone"}}}}"#, server.authority());
    std::fs::write(&file, helpers).unwrap();
    let options = RegistryOptions { auth_file: Some(file), ..options_with(&[], dir.path()) };
    let error = text(open(&format!("{}/a", server.authority()), &options).top());
    assert!(error.contains("docker-credential-gone"), "{error}");
}
