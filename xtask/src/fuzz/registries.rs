//! Targets for the texts around registries: references of images, challenges of registries, and
//! the files that say who asks and where.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, ensure};
use oci::name::location::Location;
use oci::name::reference::Reference;
use oci::registry::challenge;
use oci::registry::settings::auth_file::AuthFile;
use oci::registry::settings::mirrors::places;
use oci::registry::settings::registries_conf::{self, RegistriesConf};

use super::input::Answer;

/// A digest that has the right form.
const DIGEST: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Words of references and locations.
#[rustfmt::skip]
pub(super) const REFERENCE_WORDS: &[&str] = &[
    "oci:", "docker://", "oci-layout:", "oci-archive:", "docker-archive:", "docker.io", "localhost",
    "library/", ":latest", ":5000", "@sha256:", "@sha512:", "[::1]", "/", "//", "..", ".", "_", "__",
    "-", "A", "é", "\0", DIGEST,
];

/// Words of challenges.
#[rustfmt::skip]
pub(super) const CHALLENGE_WORDS: &[&str] = &[
    "Basic", "Bearer", "realm=", "service=", "scope=", "\"", "\\", ",", " ", "=", "==", "\t", ";", "é",
];

/// Words of files of credentials.
#[rustfmt::skip]
pub(super) const CREDENTIAL_WORDS: &[&str] = &[
    "\"auths\":", "\"credHelpers\":", "\"credsStore\":", "\"auth\":", "\"identitytoken\":",
    "\"registrytoken\":", "\"username\":", "\"password\":", "\"dXNlcjpwYXNz\"", "\"r.example\"",
    "\"r.example/a\"", "\"https://r.example/v1/\"", "{", "}", "[", "]", ":", ",", "null", "\\u0000",
];

/// Words of `registries.conf`.
#[rustfmt::skip]
pub(super) const CONF_WORDS: &[&str] = &[
    "[[registry]]\n", "[[registry.mirror]]\n", "prefix = ", "location = ", "insecure = true\n",
    "blocked = true\n", "mirror-by-digest-only = true\n", "pull-from-mirror = \"digest-only\"\n",
    "\"r.example\"\n", "\"*.example\"\n", "\"r.example/a\"\n", "\"*\"\n", "\"/\"\n", "\"\"\n", "*.",
];

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Seeds of references and locations.
pub(super) fn references() -> Vec<Vec<u8>> {
    let with_digest = format!("oci:r.example:5000/a/b-c__d.e:1{DIGEST}");
    let layout = format!("oci-layout:/tmp/a:b/c{DIGEST}");
    bytes(&[
        "oci:debian",
        "docker://acme/app:1.2",
        "oci:[::1]:5000/a",
        "oci-archive:/tmp/x.tar:tag",
        "docker-archive:-:acme/app:1",
        &with_digest,
        &layout,
    ])
}

/// Rules for every reference: it is shown as a text that is the same reference, and no part of it
/// leaves a directory or an address.
pub(super) fn check_reference(input: &[u8]) -> Result<Answer> {
    let Ok(Some(location)) = Location::parse(OsStr::from_bytes(input)) else {
        return Ok(Answer::Refused);
    };
    let Location::Registry(reference) = location else { return Ok(Answer::Accepted) };
    let shown = reference.to_string();
    // A tag may have several dots; it is the last part of a path.
    let name = format!("{}/{}", reference.host, reference.repository);
    ensure!(!name.contains("..") && !name.contains("//"), "{shown} leaves its repository");
    ensure!(shown.parse::<Reference>().ok() == Some(reference), "{shown} is another reference");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "[]:@/._-".contains(c);
    ensure!(shown.chars().all(is_plain), "{shown:?} has characters that an address has not");
    Ok(Answer::Accepted)
}

/// Seeds of challenges.
pub(super) fn challenges() -> Vec<Vec<u8>> {
    bytes(&[
        "Basic realm=\"a, b\"",
        "Bearer realm=\"https://a.example/token\",service=\"r\",scope=\"repository:a/b:pull,push\"",
        "Negotiate abc==, Bearer realm=\"\\\"x\\\"\" , Basic",
    ])
}

/// Rules for every challenge: what comes out is part of what came in, and names a realm.
pub(super) fn check_challenge(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    let found = challenge::parse(text);
    for challenge in &found {
        let challenge::Challenge::Bearer(bearer) = challenge else { continue };
        ensure!(!bearer.realm.is_empty(), "a token server without an address");
        let values = [Some(&bearer.realm), bearer.service.as_ref(), bearer.scope.as_ref()];
        let longest = values.into_iter().flatten().map(String::len).max().unwrap_or_default();
        ensure!(longest <= text.len(), "a value is longer than the header");
    }
    Ok(if found.is_empty() { Answer::Refused } else { Answer::Accepted })
}

/// Seeds of files of credentials.
pub(super) fn credentials() -> Vec<Vec<u8>> {
    bytes(&[
        r#"{"auths":{"r.example/a":{"auth":"dXNlcjpwYXNz"},"https://r.example/v1/":{"identitytoken":"t"}}}"#,
        r#"{"auths":{"r.example":{}},"credHelpers":{"r.example":"x"},"credsStore":"desktop"}"#,
        r#"{"auths":{"docker.io":{"username":"<token>","password":"p"}},"HttpHeaders":{"a":"b"}}"#,
    ])
}

/// Rules for every file of credentials: the number of entries for a repository is that of its
/// keys.
pub(super) fn check_credentials(input: &[u8]) -> Result<Answer> {
    let Ok(file) = AuthFile::parse(input) else { return Ok(Answer::Refused) };
    let entries = [("r.example", "a/b"), ("docker.io", "library/debian")]
        .map(|(host, repository)| file.entries(host, repository));
    // Three keys, each with a helper and an entry, and the helper for all hosts.
    ensure!(entries.iter().all(|found| found.len() <= 7), "more entries than keys");
    match entries.iter().flatten().all(Result::is_ok) {
        true => Ok(Answer::Accepted),
        false => Ok(Answer::Refused),
    }
}

/// Seeds of `registries.conf`.
pub(super) fn confs() -> Vec<Vec<u8>> {
    bytes(&[
        "[[registry]]\nprefix = \"r.example/a\"\nlocation = \"m.example:5000/x\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"n.example\"\npull-from-mirror = \"tag-only\"\n",
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.example\"\n",
        "[[registry]]\nlocation = \"r.example\"\nblocked = true\nmirror-by-digest-only = true\n",
    ])
}

/// Rules for every `registries.conf`: each place is one that a reference could name.
pub(super) fn check_conf(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    let Ok(entries) = registries_conf::parse(text) else { return Ok(Answer::Refused) };
    let conf = RegistriesConf { entries };
    let reference: Reference = "r.example/a/b:1".parse()?;
    for place in places(&reference, &conf).unwrap_or_default() {
        let name = format!("{}/{}", place.host, place.repository);
        let again: Reference = name.parse()?;
        ensure!(again.host == place.host, "{name} has another host");
    }
    Ok(Answer::Accepted)
}
