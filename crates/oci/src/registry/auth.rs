//! Showing a registry who asks: no request is made for it before the registry wants to know.
//!
//! Protocol: token authentication of the distribution project (`token.md`, `oauth.md`): a
//! challenge names a token server; GET with name and password, or POST with an identity token,
//! returns a token for one scope. A token is renewed before it expires, and once if the registry
//! does not take it.
//!
//! Secrets go to the registry that they are for and to the token server that it names; only
//! encrypted, unless both are on this machine. An unencrypted answer names no token server for
//! secrets either: anybody on the way could have written it. If the user gave up the check of the
//! registry's certificate, that holds for secrets, too, with a warning.

use std::cell::OnceCell;
use std::fmt;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};

use super::challenge::{Bearer, Challenge};
use super::exchange::{Ask, Attempts, Exchange, Trust, succeeded};
use super::settings::login::{Login, UserPassword};
use super::transport::Verify;
use super::url::Url;

/// Most bytes of a token server's answer; tokens have up to about 10 kB.
const TOKEN_ANSWER_MAX: u64 = 1 << 20;
/// Lifetime of a token whose server does not tell it.
const LIFETIME: Duration = Duration::from_secs(60);
/// Longest lifetime that is believed.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token is renewed so long before its end, but at most a fifth of its lifetime.
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// Name of this program at token servers.
const CLIENT: &str = "virtinitrd";

/// Finds what a user shows to a registry; called once, and only if the registry asks.
type FindLogin = dyn Fn() -> Result<Option<Login>> + Send + Sync;

/// What is shown to one registry for one repository.
pub(super) struct Auth {
    repository: String,
    find: Box<FindLogin>,
    state: Mutex<State>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("repository", &self.repository).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Empty until it was looked up.
    login: OnceCell<Option<Login>>,
    method: Option<Shown>,
}

/// What is shown with each request.
enum Shown {
    /// This header.
    Header(String),
    /// A token of the server that `bearer` names, as the registry said at the address `from`.
    Token { from: Url, bearer: Bearer, token: Option<Token> },
}

struct Token {
    header: String,
    renew_at: Instant,
}

/// Whether what is shown proves who the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// It was made of a password or a token of the user.
    Secret,
    /// Anybody gets the same.
    Public,
}

/// What follows a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same request with another header.
    Again,
    /// Nothing: there is no login, or the registry does not take it.
    Refused,
}

impl Auth {
    /// For `repository`; `find` looks up the login.
    pub(super) fn new(
        repository: &str,
        find: impl Fn() -> Result<Option<Login>> + Send + Sync + 'static,
    ) -> Self {
        let find = Box::new(find);
        Self { repository: repository.to_owned(), find, state: Mutex::default() }
    }

    /// The header `Authorization` for a request to the registry, and whether it is a secret;
    /// `None` if the registry has asked for nothing yet.
    ///
    /// # Errors
    /// A token has to be renewed and the token server refuses.
    pub(super) fn header(
        &self,
        exchange: &Exchange,
        trust: &Trust,
    ) -> Result<Option<(String, Secrecy)>> {
        let mut state = self.lock();
        let login = state.login.get().cloned().flatten();
        let secrecy = match login {
            Some(_) => Secrecy::Secret,
            None => Secrecy::Public,
        };
        let Some(shown) = &mut state.method else { return Ok(None) };
        let header = match shown {
            Shown::Header(header) => header.clone(),
            Shown::Token { token: Some(token), .. } if Instant::now() < token.renew_at => {
                token.header.clone()
            }
            Shown::Token { from, bearer, token } => {
                let server = Server { exchange, registry: from, trust };
                let new = server.token(bearer, &self.scope(bearer), login.as_ref())?;
                token.insert(new).header.clone()
            }
        };
        Ok(Some((header, secrecy)))
    }

    /// Answers the challenges of `registry`, which did not take the header `refused`.
    ///
    /// # Errors
    /// The login cannot be looked up; the challenges are of unknown kinds.
    pub(super) fn answer(
        &self,
        registry: &Url,
        trust: &Trust,
        challenges: &[Challenge],
        refused: Option<&str>,
    ) -> Result<Next> {
        let mut state = self.lock();
        let current = match &state.method {
            Some(Shown::Header(header)) => Some(header.as_str()),
            Some(Shown::Token { token, .. }) => token.as_ref().map(|token| token.header.as_str()),
            None => None,
        };
        if current != refused {
            // Another thread has answered meanwhile.
            return Ok(Next::Again);
        }
        if state.login.get().is_none() {
            let found = (self.find)();
            let found = found.with_context(|| format!("login at {}", registry.authority))?;
            if found.is_some() && !registry.is_loopback() && trust.verify(registry) == Verify::No {
                log::warn!(
                    "{}: its certificate is not checked, so whoever answers gets the login",
                    registry.authority
                );
            }
            state.login = OnceCell::from(found);
        }
        let login = state.login.get().and_then(Option::as_ref);
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        let shown = match (bearer, login) {
            (_, Some(Login::RegistryToken(token))) => Shown::Header(format!("Bearer {token}")),
            (Some(bearer), _) => {
                Shown::Token { from: registry.clone(), bearer: bearer.clone(), token: None }
            }
            (None, Some(Login::Password(login))) if challenges.contains(&Challenge::Basic) => {
                Shown::Header(basic(login))
            }
            (None, _) if challenges.contains(&Challenge::Basic) => return Ok(Next::Refused),
            _ => bail!("{}: the registry wants a login of an unknown kind", registry.authority),
        };
        if matches!(&shown, Shown::Header(header) if Some(header.as_str()) == refused) {
            return Ok(Next::Refused);
        }
        state.method = Some(shown);
        Ok(Next::Again)
    }

