//! What a FAT holds of a tree, its geometry, and the arguments of the programs that make it.
//!
//! Interfaces: mkfs.vfat(8), mcopy(1), mmd(1); the FAT specification 1.03, whose table of
//! limits decides between 12, 16 and 32 bits. A FAT has files, directories and times of two
//! seconds; everything else is noted, and what would change the meaning of a path is an error.

use std::collections::HashSet;
use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use image::tree::{Id, Kind, Meta, Node, Tree, show};

use super::staged::own;
use super::{IMAGE, MkfsOptions};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Bytes of a directory entry.
const DIRENT: u64 = 32;
/// UTF-16 units of a name in one entry.
const UNITS: usize = 13;
/// UTF-16 units of the longest name.
const NAME_MAX: usize = 255;
/// Bytes of the largest file.
const FILE_MAX: u64 = u32::MAX as u64;
/// First and last second that a FAT can store: the years 1980 and 2107.
const TIMES: (i64, i64) = (315_532_800, 4_354_819_198);
/// Characters that no name contains, besides control characters. mtools takes `[` in the name of
/// a directory as a pattern.
const BAD: &str = "\"*/:<>?\\|";
/// Names of devices, which mtools does not copy.
const DEVICES: &[&str] = &[
    "aux", "clock$", "com1", "com2", "com3", "com4", "con", "lpt1", "lpt2", "lpt3", "lpt4", "nul",
    "prn",
];
/// Most bytes of names in one run of mcopy.
const NAMES: usize = 64 << 10;

const OWNERS: &str = "owners are left out, because vfat has none";
const MODES: &str = "permissions are left out, because vfat has none";
const XATTRS: &str = "extended attributes are left out, because vfat has none";
const LINKS: &str = "symbolic links are left out, because vfat has none";
const HARD_LINKS: &str = "hard links become copies, because vfat has none";
const SPECIAL: &str = "device nodes, FIFOs and sockets are left out, because vfat has none";

/// A time as a FAT can store it.
pub(super) fn clamped(time: i64) -> i64 {
    time.clamp(TIMES.0, TIMES.1)
}

/// What a FAT holds of a tree.
#[derive(Debug)]
pub(super) struct Plan {
    /// The files to copy, with metadata of this user.
    pub(super) tree: Tree,
    /// Number of files and directories, without the root.
    pub(super) count: usize,
    /// Sizes of files.
    files: Vec<u64>,
    /// Numbers of entries of directories; the first one is the root.
    directories: Vec<u64>,
}

/// Plans a FAT of `tree`; `root` has the time of the image.
///
/// # Errors
/// A name that a FAT cannot have, or two that it takes for one; a file of 4 GiB or more.
pub(super) fn plan(tree: &Tree, notes: &mut Notes) -> Result<Plan> {
    let root = own(&image::tree::directory());
    let mut plan =
        Plan { tree: Tree::new(root), count: 0, files: Vec::new(), directories: Vec::new() };
    let mut linked = HashSet::new();
    let mut pending = vec![(Tree::ROOT, Tree::ROOT, Vec::new())];
    while let Some((from, to, path)) = pending.pop() {
        let mut entries = if path.is_empty() { 1 } else { 2 };
        let mut names = HashSet::new();
        for (name, &id) in tree.children(from).into_iter().flatten() {
            let path = [&path[..], if path.is_empty() { b"" } else { b"/" }, name].concat();
            let node = tree.node(id);
            note(node, &path, notes);
            if !is_held(node, &path, notes) {
                continue;
            }
            let context = || show(&path);
            let (folded, count) = checked(name, node).with_context(context)?;
            ensure!(
                names.insert(folded),
                "{}: vfat takes this name and another one of the directory for the same",
                context()
            );
            entries += count;
            plan.count += 1;
            let added = plan.add(to, name, node).with_context(context)?;
            if node.names > 1 && matches!(node.kind, Kind::File(_)) && !linked.insert(id) {
                notes.add(HARD_LINKS, &path);
            }
            if matches!(node.kind, Kind::Directory(_)) {
                pending.push((id, added, path));
            }
        }
        plan.directories.push(entries);
    }
    Ok(plan)
}

