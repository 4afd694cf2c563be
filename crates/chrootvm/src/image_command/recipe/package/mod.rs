//! A recipe and the files that belong to it.
//!
//! A package is the directory of a recipe. Paths of a recipe that name files of its package stay
//! inside it, also through symbolic links.

pub(super) mod inputs;
pub(super) mod lockfile;
pub(super) mod plan;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use recipe::Recipe;
use sha2::{Digest, Sha256};

use super::kept::key::hex;

/// Most bytes of a recipe; the parser has the same limit.
const RECIPE_MAX: u64 = 1 << 20;

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
    /// Path of the recipe as the user gave it, for messages.
    pub(in crate::image_command::recipe) file: PathBuf,
    /// Its directory, canonical.
    pub(in crate::image_command::recipe) dir: PathBuf,
    /// The recipe.
    pub(in crate::image_command::recipe) recipe: Recipe,
    /// SHA-256 of its text, in hexadecimal digits.
    pub(in crate::image_command::recipe) digest: String,
}

impl Package {
    /// Reads the recipe at `file`.
    ///
    /// # Errors
    /// The file cannot be read; [`WrongRecipe`].
    pub(in crate::image_command::recipe) fn open(file: &Path) -> Result<Self> {
        let shown = file.display();
        let read = || -> Result<String> {
            let mut bytes = Vec::new();
            File::open(file)?.take(RECIPE_MAX + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= RECIPE_MAX, "it has more than {RECIPE_MAX} bytes");
            String::from_utf8(bytes).context("it is not UTF-8")
        };
        let text = read().with_context(|| format!("read {shown}"))?;
        let recipe = recipe::parse(&text).map_err(|mistake| {
            let recipe::Position { line, column } = mistake.position;
            WrongRecipe(format!("{shown}:{line}:{column}: {}", mistake.message))
        })?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let dir = parent.unwrap_or(Path::new("."));
        let dir = dir.canonicalize().with_context(|| format!("find {}", dir.display()))?;
        let hash = Sha256::digest(text.as_bytes());
        let digest = hex(&hash);
        Ok(Self { file: file.to_path_buf(), dir, recipe, digest })
    }

    /// The place of `position` in this recipe, for messages.
    pub(in crate::image_command::recipe) fn place(&self, position: recipe::Position) -> String {
        format!("{}:{}:{}", self.file.display(), position.line, position.column)
    }

    /// Path on the host of something that need not be in the package.
    pub(in crate::image_command::recipe) fn of_host(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
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

/// Whether a path of a put step is a glob.
pub(in crate::image_command::recipe) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
