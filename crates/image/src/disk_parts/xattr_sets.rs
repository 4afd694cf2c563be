//! Sets of extended attributes that were read from an image. Equal sets are kept in memory
//! once, and all sets together are limited.
//!
//! The image is not trusted: any number of files may refer to one block of attributes.

use std::collections::HashSet;

use anyhow::{Context, Result};

use crate::tree::Xattrs;

/// Most bytes of memory for all sets of one image.
pub(crate) const XATTRS_MAX: usize = 256 << 20;

/// Error for more than [`XATTRS_MAX`].
pub(crate) const TOO_MANY: &str = "all extended attributes together take more than 256 MiB";

/// Bytes of the smallest allocation, including its overhead, in glibc's malloc.
const ALLOCATION: usize = 32;

/// Bytes of memory that an empty name and an empty value take.
pub(crate) const PAIR: usize = 2 * (size_of::<Box<[u8]>>() + ALLOCATION);

/// The sets that were read from one image, each kept once.
#[derive(Debug)]
pub(crate) struct Sets {
    known: HashSet<Xattrs>,
    left: usize,
}

impl Sets {
    /// No sets.
    pub(crate) fn new() -> Self {
        Self { known: HashSet::new(), left: XATTRS_MAX }
    }

    /// Bytes of memory that further sets may take.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Returns a set that is equal to `set`: an earlier one if there is one, otherwise `set`
    /// itself.
    ///
    /// # Errors
    /// Sets that together need more memory than [`XATTRS_MAX`].
    pub(crate) fn keep(&mut self, set: Xattrs) -> Result<Xattrs> {
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
    fn equal_sets_are_shared_and_memory_is_limited() {
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
