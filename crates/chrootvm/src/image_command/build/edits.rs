//! Changes of the tree that `chrootvm image build` is asked for: files to leave out, and files of
//! the host to add.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use files::notes::Notes;
use image::edit::exclude::Exclusion;
use image::edit::graft;
use image::source::{self, ReadOptions};
use image::tree::{Content, Tree, show};

/// Files to leave out and to add
#[derive(Debug, clap::Args)]
pub(super) struct Edits {
    /// Leave out files; repeatable
    ///
    /// PATTERN is a line of gitignore(5), such as *.pyc, /var/cache/* or doc/. Of several, the last
    /// one that matches a file wins; a pattern that begins with ! keeps the file. A directory that is
    /// left out takes its contents with it. PATTERN does not apply to files that --inject or --init
    /// adds.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    exclude: Vec<String>,
    /// Add a file or a directory; repeatable
    ///
    /// SRC is a path of this host, DEST an absolute path in the image. All that is added belongs to
    /// root. A file has mode 0755, and it is put into DEST if that is a directory or ends in /. A
    /// directory is merged into DEST, and its files keep their modes.
    #[arg(long, value_name = "SRC:DEST", value_parser = OsStringValueParser::new().try_map(|text| Injection::parse(&text)))]
    inject: Vec<Injection>,
}

/// Value of `--inject`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Injection {
    /// A file or a directory of the host.
    source: PathBuf,
    /// Absolute path in the image.
    target: OsString,
}

impl Injection {
    /// Parses `SRC:DEST`. SRC may contain colons, DEST may not.
    fn parse(text: &OsStr) -> Result<Self, String> {
        const FORM: &str = "give SRC:DEST, where DEST is an absolute path in the image, without ..";
        let bytes = text.as_bytes();
        let colon = bytes.iter().rposition(|&byte| byte == b':').ok_or(FORM)?;
        let (source, target) = (&bytes[..colon], &bytes[colon + 1..]);
        let is_inside = target.split(|&byte| byte == b'/').all(|name| name != b"..");
        if source.is_empty() || !target.starts_with(b"/") || !is_inside {
            return Err(FORM.into());
        }
        Ok(Self {
            source: OsString::from_vec(source.to_vec()).into(),
            target: OsString::from_vec(target.to_vec()),
        })
    }

    /// Adds the file or directory to `tree`.
    fn apply(&self, tree: &mut Tree, options: &ReadOptions, notes: &mut Notes) -> Result<()> {
        let metadata = match self.source.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("SRC does not exist"),
            metadata => metadata.context("look at SRC")?,
        };
        let target = self.target.as_bytes();
        if metadata.is_dir() {
            let from = source::open(&self.source, options, notes)?;
            return graft::directory(tree, target, &from.tree);
        }
        let kind = metadata.file_type();
        if !metadata.is_file() {
            let what = if kind.is_fifo() { "a pipe" } else { "a device or a socket" };
            bail!("SRC is {what}, not a file or a directory");
        }
        let name = self.source.file_name().context("SRC has no name")?;
        let file = File::open(&self.source).context("open SRC")?;
        let content = Content::Part { archive: Arc::new(file), offset: 0, size: metadata.len() };
        let added = graft::file(tree, target, name.as_bytes(), content, metadata.mtime())?;
        log::debug!("{} becomes /{}", self.source.display(), show(&added));
        Ok(())
    }
}

impl Edits {
    /// Whether files are left out or added.
    pub(super) fn is_given(&self) -> bool {
        !(self.exclude.is_empty() && self.inject.is_empty())
    }

    /// Leaves files out of `tree`, then adds files to it.
    ///
    /// # Errors
    /// A bad pattern; a SRC that is missing, or neither a file nor a directory; a DEST that leads
    /// through a file of the image.
    pub(super) fn apply(
        &self,
        tree: &mut Tree,
        options: &ReadOptions,
        notes: &mut Notes,
    ) -> Result<()> {
        if !self.exclude.is_empty() {
            let patterns = self.exclude.iter().map(String::as_str);
            Exclusion::of(patterns).context("--exclude")?.apply(tree);
        }
        for injection in &self.inject {
            let Injection { source, target } = injection;
            let context = || format!("--inject {}:{}", source.display(), show(target.as_bytes()));
            injection.apply(tree, options, notes).with_context(context)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injections_are_parsed() {
        for (text, source, target) in
            [("a:/b", "a", "/b"), ("a:b:/c/", "a:b", "/c/"), ("/x/../y:/", "/x/../y", "/")]
        {
            let expected = Injection { source: source.into(), target: target.into() };
            assert_eq!(Injection::parse(OsStr::new(text)), Ok(expected), "{text}");
        }
        for bad in ["", "a", "a:", ":/b", "a:b", "a:/b/../../c", "a:/.."] {
            assert!(Injection::parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
