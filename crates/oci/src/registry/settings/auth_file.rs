//! Files of credentials: what one of them says about a repository.
//!
//! Format: containers-auth.json(5), and the file `config.json` of docker, of which it is a
//! relative. Keys of `auths` are a host, a host with the first parts of a repository's name
//! (`HOST/NAMESPACE`), or an address (`https://HOST/…`). `credHelpers` names a helper for a host,
//! `credsStore` one for all hosts.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;

use super::login::{Login, UserPassword};

/// Name by which Docker Hub is known in references.
const DOCKER_HUB: &str = "docker.io";
/// Its further names, as keys of credentials.
const DOCKER_HUB_NAMES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
/// Key of Docker Hub's credentials, as docker login writes it and helpers know it.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// Prefixes of a key that is an address.
const SCHEMES: [&str; 2] = ["https://", "http://"];
/// User name of an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a file of credentials says about a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The login itself.
    Login(Login),
    /// A helper knows it.
    Helper {
        /// The helper's name, after `docker-credential-`.
        name: String,
        /// The name of the host, as helpers know it.
        server: String,
        /// Whether the helper is for this host or for all.
        coverage: Coverage,
    },
}

/// For which hosts a helper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// For one host.
    Host,
    /// For all.
    All,
}

/// A file of credentials. Unknown members are ignored, and so is an entry that makes no sense, as
/// long as nobody needs it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthFile {
    auths: Option<BTreeMap<String, Value>>,
    cred_helpers: Option<BTreeMap<String, Value>>,
    creds_store: Option<String>,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFile").finish_non_exhaustive()
    }
}

/// An entry of `auths`; empty where a helper knows the login.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    /// `USER:PASSWORD` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken")]
    registrytoken: Option<String>,
}

impl AuthFile {
    /// Parses a file.
    ///
    /// # Errors
    /// The file is not JSON of this form.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // The parser's own text may show a part of the file, and so of a password.
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            anyhow::anyhow!("line {line}, column {column}: not a file of credentials")
        })
    }

    /// What the file says about a repository, the more specific key first: `HOST/NAME/…`, and so
    /// on up to `HOST`. At a key, a helper of the host wins, then the helper for all hosts, then
    /// the entry.
    ///
    /// Several entries come out, because a helper may not know the host. One that makes no sense
    /// is an error in its place, which counts only if nothing before it has a login.
    #[must_use]
    pub fn entries(&self, host: &str, repository: &str) -> Vec<Result<Entry>> {
        let mut found = Vec::new();
        for key in keys(host, repository) {
            let is_host = key == host;
            if let Some(name) = find(self.cred_helpers.as_ref(), &key) {
                let name = name.as_str().with_context(|| format!("helper of \"{key}\": no text"));
                found.extend(helper(name, &key, Coverage::Host));
            }
            if let Some(name) = self.creds_store.as_ref().filter(|_| is_host) {
                found.extend(helper(Ok(name), &key, Coverage::All));
            }
            if let Some(stored) = find(self.auths.as_ref(), &key) {
                let login = login_of(stored).with_context(|| format!("entry \"{key}\""));
                found.extend(login.map(|login| login.map(Entry::Login)).transpose());
            }
        }
        found
    }
}

/// The entry of a helper. An empty name stands for the file itself.
fn helper(name: Result<&str>, key: &str, coverage: Coverage) -> Option<Result<Entry>> {
    let server = server_of(key).to_owned();
    match name {
        Ok("") => None,
        Ok(name) => Some(Ok(Entry::Helper { name: name.to_owned(), server, coverage })),
        Err(error) => Some(Err(error)),
    }
}

/// The login in an entry of `auths`.
fn login_of(value: &Value) -> Result<Option<Login>> {
    // The parser's own text may show a part of a password.
    let stored = Option::<Stored>::deserialize(value).ok().context("its members are not text")?;
    stored.unwrap_or_default().login()
}

