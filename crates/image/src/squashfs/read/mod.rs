//! Reader of squashfs: an image becomes a tree, and the contents of files stay in the image.
//!
//! Format: see `layout`. The image is not trusted, so work and memory are bounded. All
//! directories together have at most the bytes of their table, all links at most the bytes
//! of the inodes, and both at most [`NAMES_MAX`]. A file has at most as many blocks as the
//! inodes have room to describe. Each directory is entered once and lies at most
//! [`DIRECTORY_DEPTH_MAX`] levels deep. [`xattr_sets::Sets`] bounds the attributes.

mod contents;
mod cursor;
mod fragments;
pub(super) mod image;
mod names;
mod table;
mod xattrs;

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use self::contents::SquashfsContents;
use self::cursor::MetadataCursor;
use self::image::SquashfsImage;
use self::names::NameReader;
use self::xattrs::XattrTable;
use super::layout::inode::{FragmentPart, InodeBody, SquashfsInode, kind};
use super::layout::position::Position;
use super::layout::units::NONE;
use crate::disk_parts::DIRECTORY_DEPTH_MAX;
use crate::disk_parts::device;
use crate::disk_parts::xattr_sets;
use crate::tree::{Children, Content, Id, Kind, Meta, Tree, Xattrs, show};

/// Most bytes of all names, and of all targets of links. It is enough for about 30 million
/// files.
const NAMES_MAX: u64 = 1 << 30;

/// Reads the squashfs in `image` as a tree.
///
/// # Errors
/// The image is no squashfs, is damaged, or uses a feature that we do not read. Errors inside
/// of the image name the path.
pub fn read(image: Arc<File>) -> Result<Tree> {
    let image = SquashfsImage::open(image)?;
    let superblock = &image.superblock;
    let count = superblock.ids.into();
    let id = |number| table::record(&image, superblock.id_table, count, number);
    let ids: Result<Vec<_>> =
        (0..count).map(|number| Ok(u32::from_le_bytes(id(number)?))).collect();
    let root = Position::of_reference(superblock.root).context("/")?;
    let inodes_size = image.metadata_size(superblock.inode_table).context("inodes")?;
    let names_size = image.metadata_size(superblock.directory_table).context("directories")?;
    let mut reader = SquashfsReader {
        ids: ids.context("table of owners")?,
        sets: XattrTable::open(&image).context("extended attributes")?,
        known_sets: HashMap::new(),
        tree: Tree::new(Meta::default()),
        found: HashMap::from([(root.reference(), Tree::ROOT)]),
        pending: Vec::new(),
        names_left: names_size.min(NAMES_MAX),
        targets_left: inodes_size.min(NAMES_MAX),
        inodes_size,
        kept: xattr_sets::Sets::new(),
        image: Arc::new(image),
    };
    reader.root(root).context("/")?;
    while let Some(next) = reader.pending.pop() {
        reader.directory(&next).with_context(|| reader.tree.show_path_of(next.id))?;
    }
    Ok(reader.tree)
}

/// Directory whose names are still to be read.
struct UnreadDirectory {
    id: Id,
    /// Position of its names.
    names: Position,
    /// Bytes of its names.
    size: u32,
    /// Number of directories above it.
    depth: usize,
}

/// State of a read.
struct SquashfsReader {
    image: Arc<SquashfsImage>,
    /// Table of owners and groups.
    ids: Vec<u32>,
    /// Table of the sets of attributes.
    sets: XattrTable,
    /// Sets that were read, by number.
    known_sets: HashMap<u32, Xattrs>,
    tree: Tree,
    /// Node of each inode that was read, by reference.
    found: HashMap<u64, Id>,
    /// Directories whose names are still to be read.
    pending: Vec<UnreadDirectory>,
    /// Bytes that names may still have.
    names_left: u64,
    /// Bytes that targets of links may still have.
    targets_left: u64,
    /// Most bytes that all inodes can have.
    inodes_size: u64,
    /// Sets of attributes in memory.
    kept: xattr_sets::Sets,
}

impl SquashfsReader {
    fn root(&mut self, at: Position) -> Result<()> {
        let (inode, _) = self.inode(at)?;
        let InodeBody::Directory { names, size, .. } = inode.body else {
            bail!("the root is not a directory")
        };
        self.tree.node_mut(Tree::ROOT).meta = self.meta(&inode)?;
        self.directory(&UnreadDirectory { id: Tree::ROOT, names, size, depth: 0 })
    }

    /// Reads the names of a directory.
    fn directory(&mut self, directory: &UnreadDirectory) -> Result<()> {
        ensure!(
            directory.depth < DIRECTORY_DEPTH_MAX,
            "more than {DIRECTORY_DEPTH_MAX} levels of directories"
        );
        if directory.size == 0 {
            return Ok(());
        }
        let rest = self.names_left.checked_sub(directory.size.into());
        self.names_left =
            rest.context("directories have more bytes of names than their table, or than 1 GiB")?;
        let image = Arc::clone(&self.image);
        let cursor =
            MetadataCursor::new(&image, image.superblock.directory_table, directory.names)?;
        let mut names = NameReader::new(cursor, directory.size);
        while let Some((name, at)) = names.next()? {
            self.name(directory, &name, at).with_context(|| show(&name))?;
        }
        Ok(())
    }

