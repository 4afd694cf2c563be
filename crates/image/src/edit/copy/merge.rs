//! Merges the contents of one tree into a directory of another.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::{Rule, ensure_short};
use crate::tree::{Id, Kind, Node, Tree, directory, implied, joined, show};

/// What happens if a name is that of a directory in one tree, and of something else in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// An error.
    Refuse,
    /// The new one replaces the old one, but a link to a directory is followed.
    Replace,
}

/// Contents of `from` on their way into `tree`.
pub(super) struct Merge<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) from: &'a Tree,
    pub(super) rule: &'a Rule<'a>,
    pub(super) clash: Clash,
}

/// A pair of directories whose contents are merged next.
struct Pair {
    from: Id,
    to: Id,
    /// Path of the directory `to`, which may lead through links, without a leading `/`.
    path: Vec<u8>,
    /// Bytes of its own path.
    length: usize,
}

impl Merge<'_> {
    /// Merges everything into the directory `top` at `path`, whose own path has `length` bytes.
    pub(super) fn run(&mut self, top: Id, path: &[u8], length: usize) -> Result<()> {
        let from = self.from;
        // Files with several names, by their numbers in `from`.
        let mut known = HashMap::new();
        let mut pending = vec![Pair { from: Tree::ROOT, to: top, path: path.to_vec(), length }];
        while let Some(pair) = pending.pop() {
            // Nodes of a directory without a name would be nowhere, and still count.
            ensure!(
                self.tree.node(pair.to).names > 0,
                "/{}: a link leads to a directory that the archive replaces",
                show(&pair.path)
            );
            for (name, &id) in from.children(pair.from).into_iter().flatten() {
                let node = from.node(id);
                let length = ensure_short(pair.length, name)
                    .with_context(|| format!("/{}/{}", show(&pair.path), show(name)))?;
                if from.children(id).is_some() {
                    let path = joined(&pair.path, name);
                    let context = || format!("/{}", show(&path));
                    let (to, length) =
                        self.directory(&pair, name, node, length).with_context(context)?;
                    pending.push(Pair { from: id, to, path, length });
                    continue;
                }
                self.check_file(&pair, name, id)?;
                let put = match known.get(&id) {
                    Some(&known) => self.tree.link(pair.to, name, known).map(|()| known),
                    None => self.tree.add(pair.to, name, self.rule.meta(node), node.kind.clone()),
                };
                let put = put.with_context(|| format!("/{}/{}", show(&pair.path), show(name)))?;
                if node.names > 1 {
                    known.insert(id, put);
                }
            }
        }
        Ok(())
    }

    /// Puts one directory, without its contents. Returns the one in the tree, and the bytes of its
    /// own path.
    fn directory(
        &mut self,
        pair: &Pair,
        name: &[u8],
        node: &Node,
        length: usize,
    ) -> Result<(Id, usize)> {
        let Some(mut found) = self.tree.child(pair.to, name) else {
            let new = self.tree.add(pair.to, name, self.rule.meta(node), directory())?;
            return Ok((new, length));
        };
        let mut length = length;
        if self.tree.children(found).is_none() {
            if self.clash == Clash::Refuse {
                bail!("the source is a directory, but the image has {}", kind_of(self.tree, found));
            }
            match self.tree.find_directory(&joined(&pair.path, name)) {
                Some(target) => (found, length) = target,
                None => {
                    let new = self.tree.add(pair.to, name, self.rule.meta(node), directory())?;
                    return Ok((new, length));
                }
            }
        }
        // An archive may need a directory without saying anything about it.
        if self.clash == Clash::Refuse || node.meta != implied() {
            let mut meta = self.rule.meta(node);
            let old = &mut self.tree.node_mut(found).meta;
            // Attributes that only the old directory has stay.
            for (name, value) in &old.xattrs {
                if !meta.xattrs.contains_key(name) {
                    meta.xattrs.insert(name.clone(), value.clone());
                }
            }
            *old = meta;
        }
        Ok((found, length))
    }

    /// Refuses to replace a directory by a file.
    fn check_file(&self, pair: &Pair, name: &[u8], id: Id) -> Result<()> {
        let found = self.tree.child(pair.to, name);
        if self.clash == Clash::Refuse && found.is_some_and(|id| self.tree.children(id).is_some()) {
            bail!(
                "/{} is a directory in the image, {} of the source is not",
                show(&joined(&pair.path, name)),
                self.from.show_path_of(id)
            );
        }
        Ok(())
    }
}

/// Words for what a node is, with a hint.
fn kind_of(tree: &Tree, id: Id) -> String {
    match &tree.node(id).kind {
        Kind::Symlink(target) => {
            format!("a link to {} there; copy to the target of the link", show(target))
        }
        Kind::File(_) => "a file there".to_owned(),
        _ => "a special file there".to_owned(),
    }
}
