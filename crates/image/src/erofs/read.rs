//! Reading an image as a tree, its contents by reference.
//!
//! The image is not trusted. What bounds the work: directories and links together
//! have no more bytes than the image, no directory is entered twice, none is
//! deeper than [`DEPTH_MAX`]; attributes are bounded by [`Sets`], sizes of files by what
//! the image has room for.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::extents::Contents;
use super::inode::Inode;
use super::layout::{BLOCK, BLOCK_BYTES, SLOT, Superblock};
use super::{dirents, xattrs};
use crate::tree::{Content, Id, Kind, Meta, Tree, kind_of, show};
use crate::xattr_sets::Sets;
use crate::{content, device};

/// Most directories above each other: as many as a path has room for.
const DEPTH_MAX: usize = 2048;
/// Longest target of a link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// An image that is read.
#[derive(Debug)]
pub(super) struct Image {
    file: Arc<File>,
    pub size: u64,
    pub superblock: Superblock,
}

impl Image {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        ensure!(end.is_some_and(|end| end <= self.size), "byte {at} is behind the image's end");
        self.file.read_exact_at(buffer, at).context("read the image")
    }

    /// Up to `length` bytes, fewer at the end of the image.
    fn read_up_to(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }
}

/// Reads `image` as a tree.
///
/// # Errors
/// What is no EROFS, damaged, or of a kind that is not supported; with the path.
pub fn read(image: Arc<File>) -> Result<Tree> {
    let size = content::length(&image).context("find the end of the image")?;
    let mut block = vec![0; BLOCK];
    ensure!(size >= BLOCK_BYTES, "no EROFS: it is shorter than a block");
    image.read_exact_at(&mut block, 0).context("read the image")?;
    let superblock = Superblock::decode(&block)?;
    let root = superblock.root.into();
    let image = Arc::new(Image { file: image, size, superblock });
    let mut reader = Reader {
        image,
        tree: Tree::new(Meta::default()),
        found: HashMap::from([(root, Tree::ROOT)]),
        pending: Vec::new(),
        names_left: size,
        sets: Sets::new(),
    };
    reader.root(root).context("/")?;
    while let Some(next) = reader.pending.pop() {
        reader.directory(&next).with_context(|| reader.tree.show_path_of(next.id))?;
    }
    Ok(reader.tree)
}

/// A directory whose names are not read yet.
struct Pending {
    id: Id,
    contents: Contents,
    depth: usize,
}

struct Reader {
    image: Arc<Image>,
    tree: Tree,
    /// By nid.
    found: HashMap<u64, Id>,
    pending: Vec<Pending>,
    names_left: u64,
    sets: Sets,
}

impl Reader {
    fn root(&mut self, nid: u64) -> Result<()> {
        let (meta, kind, contents) = self.node(nid)?;
        ensure!(matches!(kind, Kind::Directory(_)), "it is no directory");
        self.tree.node_mut(Tree::ROOT).meta = meta;
        self.directory(&Pending { id: Tree::ROOT, contents, depth: 0 })
    }

    /// Reads the names in a directory.
    fn directory(&mut self, directory: &Pending) -> Result<()> {
        ensure!(directory.depth < DEPTH_MAX, "more than {DEPTH_MAX} directories above each other");
        let mut left = directory.contents.inode.size;
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

    /// Counts the bytes of a directory or a link.
    fn take_names(&mut self, size: u64) -> Result<()> {
        let rest = self.names_left.checked_sub(size);
        self.names_left = rest.context("directories and links are larger than the image")?;
        Ok(())
    }

    fn name(&mut self, directory: &Pending, name: &[u8], nid: u64) -> Result<()> {
        let parent = directory.id;
        ensure!(self.tree.child(parent, name).is_none(), "the name is there twice");
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
            self.pending.push(Pending { id, contents, depth });
        }
        Ok(())
    }

    /// The inode `nid`.
    fn node(&mut self, nid: u64) -> Result<(Meta, Kind, Contents)> {
        let superblock = &self.image.superblock;
        let start = u64::from(superblock.meta_block) * BLOCK_BYTES;
        let at = nid.checked_mul(SLOT as u64).and_then(|offset| start.checked_add(offset));
        let at = at.filter(|&at| at < self.image.size);
        let at = at.with_context(|| format!("inode {nid} is behind the image's end"))?;
        let bytes = self.image.read_up_to(at, Inode::SIZE_MAX)?;
        let inode = Inode::decode(&bytes, superblock.time)?;
        let length = Inode::encoded_len(&bytes);

        let mut xattrs = vec![0; xattrs::len(inode.xattr_words)];
        self.image.read(at + length as u64, &mut xattrs).context("attributes")?;
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
            xattrs: self.sets.keep(xattrs)?,
        };
        let contents = Contents { image: Arc::clone(&self.image), inode, behind: end };
        Ok((meta, kind(&contents)?, contents))
    }
}

fn kind(contents: &Contents) -> Result<Kind> {
    let inode = &contents.inode;
    Ok(match inode.mode >> 12 {
        0o10 => {
            contents.check_size()?;
            Kind::File(Content::Stored(Arc::new(contents.clone())))
        }
        0o12 => {
            ensure!(inode.size <= TARGET_MAX, "a link with {} bytes", inode.size);
            let mut target = Vec::new();
            contents.reader()?.read_to_end(&mut target)?;
            Kind::Symlink(target.into())
        }
        _ => kind_of(inode.mode.into(), device::decode(inode.union))
            .with_context(|| format!("mode {:o} is of no kind of file", inode.mode))?,
    })
}
