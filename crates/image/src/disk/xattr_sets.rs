//! Sets of extended attributes that an image holds: equal ones are kept once, and all
//! of them together are bounded.
//!
//! An image is not trusted: a block of attributes may belong to any number of files.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::tree::Xattrs;

/// Bytes that all sets of one image may take in memory.
pub(super) const XATTRS_MAX: usize = 256 << 20;

/// Error for more than [`XATTRS_MAX`].
pub(super) const TOO_MANY: &str = "all extended attributes together take more than 256 MiB";

/// Bytes of the smallest allocation, with its overhead (glibc's malloc).
const ALLOCATION: usize = 32;

/// Bytes of memory that a name and a value take, however short they are.
pub(super) const PAIR: usize = 2 * (size_of::<Box<[u8]>>() + ALLOCATION);

/// The sets that were read.
#[derive(Debug)]
pub(super) struct Sets {
    known: HashSet<Xattrs>,
    left: usize,
}

impl Sets {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { known: HashSet::new(), left: XATTRS_MAX }
    }

    /// Bytes of memory that a new set may take.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// `set`, or an equal one that was kept before.
    ///
    /// # Errors
    /// More sets than [`XATTRS_MAX`] allows.
    pub(super) fn keep(&mut self, set: Xattrs) -> Result<Xattrs> {
        if set.is_empty() {
            return Ok(set);
        }
        if let Some(known) = self.known.get(&set) {
            return Ok(known.clone());
        }
        let size: usize = set.iter().map(|(name, value)| PAIR + name.len() + value.len()).sum();
        self.left = self.left.checked_sub(size).context(TOO_MANY)?;
        self.known.insert(set.clone());
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one_and_all_are_bounded() {
        let set =
            |value: usize| -> Xattrs { [(b"user.a"[..].into(), vec![0; value].into())].into() };
        let mut sets = Sets::new();
        let first = sets.keep(set(1000)).unwrap();
        let left = sets.left();
        let again = sets.keep(set(1000)).unwrap();
        assert_eq!((first.address(), left), (again.address(), sets.left()));
        sets.keep(set(left - PAIR - 6)).unwrap();
        assert_eq!(sets.left(), 0);
        assert!(sets.keep(set(1000)).is_ok() && sets.keep(Xattrs::new()).is_ok());
        assert_eq!(sets.keep(set(0)).unwrap_err().to_string(), TOO_MANY);
    }
}
