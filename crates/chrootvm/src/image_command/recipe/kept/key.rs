//! Names of what a recipe makes: hashes of everything that decides about it.
//!
//! A key is the SHA-256 of a list of parts. Each part has its length before it, so that two lists
//! never give the same bytes.

use std::fmt;

use sha2::{Digest, Sha256};

/// Version of what a step sees: the layout of its machine, and the form of a kept layer. Change it
/// when one of them changes.
const VERSION: &[u8] = b"2";

/// Hash that names a state of the tree, or a file that is made of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::image_command) struct Key([u8; 32]);

impl Key {
    /// The key of the first state, which consists of `parts`.
    pub(in crate::image_command::recipe) fn first(parts: &[&[u8]]) -> Self {
        Self::hash(&[&[VERSION], parts].concat())
    }

    /// The key of what follows on this state by `parts`.
    pub(in crate::image_command) fn then(&self, parts: &[&[u8]]) -> Self {
        Self::hash(&[&[&self.0[..]], parts].concat())
    }

    /// The hash.
    pub(in crate::image_command::recipe) fn bytes(self) -> [u8; 32] {
        self.0
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// Lower-case hexadecimal digits of bytes.
pub(in crate::image_command::recipe) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Lower-case hexadecimal digits.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_in_every_part_and_its_bounds() {
        let keys = [
            Key::first(&[]),
            Key::first(&[b""]),
            Key::first(&[b"a", b"b"]),
            Key::first(&[b"ab"]),
            Key::first(&[b"a"]).then(&[b"b"]),
            Key::first(&[b"a"]).then(&[]),
        ];
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().filter(|other| *other == key).count(), 1, "{number}");
        }
        assert_eq!(keys[0].to_string().len(), 64);
    }
}
