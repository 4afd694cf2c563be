//! Stages among each other: names, bases, and circles.

use super::action::Origin;
use super::budget::Budget;
use super::expand::{Quotes, expand};
use super::form::Argument;
use super::model::{Arguments, Containerfile, From, FromBase, Kind};
use super::scope::{Variables, is_predefined, platforms};
use crate::table::quote;
use crate::{Mistake, Position};

/// Name of the empty base.
const SCRATCH: &str = "scratch";

impl Containerfile {
    /// Index of the stage `name`, in any case, or of the stage with this number. If several
    /// stages have the name, the last one counts.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.stage_before(self.stages.len(), name).or_else(|| {
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
            let number = name.parse().ok().filter(|_| is_number);
            number.filter(|number| *number < self.stages.len())
        })
    }

    /// Index of the last stage `name` before the stage `end`.
    fn stage_before(&self, end: usize, name: &str) -> Option<usize> {
        let mut stages = self.stages.iter().take(end);
        let name = name.to_ascii_lowercase();
        stages.rposition(|stage| stage.name.as_ref() == Some(&name))
    }

    /// The base of each stage, with arguments put in.
    ///
    /// # Errors
    /// A variable cannot be expanded, a base or a platform is empty, or stages need each other in
    /// a circle.
    pub fn froms(&self, arguments: &Arguments) -> Result<Vec<From>, Mistake> {
        let mut budget = Budget::one_of(1);
        let globals = self.globals(arguments, &mut budget)?;
        let mut froms = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let mistake = |message| Mistake { position: stage.position, message };
            let mut word = |text: &str, name: &str| {
                let value = expand(text, self.escape, Quotes::Remove, &globals, &mut budget)
                    .map_err(|error| mistake(format!("FROM: {error}")))?;
                if value.is_empty() {
                    let text = quote(text);
                    let hint =
                        "give the arguments in it a default, by an ARG before the first FROM";
                    return Err(mistake(format!("FROM: {name} {text} is empty: {hint}")));
                }
                Ok(value)
            };
            let base = word(&stage.base, "the image")?;
            let platform = match &stage.platform {
                Some(platform) => Some(word(platform, "the platform")?),
                None => None,
            };
            let base = match self.stage_before(index, &base) {
                _ if base == SCRATCH => FromBase::Scratch,
                Some(stage) => FromBase::Stage(stage),
                None => FromBase::Image(base),
            };
            froms.push(From { base, platform });
        }
        self.check_circles(&froms)?;
        Ok(froms)
    }

    /// Given build arguments that no ARG declares; those that engines know are left out.
    #[must_use]
    pub fn undeclared<'a>(&self, arguments: &'a Arguments) -> Vec<&'a str> {
        let kinds = self.stages.iter().flat_map(|stage| &stage.instructions);
        let in_stages = kinds.filter_map(|instruction| match &instruction.kind {
            Kind::Arg(arguments) => Some(arguments),
            _ => None,
        });
        let globals = self.globals.iter().map(|(_, argument)| argument);
        let declared: std::collections::BTreeSet<&str> =
            globals.chain(in_stages.flatten()).map(|argument| &*argument.name).collect();
        let names = arguments.given.keys().map(|name| &**name);
        names.filter(|name| !declared.contains(name) && !is_predefined(name)).collect()
    }

    /// Arguments for FROM: predefined ones, and those before the first FROM.
    pub(super) fn globals(
        &self,
        arguments: &Arguments,
        budget: &mut Budget,
    ) -> Result<Variables, Mistake> {
        let mut variables = platforms(arguments);
        for (position, argument) in &self.globals {
            let mistake = |message| Mistake { position: *position, message };
            let value = self.argument(argument, arguments, &variables, budget).map_err(mistake)?;
            if let Some(value) = value {
                variables.set(&argument.name, &value).map_err(mistake)?;
            }
        }
        Ok(variables)
    }

    /// Value of a declared argument: the given one, or its default.
    pub(super) fn argument(
        &self,
        argument: &Argument,
        arguments: &Arguments,
        variables: &dyn super::expand::Lookup,
        budget: &mut Budget,
    ) -> Result<Option<String>, String> {
        let Argument { name, default } = argument;
        match (arguments.given.get(name), default) {
            (Some(given), _) => Ok(Some(given.clone())),
            (None, None) => Ok(None),
            (None, Some(text)) => {
                let value = expand(text, self.escape, Quotes::Remove, variables, budget);
                value.map(Some).map_err(|error| format!("ARG {}: {error}", quote(name)))
            }
        }
    }

    /// Where `--from=name` of the stage `index` takes files from.
    ///
    /// # Errors
    /// It is the stage itself, or the number of a stage that does not exist.
    pub(super) fn origin(&self, index: usize, name: &str) -> Result<Origin, String> {
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        match self.stage(name) {
            Some(stage) if stage == index => {
                Err(format!("from={} is this stage itself: name another one", quote(name)))
            }
            Some(stage) => Ok(Origin::Stage(stage)),
            None if is_number => {
                let last = self.stages.len().saturating_sub(1);
                Err(format!("from={}: stages have the numbers 0 to {last}", quote(name)))
            }
            None if name.is_empty() => Err("from is empty: give a stage or an image".to_owned()),
            None => Ok(Origin::Image(name.to_owned())),
        }
    }

    /// Checks that no stage needs itself by way of others.
    fn check_circles(&self, froms: &[From]) -> Result<(), Mistake> {
        let needs: Vec<_> =
            froms.iter().enumerate().map(|(index, from)| self.needs(index, from)).collect();
        // Stages that need only each other stay; the others go, one round after the other.
        let mut stays = vec![true; needs.len()];
        let is_open = |stays: &[bool], index: usize| stays.get(index) == Some(&true);
        loop {
            let before = stays.clone();
            for (index, needs) in needs.iter().enumerate() {
                if let Some(stay) = stays.get_mut(index) {
                    *stay = *stay && needs.iter().any(|(need, _)| is_open(&before, *need));
                }
            }
            if stays == before {
                break;
            }
        }
        let Some(first) = stays.iter().position(|stay| *stay) else { return Ok(()) };
        // Each stage that stays needs one that stays, so the walk comes back to where it was.
        let (mut at, mut walk) = (first, Vec::new());
        while let Some((need, position)) =
            needs.get(at).and_then(|needs| needs.iter().find(|(need, _)| is_open(&stays, *need)))
        {
            if let Some(start) = walk.iter().position(|(stage, _)| *stage == at) {
                return Err(self.circle(walk.get(start..).unwrap_or_default()));
            }
            walk.push((at, *position));
            at = *need;
        }
        Ok(())
    }

    /// Mistake about stages that need each other, each with the position where it needs the next.
    fn circle(&self, walk: &[(usize, Position)]) -> Mistake {
        /// Most stages that the message names.
        const SHOWN_MAX: usize = 8;
        let name = |index: usize| {
            let name = self.stages.get(index).and_then(|stage| stage.name.as_deref());
            name.map_or_else(|| index.to_string(), quote)
        };
        let (first, position) = walk.first().copied().unwrap_or_default();
        let mut names: Vec<_> =
            walk.iter().take(SHOWN_MAX).map(|(stage, _)| name(*stage)).collect();
        if walk.len() > SHOWN_MAX {
            names.push("…".to_owned());
        }
        let names = names.join(" needs ");
        let message = format!("stage {names} needs {}: break this circle", name(first));
        Mistake { position, message }
    }

    /// Stages that the stage `index` needs, each with the position of the instruction.
    fn needs(&self, index: usize, from: &From) -> Vec<(usize, Position)> {
        let Some(stage) = self.stages.get(index) else { return Vec::new() };
        let mut needs = Vec::new();
        if let FromBase::Stage(base) = from.base {
            needs.push((base, stage.position));
        }
        for instruction in &stage.instructions {
            let mut add = |name: &str| {
                let stage = self.stage(name);
                needs.extend(stage.map(|stage| (stage, instruction.position)));
            };
            match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().for_each(|name| add(name)),
                Kind::Run(run) => {
                    let fields = run.mounts.iter().flatten();
                    let froms = fields.filter(|field| field.key == "from");
                    froms.filter_map(|field| field.value.as_deref()).for_each(add);
                }
                _ => {}
            }
        }
        needs.sort_unstable();
        needs.dedup_by_key(|(stage, _)| *stage);
        needs
    }
}
