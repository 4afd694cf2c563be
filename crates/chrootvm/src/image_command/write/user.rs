//! Whether a root has the user of its workload, which `/init` would otherwise miss at the boot.
//!
//! Formats: [`proto::user`].

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use files::tell::show;
use image::tree::{Kind, Tree};

/// Most bytes of `/etc/passwd` and of `/etc/group` that are read.
const FILE_MAX: u64 = 16 << 20;

/// The user of a workload: that of `--user`, or else `of_image`, that of the image's config.
///
/// # Errors
/// `tree` does not have the user or the group; its files of accounts cannot be read.
pub(in crate::image_command) fn choose<'a>(
    tree: &Tree,
    given: Option<&'a OsStr>,
    of_image: &'a str,
) -> Result<Option<&'a [u8]>> {
    let of_image = Some(of_image.as_bytes()).filter(|user| !user.is_empty());
    let given = given.map(OsStrExt::as_bytes);
    let Some(user) = given.or(of_image) else { return Ok(None) };
    let (passwd, group) = (read(tree, "/etc/passwd")?, read(tree, "/etc/group")?);
    match (proto::user::find(Some(user), &passwd, &group), given) {
        (Ok(_), _) => Ok(Some(user)),
        (Err(why), Some(_)) => bail!("--user {}: {why}", show(user)),
        (Err(why), None) => {
            bail!("User of the image: {}: {why}; --user names another", show(user))
        }
    }
}

/// User and group with the ids of `owner` in the accounts of `tree`; root without one.
///
/// # Errors
/// `tree` does not have the user or the group; its files of accounts cannot be read.
pub(in crate::image_command) fn owner(tree: &Tree, owner: Option<&str>) -> Result<(u32, u32)> {
    let Some(owner) = owner else { return Ok((0, 0)) };
    let (passwd, group) = (read(tree, "/etc/passwd")?, read(tree, "/etc/group")?);
    match proto::user::find(Some(owner.as_bytes()), &passwd, &group) {
        Ok(found) => Ok((found.uid, found.gid)),
        Err(why) => bail!("owner {}: {why}", show(owner.as_bytes())),
    }
}

/// Home directory of `user` in the accounts of `tree`; that of root without a user, and `/` if
/// the user is unknown.
///
/// # Errors
/// The files of accounts cannot be read.
pub(in crate::image_command) fn home(tree: &Tree, user: Option<&str>) -> Result<Vec<u8>> {
    let (passwd, group) = (read(tree, "/etc/passwd")?, read(tree, "/etc/group")?);
    let found = proto::user::find(user.map(str::as_bytes), &passwd, &group);
    Ok(match found {
        Ok(found) if user.is_some() || !passwd.is_empty() => found.home.to_vec(),
        Ok(_) => b"/root".to_vec(),
        Err(_) => b"/".to_vec(),
    })
}

/// The bytes of the regular file at `path`; none if there is no such file, as for `/init`.
fn read(tree: &Tree, path: &str) -> Result<Vec<u8>> {
    let Ok(id) = tree.resolve(path.as_bytes()) else { return Ok(Vec::new()) };
    let Kind::File(content) = &tree.node(id).kind else { return Ok(Vec::new()) };
    let reading = || format!("read {path} of the image");
    let mut bytes = Vec::new();
    let input = content.open().with_context(reading)?;
    input.take(FILE_MAX).read_to_end(&mut bytes).with_context(reading)?;
    Ok(bytes)
}
