//! What the instructions of a stage do, one after the other.

use std::collections::BTreeSet;

use super::action::{Action, Done, Evaluated};
use super::budget::Budget;
use super::config::Config;
use super::expand::{Quotes, expand};
use super::form::{Command, Pair};
use super::model::{Arguments, Containerfile, Instruction, Kind};
use super::scope::{Scope, Variables};
use super::{paths, ports};
use crate::table::quote;
use crate::{Mistake, Position};

/// Shell of commands in shell form, if SHELL gives no other.
const SHELL: &[&str] = &["/bin/sh", "-c"];

impl Containerfile {
    /// What the instructions of the stage `index` do, on a base with the config `base`.
    ///
    /// If the base is a stage, `base` is the config that its own evaluation has returned: the
    /// stage inherits the arguments in it.
    ///
    /// # Errors
    /// There is no such stage, a variable cannot be expanded, an expanded value is wrong, or the
    /// texts of the config have more than 1 MiB.
    pub fn evaluate(
        &self,
        index: usize,
        base: &Config,
        arguments: &Arguments,
    ) -> Result<Evaluated, Mistake> {
        let Some(stage) = self.stages.get(index) else {
            let message = format!("there is no stage {index}");
            return Err(Mistake { position: Position::default(), message });
        };
        let mut budget = Budget::one_of(self.stages.len());
        let globals = self.globals(arguments, &mut budget)?;
        let mistake = |message| Mistake { position: stage.position, message };
        budget.bytes(base.lengths().map(|length| ENTRY_BYTES + length).sum()).map_err(mistake)?;
        let mut now = State::new(self, index, base, arguments, globals, budget);
        now.check_texts().map_err(mistake)?;
        let mut instructions = Vec::new();
        for instruction in &stage.instructions {
            let Instruction { position, text, kind } = instruction;
            let mistake = |message| Mistake { position: *position, message };
            let action = now.action(kind).map_err(mistake)?;
            now.check_texts().map_err(mistake)?;
            instructions.push(Done { position: *position, text: text.clone(), action });
        }
        Ok(Evaluated { instructions, config: now.into_config() })
    }
}

/// State between two instructions of a stage.
pub(super) struct State<'f> {
    pub(super) file: &'f Containerfile,
    pub(super) index: usize,
    pub(super) arguments: &'f Arguments,
    pub(super) scope: Scope,
    /// Config; its environment and its arguments are in `scope`, ports and volumes in the sets,
    /// too.
    pub(super) config: Config,
    pub(super) budget: Budget,
    globals: Variables,
    ports: BTreeSet<String>,
    volumes: BTreeSet<String>,
    /// Where the CMD of the config comes from.
    cmd: CmdFrom,
}

/// Where the CMD of a config comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CmdFrom {
    Base,
    Stage,
}

/// Most bytes of an expanded word. The kernel takes no longer one in a command or an environment
/// (`MAX_ARG_STRLEN`, 32 pages).
const WORD_MAX: usize = 128 << 10;

/// Most bytes of a path (`PATH_MAX`, limits.h).
const PATH_MAX: usize = 4096;

/// Bytes that a text of a config takes besides its own: its places in a list and a map. Those of a
/// port include its text.
const ENTRY_BYTES: usize = 128;

/// Most bytes of the texts of a config: environment, arguments, labels, words of commands, volumes
/// and ports.
const TEXTS_MAX: usize = 1 << 20;

impl<'f> State<'f> {
    /// State before the first instruction.
    pub(super) fn new(
        file: &'f Containerfile,
        index: usize,
        base: &Config,
        arguments: &'f Arguments,
        globals: Variables,
        budget: Budget,
    ) -> Self {
        let scope =
            Scope { env: Variables::new(&base.env), arguments: Variables::new(&base.arguments) };
        let mut config = base.clone();
        if !base.workdir.is_empty() {
            config.workdir = paths::absolute("/", &base.workdir);
        }
        (config.env, config.arguments) = (Vec::new(), Vec::new());
        let ports = config.ports.iter().cloned().collect();
        let volumes = config.volumes.iter().cloned().collect();
        let cmd = CmdFrom::Base;
        Self { file, index, arguments, scope, config, budget, globals, ports, volumes, cmd }
    }

    /// Config behind the last instruction.
    fn into_config(self) -> Config {
        Config {
            env: self.scope.env.list().to_vec(),
            arguments: self.scope.arguments.list().to_vec(),
            ..self.config
        }
    }

    /// Checks the size of the config.
    fn check_texts(&self) -> Result<(), String> {
        let variables = self.scope.env.bytes() + self.scope.arguments.bytes();
        if self.config.lengths().sum::<usize>() + variables > TEXTS_MAX {
            let most = TEXTS_MAX >> 20;
            return Err(format!(
                "the variables, labels, commands, volumes and ports of the image take more than \
                 {most} MiB: shorten them"
            ));
        }
        Ok(())
    }

