//! Every path outside the image that a recipe names, with its meaning.
//!
//! Files of the package are those that come with the recipe; files of the host may be anywhere and
//! stay behind when a package goes to another host. Outputs are in neither list.

use std::path::Path;

use crate::model::{
    Action, Base, BusyboxSource, CommandStep, Contents, Init, Position, Program, Recipe, Secret,
};

/// What may be at the path of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file of the package.
    File,
    /// A file or a directory of the package.
    FileOrDirectory,
    /// Files and directories of the package, by a pattern; one at least must match.
    Pattern,
    /// A recipe of the package, which names files relative to its own directory.
    Recipe,
    /// Something of the host.
    Host,
}

/// A path that a recipe names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The key that has the path, such as `put` or `from.dir`.
    pub key: &'static str,
    /// The step that has the key, if it is one of a step.
    pub position: Option<Position>,
    /// The path as the recipe has it.
    pub path: &'a Path,
    /// What it names.
    pub target: Target,
}

impl Recipe {
    /// All paths that the recipe names, in the order of their tables.
    #[must_use]
    pub fn references(&self) -> Vec<Reference<'_>> {
        let own = |key, path, target| Reference { key, position: None, path, target };
        let mut found = Vec::new();
        found.extend(base(&self.from.base).map(|(key, path, target)| own(key, path, target)));
        for secret in self.build.secrets.values() {
            if let Secret::File(path) = secret {
                found.push(own("secrets", path, Target::Host));
            }
        }
        for volume in self.build.volumes.values() {
            found.push(own("volumes", &volume.path, Target::Host));
        }
        if let Some(BusyboxSource::Path(path)) =
            self.busybox.as_ref().map(|busybox| &busybox.source)
        {
            found.push(own("busybox.path", path, Target::File));
        }
        for step in &self.steps {
            let of_step = of_action(&step.action).into_iter();
            let of_step = of_step.map(|(key, path, target)| own(key, path, target));
            found.extend(of_step.map(|row| Reference { position: Some(step.position), ..row }));
        }
        if let Some(Init::File(path)) = &self.init {
            found.push(own("init.file", path, Target::File));
        }
        found
    }
}

/// Whether the path of a put step is a pattern for several files.
#[must_use]
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Key, path and target of a reference.
type Row<'a> = (&'static str, &'a Path, Target);

fn base(base: &Base) -> Option<Row<'_>> {
    let host = |key, path| Some((key, path, Target::Host));
    match base {
        Base::Empty | Base::Oci(_) => None,
        Base::OciLayout(text) => host("from.oci-layout", text.as_ref()),
        Base::OciArchive(text) => host("from.oci-archive", text.as_ref()),
        Base::DockerArchive(text) => host("from.docker-archive", text.as_ref()),
        Base::Image(path) => host("from.image", path),
        Base::Dir(path) => host("from.dir", path),
        Base::Tar(path) => host("from.tar", path),
        Base::Recipe(path) => Some(("from.recipe", path, Target::Recipe)),
    }
}

fn of_action(action: &Action) -> Vec<Row<'_>> {
    match action {
        Action::Command(CommandStep { program, inputs, .. }) => {
            let script = match program {
                Program::Script(path) => Some(("script", path.as_path(), Target::File)),
                Program::Shell(_) | Program::Words(_) => None,
            };
            let inputs =
                inputs.iter().map(|path| ("inputs", path.as_path(), Target::FileOrDirectory));
            script.into_iter().chain(inputs).collect()
        }
        Action::Put(put) => match &put.contents {
            Contents::Files(path) => {
                let target = match is_pattern(path) {
                    true => Target::Pattern,
                    false => Target::FileOrDirectory,
                };
                vec![("put", path.as_ref(), target)]
            }
            Contents::Text(_) | Contents::Url { .. } => Vec::new(),
        },
        Action::Link(_) | Action::Directory(_) | Action::Remove(_) => Vec::new(),
    }
}
