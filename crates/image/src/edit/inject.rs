//! What we put into an image beside its source: `/init`, what it is to run, and
//! times that do not depend on the day.

use anyhow::{Context, Result};
use virtinitrd_proto::settings::{IMAGE_FILE, Record, Restart, encode};

use super::format::Format;
use super::tree::{Content, Id, Kind, Meta, Tree, components};

/// Where an initramfs has our `/init`, and where a disk has it.
const INIT_OF_CPIO: &str = "init";
const INIT_OF_DISK: &str = "sbin/virtinit";

/// Puts `/init` in; gives its path.
///
/// # Errors
/// A file where a directory is needed.
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

/// A command that the image runs of itself.
#[derive(Debug, Default)]
pub struct Run<'a> {
    /// The program and its arguments.
    pub args: Vec<&'a [u8]>,
    /// `NAME=VALUE`
    pub env: Vec<&'a [u8]>,
    /// Working directory.
    pub cwd: Option<&'a [u8]>,
    /// User and group.
    pub user: Option<&'a [u8]>,
    /// What follows its end.
    pub restart: Restart,
}

/// Puts the file in that says what to run.
///
/// # Errors
/// A file where a directory is needed.
pub fn run(tree: &mut Tree, run: &Run<'_>, mtime: i64) -> Result<()> {
    let records: Vec<_> = run
        .args
        .iter()
        .map(|arg| Record::Arg(arg))
        .chain(run.env.iter().map(|pair| Record::Env(pair)))
        .chain(run.cwd.map(Record::Cwd))
        .chain(run.user.map(Record::User))
        .chain((run.restart != Restart::No).then_some(Record::Restart(run.restart)))
        .collect();
    file(tree, IMAGE_FILE, 0o644, encode(&records), mtime).map(drop)
}

/// A file of root's, in directories that links may lead to.
fn file(tree: &mut Tree, path: &str, permissions: u16, bytes: Vec<u8>, mtime: i64) -> Result<Id> {
    let context = || format!("put {path} in");
    let mut names: Vec<_> = components(path.as_bytes()).collect();
    let name = names.pop().with_context(context)?;
    let parent = tree.make_directories(&names.join(&b'/')).with_context(context)?;
    let meta = Meta { permissions, mtime, ..Meta::default() };
    tree.add(parent, name, meta, Kind::File(Content::Bytes(bytes.into()))).with_context(context)
}

/// Moves later times back to `epoch`, as reproducible-builds.org asks of
/// `SOURCE_DATE_EPOCH`.
pub fn clamp_times(tree: &mut Tree, epoch: u32) {
    for meta in tree.metas_mut() {
        meta.mtime = meta.mtime.min(epoch.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::compress::Compression;
    use virtinitrd_proto::settings::Command;

    fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
        let Kind::File(content) = &tree.node(tree.find(path.as_bytes()).unwrap()).kind else {
            panic!("{path} is no file");
        };
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn init_lands_where_links_lead() {
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
    fn init_reads_what_to_run() {
        let mut tree = Tree::new(Meta::default());
        let wanted = Run {
            args: vec![b"sh", b"-c", b"a\nb"],
            env: vec![b"A=1"],
            cwd: Some(b"/tmp"),
            user: Some(b"nobody"),
            restart: Restart::Always,
        };
        run(&mut tree, &wanted, 0).unwrap();
        let text = bytes(&tree, IMAGE_FILE);
        let request = Command::parse(&text).unwrap();
        assert_eq!(request.args, [c"sh", c"-c", c"a\nb"]);
        assert_eq!(request.env, [c"A=1"]);
        assert_eq!(request.cwd, Some(c"/tmp"));
        assert_eq!(request.user, Some(&b"nobody"[..]));
        assert_eq!(request.restart, Restart::Always);
    }
}
