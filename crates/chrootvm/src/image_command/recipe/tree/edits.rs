//! Steps that change the tree without a machine.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::edit::put::{self, HostFile, ModeRule, Placing};
use image::edit::remove::Removal;
use image::elf;
use image::tree::{Content, Id, Kind, Meta, Tree, components, directory, file_length, show};
use recipe::{
    Busybox, BusyboxSource, Contents, DirectoryStep, LinkStep, Mode, PutStep, is_pattern,
};

use super::super::super::write::user;
use super::super::package::inputs::Input;
use super::super::package::planned::{Select, Work};
use super::super::tree::fetch::Fetcher;

/// Directories of an image without a base (Filesystem Hierarchy Standard 3.0), and their modes.
#[rustfmt::skip]
const SKELETON: [(&str, u16); 17] = [
    ("bin",       0o755), ("dev",     0o755), ("etc",      0o755), ("lib",      0o755),
    ("proc",      0o555), ("root",    0o700), ("run",      0o755), ("sbin",     0o755),
    ("sys",       0o555), ("tmp",    0o1777), ("usr",      0o755), ("usr/bin",  0o755),
    ("usr/lib",   0o755), ("usr/sbin",0o755), ("var",      0o755), ("var/lib",  0o755),
    ("var/log",   0o755),
];

/// Applets of busybox that get links, if the program has them.
const APPLETS: &str = "[ ash awk base64 basename cat chgrp chmod chown chroot clear cmp cp cut date dd df \
    dirname dmesg du echo egrep env expr false fgrep find free getty grep gunzip gzip halt head hostname \
    httpd id ifconfig init ip kill killall less ln login logger ls lsmod md5sum mkdir mkfifo mknod mktemp \
    modprobe more mount mountpoint mv nc netstat nslookup od passwd pgrep pidof ping pkill poweroff printenv \
    printf ps pwd readlink realpath reboot rm rmdir route sed seq setsid sh sha1sum sha256sum sha512sum \
    sleep sort split stat stty su switch_root sync sysctl syslogd tail tar tee test time timeout top touch \
    tr traceroute true tty udhcpc umount uname uniq unxz unzip uptime vi watch wc wget which who whoami \
    xargs xz yes zcat";

/// Permissions of a program.
const OF_PROGRAM: u16 = 0o755;
/// Permissions of any other file.
const OF_FILE: u16 = 0o644;
/// Name of a file that has none of its own, in the tree of an input.
const NAMELESS: &[u8] = b"file";

/// Largest busybox that is searched for the names of its applets, in bytes.
const BUSYBOX_MAX: u64 = 64 << 20;

/// Changes trees by steps.
pub(in crate::image_command::recipe) struct Editor<'a> {
    pub(in crate::image_command::recipe) fetcher: &'a Fetcher,
    /// Time of the files that are added, in seconds since 1970.
    pub(in crate::image_command::recipe) time: i64,
    /// Paths of the files that were put one by one.
    pub(in crate::image_command::recipe) put: RefCell<Vec<Vec<u8>>>,
    /// Reads files of other trees.
    pub(in crate::image_command::recipe) select: &'a Select<'a>,
}

