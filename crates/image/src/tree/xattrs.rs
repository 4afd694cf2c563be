//! The extended attributes of one file (xattr(7)), as a set that many files can share.
//!
//! A clone shares the set with its original until one of the two is changed. So a large
//! set needs memory only once, however many files of an archive have it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Values of attributes, by name.
type XattrMap = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The set of a file without attributes.
static EMPTY: XattrMap = XattrMap::new();

/// Extended attributes by their full names, such as `security.capability`.
#[derive(Clone, Debug, Default)]
pub struct Xattrs(Option<Arc<XattrMap>>);

impl Xattrs {
    /// An empty set, which takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets an attribute. Returns the value that it had before.
    pub fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> Option<Box<[u8]>> {
        self.own().insert(name, value)
    }

    /// Removes an attribute. Returns the value that it had.
    pub fn remove(&mut self, name: &[u8]) -> Option<Box<[u8]>> {
        self.contains_key(name).then(|| self.own().remove(name)).flatten()
    }

    /// Removes all attributes for which `is_kept` returns `false`.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8], &[u8]) -> bool) {
        if !self.is_empty() {
            self.own().retain(|name, value| is_kept(name, value));
        }
    }

    /// Number of bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Address of the set in memory: equal for two files only if they share the set.
    /// `None` for an empty set, which takes no memory.
    #[must_use]
    pub fn address(&self) -> Option<usize> {
        self.0.as_ref().map(|map| Arc::as_ptr(map).addr())
    }

    /// The set for changes; copies it first if other files share it.
    fn own(&mut self) -> &mut XattrMap {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl Deref for Xattrs {
    type Target = XattrMap;

    fn deref(&self) -> &XattrMap {
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl PartialEq for Xattrs {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address() || **self == **other
    }
}

impl Eq for Xattrs {}

impl std::hash::Hash for Xattrs {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl FromIterator<(Box<[u8]>, Box<[u8]>)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>>(pairs: I) -> Self {
        let map: XattrMap = pairs.into_iter().collect();
        Self((!map.is_empty()).then(|| Arc::new(map)))
    }
}

impl<const N: usize> From<[(Box<[u8]>, Box<[u8]>); N]> for Xattrs {
    fn from(pairs: [(Box<[u8]>, Box<[u8]>); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Xattrs {
    type Item = (&'a Box<[u8]>, &'a Box<[u8]>);
    type IntoIter = std::collections::btree_map::Iter<'a, Box<[u8]>, Box<[u8]>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_set_until_it_is_changed() {
        let mut set = Xattrs::new();
        assert_eq!((set.address(), set.remove(b"user.a")), (None, None));
        set.insert(b"user.a"[..].into(), b"1"[..].into());
        let mut copy = set.clone();
        assert_eq!(copy.address(), set.address());
        assert_eq!(copy.remove(b"user.b"), None);
        assert_eq!(copy.address(), set.address());
        assert_eq!(copy.remove(b"user.a").as_deref(), Some(&b"1"[..]));
        assert_eq!((copy.len(), set.len(), set.size()), (0, 1, 7));
        assert_eq!(copy, Xattrs::new());
        copy.insert(b"user.a"[..].into(), b"1"[..].into());
        assert_eq!(copy, set);
        assert_ne!(copy.address(), set.address());
    }
}