    /// Adds a name of `directory` whose inode is at `at`.
    fn name(&mut self, directory: &UnreadDirectory, name: &[u8], at: Position) -> Result<()> {
        let parent = directory.id;
        ensure!(self.tree.child(parent, name).is_none(), "the directory has this name twice");
        if let Some(&id) = self.found.get(&at.reference()) {
            ensure!(self.tree.children(id).is_none(), "the directory has a second name");
            return self.tree.link(parent, name, id);
        }
        let (inode, end) = self.inode(at)?;
        let (meta, kind) = (self.meta(&inode)?, self.kind(&inode, end)?);
        let id = self.tree.add(parent, name, meta, kind)?;
        self.found.insert(at.reference(), id);
        if let InodeBody::Directory { names, size, .. } = inode.body {
            let depth = directory.depth + 1;
            self.pending.push(UnreadDirectory { id, names, size, depth });
        }
        Ok(())
    }

    /// Reads the inode at `at`, and returns it with the position where it ends.
    fn inode(&self, at: Position) -> Result<(SquashfsInode, Position)> {
        let table = self.image.superblock.inode_table;
        let mut cursor = MetadataCursor::new(&self.image, table, at)?;
        Ok((SquashfsInode::decode(&mut cursor)?, cursor.position(table)?))
    }

    /// Metadata of an inode.
    fn meta(&mut self, inode: &SquashfsInode) -> Result<Meta> {
        let id = |number: u16| self.ids.get(usize::from(number)).copied();
        let (uid, gid) = (id(inode.uid), id(inode.gid));
        let xattrs = match inode.xattrs {
            NONE => Xattrs::new(),
            number => self.set(number).context("extended attributes")?,
        };
        Ok(Meta {
            permissions: inode.permissions & 0o7777,
            uid: uid.with_context(|| format!("the table has no owner {}", inode.uid))?,
            gid: gid.with_context(|| format!("the table has no group {}", inode.gid))?,
            mtime: inode.mtime.into(),
            nanoseconds: 0,
            xattrs,
        })
    }

    /// Set of attributes `number`, which many inodes may share.
    fn set(&mut self, number: u32) -> Result<Xattrs> {
        if let Some(known) = self.known_sets.get(&number) {
            return Ok(known.clone());
        }
        let set = self.sets.get(&self.image, number, &mut self.kept.left())?;
        let set = self.kept.keep(set)?;
        self.known_sets.insert(number, set.clone());
        Ok(set)
    }

    /// Checks that the image has room for a file of `size` bytes, which has a description for
    /// each of its blocks.
    ///
    /// # Errors
    /// No file can have this size, or the inodes have no room for the descriptions.
    fn check_size(&self, size: u64, fragment: FragmentPart) -> Result<()> {
        /// Bytes of a block description.
        const DESCRIPTION: u64 = 4;
        ensure!(i64::try_from(size).is_ok(), "a file of {size} bytes: no file has more than 2^63");
        let block = self.image.superblock.block_size() as u64;
        let blocks = if fragment.number == NONE { size.div_ceil(block) } else { size / block };
        let fits = blocks * DESCRIPTION <= self.inodes_size;
        ensure!(fits, "a file of {size} bytes, for whose blocks the inodes have no room");
        Ok(())
    }

    /// Kind of the node that an inode describes; for a file, with its contents. `end` is the
    /// position after the inode.
    fn kind(&mut self, inode: &SquashfsInode, end: Position) -> Result<Kind> {
        Ok(match &inode.body {
            InodeBody::Directory { .. } => Kind::Directory(Children::new()),
            &InodeBody::File { start, size, fragment, .. } => {
                self.check_size(size, fragment)?;
                let image = Arc::clone(&self.image);
                let contents = SquashfsContents { image, size, start, blocks: end, fragment };
                Kind::File(Content::Stored(Arc::new(contents)))
            }
            InodeBody::Symlink(target) => {
                let rest = self.targets_left.checked_sub(target.len() as u64);
                self.targets_left =
                    rest.context("symbolic links have more bytes than all inodes, or than 1 GiB")?;
                Kind::Symlink(target.clone())
            }
            &InodeBody::Device(number) => {
                let (major, minor) = device::decode(number);
                match inode.kind {
                    kind::CHAR_DEVICE => Kind::CharDevice(major, minor),
                    _ => Kind::BlockDevice(major, minor),
                }
            }
            InodeBody::Nothing if inode.kind == kind::FIFO => Kind::Fifo,
            InodeBody::Nothing => Kind::Socket,
        })
    }
}
