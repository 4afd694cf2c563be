//! A recipe and the files that belong to it.
//!
//! A package is the directory of a recipe. Paths of a recipe that name files of its package stay
//! inside it, also through symbolic links. For a recipe of an archive that was unpacked, the
//! directory in which this program runs takes the place of the package's directory: there its
//! outputs go, and from there it looks for files of the host.

pub(super) mod front;
pub(super) mod inputs;
pub(super) mod lockfile;
pub(super) mod plan;
pub(super) mod planned;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use recipe::Recipe;
use sha2::{Digest, Sha256};

use self::front::Front;
use super::kept::key::hex;

/// Most bytes of a recipe and of a Containerfile; their parsers have the same limit.
const RECIPE_MAX: u64 = 1 << 20;

/// Name of the recipe in an archive.
pub(in crate::image_command::recipe) const RECIPE: &str = "recipe.toml";

/// A mistake in a recipe, which has an exit status of its own.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct WrongRecipe(
    pub(in crate::image_command::recipe) String,
);

impl std::fmt::Display for WrongRecipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongRecipe {}

/// A recipe that was read.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Package {
    /// What it was made of.
    pub(in crate::image_command::recipe) front: Front,
    /// Path of the recipe for messages: as the user gave it, or the archive and the path in it.
    pub(in crate::image_command::recipe) file: PathBuf,
    /// Its directory, canonical.
    pub(in crate::image_command::recipe) dir: PathBuf,
    /// The recipe.
    pub(in crate::image_command::recipe) recipe: Recipe,
    /// SHA-256 of its text, in hexadecimal digits.
    pub(in crate::image_command::recipe) digest: String,
    /// The archive from which the directory was unpacked.
    archive: Option<Archive>,
}

/// An archive that was unpacked.
#[derive(Clone, Debug)]
struct Archive {
    /// Its path as the user gave it.
    shown: PathBuf,
    /// Its canonical path.
    path: PathBuf,
    /// The directory with its files, canonical.
    unpacked: PathBuf,
    /// The directory in which this program runs.
    current: PathBuf,
}

impl Package {
    /// Reads the recipe at `file`.
    ///
    /// # Errors
    /// The file cannot be read; [`WrongRecipe`].
    pub(in crate::image_command::recipe) fn open(file: &Path) -> Result<Self> {
        Self::read(file, file.to_path_buf(), None)
    }

    /// The package of the Containerfile `file` with this context, whose settings are those of
    /// `recipe`. The paths of secrets are those of the current directory.
    pub(in crate::image_command::recipe) fn of_containerfile(
        file: &Path,
        context: &Path,
        recipe: Recipe,
        text: &str,
    ) -> Self {
        let (file, dir) = (file.to_path_buf(), context.to_path_buf());
        Self { front: Front::Containerfile, file, dir, recipe, digest: digest(text), archive: None }
    }