impl Plan {
    /// Adds a file or a directory.
    fn add(&mut self, parent: Id, name: &[u8], node: &Node) -> Result<Id> {
        let kind = match &node.kind {
            Kind::File(content) => {
                self.files.push(content.size());
                Kind::File(content.clone())
            }
            _ => image::tree::directory(),
        };
        let meta = Meta { mtime: clamped(node.meta.mtime), ..own(&kind) };
        self.tree.add(parent, name, meta, kind)
    }
}

/// Notes the metadata of `node` that a FAT does not have.
fn note(node: &Node, path: &[u8], notes: &mut Notes) {
    let meta = &node.meta;
    if (meta.uid, meta.gid) != (0, 0) {
        notes.add(OWNERS, path);
    }
    let usual: &[u16] = match &node.kind {
        Kind::Symlink(_) => return,
        Kind::File(_) => &[0o644, 0o755],
        _ => &[0o755],
    };
    if !usual.contains(&meta.permissions) {
        notes.add(MODES, path);
    }
    if !meta.xattrs.is_empty() {
        notes.add(XATTRS, path);
    }
}

/// Whether a FAT holds a file of this kind; otherwise, this is noted.
fn is_held(node: &Node, path: &[u8], notes: &mut Notes) -> bool {
    match node.kind {
        Kind::Directory(_) | Kind::File(_) => return true,
        Kind::Symlink(_) => notes.add(LINKS, path),
        Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo | Kind::Socket => {
            notes.add(SPECIAL, path);
        }
    }
    false
}

/// Checks a file. Returns its name as a FAT compares it, and the number of its entries.
fn checked(name: &[u8], node: &Node) -> Result<(String, u64)> {
    let text = std::str::from_utf8(name).context("vfat has only names in UTF-8")?;
    let units = text.encode_utf16().count();
    ensure!(units <= NAME_MAX, "vfat has no names of more than {NAME_MAX} characters");
    let is_bad = text.chars().any(|c| c.is_control() || BAD.contains(c));
    let folded = text.to_lowercase();
    let ends_badly = text.ends_with(['.', ' ']) || text.starts_with(' ');
    let is_pattern = text.contains('[') && matches!(node.kind, Kind::Directory(_));
    let is_refused = is_bad || ends_badly || is_pattern || DEVICES.contains(&&*folded);
    ensure!(!is_refused, "vfat and mtools cannot have this name");
    if let Kind::File(content) = &node.kind {
        ensure!(content.size() <= FILE_MAX, "vfat has no files of 4 GiB or more");
    }
    Ok((folded, 1 + units.div_ceil(UNITS) as u64))
}

/// Geometry of a FAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of the image.
    pub(super) size: u64,
    /// Sectors of a cluster.
    cluster: u64,
    /// Bits of an entry of the table; `None` to let mkfs.vfat choose.
    bits: Option<u32>,
    /// Entries of the root directory; 0 if it has no place of its own (32 bits).
    root: u64,
}

/// Largest images, in bytes, and the bytes of their clusters: those of mkfs.vfat for 32 bits.
const CLUSTERS: &[(u64, u64)] =
    &[(8 << 30, 4096), (16 << 30, 8192), (32 << 30, 16384), (u64::MAX, 32768)];

/// Bits of an entry, and the fewest and the most clusters. The limits keep a distance from
/// those of the specification (4085 and 65525), at which programs disagree.
const BITS: &[(u32, u64, u64)] = &[(12, 1, 4000), (16, 4150, 65_400), (32, 65_650, 0x0fff_fff0)];

