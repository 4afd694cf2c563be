//! Mistakes of a Containerfile that are known before any base is.
//!
//! Stages on `scratch`, and stages on such stages, are evaluated as for a build. In other stages,
//! values may depend on the config of the base: only instructions without variables are
//! evaluated, each by itself, with a stand-in for the config of the base.

use super::budget::Budget;
use super::config::Config;
use super::documents;
use super::evaluate::State;
use super::form::{CopyForm, Pair, RunForm, SourceForm};
use super::model::{Arguments, Containerfile, FromBase, Instruction, Kind, Stage};
use super::scope::Variables;
use crate::Mistake;

/// Start of a variable.
const DOLLAR: char = '$';

/// Names in the working directory that stands in for the unknown one: it is so deep that a
/// relative path with fewer `..` is neither the root nor a directory of the kernel.
const DEPTH: usize = 64;

impl Containerfile {
    /// Looks for mistakes in all stages, even those that no build needs, without their bases.
    ///
    /// # Errors
    /// The first mistake in the bases of stages, then that of the first stage with one. A file
    /// without a mistake here may have one that only [`Containerfile::evaluate`] finds.
    pub fn check(&self, arguments: &Arguments) -> Result<(), Mistake> {
        let froms = self.froms(arguments)?;
        // Config of each stage, if it is known.
        let mut configs: Vec<Option<Config>> = Vec::new();
        for (index, (stage, from)) in self.stages.iter().zip(&froms).enumerate() {
            let base = match from.base {
                FromBase::Scratch => Some(Config::scratch()),
                FromBase::Stage(base) => configs.get(base).cloned().flatten(),
                FromBase::Image(_) => None,
            };
            configs.push(match base {
                Some(base) => Some(self.evaluate(index, &base, arguments)?.config),
                None => {
                    self.check_without_base(index, stage, arguments)?;
                    None
                }
            });
        }
        Ok(())
    }

    /// Checks the instructions of a stage that have no variables.
    fn check_without_base(
        &self,
        index: usize,
        stage: &Stage,
        arguments: &Arguments,
    ) -> Result<(), Mistake> {
        let base = Config { workdir: "/_".repeat(DEPTH), ..Config::default() };
        let mut budget = Budget::one_of(self.stages.len());
        for Instruction { position, kind, .. } in &stage.instructions {
            if has_variables(kind) {
                continue;
            }
            let mut now = State::new(self, index, &base, arguments, Variables::default(), budget);
            let action = now.action(kind);
            action.map_err(|message| Mistake { position: *position, message })?;
            budget = now.budget;
        }
        Ok(())
    }
}

/// Whether a text that [`State::action`] expands has a variable.
fn has_variables(kind: &Kind) -> bool {
    let has = |text: &String| text.contains(DOLLAR);
    match kind {
        Kind::Arg(arguments) => arguments.iter().filter_map(|it| it.default.as_ref()).any(has),
        Kind::Copy(copy) => copy_has_variables(copy),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().any(|Pair { name, value }| has(name) || has(value))
        }
        Kind::Expose(words) | Kind::Volume(words) => words.iter().any(has),
        Kind::Run(run) => run_has_variables(run),
        Kind::StopSignal(text) | Kind::User(text) | Kind::Workdir(text) => has(text),
        Kind::Cmd(_)
        | Kind::Entrypoint(_)
        | Kind::Health(_)
        | Kind::Maintainer(_)
        | Kind::Shell(_) => false,
    }
}

/// As [`has_variables`]: the shell puts variables in the command, so only mounts count.
fn run_has_variables(run: &RunForm) -> bool {
    let values = run.mounts.iter().flatten().filter_map(|field| field.value.as_ref());
    values.into_iter().any(|value| value.contains(DOLLAR))
}

/// As [`has_variables`]. A variable in `--from` is a mistake, which is found.
fn copy_has_variables(copy: &CopyForm) -> bool {
    let flags = [&copy.owner, &copy.mode, &copy.checksum];
    let mut texts = flags.into_iter().flatten().chain([&copy.to]);
    texts.any(|text| text.contains(DOLLAR))
        || copy.sources.iter().any(|source| match source {
            SourceForm::Path(path) => path.contains(DOLLAR),
            SourceForm::Document(document) => {
                document.variables == documents::Variables::Expand && document.text.contains(DOLLAR)
            }
        })
}