    /// Reads the recipe of the package `archive`, whose files were unpacked into `directory`.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(in crate::image_command::recipe) fn of_archive(
        archive: &Path,
        directory: &Path,
    ) -> Result<Self> {
        let canonical =
            |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
        let current = std::env::current_dir().context("find the current directory")?;
        let found = Archive {
            shown: archive.to_path_buf(),
            path: canonical(archive)?,
            unpacked: canonical(directory)?,
            current,
        };
        Self::read(&directory.join(RECIPE), archive.join(RECIPE), Some(found))
    }

    /// Reads another recipe of this package, whose canonical path is `file`.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(in crate::image_command::recipe) fn open_other(&self, file: &Path) -> Result<Self> {
        let shown = match &self.archive {
            Some(archive) => archive.shown.join(archive.inside(file)),
            None => file.to_path_buf(),
        };
        Self::read(file, shown, self.archive.clone())
    }

    fn read(file: &Path, name: PathBuf, archive: Option<Archive>) -> Result<Self> {
        let shown = name.display();
        let text = read(file).with_context(|| format!("read {shown}"))?;
        let recipe = recipe::parse(&text).map_err(|mistake| {
            let recipe::Position { line, column } = mistake.position;
            WrongRecipe(format!("{shown}:{line}:{column}: {}", mistake.message))
        })?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let dir = parent.unwrap_or(Path::new("."));
        let dir = dir.canonicalize().with_context(|| format!("find {}", dir.display()))?;
        let digest = digest(&text);
        Ok(Self { front: Front::Recipe, file: name, dir, recipe, digest, archive })
    }

    /// Path of the recipe, without links above it.
    pub(in crate::image_command::recipe) fn path(&self) -> PathBuf {
        self.dir.join(self.file.file_name().unwrap_or_default())
    }

    /// Path that names the recipe in keys of what is kept: that of an archive stays the same,
    /// wherever it is unpacked.
    pub(in crate::image_command::recipe) fn identity(&self) -> PathBuf {
        match &self.archive {
            Some(archive) => archive.path.join(archive.inside(&self.path())),
            None => self.path(),
        }
    }

    /// Whether the recipe comes from an archive.
    pub(in crate::image_command::recipe) fn is_of_archive(&self) -> bool {
        self.archive.is_some()
    }

    /// Reads the text of the recipe again.
    ///
    /// # Errors
    /// The file cannot be read, or has changed meanwhile.
    pub(in crate::image_command::recipe) fn text(&self) -> Result<String> {
        let shown = self.file.display();
        let text = read(&self.path()).with_context(|| format!("read {shown}"))?;
        ensure!(digest(&text) == self.digest, "{shown} has changed meanwhile");
        Ok(text)
    }

    /// The place of `position` in this recipe, for messages.
    pub(in crate::image_command::recipe) fn place(&self, position: recipe::Position) -> String {
        format!("{}:{}:{}", self.file.display(), position.line, position.column)
    }

    /// Path on the host of something that need not be in the package.
    pub(in crate::image_command::recipe) fn of_host(&self, path: &Path) -> PathBuf {
        match &self.archive {
            Some(archive) => archive.current.join(archive.inside(&self.dir)).join(path),
            None => self.dir.join(path),
        }
    }

    /// Canonical path of a file or directory of the package.
    ///
    /// # Errors
    /// It is missing, or a link leads out of the package.
    pub(in crate::image_command::recipe) fn own(&self, path: &Path) -> Result<PathBuf> {
        let found = self.dir.join(path).canonicalize();
        let found = found.with_context(|| format!("find {}", path.display()))?;
        ensure!(
            found.starts_with(&self.dir),
            "{} leads out of the directory of the recipe, to {}",
            path.display(),
            found.display()
        );
        Ok(found)
    }

    /// Paths that a glob matches, in byte order.
    ///
    /// # Errors
    /// It is no glob, or nothing matches.
    pub(in crate::image_command::recipe) fn matches(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let dir = self.dir.to_str().context("the directory of the recipe is not UTF-8")?;
        let whole = format!("{}/{pattern}", glob::Pattern::escape(dir));
        let options = glob::MatchOptions {
            require_literal_separator: true,
            require_literal_leading_dot: true,
            ..glob::MatchOptions::default()
        };
        let mut found = Vec::new();
        for path in glob::glob_with(&whole, options).with_context(|| pattern.to_owned())? {
            let path = path.with_context(|| pattern.to_owned())?;
            let inside = path.strip_prefix(&self.dir).map(Path::to_path_buf);
            found.push(inside.unwrap_or(path));
        }
        if found.is_empty() {
            bail!("no file matches {pattern}");
        }
        found.sort();
        Ok(found)
    }
}

impl Archive {
    /// The path in the archive of an unpacked file.
    fn inside<'a>(&self, file: &'a Path) -> &'a Path {
        file.strip_prefix(&self.unpacked).unwrap_or(file)
    }
}

fn read(file: &Path) -> Result<String> {
    text_of(File::open(file)?)
}

/// Reads a text that may be a recipe or a Containerfile.
///
/// # Errors
/// It is too long or not UTF-8; errors of reading.
pub(in crate::image_command::recipe) fn text_of(input: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    input.take(RECIPE_MAX + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= RECIPE_MAX, "it has more than {RECIPE_MAX} bytes");
    String::from_utf8(bytes).context("it is not UTF-8")
}

/// SHA-256 of a text, in hexadecimal digits.
fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
