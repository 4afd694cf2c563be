//! Options that several subcommands of `chrootvm image` have, and parsers of their values.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use image::source::ReadOptions;
use image::source::xattr_policy::{Selection, SelectionWord};

/// Options of a reader that keeps all attributes that it can.
pub(super) fn reading() -> ReadOptions {
    ReadOptions { xattrs_hint: " (--xattrs all keeps it)", ..ReadOptions::default() }
}

/// Options for reading a source.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReadArguments {
    /// Extended attributes to keep: all, none, or those whose names begin with PREFIX; repeatable
    /// [default: all of an archive or an image, and of a directory user.*, security.capability and
    /// access control lists]
    #[arg(long, hide_short_help = true, value_name = "all|none|PREFIX", value_delimiter = ',')]
    xattrs: Vec<SelectionWord>,
}

impl ReadArguments {
    /// Whether an option for reading is given.
    pub(super) fn is_given(&self) -> bool {
        !self.xattrs.is_empty()
    }

    /// Options of the reader.
    ///
    /// # Errors
    /// The words contradict each other.
    pub(super) fn options(&self) -> Result<ReadOptions> {
        Ok(ReadOptions { xattrs: Selection::of(&self.xattrs).context("--xattrs")?, ..reading() })
    }
}

/// Parses the text form of a UUID (RFC 9562, section 4).
pub(super) fn parse_uuid(text: &str) -> Result<[u8; 16], String> {
    const FORM: &str = "as 01234567-89ab-cdef-0123-456789abcdef";
    /// Positions of the dashes.
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let is_form = text.len() == 36
        && text.char_indices().all(|(at, c)| match DASHES.contains(&at) {
            true => c == '-',
            false => c.is_ascii_hexdigit(),
        });
    let number = u128::from_str_radix(&text.replace('-', ""), 16).ok();
    number.filter(|_| is_form).map(u128::to_be_bytes).ok_or_else(|| FORM.into())
}

/// The text form of a UUID, which [`parse_uuid`] reads.
pub(super) fn show_uuid(uuid: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(uuid));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// Parses `NAME=VALUE`. NAME alone is refused: an image must not depend on the
/// environment in which it is made.
pub(super) fn parse_pair(text: &str) -> Result<OsString, String> {
    match text.find('=') {
        None | Some(0) => Err("NAME=VALUE".into()),
        Some(_) => Ok(text.into()),
    }
}

/// Parses an absolute path in the guest.
pub(super) fn parse_absolute(text: &str) -> Result<OsString, String> {
    let text = OsString::from(text);
    match text.as_bytes().starts_with(b"/") {
        true => Ok(text),
        false => Err("an absolute path in the guest".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_one_text_form() {
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        let uuid = parse_uuid(text).unwrap();
        assert_eq!(uuid[..3], [0x01, 0x23, 0x45]);
        assert_eq!(show_uuid(uuid), text);
        for bad in ["", "0123456789abcdef0123456789abcdef", &text[1..], &text.replace('f', "é")] {
            assert!(parse_uuid(bad).is_err(), "{bad}");
        }
    }
}
