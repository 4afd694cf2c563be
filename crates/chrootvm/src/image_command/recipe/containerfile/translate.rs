//! From evaluated instructions to steps with keys.
//!
//! The key of a step covers what docker's cache looks at: what the instruction does with arguments
//! put in, and contents, names, modes and extended attributes of the files that it uses, but
//! neither their times nor, in a directory of the host, their owners.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Result, ensure};
use image::tree::{Content, show};
use recipe::containerfile::{self, Action, Mount as RunMount, Origin, Run, Source};
use recipe::{CommandStep, Network, Position, Program, Step};
use step::request::{Access, BindAccess};

use super::super::kept::key::Key;
use super::super::package::WrongRecipe;
use super::super::package::inputs::Input;
use super::super::package::planned::{
    CacheUse, Command, Copy, CopySource, Files, Mount, Part, SecretUse, Selection, TreeName, Work,
};
use super::super::run::inputs_disk::SCRIPT;
use super::context::Directory;
use super::planning::literal;
use super::stages::Stages;

/// Permissions of a file that a here-document is.
const OF_TEXT: u16 = 0o644;

/// Permissions of a here-document that is run.
const OF_SCRIPT: u16 = 0o755;

/// A step and the parts of its key.
type WorkAndParts = (Work, Vec<Part>);

impl Stages<'_> {
    /// The step of an instruction; `None` if only the config changes.
    pub(super) fn work(&self, action: &Action) -> Result<Option<WorkAndParts>> {
        match action {
            Action::Config => Ok(None),
            Action::Directory { path, user } => {
                let owner = Some(user.clone()).filter(|user| !user.is_empty());
                let text = Part::new("its text", format!("directory {path} {owner:?}"));
                Ok(Some((Work::WorkingDirectory { path: path.clone(), owner }, vec![text])))
            }
            Action::Run(run) => self.command(run).map(Some),
            Action::Copy(copy) => self.copy(copy).map(Some),
        }
    }

    fn command(&self, run: &Run) -> Result<WorkAndParts> {
        let script = run.script.as_ref().map(|script| {
            let content = Content::Bytes(script.text.as_bytes().into());
            Input::of_file(script.name.clone().into_bytes(), content, OF_SCRIPT)
        });
        let words = match &run.script {
            Some(script) => vec![format!("{SCRIPT}/{}", script.name)],
            None => run.words.clone(),
        };
        let is_hidden = |(name, _): &&(String, String)| run.hidden_env.contains(name);
        let (hidden_env, env): (Vec<_>, Vec<_>) = run.env.iter().partition(is_hidden);
        let of_build = self.settings.package.recipe.build.network;
        let step = CommandStep {
            user: Some(run.user.clone()).filter(|user| !user.is_empty()),
            workdir: Some(run.workdir.clone()),
            env: env.into_iter().cloned().collect(),
            ..CommandStep::new(Program::Words(words))
        };
        let network = match run.network {
            Some(Network::None) => Network::None,
            Some(Network::User) | None => of_build,
        };
        let mut text = String::new();
        let mut parts = Vec::new();
        let (mut caches, mut mounts) = (Vec::new(), Vec::new());
        for mount in &run.mounts {
            describe(mount, &mut text);
            match mount {
                RunMount::Cache { id, target, access, from, source, mode, uid, gid } => {
                    let seed = match from {
                        Some(origin) => {
                            Some(self.files(origin, &literal(source), &[], &mut parts)?)
                        }
                        None => None,
                    };
                    caches.push(CacheUse {
                        key: Key::first(&[b"cache of containerfiles", id.as_bytes()]),
                        path: target.clone(),
                        access: match access {
                            containerfile::Access::ReadOnly => Access::ReadOnly,
                            containerfile::Access::ReadWrite => Access::ReadWrite,
                        },
                        meta: Some((*mode, *uid, *gid)),
                        seed,
                    });
                }
                RunMount::Secret { id, target, env, need, mode, uid, gid } => {
                    mounts.push(Mount::Secret(SecretUse {
                        id: id.clone(),
                        path: target.clone(),
                        env: env.clone(),
                        is_required: *need == containerfile::Need::Must,
                        mode: *mode,
                        owner: Some((*uid, *gid)),
                    }));
                }
                RunMount::Bind { origin, source, target, access } => mounts.push(Mount::Files {
                    files: self.files(origin, &literal(source), &[], &mut parts)?,
                    path: target.clone(),
                    access: match access {
                        containerfile::Access::ReadOnly => BindAccess::ReadOnly,
                        containerfile::Access::ReadWrite => BindAccess::Scratch,
                    },
                }),
                RunMount::Tmpfs { target, size } => {
                    mounts.push(Mount::Tmpfs { path: target.clone(), size: *size });
                }
            }
        }
        if let Some(script) = &run.script {
            text.push_str(&script.text);
        }
        let build = &self.settings.package.recipe.build;
        let action = recipe::Action::Command(step.clone());
        let canonical = Step { position: Position::default(), label: None, action }.canonical();
        let own = [
            Part::new("its text", [&canonical[..], text.as_bytes()].concat()),
            Part::new("its network", format!("{network:?}")),
            Part::new("the host name", build.hostname.clone()),
            Part::new("the processor", self.settings.arguments.build_platform.clone()),
        ];
        parts.splice(0..0, own);
        let command = Command {
            step,
            network,
            inputs: Vec::new(),
            script: script.transpose()?,
            hidden_env: hidden_env.into_iter().cloned().collect(),
            caches,
            mounts,
        };
        Ok((Work::Command(Box::new(command)), parts))
    }

    fn copy(&self, copy: &containerfile::Copy) -> Result<WorkAndParts> {
        let containerfile::Copy { origin, sources, to, owner, mode, exclude, unpack } = copy;
        let text = format!("copy {to} {owner:?} {mode:?} {unpack:?}");
        let mut parts = vec![Part::new("its text", text)];
        let mut found = Vec::new();
        for source in sources {
            found.push(match source {
                Source::Path(pattern) => {
                    CopySource::Files(self.files(origin, pattern, exclude, &mut parts)?)
                }
                Source::Text { name, text } => {
                    let content = Content::Bytes(text.as_bytes().into());
                    let mut input = Input::of_file(name.clone().into_bytes(), content, OF_TEXT)?;
                    input.set_time(self.settings.time);
                    parts.push(Part::new(format!("the text {name}"), text.as_bytes()));
                    CopySource::Files(Files::Read(Arc::from([input])))
                }
                Source::Url { url, sha256 } => {
                    parts.push(Part::new(format!("the file {url}"), format!("{url} {sha256}")));
                    CopySource::Url { url: url.clone(), sha256: sha256.clone() }
                }
            });
        }
        let is_empty = |source: &CopySource| matches!(source, CopySource::Files(Files::Read(inputs)) if inputs.is_empty());
        ensure!(
            !found.iter().all(is_empty),
            WrongRecipe("no file matches; an ignore file may leave it out".to_owned())
        );
        let copy = Copy {
            sources: found,
            to: to.clone(),
            owner: owner.clone(),
            mode: mode.clone(),
            unpack: *unpack,
        };
        Ok((Work::Copy(copy), parts))
    }

    /// Files that an instruction names. Their digests become parts.
    fn files(
        &self,
        origin: &Origin,
        pattern: &str,
        exclude: &[String],
        parts: &mut Vec<Part>,
    ) -> Result<Files> {
        let tree = match origin {
            Origin::Context => {
                return of_directory(&self.settings.context, pattern, exclude, parts);
            }
            Origin::Image(name) => match self.settings.images.directory(name) {
                Some(directory) => return of_directory(directory, pattern, exclude, parts),
                None => TreeName::Image(name.clone()),
            },
            Origin::Stage(index) => TreeName::Stage(*index),
        };
        let selection = Selection { tree, pattern: pattern.to_owned(), exclude: exclude.to_vec() };
        let digest = self.digest(&selection)?;
        // A build that is only shown does not know what a stage will make.
        let bytes = digest.map_or_else(|| b"unknown".to_vec(), |digest| digest.to_vec());
        // A key must not depend on the name of a stage.
        parts.push(Part::new(format!("the file {pattern} of another tree"), bytes));
        Ok(Files::Later(selection))
    }
}

