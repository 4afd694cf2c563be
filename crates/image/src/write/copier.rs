//! Copying the contents of files to an archive, with small files read ahead.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, Result};

use crate::tree::{Content, Kind, Node, Tree, show};

/// Bytes that are copied at a time.
const BUFFER: usize = 1 << 17;
/// Bytes of the largest file that is read ahead.
const SMALL: u64 = 1 << 15;
/// Number of files that one thread passes to the other at a time. Waking the other thread
/// for each file would take more time than reading ahead saves.
const BATCH: usize = 64;
/// Most batches that wait to be written.
const AHEAD: usize = 2;

/// Contents of files in the order of names, or the errors of reading them.
type Batch = Vec<Result<Vec<u8>>>;

/// Copier of the contents of files to an archive.
pub(super) struct Copier {
    buffer: Vec<u8>,
    ahead: Option<Ahead>,
}

/// Contents that were read ahead: those of all files that [`small`] selects.
struct Ahead {
    batches: Receiver<Batch>,
    current: std::vec::IntoIter<Result<Vec<u8>>>,
}

impl Ahead {
    fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(bytes) = self.current.next() {
                return bytes;
            }
            let batch = self.batches.recv().context("the thread that reads ahead has ended")?;
            self.current = batch.into_iter();
        }
    }
}

impl Copier {
    /// A copier that does not read ahead.
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER], ahead: None }
    }

    /// Copies the contents of `node` to `out`. Does nothing if `node` is not a regular file.
    /// `path` is for errors.
    ///
    /// # Errors
    /// Contents that cannot be read; errors of writing to `out`.
    pub(super) fn copy(&mut self, path: &[u8], node: &Node, out: &mut dyn Write) -> Result<()> {
        let Kind::File(content) = &node.kind else { return Ok(()) };
        let name = || format!("read {}", show(path));
        if let (Some(ahead), Some(_)) = (&mut self.ahead, small(node)) {
            return out.write_all(&ahead.next().with_context(name)?).context("write");
        }
        let mut input = content.open().with_context(name)?;
        loop {
            let count = input.read(&mut self.buffer).with_context(name)?;
            if count == 0 {
                return Ok(());
            }
            out.write_all(&self.buffer[..count]).context("write")?;
        }
    }
}

/// Calls `body`, which must copy all files of `tree` in the order of [`Tree::walk`]. Another
/// thread reads small files ahead, because opening a small file takes longer than copying
/// it.
pub(super) fn copying<T>(tree: &Tree, body: impl FnOnce(&mut Copier) -> Result<T>) -> Result<T> {
    thread::scope(|scope| {
        let (sender, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            let mut batch = Batch::new();
            // Sending fails if `body` has failed and no longer receives.
            let walked = tree.walk(&mut |_, id| {
                batch.extend(small(tree.node(id)).map(read));
                let is_full = batch.len() == BATCH;
                if is_full { Ok(sender.send(std::mem::take(&mut batch))?) } else { Ok(()) }
            });
            walked.and_then(|()| Ok(sender.send(batch)?))
        });
        let ahead = Ahead { batches, current: Batch::new().into_iter() };
        body(&mut Copier { ahead: Some(ahead), ..Copier::new() })
    })
}

/// The contents of `node` if they are read ahead. Files with several names are not: the
/// format decides with which name it stores their contents.
fn small(node: &Node) -> Option<&Content> {
    match &node.kind {
        Kind::File(content) if node.names == 1 && content.size() <= SMALL => Some(content),
        _ => None,
    }
}

fn read(content: &Content) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(content.size())?];
    content.open()?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    fn tree(sizes: &[usize]) -> Tree {
        let mut tree = Tree::new(Meta::default());
        for (index, &size) in sizes.iter().enumerate() {
            let bytes: Vec<u8> = vec![u8::try_from(index).unwrap(); size];
            let file = Kind::File(Content::Bytes(bytes.into()));
            tree.add(Tree::ROOT, format!("{index:03}").as_bytes(), Meta::default(), file).unwrap();
        }
        let first = tree.find(b"000").unwrap();
        tree.link(Tree::ROOT, b"zzz", first).unwrap();
        tree
    }

    #[test]
    fn contents_come_in_order_ahead_or_not() {
        let limit = usize::try_from(SMALL).unwrap();
        let tree = tree(&[3, 0, limit, limit + 1, 1]);
        let mut out = Vec::new();
        copying(&tree, |copier| {
            tree.walk(&mut |path, id| copier.copy(path, tree.node(id), &mut out))
        })
        .unwrap();
        let expected = [(0, 3), (2, limit), (3, limit + 1), (4, 1), (0, 3)];
        let expected: Vec<u8> = expected.into_iter().flat_map(|(b, n)| vec![b; n]).collect();
        assert!(out == expected);
    }

    #[test]
    fn a_failed_copy_does_not_wait_for_the_reader() {
        let tree = tree(&[1; 200]);
        assert!(copying(&tree, |_| -> Result<()> { anyhow::bail!("the disk is full") }).is_err());
    }
}
