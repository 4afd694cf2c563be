//! Answers that refuse a request: what the registry says, in one line, and what helps.
//!
//! Format: the member `errors` of the OCI distribution specification, "Error Codes"; `error` and
//! `error_description` of RFC 6749 §5.2, which token servers use; or plain text. The text is the
//! registry's: it is bounded and shown without control characters.

use std::fmt;
use std::io::Read;

use serde::Deserialize;

use crate::shown::told;

/// Most bytes that are read of such an answer.
const BODY_MAX: u64 = 64 << 10;

/// How a user logs in.
const LOG_IN: &str =
    "log in by --creds USER:PASSWORD or --authfile FILE, or as with podman login or docker login";
/// What helps if a proxy wants a login.
const OF_PROXY: &str = "the proxy wants a user and password in its address";
/// What helps if a server does not give a file to everybody.
const NO_LOGIN: &str =
    "no user or password is sent for a file; fetch it by another program and name the copy";

/// Status, code of the registry, and what helps.
type Hint = (u16, &'static str, &'static str);

/// Hints for registries. The first row that fits is used; an empty
/// code fits each.
#[rustfmt::skip]
const HINTS: &[Hint] = &[
    (401, "",                 LOG_IN),
    (403, "",                 "the user may not read this; another user may"),
    (404, "MANIFEST_UNKNOWN", "is the tag or the digest right?"),
    (404, "BLOB_UNKNOWN",     "the registry has lost a part of the image"),
    (404, "",                 "is the name right? An image that one may not see looks so, too"),
    (407, "",                 OF_PROXY),
    (429, "",                 LOG_IN),
];

/// Hints for a file by its address. No user or password is ever sent for one.
#[rustfmt::skip]
const OF_FILES: &[Hint] = &[
    (401, "", NO_LOGIN),
    (403, "", NO_LOGIN),
    (404, "", "is the address right?"),
    (407, "", OF_PROXY),
    (410, "", "the server had the file and has removed it; another server may have it"),
    (429, "", "the server wants fewer requests; try again later"),
];

/// An answer that refuses a request.
#[derive(Debug)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    authority: String,
    reason: &'static str,
    code: String,
    text: String,
    hints: &'static [Hint],
}

impl Refusal {
    /// Reads the refusal in the body of an answer from `authority`.
    #[must_use]
    pub(super) fn read(authority: &str, status: ureq::http::StatusCode, body: impl Read) -> Self {
        let mut bytes = Vec::new();
        // A body that breaks off says as much as it does.
        if let Err(error) = body.take(BODY_MAX).read_to_end(&mut bytes) {
            log::debug!("answer of {authority}: {error}");
        }
        let (code, text) = said(&bytes);
        let reason = status.canonical_reason().unwrap_or("");
        Self {
            status: status.as_u16(),
            authority: authority.to_owned(),
            reason,
            code,
            text,
            hints: HINTS,
        }
    }

    /// The same refusal, of a request for a file by its address.
    #[must_use]
    pub(super) fn of_file(self) -> Self {
        Self { hints: OF_FILES, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.authority, self.status)?;
        let separated = [(" ", self.reason), (": ", &self.code), (": ", &self.text)];
        for (separator, text) in separated.iter().filter(|row| !row.1.is_empty()) {
            write!(f, "{separator}{text}")?;
        }
        let fits = |row: &&(u16, &str, &str)| {
            row.0 == self.status && (row.1.is_empty() || row.1.eq_ignore_ascii_case(&self.code))
        };
        match self.hints.iter().find(fits) {
            Some((_, _, hint)) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Item>,
    error: Option<serde_json::Value>,
    error_description: Option<String>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: serde_json::Value,
    message: Option<String>,
}

/// The code and the text of a body.
fn said(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(body) = serde_json::from_slice::<Body>(bytes) else {
        let is_page = text.trim_start().starts_with('<');
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return (String::new(), if is_page { String::new() } else { told(line) });
    };
    let word = |value: serde_json::Value| value.as_str().map(told).unwrap_or_default();
    match body.errors.into_iter().next() {
        Some(item) => (word(item.code), told(&item.message.unwrap_or_default())),
        None => {
            let text = body.error_description.or(body.details).or(body.message);
            (body.error.map(word).unwrap_or_default(), told(&text.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use ureq::http::StatusCode;

    use super::*;
    use crate::shown::SHOWN_MAX;

    #[test]
    fn refusals_are_one_line_that_says_what_helps() {
        let long = "x".repeat(100_000);
        for (status, body, expected) in [
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
                "r: 404 Not Found: MANIFEST_UNKNOWN: manifest unknown: is the tag or the digest right?"
                    .to_owned(),
            ),
            (
                429,
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached\nyour limit"}]}"#,
                format!(
                    "r: 429 Too Many Requests: TOOMANYREQUESTS: You have reached your limit: {LOG_IN}"
                ),
            ),
            (
                429,
                "toomanyrequests: wait\u{1b}[2J\nmore",
                format!("r: 429 Too Many Requests: toomanyrequests: wait[2J: {LOG_IN}"),
            ),
            (
                401,
                r#"{"details":"incorrect username or password"}"#,
                format!("r: 401 Unauthorized: incorrect username or password: {LOG_IN}"),
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                "r: 400 Bad Request: invalid_grant: expired".to_owned(),
            ),
            (502, "<html>\n<body>x", "r: 502 Bad Gateway".to_owned()),
            (500, &long, format!("r: 500 Internal Server Error: {}…", &long[..SHOWN_MAX])),
            (418, r#"{"errors":[{"code":7}]}"#, "r: 418 I'm a teapot".to_owned()),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = Refusal::read("r", status, body.as_bytes());
            assert_eq!(refusal.to_string(), expected);
        }
    }
}