impl Editor<'_> {
    /// Does one step.
    ///
    /// # Errors
    /// A path that leads through a file; an owner that the tree does not have; a download that
    /// fails.
    pub(in crate::image_command::recipe) fn edit(
        &self,
        tree: &mut Tree,
        work: &Work,
    ) -> Result<()> {
        match work {
            Work::Skeleton => self.skeleton(tree),
            Work::Busybox(busybox, input) => self.busybox(tree, busybox, input.as_ref()),
            Work::Put(step, inputs) => self.put(tree, step, inputs),
            Work::Link(step) => self.link(tree, step),
            Work::Directory(step) => self.directory(tree, step),
            Work::Remove(patterns) => remove(tree, patterns),
            Work::Copy(step) => self.copy(tree, step),
            Work::WorkingDirectory { path, owner } => {
                self.working_directory(tree, path, owner.as_deref())
            }
            // The machine does these.
            Work::Command(_) | Work::Mount(..) => Ok(()),
        }
    }

    /// The files of a put step, which may be a text or a download.
    ///
    /// # Errors
    /// The download fails.
    pub(in crate::image_command::recipe) fn sources(
        &self,
        step: &PutStep,
        inputs: &[Input],
    ) -> Result<Vec<Input>> {
        Ok(match &step.contents {
            Contents::Files(_) => inputs.to_vec(),
            Contents::Text(text) => {
                let content = Content::Bytes(text.as_bytes().into());
                vec![Input::of_file(NAMELESS.to_vec(), content, OF_FILE)?]
            }
            Contents::Url { url, sha256 } => vec![self.download(url, sha256)?],
        })
    }

    pub(super) fn download(&self, url: &str, sha256: &str) -> Result<Input> {
        let file = self.fetcher.fetch(url, sha256)?;
        let size = file_length(&file)?;
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().filter(|name| !name.is_empty());
        let name = name.map_or(NAMELESS, str::as_bytes).to_vec();
        Input::of_file(name, Content::Part { archive: Arc::new(file), offset: 0, size }, OF_FILE)
    }

    fn meta(&self, permissions: u16, (uid, gid): (u32, u32)) -> Meta {
        Meta { permissions, uid, gid, mtime: self.time, ..Meta::default() }
    }

    fn skeleton(&self, tree: &mut Tree) -> Result<()> {
        tree.node_mut(Tree::ROOT).meta = self.meta(0o755, (0, 0));
        for (path, permissions) in SKELETON {
            tree.put(path.as_bytes(), self.meta(permissions, (0, 0)), directory())?;
        }
        Ok(())
    }

    fn busybox(&self, tree: &mut Tree, busybox: &Busybox, input: Option<&Input>) -> Result<()> {
        let input = match (&busybox.source, input) {
            (_, Some(input)) => input.clone(),
            (BusyboxSource::Url { url, sha256 }, None) => self.download(url, sha256)?,
            (BusyboxSource::Path(path), None) => bail!("{} was not read", path.display()),
        };
        let content = only_file(&input)?.content;
        let applets = match &busybox.applets {
            Some(applets) => applets.clone(),
            None => known_applets(&content)?,
        };
        let placing = self.placing((0, 0), Mode::Fixed(OF_PROGRAM));
        let file =
            HostFile { name: b"busybox", content, permissions: OF_PROGRAM, mtime: self.time };
        let path = put::file(tree, busybox.to.as_bytes(), file, &placing)?;
        let (parent, name) = split(&path);
        let parent = tree.make_directories(parent)?;
        for applet in applets {
            if applet.as_bytes() != name && tree.child(parent, applet.as_bytes()).is_none() {
                tree.add(
                    parent,
                    applet.as_bytes(),
                    self.meta(0o777, (0, 0)),
                    Kind::Symlink(name.into()),
                )?;
            }
        }
        Ok(())
    }

    fn placing(&self, owner: (u32, u32), mode: Mode) -> Placing {
        let mode = match mode {
            Mode::Auto => ModeRule::Auto,
            Mode::Fixed(mode) => ModeRule::Fixed(mode),
        };
        Placing { owner, mode, mtime: Some(self.time) }
    }

    fn put(&self, tree: &mut Tree, step: &PutStep, inputs: &[Input]) -> Result<()> {
        let placing = self.placing(user::owner(tree, step.owner.as_deref())?, step.mode);
        let sources = self.sources(step, inputs)?;
        let is_glob = matches!(&step.contents, Contents::Files(path) if is_pattern(path));
        let to = step.to.as_bytes();
        for source in &sources {
            match (source.is_directory, is_glob) {
                (true, false) => put::directory(tree, to, &source.tree, &placing)?,
                (true, true) => {
                    let below = [to, b"/", &source.name].concat();
                    put::directory(tree, &below, &source.tree, &placing)?;
                }
                (false, _) => {
                    let inside = [to, b"/"].concat();
                    let to = if is_glob { &inside } else { to };
                    let path = put::file(tree, to, only_file(source)?, &placing)?;
                    self.put.borrow_mut().push(path);
                }
            }
        }
        Ok(())
    }

    fn link(&self, tree: &mut Tree, step: &LinkStep) -> Result<()> {
        let owner = user::owner(tree, step.owner.as_deref())?;
        let (parent, name) = Self::place(tree, &step.to)?;
        let is_directory = tree.child(parent, &name).is_some_and(|id| tree.children(id).is_some());
        ensure!(!is_directory, "{} is a directory in the image", step.to);
        let target = step.target.as_bytes().into();
        tree.add(parent, &name, self.meta(0o777, owner), Kind::Symlink(target)).map(drop)
    }

    fn directory(&self, tree: &mut Tree, step: &DirectoryStep) -> Result<()> {
        let owner = user::owner(tree, step.owner.as_deref())?;
        if let Some((id, _)) = tree.find_directory(step.path.as_bytes()) {
            let meta = self.meta(step.mode, owner);
            tree.node_mut(id).meta = meta;
            return Ok(());
        }
        let (parent, name) = Self::place(tree, &step.path)?;
        tree.add(parent, &name, self.meta(step.mode, owner), directory()).map(drop)
    }

    /// The directory above `path`, which is made if it is missing, and the last name.
    fn place(tree: &mut Tree, path: &str) -> Result<(Id, Vec<u8>)> {
        let names = components(path.as_bytes()).collect::<Vec<_>>();
        let (name, above) = names.split_last().context("the path has no name")?;
        let parent = tree.make_directories(&above.join(&b'/'));
        let parent = parent
            .with_context(|| format!("make the directories above {}", show(path.as_bytes())))?;
        Ok((parent, name.to_vec()))
    }
}