/// The value of `key`, which has its usual form; written exactly so, or else in another form.
fn find<'a, T>(map: Option<&'a BTreeMap<String, T>>, key: &str) -> Option<&'a T> {
    let map = map?;
    map.get(key).or_else(|| map.iter().find(|(other, _)| normal(other) == key).map(|row| row.1))
}

impl Stored {
    fn login(&self) -> Result<Option<Login>> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Login::RegistryToken(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Login::IdentityToken(token)));
        }
        let pair = match given(&self.auth) {
            Some(auth) => {
                let bytes = BASE64.decode(auth.trim()).ok();
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                let text = text.context("\"auth\" is not text in base64")?;
                let Some((user, password)) = text.split_once(':') else {
                    bail!("\"auth\" is not USER:PASSWORD in base64");
                };
                Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
            }
            None => given(&self.username).zip(self.password.clone()),
        };
        Ok(pair.map(|(user, password)| login(user, password)))
    }
}

/// The login of a user name, which may be the one of identity tokens.
#[must_use]
pub fn login(user: String, password: String) -> Login {
    match user == TOKEN_USER {
        true => Login::IdentityToken(password),
        false => Login::Password(UserPassword { user, password }),
    }
}

/// The name of a host for helpers.
fn server_of(key: &str) -> &str {
    if key == DOCKER_HUB { DOCKER_HUB_KEY } else { key }
}

/// Keys under which a repository's credentials may be, the most specific first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let whole = format!("{host}/{repository}");
    let ends = whole.rmatch_indices('/').map(|(at, _)| at);
    std::iter::once(whole.len())
        .chain(ends)
        .filter(|&end| end >= host.len())
        .map(|end| whole[..end].to_owned())
        .collect()
}

