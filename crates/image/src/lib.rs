//! File system images: read, changed, compared and written, without mounting anything and
//! without root.
//!
//! # Concepts
//!
//! A **source** is a directory of the host, an archive or an image. [`source::open`]
//! recognises its format and reads it as a [`tree::Tree`].
//!
//! A **tree** has names and metadata in memory. Contents of files are references
//! ([`tree::Content`]): they are read only when an image is written, so the source must stay
//! unchanged until then. A source that cannot be read by offset (a compressed archive, a
//! pipe) is first copied into an unlinked file in `$TMPDIR`.
//!
//! **Edits** change the tree: [`tree::Tree::put`], [`tree::Tree::remove`], and the functions
//! in [`edit`]. Nothing of an edit touches the source.
//!
//! A **writer** turns the tree into an image. Writers need little memory, and equal trees
//! give equal bytes: neither the order of the source nor the number of threads shows.
//!
//! **Notes** ([`Notes`]) collect everything that a reader or a writer had to leave out,
//! because the format or the host cannot express it.
//!
//! # Example
//!
//! An EROFS of a tar archive, with one file added:
//!
//! ```
//! use std::fs::File;
//! use virtinitrd_image::format::Format;
//! use virtinitrd_image::progress::Progress;
//! use virtinitrd_image::source::{self, ReadOptions};
//! use virtinitrd_image::tree::{Content, Kind, Meta};
//! use virtinitrd_image::write::disk::{self, DiskOptions};
//! use virtinitrd_image::Notes;
//!
//! # fn main() -> anyhow::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # std::env::set_current_dir(dir.path())?;
//! # let mut builder = tar::Builder::new(File::create("root.tar")?);
//! # let mut header = tar::Header::new_ustar();
//! # header.set_size(6);
//! # builder.append_data(&mut header, "etc/motd", &b"hello\n"[..])?;
//! # builder.finish()?;
//! let mut notes = Notes::default();
//! let mut tree = source::open("root.tar".as_ref(), &ReadOptions::default(), &mut notes)?.tree;
//! let meta = Meta { permissions: 0o644, ..Meta::default() };
//! let name = Content::Bytes(b"box\n"[..].into());
//! tree.put(b"etc/hostname", meta, Kind::File(name))?;
//! let image = File::create_new("root.erofs")?;
//! let options = DiskOptions { threads: 2, ..DiskOptions::default() };
//! disk::write(&tree, Format::Erofs, &options, &image, &mut notes, &Progress::hidden())?;
//! assert_eq!(notes.lines().count(), 0);
//! # let again = source::open("root.erofs".as_ref(), &ReadOptions::default(), &mut notes)?;
//! # assert_eq!(again.format, Format::Erofs);
//! # assert!(again.tree.find(b"etc/motd").is_some() && again.tree.find(b"etc/hostname").is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! | Module | Contents |
//! |---|---|
//! | [`source`] | reads a directory, cpio, tar, EROFS, ext4 or squashfs as a tree |
//! | [`tree`] | the tree: nodes, contents, attributes, look-ups by path |
//! | [`edit`] | removes, selects and adds files, adds `/init` and a workload, applies layers, makes builds equal |
//! | [`elf`] | tells whether a program of a tree can run there |
//! | [`mod@write`] | writes a tree as cpio, tar, a directory, EROFS, ext4 or squashfs |
//! | [`mod@format`] | recognises formats, by contents or by the ending of a name |
//! | [`compare`] | lists the differences between two trees |
//! | [`progress`] | a progress bar for writers |
//!
//! Three more modules are hidden: `erofs`, `ext4` and `squashfs`, each with the reader, the
//! writer and the layout of one disk format. [`source::open`] and [`write::disk`] call them.
//!
//! Dependencies between the modules go in one direction: `source` and `write` use the disk
//! formats and `format`, and `source` uses the patterns of [`edit::ignore`]. All of them but
//! `format` use `tree`, and `tree` uses none of them.
//!
//! # Limits
//!
//! | Limit | Value |
//! |---|---|
//! | path | 4095 bytes, 255 in one name |
//! | file in a cpio | below 4 GiB |
//! | sparse file in a tar | 16 TiB |
//! | copy of a source in `$TMPDIR` | [`source::ReadOptions::max_size`], 64 GiB by default |
//! | names, nodes and targets of links | 2 GiB in memory ([`tree::MEMORY_MAX`]), about 12 million files |
//! | `.dockerignore` | 256 KiB, 10,000 patterns, 4096 bytes in one of them |
//! | extended attributes of a disk image | 256 MiB in memory |
//! | extended attributes of a tar | 1 GiB, counted for each member |
//! | extended attributes of all layers of an image | 256 MiB, counted for each member |
//!
//! # Errors
//!
//! Errors are [`anyhow::Error`]s. The chain of contexts names the operation, the file and,
//! for damage, the offset. Sources are not trusted: damage of any kind is an error, never a
//! panic, and it takes limited time and memory. [`archive::spool::TooLarge`] is the cause if
//! a source exceeds [`source::ReadOptions::max_size`].

pub mod compare;
mod disk_parts;
pub mod edit;
pub mod elf;
// Hidden, like the other two disk formats: `source` and `write::disk` cover them. They are
// public for the fuzzer of this project.
#[doc(hidden)]
pub mod erofs;
#[doc(hidden)]
pub mod ext4;
pub mod format;
pub mod progress;
#[cfg(test)]
mod sample;
pub mod source;
// Hidden for the same reason as `erofs`.
#[doc(hidden)]
pub mod squashfs;
#[cfg(test)]
mod tests;
pub mod tree;
// Hidden: check sums of tar headers, for the fuzzer of this project.
#[doc(hidden)]
pub mod ustar;
pub mod write;

pub use files::notes::Notes;
