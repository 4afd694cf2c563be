//! Volumes: whether their paths exist in the guest, before it boots.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};
use files::root_dir::RootDir;
use machine::plan::guest::name_server::NameServerDecision;
use machine::plan::shares::{Access, MountPoint, Share};
use machine::root::kinds::Root;
use machine::root::mount_points::{self, GuestMount, Kind, Ownership};
use machine::running::script::shell_line;
use proto::words::Words;

/// Parameters of the kernel command line that choose another root, or make parts of it
/// writable.
const OTHER_ROOT: &[&[u8]] =
    &[b"root", b"rootfs", b"rootfstype", b"virtinit.overlay", b"virtinit.etc"];

/// Options of a run that decide which directories `/init` makes.
#[derive(Debug)]
pub(super) struct RootOptions<'a> {
    /// Size of the overlay over the root, if it has one.
    pub(super) overlay: Option<&'a str>,
    /// Whether the guest may write to the root.
    pub(super) access: Access,
    /// Decision on the guest's name server, which may put an overlay over `/etc`.
    pub(super) name_server: &'a NameServerDecision,
    /// The user's part of the kernel command line.
    pub(super) append: &'a [u8],
}

/// Checks that the mount point of each volume in `shares` exists in the guest, or that `/init`
/// makes it.
///
/// # Errors
/// A mount point does not exist in `root` or in a volume; the error says what helps.
pub(super) fn check(root: &Root, shares: &[Share], options: &RootOptions<'_>) -> Result<()> {
    let volumes = shares.iter().filter_map(|share| match &share.mount_point {
        MountPoint::Volume(path) => Some((share, Path::new(path), Kind::Directory)),
        MountPoint::File(path) => Some((share, Path::new(path), Kind::File)),
        MountPoint::Root | MountPoint::Tag => None,
    });
    let volumes: Vec<_> = volumes.collect();
    // Reading an image takes time.
    if volumes.iter().all(|(_, path, kind)| is_made(path, *kind))
        || Words::new(options.append).any(|word| OTHER_ROOT.contains(&word.param))
    {
        return Ok(());
    }
    // A root that only the guest's kernel can read is looked at by `/init` alone.
    let Ok(files) = root.files() else { return Ok(()) };
    // Nothing is below a volume that is a file.
    let sources = volumes.iter().map(|(share, _, kind)| match kind {
        Kind::Directory => RootDir::open(&share.source).map(Some),
        Kind::File => Ok(None),
    });
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let is_of_guest = options.overlay.is_some() || root.archive().is_some();
    let owned = if is_of_guest { Ownership::Guest } else { Ownership::Host };
    let mut mounts = vec![GuestMount { at: "/".into(), files: &*files, owned }];
    for ((share, path, kind), source) in volumes.iter().zip(&sources) {
        let at = match mount_points::find(&mounts, path, *kind) {
            mount_points::MountPoint::Usable(at) => at,
            mount_points::MountPoint::Missing { path, .. }
                if path.starts_with("/etc")
                    && *options.name_server == NameServerDecision::Overlay =>
            {
                path
            }
            problem => {
                let why = describe(&problem, &mounts, options.access, share);
                bail!("--volume {}:{}: {why}", share.source.display(), path.display());
            }
        };
        let mounted = source.as_ref();
        mounts.extend(mounted.map(|files| GuestMount { at, files, owned: Ownership::Host }));
    }
    Ok(())
}

/// Whether `/init` makes the mount point `path` in every guest.
fn is_made(path: &Path, kind: Kind) -> bool {
    let mut own = ["/run", "/tmp"].iter().map(Path::new);
    own.any(|own| path.starts_with(own) && (kind == Kind::Directory || path != own))
}

/// Text about a mount point that cannot be used for the volume `share`.
fn describe(
    problem: &mount_points::MountPoint,
    mounts: &[GuestMount<'_>],
    access: Access,
    share: &Share,
) -> String {
    let (path, mount, inside) = match problem {
        mount_points::MountPoint::Missing { path, mount, inside } => (path, *mount, inside),
        mount_points::MountPoint::NoDirectory(path) => {
            return format!("{} is not a directory in the guest", path.display());
        }
        mount_points::MountPoint::NoFile(path) => {
            let below = path.join(share.source.file_name().unwrap_or_default());
            return format!(
                "{} is a directory in the guest, and {} is a file; give {}",
                path.display(),
                share.source.display(),
                below.display()
            );
        }
        mount_points::MountPoint::Usable(_) | mount_points::MountPoint::Loop => {
            return "the path has too many symbolic links".into();
        }
    };
    let (files, path) = (mounts[mount].files, path.display());
    let (command, noun): (&[&str], _) = match share.file() {
        None => (&["mkdir", "-p"], "directory"),
        // This makes an empty file, and the directories above it.
        Some(_) => (&["install", "-Dm644", "/dev/null"], "file"),
    };
    let make = files.path().is_dir().then(|| {
        let words = command.iter().map(OsString::from);
        let words: Vec<_> = words.chain([files.host_path(inside).into()]).collect();
        shell_line(&words).to_string_lossy().into_owned()
    });
    // `--overlay` makes mount points in the root only, and excludes `--rw`.
    let overlay = (mount == 0 && access == Access::ReadOnly).then(|| "give --overlay".to_owned());
    let mut remedies: Vec<_> = make.into_iter().chain(overlay).collect();
    if remedies.is_empty() {
        remedies.push(format!("give a {noun} that it has"));
    }
    format!("{path} does not exist in {}: {}", files.path().display(), remedies.join(", or "))
}
