//! Reading an image as a tree, its contents by reference.
//!
//! The image is not trusted. What bounds the work: directories together have no
//! more bytes than the blocks of their table hold, links no more than those of
//! inodes, both no more than [`NAMES_MAX`]; a file has no more blocks than those of
//! inodes have room for; no directory is entered twice, none is deeper than [`DEPTH_MAX`];
//! attributes are bounded by [`xattr_sets::Sets`].

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::dirents::Names;
use super::image::Image;
use super::inode::{Body, Fragment, Inode, kind};
use super::layout::NONE;
use super::metadata::{Cursor, Position};
use super::table;
use super::unpack::Contents;
use super::xattrs::Sets;
use crate::disk::device;
use crate::disk::xattr_sets;
use crate::tree::{Children, Content, Id, Kind, Meta, Tree, Xattrs, show};

/// Most directories above each other: as many as a path has room for.
const DEPTH_MAX: usize = 2048;
/// Bytes of all names, and of all targets of links: those of some 30 million files.
const NAMES_MAX: u64 = 1 << 30;

/// Reads `image` as a tree.
///
/// # Errors
/// What is no squashfs, damaged, or of a kind that is not supported; with the path.
pub fn read(image: Arc<File>) -> Result<Tree> {
    let image = Image::open(image)?;
    let superblock = &image.superblock;
    let count = superblock.ids.into();
    let id = |number| table::record(&image, superblock.id_table, count, number);
    let ids: Result<Vec<_>> =
        (0..count).map(|number| Ok(u32::from_le_bytes(id(number)?))).collect();
    let root = Position::of_reference(superblock.root).context("/")?;
    let inodes_size = image.metadata_size(superblock.inode_table).context("inodes")?;
    let names_size = image.metadata_size(superblock.directory_table).context("directories")?;
    let mut reader = Reader {
        ids: ids.context("owners")?,
        sets: Sets::open(&image).context("attributes")?,
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

/// A directory whose names are not read yet.
struct Pending {
    id: Id,
    names: Position,
    size: u32,
    depth: usize,
}

struct Reader {
    image: Arc<Image>,
    /// Owners and groups by number.
    ids: Vec<u32>,
    sets: Sets,
    /// Those that were read, by number.
    known_sets: HashMap<u32, Xattrs>,
    tree: Tree,
    /// By reference.
    found: HashMap<u64, Id>,
    pending: Vec<Pending>,
    names_left: u64,
    targets_left: u64,
    /// Bytes of all inodes, at most.
    inodes_size: u64,
    kept: xattr_sets::Sets,
}

impl Reader {
    fn root(&mut self, at: Position) -> Result<()> {
        let (inode, _) = self.inode(at)?;
        let Body::Directory { names, size, .. } = inode.body else { bail!("it is no directory") };
        self.tree.node_mut(Tree::ROOT).meta = self.meta(&inode)?;
        self.directory(&Pending { id: Tree::ROOT, names, size, depth: 0 })
    }

    /// Reads the names in a directory.
    fn directory(&mut self, directory: &Pending) -> Result<()> {
        ensure!(directory.depth < DEPTH_MAX, "more than {DEPTH_MAX} directories above each other");
        if directory.size == 0 {
            return Ok(());
        }
        let rest = self.names_left.checked_sub(directory.size.into());
        self.names_left =
            rest.context("directories have more names than there are, or more than 1 GiB")?;
        let image = Arc::clone(&self.image);
        let cursor = Cursor::new(&image, image.superblock.directory_table, directory.names)?;
        let mut names = Names::new(cursor, directory.size);
        while let Some((name, at)) = names.next()? {
            self.name(directory, &name, at).with_context(|| show(&name))?;
        }
        Ok(())
    }

    fn name(&mut self, directory: &Pending, name: &[u8], at: Position) -> Result<()> {
        let parent = directory.id;
        ensure!(self.tree.child(parent, name).is_none(), "the name is there twice");
        if let Some(&id) = self.found.get(&at.reference()) {
            ensure!(self.tree.children(id).is_none(), "the directory has a second name");
            return self.tree.link(parent, name, id);
        }
        let (inode, behind) = self.inode(at)?;
        let (meta, kind) = (self.meta(&inode)?, self.kind(&inode, behind)?);
        let id = self.tree.add(parent, name, meta, kind)?;
        self.found.insert(at.reference(), id);
        if let Body::Directory { names, size, .. } = inode.body {
            let depth = directory.depth + 1;
            self.pending.push(Pending { id, names, size, depth });
        }
        Ok(())
    }

    /// The inode at `at`, and where that ends.
    fn inode(&self, at: Position) -> Result<(Inode, Position)> {
        let table = self.image.superblock.inode_table;
        let mut cursor = Cursor::new(&self.image, table, at)?;
        Ok((Inode::decode(&mut cursor)?, cursor.position(table)?))
    }

    fn meta(&mut self, inode: &Inode) -> Result<Meta> {
        let id = |number: u16| self.ids.get(usize::from(number)).copied();
        let (uid, gid) = (id(inode.uid), id(inode.gid));
        let xattrs = match inode.xattrs {
            NONE => Xattrs::new(),
            number => self.set(number).context("extended attributes")?,
        };
        Ok(Meta {
            permissions: inode.permissions & 0o7777,
            uid: uid.with_context(|| format!("owner {} is not in the table", inode.uid))?,
            gid: gid.with_context(|| format!("group {} is not in the table", inode.gid))?,
            mtime: inode.mtime.into(),
            xattrs,
        })
    }

    /// The set of attributes `number`, which many inodes may share.
    fn set(&mut self, number: u32) -> Result<Xattrs> {
        if let Some(known) = self.known_sets.get(&number) {
            return Ok(known.clone());
        }
        let set = self.sets.get(&self.image, number, &mut self.kept.left())?;
        let set = self.kept.keep(set)?;
        self.known_sets.insert(number, set.clone());
        Ok(set)
    }

    /// Whether a file of `size` bytes can be in the image: it has a length for each
    /// of its blocks.
    fn check_size(&self, size: u64, fragment: Fragment) -> Result<()> {
        /// Bytes of a length.
        const LENGTH: u64 = 4;
        ensure!(i64::try_from(size).is_ok(), "a file of {size} bytes: no file has more than 2^63");
        let block = self.image.superblock.block_size() as u64;
        let blocks = if fragment.number == NONE { size.div_ceil(block) } else { size / block };
        let fits = blocks * LENGTH <= self.inodes_size;
        ensure!(fits, "a file of {size} bytes, for whose blocks the inodes have no room");
        Ok(())
    }

    /// Of an inode with what is `behind` it.
    fn kind(&mut self, inode: &Inode, behind: Position) -> Result<Kind> {
        Ok(match &inode.body {
            Body::Directory { .. } => Kind::Directory(Children::new()),
            &Body::File { start, size, fragment, .. } => {
                self.check_size(size, fragment)?;
                let image = Arc::clone(&self.image);
                let contents = Contents { image, size, start, blocks: behind, fragment };
                Kind::File(Content::Stored(Arc::new(contents)))
            }
            Body::Symlink(target) => {
                let rest = self.targets_left.checked_sub(target.len() as u64);
                self.targets_left =
                    rest.context("links are longer than all inodes, or than 1 GiB")?;
                Kind::Symlink(target.clone())
            }
            &Body::Device(number) => {
                let (major, minor) = device::decode(number);
                match inode.kind {
                    kind::CHAR_DEVICE => Kind::CharDevice(major, minor),
                    _ => Kind::BlockDevice(major, minor),
                }
            }
            Body::Nothing if inode.kind == kind::FIFO => Kind::Fifo,
            Body::Nothing => Kind::Socket,
        })
    }
}