    /// What an instruction does; the config changes.
    pub(super) fn action(&mut self, kind: &Kind) -> Result<Action, String> {
        match kind {
            Kind::Run(run) => return self.run(run).map(Action::Run),
            Kind::Copy(copy) => return self.copy(copy).map(Action::Copy),
            Kind::Workdir(path) => return self.workdir(path),
            Kind::Arg(arguments) => {
                for argument in arguments {
                    self.arg(argument)?;
                }
            }
            Kind::Env(pairs) => {
                for (name, value) in self.pairs("ENV", pairs)? {
                    self.scope.env.set(&name, &value)?;
                }
            }
            Kind::Label(pairs) => {
                let pairs = self.pairs("LABEL", pairs)?;
                self.config.labels.extend(pairs);
            }
            Kind::Cmd(command) => {
                self.config.cmd = self.words(command)?;
                self.cmd = CmdFrom::Stage;
            }
            Kind::Entrypoint(command) => {
                self.config.entrypoint = self.words(command)?;
                if self.cmd == CmdFrom::Base {
                    self.config.cmd = Vec::new();
                }
            }
            Kind::Expose(words) => self.expose(words)?,
            Kind::Health(health) => self.config.health = Some(health.clone()),
            Kind::Maintainer(name) => self.config.author = Some(name.clone()),
            Kind::Shell(words) => self.config.shell.clone_from(words),
            Kind::StopSignal(text) => {
                let signal = self.expanded("STOPSIGNAL", text)?;
                ports::check_signal(&signal)?;
                self.config.stop_signal = Some(signal);
            }
            Kind::User(text) => self.config.user = self.expanded("USER", text)?,
            Kind::Volume(words) => self.volume(words)?,
        }
        Ok(Action::Config)
    }

    /// `text` with variables put in; `what` is for messages.
    pub(super) fn expanded(&mut self, what: &str, text: &str) -> Result<String, String> {
        let escape = self.file.escape;
        let value = expand(text, escape, Quotes::Remove, &self.scope, &mut self.budget)
            .map_err(|error| format!("{what}: {error}"))?;
        if value.len() > WORD_MAX {
            let most = WORD_MAX >> 10;
            return Err(format!("{what}: {} is longer than {most} KiB", quote(&value)));
        }
        Ok(value)
    }

    /// ARG. An argument without a value is not set, but may have one from a stage before.
    fn arg(&mut self, argument: &super::form::Argument) -> Result<(), String> {
        let Self { file, arguments, scope, budget, globals, .. } = self;
        let value = file.argument(argument, arguments, scope, budget)?;
        let value = value.as_deref().or_else(|| match argument.default {
            None => super::expand::Lookup::get(globals, &argument.name),
            Some(_) => None,
        });
        match value {
            Some(value) => scope.arguments.set(&argument.name, value),
            None => Ok(()),
        }
    }

    /// Pairs of ENV or LABEL. All of them see the variables before the instruction.
    fn pairs(&mut self, keyword: &str, pairs: &[Pair]) -> Result<Vec<(String, String)>, String> {
        let mut expanded = Vec::new();
        for Pair { name, value } in pairs {
            let found = self.expanded(keyword, name)?;
            if found.is_empty() || (keyword == "ENV" && found.contains('=')) {
                let name = quote(name);
                return Err(format!("{keyword}: {name} is no name: give one that is not empty"));
            }
            expanded.push((found, self.expanded(keyword, value)?));
        }
        Ok(expanded)
    }

    /// Words of a command; the shell form has the words of the shell before its text.
    pub(super) fn words(&mut self, command: &Command) -> Result<Vec<String>, String> {
        let words = match command {
            Command::Words(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.config.shell.clone();
                if words.is_empty() {
                    words.extend(SHELL.iter().map(|word| (*word).to_owned()));
                }
                words.push(text.clone());
                words
            }
        };
        self.budget.bytes(words.iter().map(String::len).sum())?;
        Ok(words)
    }

    fn expose(&mut self, words: &[String]) -> Result<(), String> {
        for word in words {
            // A variable may have several ports.
            let expanded = self.expanded("EXPOSE", word)?;
            for port in expanded.split_whitespace() {
                for port in ports::ports(port)? {
                    self.budget.bytes(ENTRY_BYTES)?;
                    if self.ports.insert(port.clone()) {
                        self.config.ports.push(port);
                    }
                }
            }
        }
        Ok(())
    }

    fn volume(&mut self, words: &[String]) -> Result<(), String> {
        for word in words {
            let path = self.expanded("VOLUME", word)?;
            if path.is_empty() {
                return Err(format!("VOLUME: the path {} is empty", quote(word)));
            }
            if self.volumes.insert(path.clone()) {
                self.config.volumes.push(path);
            }
        }
        Ok(())
    }

    fn workdir(&mut self, text: &str) -> Result<Action, String> {
        let path = self.expanded("WORKDIR", text)?;
        let path = paths::absolute(&self.config.workdir, &path);
        if path.len() > PATH_MAX {
            return Err(format!("WORKDIR {} is longer than {PATH_MAX} bytes", quote(&path)));
        }
        self.budget.bytes(path.len() + self.config.user.len())?;
        self.config.workdir.clone_from(&path);
        Ok(match &*path {
            "/" => Action::Config,
            _ => Action::Directory { path, user: self.config.user.clone() },
        })
    }
}
