//! Finding and reading configuration files.
//!
//! Interfaces: the XDG Base Directory Specification, version 0.8 (`$XDG_CONFIG_HOME`), and
//! open(2). A missing file is not an error. A file of somebody else is ignored, with a
//! warning.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::libc::O_NONBLOCK;
use oci::name::location::Location;

use super::keys::{Bases, Form};
use super::merge::{Applied, ConfigFile, Reach, Settings, merge};
use super::parse::{Mistake, parse};
use super::trust::{Ownership, objection, trusted};

/// Name of the project's file.
const PROJECT: &str = ".chrootvm.toml";

/// Path of the user's file below `$XDG_CONFIG_HOME`.
const OF_USER: &str = "virtinitrd/config.toml";

/// Environment variable that has the effect of `--no-config`, unless it is empty. Tests set
/// it, so that the configuration of a developer does not change them.
const NO_CONFIG: &str = "CHROOTVM_NO_CONFIG";

/// Most bytes of a configuration file.
const SIZE_MAX: u64 = 64 << 10;

/// Checks words of the command line, and says what is wrong with them.
pub type Check<'a> = &'a dyn Fn(&[OsString]) -> Result<(), String>;

/// Whether the environment switches configuration files off.
#[must_use]
pub fn is_off() -> bool {
    env::var_os(NO_CONFIG).is_some_and(|value| !value.is_empty())
}

/// Settings that apply to a run with the arguments `given`, whose root is `rootfs`.
///
/// # Errors
/// A file cannot be read, has a mistake, or names a file that is missing.
pub fn settings(given: &[String], rootfs: Option<&Path>, check: Check<'_>) -> Result<Settings> {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let mut files = Vec::new();
    let project = project().map(|path| (path, Reach::OwnDirectory));
    let of_user = of_user(home.as_deref()).map(|path| (path, Reach::Anywhere));
    for (path, reach) in [project, of_user].into_iter().flatten() {
        let Some(text) = read(&path)? else { continue };
        let directory = path.parent().context("a file has a directory")?;
        let bases = Bases { directory, home: home.as_deref() };
        let config = parse(&text, bases, check).map_err(|mistake| located(&path, &mistake))?;
        files.push(ConfigFile { path, reach, config });
    }
    let image = rootfs.filter(|path| !matches!(Location::parse(path.as_os_str()), Ok(None)));
    let rootfs = rootfs.filter(|_| image.is_none()).and_then(|path| path.canonicalize().ok());
    let is_root = |path: &Path| match image {
        Some(image) => path == image,
        None => rootfs.is_some() && path.canonicalize().ok() == rootfs,
    };
    let settings = merge(&files, given, &is_root);
    let settings = settings.map_err(|(path, mistake)| located(path, &mistake))?;
    for applied in &settings.0 {
        for path in &applied.setting.value.paths {
            if let Err(problem) = reachable(path, applied) {
                let message = format!("{} {}: {problem}", applied.setting.key.name, path.display());
                let position = applied.setting.position;
                return Err(located(&applied.file, &Mistake { position, message }));
            }
        }
    }
    Ok(settings)
}

/// Checks that `path`, which an applied setting names, exists and may be named by its file.
fn reachable(path: &Path, applied: &Applied) -> Result<(), String> {
    let resolved = path.canonicalize().map_err(|error| error.to_string())?;
    let is_shared = applied.setting.key.form == Form::Volumes;
    if !is_shared || applied.reach == Reach::Anywhere {
        return Ok(());
    }
    let directory = applied.file.parent().and_then(|path| path.canonicalize().ok());
    match directory.is_some_and(|directory| resolved.starts_with(directory)) {
        true => Ok(()),
        false => {
            Err("the file of a project may share only what is below its directory; share this \
                      with --volume, or in ~/.config/virtinitrd/config.toml"
                .into())
        }
    }
}

/// The nearest project's file: in the working directory, or in a directory above it.
fn project() -> Option<PathBuf> {
    let directory = env::current_dir().ok()?;
    let mut paths = directory.ancestors().map(|directory| directory.join(PROJECT));
    paths.find(|path| path.symlink_metadata().is_ok())
}

/// The user's file, if it exists.
fn of_user(home: Option<&Path>) -> Option<PathBuf> {
    let explicit = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let explicit = explicit.filter(|path| path.is_absolute());
    let path = explicit.or_else(|| Some(home?.join(".config")))?.join(OF_USER);
    path.symlink_metadata().is_ok().then_some(path)
}

/// The text of a file; `None` if it is ignored, after a warning.
fn read(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let context = || format!("read the configuration {shown}");
    let owners = trusted(nix::unistd::geteuid().as_raw(), env::var("SUDO_UID").ok().as_deref());
    let link = path.symlink_metadata().with_context(context)?.uid();
    let ignored = |why: String| log::warn!("the configuration {shown} is ignored: {why}");
    if !owners.contains(&link) {
        // It may be unreadable, too.
        let nothing = Ownership { uid: link, mode: 0 };
        objection(&owners, link, nothing).into_iter().for_each(ignored);
        return Ok(None);
    }
    // A named pipe must not block.
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(path);
    let mut file = file.with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    ensure!(metadata.is_file(), "read the configuration {shown}: it is not a file");
    let ownership = Ownership { uid: metadata.uid(), mode: metadata.mode() };
    if let Some(why) = objection(&owners, link, ownership) {
        ignored(why);
        return Ok(None);
    }
    let mut bytes = Vec::new();
    (&mut file).take(SIZE_MAX + 1).read_to_end(&mut bytes).with_context(context)?;
    if bytes.len() as u64 > SIZE_MAX {
        bail!("read the configuration {shown}: it is larger than {} KiB", SIZE_MAX >> 10);
    }
    String::from_utf8(bytes).map(Some).with_context(context)
}

/// The error of a `mistake` in the file `path`.
fn located(path: &Path, mistake: &Mistake) -> anyhow::Error {
    let Mistake { position, message } = mistake;
    anyhow::anyhow!("{}:{}:{}: {message}", path.display(), position.line, position.column)
}