/// Warns about programs among the files that were put and that cannot run in the tree.
///
/// # Errors
/// A program cannot be read.
pub(in crate::image_command::recipe) fn check_programs(
    tree: &Tree,
    paths: &[Vec<u8>],
) -> Result<()> {
    for path in paths {
        let Some(id) = tree.find(path) else { continue };
        let Kind::File(content) = &tree.node(id).kind else { continue };
        let mut magic = [0; 4];
        let is_elf = content.open()?.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF";
        if is_elf {
            for finding in elf::check(tree, path)? {
                log::warn!("{finding}");
            }
        }
    }
    Ok(())
}

fn remove(tree: &mut Tree, patterns: &[String]) -> Result<()> {
    let removal = Removal::of(patterns.iter().map(String::as_str))?;
    for effect in removal.apply(tree).iter().filter(|effect| !effect.has_removed) {
        log::warn!("remove: {} matches nothing", effect.pattern);
    }
    Ok(())
}

/// The file of an input that is no directory.
pub(super) fn only_file(input: &Input) -> Result<HostFile<'_>> {
    let id = input.tree.child(Tree::ROOT, &input.name).context("the input has no file")?;
    let node = input.tree.node(id);
    let Kind::File(content) = &node.kind else { bail!("{} is no file", show(&input.name)) };
    Ok(HostFile {
        name: &input.name,
        content: content.clone(),
        permissions: node.meta.permissions,
        mtime: node.meta.mtime,
    })
}

/// The applets of [`APPLETS`] whose names the program has, each between two NULs.
fn known_applets(content: &Content) -> Result<Vec<String>> {
    ensure!(content.size() <= BUSYBOX_MAX, "busybox has more than {BUSYBOX_MAX} bytes");
    let mut bytes = Vec::new();
    content.open()?.read_to_end(&mut bytes).context("read busybox")?;
    let words: std::collections::HashSet<&[u8]> = bytes.split(|&byte| byte == 0).collect();
    let has = |applet: &&str| words.contains(applet.as_bytes());
    Ok(APPLETS.split(' ').filter(has).map(str::to_owned).collect())
}

/// The directory and the last name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
