//! RUN, COPY and ADD, with arguments put in.

use std::collections::BTreeSet;

use super::action::{Copy, Mount, Origin, Run, Script, Source, Unpack};
use super::documents::{Document, Variables};
use super::evaluate::State;
use super::expand::{Quotes, expand};
use super::form::{Command, CopyForm, CopyKeyword, RunCommand, RunForm, SourceForm};
use super::modes::CopyMode;
use super::{mounts, paths};
use crate::table::quote;

/// Start of a script that names its program.
const SHEBANG: &str = "#!";

/// Starts of addresses of git repositories (BuildKit `dfgitutil`).
const GIT_STARTS: &[&str] = &["git://", "ssh://", "git@"];

/// Starts of addresses of files.
const URL_STARTS: &[&str] = &["http://", "https://"];

impl State<'_> {
    /// RUN.
    pub(super) fn run(&mut self, form: &RunForm) -> Result<Run, String> {
        let (words, script) = match &form.command {
            RunCommand::Command(command) => (self.words(command)?, None),
            RunCommand::Document(document) => {
                let text = document.contents();
                match text.starts_with(SHEBANG) {
                    true => (Vec::new(), Some(Script { name: document.name.clone(), text })),
                    false => (self.words(&Command::Shell(text))?, None),
                }
            }
        };
        let mut mounts = Vec::new();
        let mut secrets = BTreeSet::new();
        for fields in &form.mounts {
            // Relative targets get the working directory.
            self.budget.bytes(self.config.workdir.len())?;
            let mut fields = fields.clone();
            for field in &mut fields {
                if let Some(value) = &mut field.value {
                    *value = self.expanded("RUN --mount", value)?;
                }
            }
            let origin = |name: &str| {
                let origin = self.file.origin(self.index, name);
                origin.map_err(|error| format!("RUN --mount: {error}"))
            };
            let mount = mounts::mount(fields, &self.config.workdir, origin)?;
            if let Mount::Secret { target: Some(target), .. } = &mount
                && !secrets.insert(target.clone())
            {
                let target = quote(target);
                return Err(format!(
                    "RUN --mount: two secrets have the path {target}: give each its own target"
                ));
            }
            mounts.push(mount);
        }
        let variables = [&self.scope.env, &self.scope.arguments];
        self.budget.bytes(variables.iter().map(|variables| variables.bytes()).sum())?;
        self.budget.bytes(self.config.user.len() + self.config.workdir.len())?;
        let (env, hidden_env) = self.scope.command(self.arguments);
        Ok(Run {
            words,
            script,
            env,
            hidden_env,
            user: self.config.user.clone(),
            workdir: paths::absolute("/", &self.config.workdir),
            network: form.network,
            mounts,
        })
    }

    /// COPY or ADD.
    pub(super) fn copy(&mut self, form: &CopyForm) -> Result<Copy, String> {
        let keyword = form.keyword.name();
        let origin = match &form.from {
            None => Origin::Context,
            Some(name) if name.contains('$') => {
                return Err(format!(
                    "{keyword} --from={} has no variables: \
                     add a stage FROM ${{…}} AS NAME and write --from=NAME",
                    quote(name)
                ));
            }
            Some(name) if name == "scratch" => {
                return Err(format!("{keyword} --from=scratch: the empty tree has no files"));
            }
            Some(name) => {
                let origin = self.file.origin(self.index, name);
                origin.map_err(|error| format!("{keyword} --{error}"))?
            }
        };
        let owner = self.optional(keyword, form.owner.as_ref())?;
        let mode = self.optional(keyword, form.mode.as_ref())?;
        let mode = mode.map(|mode| CopyMode::parse(&mode)).transpose();
        let mode = mode.map_err(|error| format!("{keyword} --chmod: {error}"))?;
        let checksum = self.optional(keyword, form.checksum.as_ref())?;
        let mut sources = Vec::new();
        for source in &form.sources {
            let source = match source {
                SourceForm::Document(document) => self.document(keyword, document)?,
                SourceForm::Path(path) => {
                    let path = self.expanded(keyword, path).map_err(|error| {
                        format!("{error}; a path with blanks is written [\"PATH\", \"TARGET\"]")
                    })?;
                    source_of(form.keyword, path, checksum.as_deref())?
                }
            };
            sources.push(source);
        }
        let has_url = sources.iter().any(|source| matches!(source, Source::Url { .. }));
        if checksum.is_some() && (!has_url || sources.len() > 1) {
            return Err(format!("{keyword} --checksum belongs to one address: add one alone"));
        }
        let to = self.expanded(keyword, &form.to)?;
        let unpack = match (form.unpack, form.keyword) {
            (Some(unpack), _) => unpack,
            // A download is unpacked only if the flag says so.
            (None, CopyKeyword::Add) if !has_url => Unpack::Yes,
            (None, _) => Unpack::No,
        };
        Ok(Copy {
            origin,
            sources,
            to: paths::target(&self.config.workdir, &to),
            owner,
            mode,
            exclude: form.exclude.clone(),
            unpack,
        })
    }

    /// Value of a flag, if it is given and not empty.
    fn optional(&mut self, what: &str, text: Option<&String>) -> Result<Option<String>, String> {
        let value = text.map(|text| self.expanded(what, text)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// File with the text of a here-document. Quotes in it are ordinary; its escape is always a
    /// backslash, as in a shell.
    fn document(&mut self, keyword: &str, document: &Document) -> Result<Source, String> {
        let name = document.name.clone();
        let mut text = document.contents();
        if document.variables == Variables::Expand {
            let expanded = expand(&text, '\\', Quotes::Keep, &self.scope, &mut self.budget);
            text = expanded.map_err(|error| {
                let name = quote(&name);
                format!(
                    "{keyword} <<{name}: {error}; a delimiter in quotes keeps the text as it is"
                )
            })?;
        }
        self.budget.bytes(text.len())?;
        Ok(Source::Text { name, text })
    }
}

/// Source that `path` names, which has no variables any more.
fn source_of(keyword: CopyKeyword, path: String, checksum: Option<&str>) -> Result<Source, String> {
    let name = keyword.name();
    let is_url = URL_STARTS.iter().any(|start| path.starts_with(start));
    if is_git(&path, is_url) {
        let path = quote(&path);
        let hint = "clone the repository into the context and COPY it";
        return Err(format!("{name} {path}: git repositories are not supported: {hint}"));
    }
    if !is_url {
        return Ok(Source::Path(path));
    }
    let shown = quote(&path);
    if keyword == CopyKeyword::Copy {
        return Err(format!("COPY {shown}: COPY downloads nothing: write ADD"));
    }
    let digits = checksum.and_then(|checksum| checksum.strip_prefix("sha256:"));
    let is_sum =
        |digits: &&str| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    match (checksum, digits.filter(is_sum)) {
        (_, Some(digits)) => Ok(Source::Url { url: path, sha256: digits.to_ascii_lowercase() }),
        (None, None) => Err(format!(
            "ADD {shown} has no checksum: add --checksum=sha256:DIGITS, so that each build gets the same file"
        )),
        (Some(checksum), None) => {
            let checksum = quote(checksum);
            Err(format!(
                "ADD --checksum={checksum} is wrong: give sha256: and 64 hexadecimal digits"
            ))
        }
    }
}

/// Whether `path` is the address of a git repository.
fn is_git(path: &str, is_url: bool) -> bool {
    /// End of the path of a repository behind `https://`.
    const GIT_END: &str = ".git";
    let path_end = path.find(['#', '?']).unwrap_or(path.len());
    let is_git_url = is_url && path.get(..path_end).is_some_and(|path| path.ends_with(GIT_END));
    is_git_url || GIT_STARTS.iter().any(|start| path.starts_with(start))
}
