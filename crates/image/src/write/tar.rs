//! Writing a [`Tree`] as a tar archive.
//!
//! Format: ustar, with extended headers (POSIX pax(1)) only for values that do not fit into
//! its fields. Extended attributes are records `SCHILY.xattr.NAME` (star(5)); sparse files
//! are those of GNU tar. If a file has several names, the first one has the contents, and
//! the others are hard links to it.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result};
use files::notes::Notes;
use tar::{EntryType, Header};

use super::copier::{Copier, copying};
use super::sparse::SparseMember;
use crate::tree::{Id, Kind, Meta, NANOSECONDS_MAX, Node, Tree, show};
use crate::ustar::BLOCK;

/// Most bytes of a path or of a link's target in a header (`name`, `linkname`).
const NAME_MAX: usize = 100;
/// The largest owner or group in a header: seven octal digits.
const ID_MAX: u32 = 0o7_777_777;
/// The largest size and time in a header: eleven octal digits.
const NUMBER_MAX: u64 = 0o77_777_777_777;

/// Name of each extended header, because some readers refuse a header without a name.
const EXTENDED: &[u8] = b"PaxHeaders";

const SOCKET: &str = "sockets are left out, because a tar archive has none";

/// Writes `tree` to `out`.
///
/// # Errors
/// Contents that cannot be read; errors of writing to `out`.
pub fn write(tree: &Tree, out: &mut dyn Write, notes: &mut Notes) -> Result<()> {
    copying(tree, |copier| {
        let mut writer = ArchiveWriter { tree, out, notes, copier, first_names: HashMap::new() };
        tree.walk(&mut |path, id| writer.member(path, id))
    })?;
    end(out)
}

/// Like [`write()`], but the file `first` is the first member, and the root is no member.
///
/// # Errors
/// Those of [`write()`]; `first` is missing.
pub fn write_beginning_with(
    first: &[u8],
    tree: &Tree,
    out: &mut dyn Write,
    notes: &mut Notes,
) -> Result<()> {
    let id = tree.find(first).with_context(|| format!("{} is missing", show(first)))?;
    // Reading ahead keeps to the order of the tree, so this copier does not read ahead.
    let copier = &mut Copier::new();
    let mut writer = ArchiveWriter { tree, out, notes, copier, first_names: HashMap::new() };
    writer.member(first, id)?;
    tree.walk(&mut |path, id| match path.is_empty() || path == first {
        true => Ok(()),
        false => writer.member(path, id),
    })?;
    end(out)
}

/// Writes the two blocks that end an archive.
fn end(out: &mut dyn Write) -> Result<()> {
    Ok(out.write_all(&[0; 2 * BLOCK])?)
}

/// Writer of the members of an archive.
struct ArchiveWriter<'a> {
    tree: &'a Tree,
    out: &'a mut dyn Write,
    notes: &'a mut Notes,
    copier: &'a mut Copier,
    /// First paths of the nodes with several names.
    first_names: HashMap<Id, Box<[u8]>>,
}

impl ArchiveWriter<'_> {
    fn member(&mut self, path: &[u8], id: Id) -> Result<()> {
        let node = self.tree.node(id);
        if matches!(node.kind, Kind::Socket) {
            self.notes.add(SOCKET, path);
            return Ok(());
        }
        let first = (node.names > 1).then(|| first_name(&mut self.first_names, id, path)).flatten();
        let sparse = match &node.kind {
            Kind::File(content) if first.is_none() => SparseMember::new(content),
            _ => Ok(None),
        };
        let sparse = sparse.with_context(|| format!("read {}", show(path)))?;
        let member = NewMember::new(path, node, first.as_deref(), sparse);
        member.write(path, self.out, self.copier).with_context(|| show(path))
    }
}

