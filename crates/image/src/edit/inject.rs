//! Files that this program adds to the tree of a source: `/init` and the run file of a
//! workload. A further function limits times, so that an image does not depend on the day.
//!
//! Format of the run file: [`proto::settings`].

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::settings::health::{Health, Schedule, Unhealthy};
use proto::settings::restart::{Backoff, Restart, RestartPolicy};
use proto::settings::{IMAGE_FILE, MAX, MissingCwd, Record, encode};

use crate::format::Format;
use crate::tree::{Content, Id, Kind, Meta, Tree, components};

/// Path of `/init` in an initramfs, where the kernel looks for it.
const INIT_OF_CPIO: &str = "init";
/// Path of `/init` in any other image, for `init=` of the kernel.
const INIT_OF_DISK: &str = "sbin/virtinit";

/// Directories on which `/init` mounts file systems. As PID 1 of a read-only root it cannot make
/// them.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Adds `/init` to a tree that will become an image in `format`, and the mount points that it
/// needs there. Returns the path of the new file, without a leading `/`.
///
/// # Errors
/// A file in place of a mount point, or of one of the directories above `/init`.
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
    for name in MOUNT_POINTS {
        let made = tree.make_directories(name.as_bytes());
        made.with_context(|| format!("make /{name} in the image"))?;
    }
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
    /// Whether the working directory is made in the image if it is missing there.
    pub missing_cwd: MissingCwd,
    /// User and group, as text.
    pub user: Option<&'a [u8]>,
    /// Commands to run before it, each with its arguments.
    pub before: Vec<Vec<&'a [u8]>>,
    /// Whether and when `/init` starts the command again.
    pub restart: RestartPolicy,
    /// Number of the signal that asks the command to end ([`proto::signal`]).
    pub stop_signal: Option<u8>,
    /// Time for the command to end after that signal.
    pub stop_timeout: Option<Duration>,
    /// Absolute paths of directories that the command may write to, even in a read-only root.
    /// They are made in the image if they are missing there.
    pub volumes: Vec<&'a [u8]>,
    /// Health check of the command.
    pub health: Health<'a>,
}

