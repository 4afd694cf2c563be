//! `recipe.lock` beside a recipe: which image a name meant when the recipe was built last.
//!
//! The file is read first and written last, and only if the build has succeeded and something in it
//! is new.

use std::cell::RefCell;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use files::output;
use recipe::lock::{self, ImageName, Lock};
use recipe::{Action, BusyboxSource, Contents};

use super::super::package::{Package, WrongRecipe};

/// Most bytes of a lock file; the parser has the same limit.
const LOCK_MAX: u64 = 1 << 20;

/// A base of a registry: its reference, and the digest to which it led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) struct Resolved {
    pub(in crate::image_command::recipe) name: String,
    pub(in crate::image_command::recipe) platform: String,
    pub(in crate::image_command::recipe) digest: String,
}

/// What a lock file says about the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Pin {
    /// Use this digest.
    Digest(String),
    /// There is no entry: ask as usual.
    Open,
    /// Ask the registry, even if the image is kept.
    Ask,
}

/// Which entries are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Policy {
    /// Those that exist; new ones are added.
    Usual,
    /// Only those that exist.
    Locked,
    /// All but those of this image, or of any image.
    Update(Option<String>),
}

/// A lock file.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct LockFile {
    path: PathBuf,
    /// Path for messages.
    shown: PathBuf,
    lock: Lock,
    policy: Policy,
    /// Names for which `--update` was asked, and which were found.
    updated: RefCell<Vec<String>>,
}

impl LockFile {
    /// Reads the lock file of `package`, which may be missing.
    ///
    /// # Errors
    /// A file that cannot be read, or that is damaged.
    pub(in crate::image_command::recipe) fn open(
        package: &Package,
        policy: Policy,
    ) -> Result<Self> {
        let path = package.path().with_extension("lock");
        let name = package.file.with_extension("lock");
        let shown = name.display();
        let lock = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Lock::default(),
            Err(error) => return Err(error).with_context(|| format!("read {shown}")),
            Ok(found) if found.len() > LOCK_MAX => {
                bail!("{shown}: it has more than {LOCK_MAX} bytes")
            }
            Ok(_) => {
                let text = fs::read_to_string(&path).with_context(|| format!("read {shown}"))?;
                lock::parse(&text).map_err(|mistake| {
                    let recipe::Position { line, column } = mistake.position;
                    WrongRecipe(format!("{shown}:{line}:{column}: {}", mistake.message))
                })?
            }
        };
        Ok(Self { path, shown: name, lock, policy, updated: RefCell::default() })
    }

    /// What the file says about the image `name` for `platform`.
    ///
    /// # Errors
    /// `--locked`, and there is no entry.
    pub(in crate::image_command::recipe) fn pin(&self, name: &str, platform: &str) -> Result<Pin> {
        let key = ImageName { reference: name.to_owned(), platform: platform.to_owned() };
        let is_updated = match &self.policy {
            Policy::Update(None) => true,
            Policy::Update(Some(wanted)) => wanted == name,
            Policy::Usual | Policy::Locked => false,
        };
        if is_updated {
            self.updated.borrow_mut().push(name.to_owned());
            return Ok(Pin::Ask);
        }
        match (self.lock.images.get(&key), &self.policy) {
            (Some(digest), _) => Ok(Pin::Digest(digest.clone())),
            (None, Policy::Locked) => bail!(
                "--locked: {} has no entry for {name} ({platform}); a build without --locked adds it",
                self.shown.display()
            ),
            (None, _) => Ok(Pin::Open),
        }
    }

    /// Checks the downloads of `package`, which must be in a file that is locked.
    ///
    /// # Errors
    /// `--locked`, and an entry is missing or has another digest; `--update` names no image.
    pub(in crate::image_command::recipe) fn check(&self, package: &Package) -> Result<()> {
        if let Policy::Update(Some(wanted)) = &self.policy
            && !self.updated.borrow().contains(wanted)
        {
            bail!("--update={wanted}: the recipe has no such image");
        }
        if self.policy != Policy::Locked {
            return Ok(());
        }
        let shown = self.shown.display();
        for (url, sha256) in downloads(package) {
            match self.lock.urls.get(&url) {
                Some(known) if *known == sha256 => {}
                Some(_) => bail!("--locked: {shown} has another SHA-256 for {url} than the recipe"),
                None => bail!("--locked: {shown} has no entry for {url}"),
            }
        }
        Ok(())
    }

    /// Writes the file after a build of the last recipe of `chain` that has used `resolved`, if that
    /// changes it. For a package
    /// in an archive, a warning says so instead.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(in crate::image_command::recipe) fn finish(
        &self,
        chain: &[Arc<Package>],
        resolved: Option<&Resolved>,
    ) -> Result<()> {
        if self.policy == Policy::Locked {
            return Ok(());
        }
        let package = chain.last().context("there is one recipe at least")?;
        let recipe = Some(format!("sha256:{}", package.digest));
        let mut lock = Lock { recipe, ..Lock::default() };
        lock.urls.extend(chain.iter().flat_map(|package| downloads(package)));
        if let Some(Resolved { name, platform, digest }) = resolved {
            // Entries for other platforms stay.
            let others = self.lock.images.iter().filter(|(key, _)| key.reference == *name);
            lock.images.extend(others.map(|(key, digest)| (key.clone(), digest.clone())));
            let key = ImageName { reference: name.clone(), platform: platform.clone() };
            lock.images.insert(key, digest.clone());
        }
        let is_empty = lock.images.is_empty() && lock.urls.is_empty();
        if lock == self.lock || (is_empty && self.lock == Lock::default()) {
            return Ok(());
        }
        if package.is_of_archive() {
            log::warn!(
                "{} is not written, and would change: unpack the package, build it there, and pack \
                 it again",
                self.shown.display()
            );
            return Ok(());
        }
        output::write(&self.path, lock.to_text().as_bytes()).context("write the lock file")
    }
}

/// Addresses of all downloads of a recipe, and their SHA-256.
fn downloads(package: &Package) -> Vec<(String, String)> {
    let recipe = &package.recipe;
    let of_steps = recipe.steps.iter().filter_map(|step| match &step.action {
        Action::Put(put) => match &put.contents {
            Contents::Url { url, sha256 } => Some((url.clone(), sha256.clone())),
            _ => None,
        },
        _ => None,
    });
    let of_busybox = recipe.busybox.iter().filter_map(|busybox| match &busybox.source {
        BusyboxSource::Url { url, sha256 } => Some((url.clone(), sha256.clone())),
        BusyboxSource::Path(_) => None,
    });
    of_steps.chain(of_busybox).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_build_has_written_is_read_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recipe.toml");
        let sha256 = "ab".repeat(32);
        let step = format!("url = 'http://localhost/a'\nsha256 = '{sha256}'\nto = '/a'\n");
        fs::write(&file, format!("version = 1\n[[step]]\n{step}")).unwrap();
        let package = Arc::new(Package::open(&file).unwrap());
        let open = |policy| LockFile::open(&package, policy).unwrap();
        assert!(open(Policy::Locked).check(&package).is_err());
        open(Policy::Usual).finish(std::slice::from_ref(&package), None).unwrap();
        open(Policy::Locked).check(&package).unwrap();
    }
}