/// The path under which node `id` was written before; `None` if `path` is its first one.
fn first_name(names: &mut HashMap<Id, Box<[u8]>>, id: Id, path: &[u8]) -> Option<Box<[u8]>> {
    let known = names.get(&id).cloned();
    names.entry(id).or_insert_with(|| path.into());
    known
}

/// One member that is written to the archive.
struct NewMember<'a> {
    header: Header,
    records: Vec<u8>,
    node: &'a Node,
    /// Whether this is the first name of its node, with which the contents are written.
    is_first: bool,
    /// The map of a sparse file.
    sparse: Option<SparseMember>,
}

impl<'a> NewMember<'a> {
    fn new(
        path: &[u8],
        node: &'a Node,
        first: Option<&[u8]>,
        sparse: Option<SparseMember>,
    ) -> Self {
        let is_first = first.is_none();
        let (header, records) = (Header::new_ustar(), Vec::new());
        let mut member = Self { header, records, node, is_first, sparse };
        let name = match &node.kind {
            Kind::Directory(_) => [if path.is_empty() { b"." } else { path }, b"/"].concat(),
            _ if member.sparse.is_some() => SparseMember::name(path),
            _ => path.to_vec(),
        };
        let target = match (&node.kind, first) {
            (_, Some(first)) => first,
            (Kind::Symlink(target), _) => target,
            _ => &[],
        };
        member.text("path", &name, |header| &mut header.name);
        member.text("linkpath", target, |header| &mut header.linkname);
        member.meta();
        member.kind();
        let sparse = member.sparse.as_ref().map(|sparse| sparse.records(path));
        for (key, value) in sparse.into_iter().flatten() {
            member.record(key, &value);
        }
        member
    }

    /// Writes `value` into a field of the header. If it does not fit, the field gets its
    /// start, and a record gets all of it.
    fn text(
        &mut self,
        key: &str,
        value: &[u8],
        field: impl Fn(&mut tar::UstarHeader) -> &mut [u8; NAME_MAX],
    ) {
        if value.len() > NAME_MAX {
            self.record(key.as_bytes(), value);
        }
        if let Some(header) = self.header.as_ustar_mut() {
            let length = value.len().min(NAME_MAX);
            field(header)[..length].copy_from_slice(&value[..length]);
        }
    }

    fn meta(&mut self) {
        let Meta { permissions, uid, gid, mtime, nanoseconds, ref xattrs } = self.node.meta;
        self.header.set_mode(permissions.into());
        self.header.set_uid(uid.min(ID_MAX).into());
        self.header.set_gid(gid.min(ID_MAX).into());
        let time = u64::try_from(mtime).unwrap_or_default().min(NUMBER_MAX);
        self.header.set_mtime(time);
        for (key, value) in [("uid", uid), ("gid", gid)] {
            if value > ID_MAX {
                self.record(key.as_bytes(), value.to_string().as_bytes());
            }
        }
        if i64::try_from(time) != Ok(mtime) || nanoseconds > 0 {
            self.record(b"mtime", decimal(mtime, nanoseconds).as_bytes());
        }
        for (name, value) in xattrs {
            self.record(&[b"SCHILY.xattr.", &escaped(name)[..]].concat(), value);
        }
    }

    fn kind(&mut self) {
        let mut device = (0, 0);
        let kind = match &self.node.kind {
            _ if !self.is_first => EntryType::Link,
            Kind::Directory(_) => EntryType::Directory,
            Kind::File(_) => EntryType::Regular,
            Kind::Symlink(_) => EntryType::Symlink,
            Kind::CharDevice(major, minor) => {
                device = (*major, *minor);
                EntryType::Char
            }
            Kind::BlockDevice(major, minor) => {
                device = (*major, *minor);
                EntryType::Block
            }
            Kind::Fifo | Kind::Socket => EntryType::Fifo,
        };
        self.header.set_entry_type(kind);
        if let Some(header) = self.header.as_ustar_mut() {
            header.set_device_major(device.0);
            header.set_device_minor(device.1);
        }
        let size = self.size();
        self.header.set_size(size.min(NUMBER_MAX));
        if size > NUMBER_MAX {
            self.record(b"size", size.to_string().as_bytes());
        }
    }