/// A key without scheme and path of an address, with the usual name of Docker Hub.
fn normal(key: &str) -> String {
    let address = SCHEMES.iter().find_map(|scheme| key.strip_prefix(scheme));
    let name = match address {
        Some(address) => address.split('/').next().unwrap_or_default(),
        None => {
            let bare = key.trim_end_matches('/');
            bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare)
        }
    };
    let (host, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    let host = if DOCKER_HUB_NAMES.contains(&host) { DOCKER_HUB } else { host };
    format!("{host}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Entry {
        Entry::Login(Login::Password(UserPassword {
            user: user.to_owned(),
            password: password.to_owned(),
        }))
    }

    fn helper(name: &str, server: &str, coverage: Coverage) -> Entry {
        Entry::Helper { name: name.to_owned(), server: server.to_owned(), coverage }
    }

    fn entries(file: &str, host: &str, repository: &str) -> Vec<Entry> {
        let file = AuthFile::parse(file.as_bytes()).unwrap();
        file.entries(host, repository).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn the_most_specific_key_comes_first() {
        // user:pw of each key in base64.
        let file = r#"{"auths": {
            "r.example": {"auth": "aG9zdDpw"},
            "r.example/a": {"auth": "bmFtZXNwYWNlOnA="},
            "r.example/a/b": {"username": "repository", "password": "p:q"},
            "r.example/a/bc": {"auth": "b3RoZXI6cA=="}
        }}"#;
        let all =
            [password("repository", "p:q"), password("namespace", "p"), password("host", "p")];
        assert_eq!(entries(file, "r.example", "a/b"), all);
        assert_eq!(entries(file, "r.example", "a/x"), all[1..]);
        assert_eq!(entries(file, "r.example", "ab"), all[2..]);
        assert_eq!(entries(file, "r.example:443", "a/b"), []);
        assert_eq!(entries(file, "example", "a/b"), []);
    }

    #[test]
    fn names_of_one_host_are_the_same() {
        for key in [
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
            "http://docker.io",
            "registry-1.docker.io",
            "index.docker.io/v1/",
        ] {
            let file = format!(r#"{{"auths": {{"{key}": {{"auth": "aG9zdDpw"}}}}}}"#);
            let found = entries(&file, "docker.io", "library/debian");
            assert_eq!(found, [password("host", "p")], "{key}");
        }
        for key in ["http://r.example:5000", "https://r.example:5000/v2/", "r.example:5000/"] {
            let file = format!(r#"{{"auths": {{"{key}": {{"auth": "aG9zdDpw"}}}}}}"#);
            assert_eq!(entries(&file, "r.example:5000", "a"), [password("host", "p")], "{key}");
        }
    }

    #[test]
    fn an_exact_key_wins_over_another_name() {
        let file = r#"{"auths": {"https://r.example": {"auth": "bmFtZXNwYWNlOnA="},
            "r.example": {"auth": "aG9zdDpw"}}}"#;
        assert_eq!(entries(file, "r.example", "a"), [password("host", "p")]);
    }

    #[test]
    fn helpers_come_before_entries() {
        let file = r#"{"auths": {"r.example": {"auth": "aG9zdDpw"}, "docker.io": {}},
            "credHelpers": {"r.example": "one", "index.docker.io": ""},
            "credsStore": "all", "HttpHeaders": {"x": 1}}"#;
        assert_eq!(
            entries(file, "r.example", "a/b"),
            [
                helper("one", "r.example", Coverage::Host),
                helper("all", "r.example", Coverage::All),
                password("host", "p")
            ]
        );
        let hub = helper("all", "https://index.docker.io/v1/", Coverage::All);
        assert_eq!(entries(file, "docker.io", "library/debian"), [hub]);
    }

    #[test]
    fn damage_counts_only_where_it_is_needed() {
        let file = r#"{"auths": {"other": 7, "h": {"auth": 7}, "h/a": {"auth": "aG9zdDpw"}, "x": null},
            "credHelpers": {"other": 7, "h/b": [1]}}"#;
        let file = AuthFile::parse(file.as_bytes()).unwrap();
        let are_good = |host: &str, repository: &str| -> Vec<bool> {
            file.entries(host, repository).iter().map(Result::is_ok).collect()
        };
        assert_eq!(are_good("h", "a"), [true, false], "the more specific one is good");
        assert_eq!(are_good("h", "b"), [false, false]);
        assert_eq!(are_good("h", "c"), [false]);
        assert!(are_good("x", "a").is_empty(), "null stands for nothing");
        assert_eq!(are_good("other", "a"), [false, false]);
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        let one =
            |stored: &str| entries(&format!(r#"{{"auths": {{"h": {stored}}}}}"#), "h", "a").pop();
        let identity = Some(Entry::Login(Login::IdentityToken("t".to_owned())));
        assert_eq!(one(r#"{"auth": "aG9zdDpw", "identitytoken": "t"}"#), identity);
        assert_eq!(one(r#"{"username": "<token>", "password": "t"}"#), identity);
        let registry = Some(Entry::Login(Login::RegistryToken("t".to_owned())));
        assert_eq!(one(r#"{"registrytoken": "t"}"#), registry);
        assert_eq!(one(r#"{"auth": "dTpwcQ"}"#), one(r#"{"auth": "dTpwcQ=="}"#));
        assert_eq!(one(r#"{"auth": ""}"#), None);
    }

    #[test]
    fn damaged_files_show_no_password() {
        for file in ["", "7", r#"{"auths": "secret"}"#, "{\"auths\": secret"] {
            let error = AuthFile::parse(file.as_bytes()).unwrap_err();
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
        for auth in ["\"secret!\"", "\"c2VjcmV0\"", "\"//8=\"", "[\"secret\"]"] {
            let file = format!(r#"{{"auths": {{"h": {{"auth": {auth}}}}}}}"#);
            let mut entries = AuthFile::parse(file.as_bytes()).unwrap().entries("h", "a");
            let error = entries.remove(0).unwrap_err();
            let text = format!("{error:#}");
            assert!(
                text.contains("\"h\"")
                    && !text.contains(auth.trim_matches('"'))
                    && !text.contains("secret")
            );
        }
    }
}
