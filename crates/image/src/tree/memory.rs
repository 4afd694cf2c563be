//! The bound for the memory of a tree.
//!
//! A member of an archive of a few bytes may name thousands of directories, and an archive that
//! compresses well has millions of members. So each name counts with what it costs in memory,
//! whoever adds it, and whether or not it is removed later. Attributes and the pieces of sparse
//! files have bounds of their own, and the contents of files stay where they are.

use anyhow::{Context, Result};

/// Most bytes of the names and nodes of one tree: about 12 million files, or 5 million
/// directories with one child each.
pub const MEMORY_MAX: u64 = 2 << 30;

/// Bytes for a name, its place in its directory, and its node. With names of 20 bytes, 180 were
/// measured for a file, and 350 for a directory with one child.
const NAME: u64 = 160;
/// Bytes for the first children of a directory.
const DIRECTORY: u64 = 240;

/// The bytes that further names may take.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    left: u64,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { left: MEMORY_MAX }
    }

    /// Counts a directory.
    pub(super) fn take_directory(&mut self) -> Result<()> {
        self.take(DIRECTORY)
    }

    /// Counts a name.
    pub(super) fn take_name(&mut self, name: &[u8]) -> Result<()> {
        self.take(NAME + name.len() as u64)
    }

    /// Counts the target of a link.
    pub(super) fn take_target(&mut self, target: &[u8]) -> Result<()> {
        self.take(target.len() as u64)
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        let too_many =
            || format!("the names of all files need more than {} MiB of memory", MEMORY_MAX >> 20);
        self.left = self.left.checked_sub(bytes).with_context(too_many)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Meta, Tree, directory};
    use super::*;

    fn small(left: u64) -> Tree {
        let mut tree = Tree::new(Meta::default());
        tree.memory = Memory { left };
        tree
    }

    /// Number of times that `add` works, which must end.
    fn count(mut tree: Tree, add: impl Fn(&mut Tree, usize) -> Result<()>) -> usize {
        for number in 0..10_000 {
            if let Err(error) = add(&mut tree, number) {
                assert!(error.to_string().contains("more than 2048 MiB"), "{error:#}");
                return number;
            }
        }
        panic!("no bound");
    }

    #[test]
    fn every_name_takes_memory() {
        let files = |tree: &mut Tree, number: usize| {
            let path = number.to_string();
            tree.put(path.as_bytes(), Meta::default(), Kind::Fifo).map(drop)
        };
        assert_eq!(count(small(161 * 10), files), 10);
        // A name that was taken away stays in the count.
        let same = |tree: &mut Tree, _| tree.put(b"a", Meta::default(), Kind::Fifo).map(drop);
        assert_eq!(count(small(161 * 10), same), 10);
        let links = |tree: &mut Tree, number: usize| {
            let target = Kind::Symlink(vec![b'x'; 839].into());
            tree.put(number.to_string().as_bytes(), Meta::default(), target).map(drop)
        };
        assert_eq!(count(small(1000 * 7), links), 7);
        let hard = |tree: &mut Tree, number: usize| match tree.find(b"0") {
            None => tree.put(b"0", Meta::default(), Kind::Fifo).map(drop),
            Some(id) => tree.put_link(number.to_string().as_bytes(), id),
        };
        assert_eq!(count(small(161 * 8), hard), 8);
        // The directories above a file, which the archive does not contain.
        let deep = |tree: &mut Tree, number: usize| {
            let path = format!("{number}/{}f", "d/".repeat(98));
            tree.put(path.as_bytes(), Meta::default(), Kind::Fifo).map(drop)
        };
        assert_eq!(count(small((99 * 401 + 161) * 3), deep), 3);
    }

    #[test]
    fn a_directory_again_takes_nothing() {
        let mut tree = small(401);
        for _ in 0..3 {
            tree.put(b"d", Meta::default(), directory()).unwrap();
        }
    }
}
