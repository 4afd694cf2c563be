//! Files that this program adds to the tree of a source: `/init` and the run file of a
//! workload. A further function limits times, so that an image does not depend on the day.
//!
//! Format of the run file: [`proto::settings`].

use anyhow::{Context, Result};
use proto::settings::{IMAGE_FILE, Record, Restart, encode};

use crate::format::Format;
use crate::tree::{Content, Id, Kind, Meta, Tree, components};

/// Path of `/init` in an initramfs, where the kernel looks for it.
const INIT_OF_CPIO: &str = "init";
/// Path of `/init` in any other image, for `init=` of the kernel.
const INIT_OF_DISK: &str = "sbin/virtinit";

/// Adds `/init` to a tree that will become an image in `format`. Returns the path of the
/// new file, without a leading `/`.
///
/// # Errors
/// A file in place of one of the directories above it.
pub fn init(
    tree: &mut Tree,
    format: Format,
    contents: Vec<u8>,
    mtime: i64,
) -> Result<&'static str> {
    let path = match format {
        Format::Cpio(_) => INIT_OF_CPIO,
        _ => INIT_OF_DISK,
    };
    file(tree, path, 0o755, contents, mtime)?;
    Ok(path)
}

/// A command that the image configures, and that `/init` supervises.
#[derive(Debug, Default)]
pub struct Workload<'a> {
    /// The program and its arguments.
    pub args: Vec<&'a [u8]>,
    /// Environment variables, each as `NAME=VALUE`.
    pub env: Vec<&'a [u8]>,
    /// Working directory.
    pub cwd: Option<&'a [u8]>,
    /// User and group, as text.
    pub user: Option<&'a [u8]>,
    /// Whether `/init` starts the command again when it ends.
    pub restart: Restart,
}

/// Adds the run file ([`IMAGE_FILE`]), in which `/init` finds the workload.
///
/// # Errors
/// A file in place of one of the directories above it.
pub fn workload(tree: &mut Tree, workload: &Workload<'_>, mtime: i64) -> Result<()> {
    let records: Vec<_> = workload
        .args
        .iter()
        .map(|arg| Record::Arg(arg))
        .chain(workload.env.iter().map(|pair| Record::Env(pair)))
        .chain(workload.cwd.map(Record::Cwd))
        .chain(workload.user.map(Record::User))
        .chain((workload.restart != Restart::No).then_some(Record::Restart(workload.restart)))
        .collect();
    file(tree, IMAGE_FILE, 0o644, encode(&records), mtime).map(drop)
}

/// Adds a file that belongs to root. Links above the file are followed.
fn file(tree: &mut Tree, path: &str, permissions: u16, bytes: Vec<u8>, mtime: i64) -> Result<Id> {
    let context = || format!("add {path} to the image");
    let mut names: Vec<_> = components(path.as_bytes()).collect();
    let name = names.pop().with_context(context)?;
    let parent = tree.make_directories(&names.join(&b'/')).with_context(context)?;
    let meta = Meta { permissions, mtime, ..Meta::default() };
    tree.add(parent, name, meta, Kind::File(Content::Bytes(bytes.into()))).with_context(context)
}

/// Limits all modification times to `epoch`: later times become `epoch`. This is what
/// reproducible-builds.org asks for `SOURCE_DATE_EPOCH`.
pub fn clamp_times(tree: &mut Tree, epoch: u32) {
    for meta in tree.metas_mut() {
        meta.mtime = meta.mtime.min(epoch.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::compress::Compression;
    use proto::settings::Command;

    fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
        let Kind::File(content) = &tree.node(tree.find(path.as_bytes()).unwrap()).kind else {
            panic!("{path} is no file");
        };
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn init_follows_links_above_it() {
        let mut tree = Tree::new(Meta::default());
        tree.add(Tree::ROOT, b"sbin", Meta::default(), Kind::Symlink(b"usr/sbin"[..].into()))
            .unwrap();
        init(&mut tree, Format::Erofs, b"disk".into(), 5).unwrap();
        init(&mut tree, Format::Cpio(Compression::None), b"cpio".into(), 5).unwrap();
        assert_eq!(bytes(&tree, "usr/sbin/virtinit"), b"disk");
        assert_eq!(bytes(&tree, "init"), b"cpio");
        clamp_times(&mut tree, 3);
        assert_eq!(tree.node(tree.find(b"init").unwrap()).meta.mtime, 3);
    }

    #[test]
    fn init_can_read_the_run_file() {
        let mut tree = Tree::new(Meta::default());
        let wanted = Workload {
            args: vec![b"sh", b"-c", b"a\nb"],
            env: vec![b"A=1"],
            cwd: Some(b"/tmp"),
            user: Some(b"nobody"),
            restart: Restart::Always,
        };
        workload(&mut tree, &wanted, 0).unwrap();
        let text = bytes(&tree, IMAGE_FILE);
        let request = Command::parse(&text).unwrap();
        assert_eq!(request.args, [c"sh", c"-c", c"a\nb"]);
        assert_eq!(request.env, [c"A=1"]);
        assert_eq!(request.cwd, Some(c"/tmp"));
        assert_eq!(request.user, Some(&b"nobody"[..]));
        assert_eq!(request.restart, Restart::Always);
    }
}