    /// The scope of a token: what the registry wants, as long as that is reading only.
    fn scope(&self, bearer: &Bearer) -> String {
        let only_reads = |scope: &&String| scope.split(' ').all(|one| one.ends_with(":pull"));
        let wanted = bearer.scope.as_ref().filter(only_reads);
        wanted.cloned().unwrap_or_else(|| format!("repository:{}:pull", self.repository))
    }

    /// Tokens are requested while this is locked, so that several layers share one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token server, and the address at which the registry named it.
struct Server<'a> {
    exchange: &'a Exchange,
    registry: &'a Url,
    trust: &'a Trust,
}

/// What a token server answers. The value is in one of two members.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Server<'_> {
    fn token(&self, bearer: &Bearer, scope: &str, login: Option<&Login>) -> Result<Token> {
        let asked = Instant::now();
        let realm = self.registry.join(&bearer.realm);
        let realm =
            realm.with_context(|| format!("token server of {}", self.registry.authority))?;
        ensure!(
            self.trust.may_lead(self.registry, &realm),
            "{}: its token server {realm} is not encrypted",
            self.registry.authority
        );
        ensure!(
            login.is_none() || realm.is_private(),
            "{realm}: a password is not sent unencrypted to another machine"
        );
        ensure!(
            login.is_none() || self.registry.is_private(),
            "{realm}: a password is not sent to a token server that an unencrypted answer of {} names",
            self.registry.authority
        );
        let asking = format!("ask the token server {realm}");
        let answer = self.exchange.run(&self.request(realm, bearer, scope, login));
        let answer = answer.and_then(succeeded).context(asking)?;
        let realm = answer.url.to_string();
        let at = || format!("answer of the token server {realm}");
        let mut bytes = Vec::new();
        let reader = answer.body.into_reader();
        reader.take(TOKEN_ANSWER_MAX + 1).read_to_end(&mut bytes).with_context(at)?;
        ensure!(bytes.len() as u64 <= TOKEN_ANSWER_MAX, "{}: too long", at());
        // The error of the parser may show parts of the token.
        let parsed = serde_json::from_slice::<TokenAnswer>(&bytes).ok();
        let answer = parsed.with_context(|| format!("{}: not JSON", at()))?;
        let mut given = [answer.token, answer.access_token].into_iter().flatten();
        let value = given.find(|value| !value.is_empty());
        let value = value.with_context(|| format!("{}: no token", at()))?;
        let lifetime = answer.expires_in.map_or(LIFETIME, lifetime);
        let used = lifetime.saturating_sub(RENEW_BEFORE.min(lifetime / 5));
        let renew_at = asked + used;
        Ok(Token { header: format!("Bearer {value}"), renew_at })
    }

    fn request(&self, realm: Url, bearer: &Bearer, scope: &str, login: Option<&Login>) -> Ask<'_> {
        let mut parameters = vec![("scope", scope)];
        if let Some(service) = &bearer.service {
            parameters.insert(0, ("service", service));
        }
        let mut ask = Ask {
            method: Method::GET,
            url: realm,
            headers: vec![(ACCEPT, "application/json".to_owned())],
            authorization: None,
            body: Vec::new(),
            trust: self.trust,
            attempts: Attempts::Several,
        };
        if let Some(Login::IdentityToken(token)) = login {
            parameters.insert(0, ("grant_type", "refresh_token"));
            parameters.push(("client_id", CLIENT));
            parameters.push(("refresh_token", token));
            ask.method = Method::POST;
            ask.body = encoded(&parameters).into_bytes();
            ask.headers.push((CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned()));
            return ask;
        }
        if let Some(Login::Password(login)) = login {
            ask.authorization = Some(basic(login));
            parameters.push(("account", &login.user));
        }
        let separator = if ask.url.path.contains('?') { '&' } else { '?' };
        ask.url.path = format!("{}{separator}{}", ask.url.path, encoded(&parameters));
        ask
    }
}

/// The lifetime that a token server tells, within what a clock can show. A number below zero is
/// one of a token that is over.
fn lifetime(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LIFETIME_MAX.as_secs_f64()))
}

fn basic(login: &UserPassword) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password)))
}

/// Parameters as part of an address or of a form (RFC 3986 §2.1).
fn encoded(parameters: &[(&str, &str)]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |text: &str| -> String {
        text.bytes()
            .map(|byte| match is_plain(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{}={}", one(name), one(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded() {
        let text = encoded(&[("scope", "repository:a/b:pull"), ("x", "é &=+%")]);
        assert_eq!(text, "scope=repository%3Aa%2Fb%3Apull&x=%C3%A9%20%26%3D%2B%25");
    }

    #[test]
    fn lifetimes_are_what_a_clock_can_show() {
        for (seconds, expected) in [
            (300.0, Duration::from_secs(300)),
            (0.5, Duration::from_millis(500)),
            (-1.0, Duration::ZERO),
            (1e300, LIFETIME_MAX),
        ] {
            assert_eq!(lifetime(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_scope_permits_reading_only() {
        let auth = Auth::new("a/b", || Ok(None));
        let of = |scope: &str| {
            auth.scope(&Bearer { scope: Some(scope.to_owned()), ..Bearer::default() })
        };
        assert_eq!(of("repository:mapped/a/b:pull"), "repository:mapped/a/b:pull");
        for scope in ["repository:a/b:pull,push", "repository:a/b:pull registry:catalog:*", "", "x"]
        {
            assert_eq!(of(scope), "repository:a/b:pull", "{scope}");
        }
        assert_eq!(auth.scope(&Bearer::default()), "repository:a/b:pull");
    }
}
