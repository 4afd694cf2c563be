//! The user of a command, from the root's own files.
//!
//! Formats: [`proto::user`].

use proto::text::show;
pub use proto::user::User;
use proto::user::find;

use super::failure::Failure;
use crate::sys::error::Error;
use crate::sys::file;

/// Finds the user `wanted` in the root's own files, as [`find`] does, and passes it to
/// `with`.
///
/// # Errors
/// There is no such user, or `with` fails.
pub fn look_up(
    wanted: Option<&[u8]>,
    with: &mut dyn FnMut(&User<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let passwd = file::read_regular(c"/etc/passwd").unwrap_or_default();
    let group = file::read_regular(c"/etc/group").unwrap_or_default();
    let user = find(wanted, &passwd, &group).map_err(|why| {
        let name = show(wanted.unwrap_or_default());
        Failure::trouble(Error::new(format_args!("find user {name}: {why}"), ""))
    })?;
    with(&user)
}