/// Files of a directory of the host. Their digests become parts.
fn of_directory(
    directory: &Directory,
    pattern: &str,
    exclude: &[String],
    parts: &mut Vec<Part>,
) -> Result<Files> {
    let inputs = directory.select(pattern, exclude)?;
    for input in inputs.iter() {
        let digest = input.known.map(|(_, digest)| digest).unwrap_or_default();
        let bytes = [&input.name[..], b"\0", &digest].concat();
        parts.push(Part::new(format!("the file {}", show(&input.name)), bytes));
    }
    Ok(Files::Read(inputs))
}

/// Adds what a mount says to the text of a step. Where files come from does not matter: their
/// digest does.
fn describe(mount: &RunMount, text: &mut String) {
    let written = match mount {
        RunMount::Cache { id, target, access, from, source, mode, uid, gid } => {
            let is_seeded = from.is_some();
            write!(
                text,
                "cache {id:?} {target:?} {access:?} {is_seeded} {source:?} {mode} {uid} {gid}"
            )
        }
        RunMount::Secret { id, target, env, need, mode, uid, gid } => {
            write!(text, "secret {id:?} {target:?} {env:?} {need:?} {mode} {uid} {gid}")
        }
        RunMount::Bind { target, access, .. } => write!(text, "bind {target:?} {access:?}"),
        RunMount::Tmpfs { target, size } => write!(text, "tmpfs {target:?} {size:?}"),
    };
    written.unwrap_or_default(); // a String takes all
    text.push('\n');
}
