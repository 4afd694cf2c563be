//! Reader of EROFS: an image becomes a tree, and the contents of files stay in the image.
//!
//! Format: see `layout`. The image is not trusted, so work and memory are bounded:
//! directories and links together have no more bytes than the image; each directory is
//! entered once and lies at most [`DIRECTORY_DEPTH_MAX`] levels deep; [`Sets`] bounds the attributes;
//! the size of a file is at most what the image has room for.

mod contents;
mod image;
mod unpacker;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use self::contents::ErofsContents;
use self::image::{ErofsImage, StoredInode};
use super::layout::inode::ErofsInode;
use super::layout::units::{BLOCK, BLOCK_BYTES, SLOT};
use super::layout::{dirents, xattrs};
use crate::disk_parts::DIRECTORY_DEPTH_MAX;
use crate::disk_parts::device;
use crate::disk_parts::xattr_sets::Sets;
use crate::tree::{Content, Id, Kind, Meta, NANOSECONDS_MAX, Tree, kind_of, show};

/// Longest target of a symbolic link, in bytes (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// Reads the EROFS in `image` as a tree.
///
/// # Errors
/// The image is no EROFS, is damaged, or uses a feature that we do not read. Errors inside
/// of the image name the path.
pub fn read(image: Arc<File>) -> Result<Tree> {
    let image = Arc::new(ErofsImage::open(image)?);
    let root = image.superblock.root.into();
    let mut reader = ErofsReader {
        names_left: image.size,
        image,
        tree: Tree::new(Meta::default()),
        found: HashMap::from([(root, Tree::ROOT)]),
        pending: Vec::new(),
        sets: Sets::new(),
    };
    reader.root(root).context("/")?;
    while let Some(next) = reader.pending.pop() {
        reader.directory(&next).with_context(|| reader.tree.show_path_of(next.id))?;
    }
    Ok(reader.tree)
}

/// Directory whose names are still to be read.
struct PendingDirectory {
    id: Id,
    contents: ErofsContents,
    /// Number of directories above it.
    depth: usize,
}

/// State of a read.
struct ErofsReader {
    image: Arc<ErofsImage>,
    tree: Tree,
    /// Node of each nid that was read.
    found: HashMap<u64, Id>,
    /// Directories whose names are still to be read.
    pending: Vec<PendingDirectory>,
    /// Bytes that directories and links may still have.
    names_left: u64,
    sets: Sets,
}

impl ErofsReader {
    fn root(&mut self, nid: u64) -> Result<()> {
        let (meta, kind, contents) = self.node(nid)?;
        ensure!(matches!(kind, Kind::Directory(_)), "the root is not a directory");
        self.tree.node_mut(Tree::ROOT).meta = meta;
        self.directory(&PendingDirectory { id: Tree::ROOT, contents, depth: 0 })
    }

    /// Reads the names of a directory.
    fn directory(&mut self, directory: &PendingDirectory) -> Result<()> {
        ensure!(
            directory.depth < DIRECTORY_DEPTH_MAX,
            "more than {DIRECTORY_DEPTH_MAX} levels of directories"
        );
        let mut left = directory.contents.stored.inode.size;
        self.take_names(left)?;
        let mut reader = directory.contents.reader()?;
        let mut block = vec![0; BLOCK];
        while left > 0 {
            let block = &mut block[..usize::try_from(left.min(BLOCK_BYTES))?];
            reader.read_exact(block)?;
            left -= block.len() as u64;
            for (name, nid) in dirents::decode(block)? {
                if name != b"." && name != b".." {
                    self.name(directory, name, nid).with_context(|| show(name))?;
                }
            }
        }
        Ok(())
    }

    /// Subtracts the `size` of a directory or a link from the bytes that are left.
    fn take_names(&mut self, size: u64) -> Result<()> {
        let rest = self.names_left.checked_sub(size);
        self.names_left = rest.context("directories and links have more bytes than the image")?;
        Ok(())
    }

    /// Adds a name of `directory` that stands for the inode `nid`.
    fn name(&mut self, directory: &PendingDirectory, name: &[u8], nid: u64) -> Result<()> {
        let parent = directory.id;
        ensure!(self.tree.child(parent, name).is_none(), "the directory has this name twice");
        if let Some(&id) = self.found.get(&nid) {
            ensure!(self.tree.children(id).is_none(), "the directory has a second name");
            return self.tree.link(parent, name, id);
        }
        let (meta, kind, contents) = self.node(nid)?;
        if let Kind::Symlink(target) = &kind {
            self.take_names(target.len() as u64)?;
        }
        let is_directory = matches!(kind, Kind::Directory(_));
        let id = self.tree.add(parent, name, meta, kind)?;
        self.found.insert(nid, id);
        if is_directory {
            let depth = directory.depth + 1;
            self.pending.push(PendingDirectory { id, contents, depth });
        }
        Ok(())
    }

    /// Reads the inode `nid`.
    fn node(&mut self, nid: u64) -> Result<(Meta, Kind, ErofsContents)> {
        let superblock = &self.image.superblock;
        let start = u64::from(superblock.meta_block) * BLOCK_BYTES;
        let at = nid.checked_mul(SLOT as u64).and_then(|offset| start.checked_add(offset));
        let at = at.filter(|&at| at < self.image.size);
        let at = at.with_context(|| format!("inode {nid} is beyond the image's end"))?;
        let bytes = self.image.read_up_to(at, ErofsInode::SIZE_MAX)?;
        let inode = ErofsInode::decode(&bytes, superblock.time)?;
        let length = ErofsInode::encoded_len(&bytes);

        let mut xattrs = vec![0; xattrs::len(inode.xattr_words)];
        self.image.read(at + length as u64, &mut xattrs).context("extended attributes")?;
        let shared_start = u64::from(superblock.xattr_block) * BLOCK_BYTES;
        let shared =
            |id| self.image.read_up_to(shared_start + u64::from(id) * 4, xattrs::ENTRY_MAX);
        let end = at + (length + xattrs.len()) as u64;
        let xattrs = xattrs::decode(&xattrs, &shared, &mut self.sets.left())?;
        let meta = Meta {
            permissions: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            nanoseconds: inode.nanoseconds.min(NANOSECONDS_MAX),
            xattrs: self.sets.keep(xattrs)?,
        };
        let stored = StoredInode { image: Arc::clone(&self.image), inode, end };
        let contents = ErofsContents { stored };
        Ok((meta, kind(&contents)?, contents))
    }
}

/// Kind of the node that an inode describes; for a file, with its contents.
fn kind(contents: &ErofsContents) -> Result<Kind> {
    let inode = &contents.stored.inode;
    Ok(match inode.mode >> 12 {
        0o10 => {
            contents.check_size()?;
            Kind::File(Content::Stored(Arc::new(contents.clone())))
        }
        0o12 => {
            ensure!(inode.size <= TARGET_MAX, "a symbolic link of {} bytes", inode.size);
            let mut target = Vec::new();
            contents.reader()?.read_to_end(&mut target)?;
            Kind::Symlink(target.into())
        }
        _ => kind_of(inode.mode.into(), device::decode(inode.union))
            .with_context(|| format!("mode {:o} is no known file type", inode.mode))?,
    })
}
