//! newc archives, as the kernel unpacks them into its initramfs.
//!
//! Format: kernel doc driver-api/early-userspace/buffer-format.rst.
//!
//! The crate `cpio` writes headers, padding and the trailer. Three things are done here,
//! because the crate cannot do them:
//!
//! - Names with arbitrary bytes: the crate takes and returns names as `str`.
//! - Reading (`header`, `read`): the kernel's rules for segments, padding, compressed
//!   archives and overlong names; the position of the contents in the file, so that they
//!   can be read later; check sums, which the crate reads, but does not verify.
//! - The order of members, inode numbers and link counts of an initrd (`write`).
//!
//! | Module | Contents |
//! |---|---|
//! | `header` | [`Header`], and the constants of the format |
//! | `write` | [`Archive`], [`MemberWriter`] and [`write_trailer`] |
//! | `read` | [`walk`], which passes each [`Member`] of an initramfs to a [`Visitor`] |
//! | `list` | [`entries`], the members as a list |

mod header;
mod list;
mod read;
mod write;

pub use header::{Header, MAGIC, MAGIC_CHECKED, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, TRAILER};
pub use list::{Entry, entries};
pub use read::{Member, Visitor, after_padding, until_nul, walk};
pub use write::{Archive, MemberWriter, source_date_epoch, write_member, write_trailer};