impl Plan {
    /// Geometry of the image.
    ///
    /// # Errors
    /// More clusters than a FAT has.
    pub(super) fn geometry(&self, options: &MkfsOptions) -> Result<Geometry> {
        /// Fewest entries of a root directory in its own place, as mkfs.vfat makes it.
        const ROOT: u64 = 512;
        /// Most of them: the field has 16 bits.
        const ROOT_MAX: u64 = 65_536 - 16;
        let bytes = self.files.iter().copied().fold(0, u64::saturating_add);
        let of = options.size.unwrap_or_else(|| options.with_slack(bytes));
        let row = CLUSTERS.iter().find(|(size, _)| of <= *size);
        let cluster = row.map_or(32768, |(_, cluster)| *cluster);
        // A label is an entry, too.
        let root = self.directories.first().copied().unwrap_or(0) + 1;
        let root = root.max(ROOT).next_multiple_of(SECTOR / DIRENT);
        if let Some(size) = options.size {
            let bits = bits_of(size / cluster, size / cluster).filter(|_| root <= ROOT_MAX);
            let root = root.min(ROOT_MAX);
            return Ok(Geometry { size, cluster: cluster / SECTOR, bits, root });
        }
        let files = self.files.iter().map(|size| size.div_ceil(cluster));
        let directories = self.directories.iter().map(|count| (count * DIRENT).div_ceil(cluster));
        let used: u64 = files.chain(directories).fold(0, u64::saturating_add);
        let needed = options.with_slack(used.saturating_mul(cluster)).div_ceil(cluster).max(1);
        let rows = BITS.iter().filter(|(bits, ..)| *bits == 32 || root <= ROOT_MAX);
        let row = rows.copied().find(|(_, _, most)| needed <= *most);
        let (bits, fewest, _) = row.context("vfat has no room for so much")?;
        let clusters = needed.max(fewest);
        let root = if bits == 32 { 0 } else { root };
        let table = ((clusters + 2) * u64::from(bits)).div_ceil(8).div_ceil(SECTOR) + 1;
        // The first sectors, both tables, the root, and space before the first cluster.
        let head = 64 + 2 * table + root * DIRENT / SECTOR + 4 * cluster / SECTOR;
        let size = (head * SECTOR + clusters * cluster).next_multiple_of(cluster);
        Ok(Geometry { size, cluster: cluster / SECTOR, bits: Some(bits), root })
    }
}

/// Bits of an entry of a FAT with `fewest` to `most` clusters; `None` near a limit.
fn bits_of(fewest: u64, most: u64) -> Option<u32> {
    let row = BITS.iter().find(|(_, least, limit)| *least <= fewest && most <= *limit);
    row.map(|(bits, ..)| *bits)
}

/// Arguments of mkfs.vfat.
pub(super) fn arguments(
    options: &MkfsOptions,
    geometry: Geometry,
    uuid: [u8; 16],
) -> Vec<OsString> {
    let [a, b, c, d, ..] = uuid;
    let id = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
    let cluster = geometry.cluster.to_string();
    let mut words: Vec<OsString> =
        ["--invariant", "-i", &id, "-s", &cluster].map(OsString::from).into();
    if geometry.root > 0 {
        words.extend(["-r".into(), geometry.root.to_string().into()]);
    }
    if let Some(bits) = geometry.bits {
        words.extend(["-F".into(), bits.to_string().into()]);
    }
    if !options.label.is_empty() {
        words.extend(["-n".into(), OsString::from(&options.label)]);
    }
    words.extend(options.arguments.iter().cloned());
    words.push(IMAGE.into());
    words
}

/// One run of mmd or mcopy: the arguments after the options for the image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes these directories.
    Directories(Vec<OsString>),
    /// Copies files, whose paths are relative to the directory of the staged files, into the
    /// directory that comes last.
    Files(Vec<OsString>),
}

/// The runs that fill the image, in byte order of the paths: the parent of a directory first.
pub(super) fn steps(tree: &Tree) -> Vec<Step> {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut steps = Vec::new();
    let mut pending = vec![(Tree::ROOT, String::new())];
    while let Some((id, path)) = pending.pop() {
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        for (name, &child) in tree.children(id).into_iter().flatten() {
            let below = format!("{path}/{}", text(name));
            match tree.children(child) {
                Some(_) => directories.push((child, below)),
                None => files.push(OsString::from(format!(".{below}"))),
            }
        }
        let names = directories.iter().map(|(_, path)| OsString::from(format!("::{path}")));
        steps.extend(chunks(names.collect()).into_iter().map(Step::Directories));
        for mut chunk in chunks(files) {
            chunk.push(format!("::{path}/").into());
            steps.push(Step::Files(chunk));
        }
        pending.extend(directories.into_iter().rev());
    }
    steps
}

/// Cuts a list of names into lists that fit on a command line.
fn chunks(names: Vec<OsString>) -> Vec<Vec<OsString>> {
    let mut chunks: Vec<Vec<OsString>> = Vec::new();
    let mut room = 0;
    for name in names {
        let length = name.len() + 1;
        match chunks.last_mut().filter(|_| length <= room) {
            Some(chunk) => chunk.push(name),
            None => {
                chunks.push(vec![name]);
                room = NAMES;
            }
        }
        room = room.saturating_sub(length);
    }
    chunks
}

#[cfg(test)]
mod tests;
