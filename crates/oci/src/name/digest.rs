//! Digests: names of blobs by their contents.
//!
//! Format: `ALGORITHM:HEX` with sha256 or sha512 (OCI image specification, `descriptor.md`,
//! "Digests").

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::shown::shown;

/// Algorithm of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4); nearly all digests.
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

/// Names of the algorithms, and the number of digits of their digests.
#[rustfmt::skip]
const ALGORITHMS: [(&str, Algorithm, usize); 2] = [
    ("sha256", Algorithm::Sha256,  64),
    ("sha512", Algorithm::Sha512, 128),
];

/// A digest that has the right form. It can be part of a file name: it has lower-case letters,
/// digits and one colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

impl Digest {
    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Compares bytes with the digest.
    ///
    /// # Errors
    /// Bytes of another digest.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        let found = hasher.finish();
        ensure!(found == *self, "{self}: damaged or replaced, for its digest is {found}");
        Ok(())
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The whole text, `ALGORITHM:HEX`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the algorithm and the digits, as the directories and files of an image
    /// layout are called.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.text.split_once(':').unwrap_or((&self.text, ""))
    }
}

impl FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, digits) = text.split_once(':').unwrap_or((text, ""));
        let Some((_, algorithm, length)) = ALGORITHMS.iter().find(|row| row.0 == name) else {
            bail!("digest {}: only sha256:… and sha512:… are known", shown(text));
        };
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(
            digits.len() == *length && is_hex,
            "digest {}: {name} has {length} digits 0-9 and a-f",
            shown(text)
        );
        Ok(Self { algorithm: *algorithm, text: text.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text.into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Calculates a digest of bytes that come one after another.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// A hasher that has seen no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        let name = ALGORITHMS.iter().find(|row| row.1 == algorithm).map_or("", |row| row.0);
        let mut text = format!("{name}:");
        for byte in bytes {
            for digit in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        Digest { algorithm, text: text.into() }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests of "abc" in FIPS 180-4's examples.
    const OF_ABC: [&str; 2] = [
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ];

    #[test]
    fn digests_are_calculated() {
        for text in OF_ABC {
            let digest: Digest = text.parse().unwrap();
            let mut hasher = Hasher::new(digest.algorithm());
            hasher.write_all(b"a").unwrap();
            hasher.write_all(b"bc").unwrap();
            assert_eq!(hasher.finish(), digest);
        }
        assert_eq!(Digest::of(b"abc").as_str(), OF_ABC[0]);
        assert_eq!(Digest::of(b"abc").parts(), OF_ABC[0].split_once(':').unwrap());
    }

    #[test]
    fn digests_of_another_form_are_refused() {
        let short = &OF_ABC[0][..70];
        let upper = OF_ABC[0].to_uppercase().replace("SHA256", "sha256");
        let path = format!("sha256:{}", "../".repeat(22));
        for text in ["", "sha256", "sha256:", "md5:0", short, &upper, &path, "sha256:é"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