    fn size(&self) -> u64 {
        match &self.node.kind {
            Kind::File(_) if self.sparse.is_some() => {
                self.sparse.as_ref().map_or(0, SparseMember::stored_size)
            }
            Kind::File(content) if self.is_first => content.size(),
            _ => 0,
        }
    }

    /// Adds a record `LENGTH KEY=VALUE\n`. LENGTH counts the whole record, its own digits
    /// included.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + " =\n".len();
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let parts = [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat();
        self.records.extend(parts);
    }

    fn write(mut self, path: &[u8], out: &mut dyn Write, copier: &mut Copier) -> Result<()> {
        if !self.records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            if let Some(header) = header.as_ustar_mut() {
                header.name[..EXTENDED.len()].copy_from_slice(EXTENDED);
            }
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(self.records.len() as u64);
            header.set_cksum();
            out.write_all(header.as_bytes())?;
            out.write_all(&self.records)?;
            pad(out, self.records.len() as u64)?;
        }
        self.header.set_cksum();
        out.write_all(self.header.as_bytes())?;
        if let Kind::File(content) = &self.node.kind
            && self.is_first
        {
            match &self.sparse {
                Some(sparse) => sparse.write(path, content, out)?,
                None => copier.copy(path, self.node, out)?,
            }
            pad(out, self.size())?;
        }
        Ok(())
    }
}

/// Escapes the name of an attribute for a key as GNU tar does: `=` would end the key.
fn escaped(name: &[u8]) -> Vec<u8> {
    let bytes = name.iter().map(|byte| match byte {
        b'%' => &b"%25"[..],
        b'=' => b"%3D",
        _ => std::slice::from_ref(byte),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn pad(out: &mut dyn Write, size: u64) -> Result<()> {
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    out.write_all(&[0; BLOCK][..usize::try_from(padding)?])?;
    Ok(())
}

/// A time as a decimal number, from whole seconds and nanoseconds to add to them.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, part) = match seconds < 0 && nanoseconds > 0 {
        true => ("-", seconds.abs_diff(-1), NANOSECONDS_MAX + 1 - nanoseconds),
        false => (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), nanoseconds),
    };
    let digits = format!("{sign}{whole}.{part:09}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, directory};

    #[test]
    fn a_file_can_be_the_first_member() {
        let mut tree = Tree::new(Meta::default());
        let file = |text: &str| Kind::File(Content::Bytes(text.as_bytes().into()));
        for (path, text) in [("a/b", "one"), ("b", "two"), ("z", "three")] {
            tree.put(path.as_bytes(), Meta::default(), file(text)).unwrap();
        }
        tree.put(b"c", Meta::default(), directory()).unwrap();
        let mut bytes = Vec::new();
        write_beginning_with(b"z", &tree, &mut bytes, &mut Notes::default()).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let members = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
            let text = std::io::read_to_string(&mut entry).unwrap();
            format!("{path} {text}")
        });
        assert_eq!(members.collect::<Vec<_>>(), ["z three", "a/ ", "a/b one", "b two", "c/ "]);
        assert!(write_beginning_with(b"y", &tree, &mut bytes, &mut Notes::default()).is_err());
    }

    #[test]
    fn times_are_decimal_numbers() {
        for (time, expected) in [
            ((5, 0), "5"),
            ((-5, 0), "-5"),
            ((10, 900_000_000), "10.9"),
            ((0, 1), "0.000000001"),
            ((-1, 500_000_000), "-0.5"),
            ((-6, 900_000_000), "-5.1"),
            ((i64::MIN, 0), "-9223372036854775808"),
        ] {
            assert_eq!(decimal(time.0, time.1), expected);
        }
    }
}
