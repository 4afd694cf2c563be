//! `chrootvm image convert`: files of other tools as recipes.
//!
//! The crate `recipe` translates; here is which files are read and written.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::recipe::convert::{self, Converted, Kind};
use ::recipe::{Mistake, Position, Target};
use anyhow::{Context, Result, bail, ensure};
use files::{output, tell};

use super::recipe;
use crate::logger::warn_all;

/// Most bytes of a file; the converters have the same limit.
const SIZE_MAX: u64 = 1 << 20;

/// Names of the files that a directory may have, for the directory as FILE.
const NAMES: [&str; 2] = ["fledge.toml", "build.toml"];

/// Name of fledge's second file, which is beside the first one.
const MANIFEST: &str = "manifest.toml";

/// Make a recipe of fledge.toml, or of buildfs' build.toml
///
/// Warnings say what has no counterpart; the recipe has them as comments.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  \
                         chrootvm image convert fledge.toml -o recipe.toml\n  \
                         chrootvm image convert build.toml")]
pub(super) struct ConvertFile {
    /// fledge.toml, build.toml, or the directory with one of them
    file: PathBuf,
    /// File to write instead of standard output; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// manifest.toml of fledge [default: the one beside FILE, if there is one]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Replace the file of -o
    #[arg(long, requires = "output")]
    force: bool,
}

impl ConvertFile {
    /// Writes the recipe.
    pub(super) fn run(self) -> Result<ExitCode> {
        recipe::exit_status(self.convert())
    }

    fn convert(&self) -> Result<()> {
        let file = file_of(&self.file)?;
        let text = read(&file)?;
        let converted = match kind(&file, &text)? {
            Kind::Fledge => self.fledge(&file, &text)?,
            Kind::Buildfs => {
                ensure!(self.manifest.is_none(), "--manifest is for fledge.toml only");
                convert::buildfs(&text).map_err(|mistake| wrong(&file, &mistake))?
            }
        };
        let text = converted.to_text();
        match &self.output {
            Some(path) if path.as_os_str() != "-" => {
                self.check_existing(path, &text)?;
                output::write(path, text.as_bytes())?;
                warn_all(&converted.notes);
                warn_all(other_directory(&file, path, &converted));
            }
            _ => {
                warn_all(&converted.notes);
                tell::result(&text)?;
            }
        }
        Ok(())
    }

    fn fledge(&self, file: &Path, text: &str) -> Result<Converted> {
        let beside = file.with_file_name(MANIFEST);
        let path = self.manifest.clone().or_else(|| beside.exists().then_some(beside));
        let manifest = path.as_deref().map(read).transpose()?;
        convert::fledge(text, manifest.as_deref()).map_err(|mistake| {
            // A mistake in the manifest begins with that file's name.
            let prefix = format!("{MANIFEST}: ");
            match (mistake.message.strip_prefix(&prefix), &path) {
                (Some(message), Some(path)) => {
                    wrong(path, &Mistake { message: message.to_owned(), ..mistake })
                }
                _ => wrong(file, &mistake),
            }
        })
    }

    /// Checks that nothing is lost if `path` is written.
    fn check_existing(&self, path: &Path, text: &str) -> Result<()> {
        let shown = path.display();
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.with_context(|| format!("look at {shown}"))?,
        };
        // A pipe or a device keeps nothing.
        let keeps = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        if self.force || keeps || read(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        bail!("{shown} exists, and has another text; --force replaces it")
    }
}

/// The file to convert.
fn file_of(given: &Path) -> Result<PathBuf> {
    if !given.is_dir() {
        return Ok(given.to_path_buf());
    }
    let found: Vec<_> =
        NAMES.iter().map(|name| given.join(name)).filter(|path| path.is_file()).collect();
    match &found[..] {
        [file] => Ok(file.clone()),
        [] => bail!("{} has neither {}", given.display(), NAMES.join(" nor ")),
        _ => bail!("{} has both {}: name one of them", given.display(), NAMES.join(" and ")),
    }
}

fn read(path: &Path) -> Result<String> {
    let reading = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(reading)?;
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes).with_context(reading)?;
    ensure!(bytes.len() as u64 <= SIZE_MAX, "{}: it has more than {SIZE_MAX} bytes", reading());
    String::from_utf8(bytes).with_context(|| format!("{}: it is not UTF-8", reading()))
}

/// The tool whose file it is.
fn kind(file: &Path, text: &str) -> Result<Kind> {
    if let Some(kind) = convert::recognise(text) {
        return Ok(kind);
    }
    let shown = file.display();
    if ::recipe::parse(text).is_ok() {
        bail!("{shown} is a recipe already");
    }
    // A text that is no TOML has no keys; the converter says where it ends to be TOML.
    if toml::from_str::<toml::Table>(text).is_err() {
        let mistake = convert::buildfs(text).err();
        return Err(mistake.map_or_else(|| unknown(file), |mistake| wrong(file, &mistake)));
    }
    Err(unknown(file))
}

fn unknown(file: &Path) -> anyhow::Error {
    let marks = |kind: Kind| kind.marks().collect::<Vec<_>>().join(", ");
    recipe::wrong(format!(
        "{} is neither fledge.toml, which has one of the keys {}, nor buildfs' build.toml, which has \
         one of {}",
        file.display(),
        marks(Kind::Fledge),
        marks(Kind::Buildfs)
    ))
}

fn wrong(file: &Path, mistake: &Mistake) -> anyhow::Error {
    let Position { line, column } = mistake.position;
    recipe::wrong(format!("{}:{line}:{column}: {}", file.display(), mistake.message))
}

/// A warning if the recipe names files, and is in another directory than they are.
fn other_directory(file: &Path, written: &Path, converted: &Converted) -> Option<String> {
    let directory = |path: &Path| fs::canonicalize(output::directory(path)).ok();
    let references = converted.recipe.references();
    let names_files =
        references.iter().any(|found| found.target != Target::Host || !found.path.is_absolute());
    (names_files && directory(file) != directory(written)).then(|| {
        format!(
            "{}: the recipe names files relative to its own directory, and they are in {}: move it \
             there",
            written.display(),
            output::directory(file).display()
        )
    })
}