/// Adds the run file ([`IMAGE_FILE`]), in which `/init` finds the workload, and the missing
/// directories of the workload: in a read-only root, `/init` could not make them.
///
/// # Errors
/// A file in place of one of the directories, or of the directories above the run file; words and
/// variables that make a run file larger than `/init` reads ([`MAX`]).
pub fn workload(tree: &mut Tree, workload: &Workload<'_>, mtime: i64) -> Result<()> {
    let cwd = workload.cwd.filter(|_| workload.missing_cwd == MissingCwd::Make);
    for path in workload.volumes.iter().copied().chain(cwd) {
        let made = tree.make_directories(path);
        made.with_context(|| format!("make {} in the image", String::from_utf8_lossy(path)))?;
    }
    let cwd = |path| match workload.missing_cwd {
        MissingCwd::Refuse => Record::Cwd(path),
        MissingCwd::Make => Record::MakeCwd(path),
    };
    let RestartPolicy { when, max, backoff } = workload.restart;
    let Health { args, schedule, unhealthy } = &workload.health;
    let before = workload.before.iter().flat_map(|words| {
        let first = words.iter().take(1).map(|word| Record::Before(word));
        first.chain(words.iter().skip(1).map(|word| Record::BeforeArg(word)))
    });
    let records: Vec<_> = workload
        .args
        .iter()
        .map(|arg| Record::Arg(arg))
        .chain(workload.env.iter().map(|pair| Record::Env(pair)))
        .chain(workload.cwd.map(cwd))
        .chain(workload.user.map(Record::User))
        .chain(before)
        .chain((when != Restart::No).then_some(Record::Restart(when)))
        .chain(max.map(Record::RestartMax))
        .chain((backoff != Backoff::default()).then_some(Record::RestartBackoff(backoff)))
        .chain(workload.stop_signal.map(Record::StopSignal))
        .chain(workload.stop_timeout.map(Record::StopTimeout))
        .chain(workload.volumes.iter().map(|path| Record::ImageVolume(path)))
        .chain(args.iter().map(|word| Record::HealthArg(word.to_bytes())))
        .chain((*schedule != Schedule::default()).then_some(Record::Health(*schedule)))
        .chain((*unhealthy != Unhealthy::Report).then_some(Record::Unhealthy(*unhealthy)))
        .collect();
    let bytes = encode(&records);
    ensure!(
        bytes.len() <= MAX,
        "the command and its variables have {} bytes in {IMAGE_FILE}; /init reads at most {MAX}",
        bytes.len()
    );
    file(tree, IMAGE_FILE, 0o644, bytes, mtime).map(drop)
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
        if meta.mtime >= epoch.into() {
            (meta.mtime, meta.nanoseconds) = (epoch.into(), 0);
        }
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
        assert!(MOUNT_POINTS.iter().all(|name| tree.find(name.as_bytes()).is_some()));
        assert_eq!(bytes(&tree, "init"), b"cpio");
        let id = tree.find(b"init").unwrap();
        tree.node_mut(id).meta.nanoseconds = 9;
        clamp_times(&mut tree, 3);
        let meta = &tree.node(id).meta;
        assert_eq!((meta.mtime, meta.nanoseconds), (3, 0));
    }

    #[test]
    fn init_can_read_the_run_file() {
        let mut tree = Tree::new(Meta::default());
        let wanted = Workload {
            args: vec![b"sh", b"-c", b"a\nb"],
            env: vec![b"A=1"],
            cwd: Some(b"/tmp"),
            user: Some(b"nobody"),
            before: vec![vec![b"mkdir", b"/run/a b"], vec![b"true"]],
            restart: RestartPolicy { when: Restart::Always, max: Some(4), ..Default::default() },
            stop_signal: Some(3),
            stop_timeout: Some(Duration::from_secs(90)),
            volumes: vec![b"/data"],
            health: Health {
                args: vec![c"check", c""],
                schedule: Schedule { retries: 1, ..Schedule::default() },
                unhealthy: Unhealthy::Restart,
            },
            ..Workload::default()
        };
        workload(&mut tree, &wanted, 0).unwrap();
        let text = bytes(&tree, IMAGE_FILE);
        let request = Command::parse(&text).unwrap();
        assert_eq!(request.args, [c"sh", c"-c", c"a\nb"]);
        assert_eq!(request.env, [c"A=1"]);
        assert_eq!(request.cwd, Some(c"/tmp"));
        assert_eq!(request.user, Some(&b"nobody"[..]));
        assert_eq!(request.before, [&[c"mkdir", c"/run/a b"][..], &[c"true"]]);
        assert_eq!(request.restart, wanted.restart);
        assert_eq!(request.stop_signal, Some(3));
        assert_eq!(request.stop_timeout, wanted.stop_timeout);
        assert_eq!(request.image_volumes, [b"/data"]);
        assert_eq!(request.health, wanted.health);
        assert!(tree.find(b"tmp").is_none());
    }

    /// Any word arrives, as it would on the command line of a container engine.
    #[test]
    fn words_of_an_entrypoint_are_verbatim() {
        let mut tree = Tree::new(Meta::default());
        let words: [&[u8]; 7] = [b"/app", b"", b"*", b"a b", b"\"'`$HOME\\", b"\n", b"=\xff"];
        workload(&mut tree, &Workload { args: words.into(), ..Workload::default() }, 0).unwrap();
        let text = bytes(&tree, IMAGE_FILE);
        let read = Command::parse(&text).unwrap().args;
        assert!(read.iter().map(|word| word.to_bytes()).eq(words));
    }

    #[test]
    fn a_run_file_that_init_would_not_read_is_refused() {
        let word = vec![b'x'; MAX];
        for (length, is_fine) in [(MAX / 2, true), (MAX, false)] {
            let mut tree = Tree::new(Meta::default());
            let wanted = Workload { args: vec![&word[..length]], ..Workload::default() };
            assert_eq!(workload(&mut tree, &wanted, 0).is_ok(), is_fine, "{length}");
        }
    }

    #[test]
    fn missing_directories_are_made_in_the_image() {
        let mut tree = Tree::new(Meta::default());
        let own = Meta { permissions: 0o700, uid: 101, ..Meta::default() };
        let own = tree.add(Tree::ROOT, b"own", own, crate::tree::directory());
        let wanted = Workload {
            args: vec![b"app"],
            cwd: Some(b"/srv/app"),
            missing_cwd: MissingCwd::Make,
            volumes: vec![b"/var/lib/db", b"/own"],
            ..Workload::default()
        };
        workload(&mut tree, &wanted, 0).unwrap();
        for (path, permissions, uid) in
            [("srv/app", 0o755, 0), ("var/lib/db", 0o755, 0), ("own", 0o700, 101)]
        {
            let meta = &tree.node(tree.find(path.as_bytes()).unwrap()).meta;
            assert_eq!((meta.permissions, meta.uid), (permissions, uid), "{path}");
        }
        assert_eq!(tree.find(b"own"), own.ok());
        let text = bytes(&tree, IMAGE_FILE);
        let command = Command::parse(&text).unwrap();
        assert_eq!((command.cwd, command.missing_cwd), (Some(c"/srv/app"), MissingCwd::Make));

        file(&mut tree, "file", 0o644, Vec::new(), 0).unwrap();
        let wanted =
            Workload { args: vec![b"app"], volumes: vec![b"/file"], ..Workload::default() };
        let error = workload(&mut tree, &wanted, 0).unwrap_err();
        assert!(format!("{error:#}").starts_with("make /file in the image"), "{error:#}");
    }
}
