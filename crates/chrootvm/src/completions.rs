//! `chrootvm completions`: scripts with which a shell completes words of our command lines.
//!
//! clap_complete makes them from the arguments that clap knows, so they cannot name an option
//! that does not exist. `make build` writes them, `make install` installs them.

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::{Shell, generate};
use files::named::Named;
use files::tell;

use crate::line::named::named;
use crate::mkvirtinitrd::MkVirtInitrd;

/// Print a script with which a shell completes options and names of files
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm completions SHELL [PROGRAM]",
    before_help = "Examples:\n  \
                   chrootvm completions bash > ~/.local/share/bash-completion/completions/chrootvm\n  \
                   chrootvm completions fish > ~/.config/fish/completions/chrootvm.fish"
)]
pub struct Completions {
    /// Shell that reads the script
    #[arg(value_parser = named::<ShellName>())]
    shell: ShellName,
    /// Program whose words are completed
    #[arg(value_parser = named::<Program>(), default_value = Program::default().name())]
    program: Program,
}

/// A shell that is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShellName(Shell);

impl Named for ShellName {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("bash", Self(Shell::Bash), ""),
        ("zsh", Self(Shell::Zsh), ""),
        ("fish", Self(Shell::Fish), ""),
    ];
}

/// A program of this project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Program {
    #[default]
    Chrootvm,
    Mkvirtinitrd,
}

impl Named for Program {
    const NAMES: &'static [(&'static str, Self, &'static str)] =
        &[("chrootvm", Self::Chrootvm, ""), ("mkvirtinitrd", Self::Mkvirtinitrd, "")];
}

impl Completions {
    /// Prints the script. `chrootvm` has all subcommands.
    pub fn run(self, chrootvm: Command) -> Result<()> {
        let name = self.program.name();
        let mut command = match self.program {
            Program::Chrootvm => chrootvm,
            Program::Mkvirtinitrd => {
                MkVirtInitrd::augment_args(Command::new(name).version(env!("CARGO_PKG_VERSION")))
            }
        };
        command = visible(&command);
        let mut script = Vec::new();
        generate(self.shell.0, &mut command, name, &mut script);
        tell::result(String::from_utf8_lossy(&script))
    }
}

/// `command` with the arguments that `--help` shows. clap_complete would also complete hidden
/// ones.
fn visible(command: &Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    let version = command.get_version().map(str::to_owned);
    let mut result = Command::new(command.get_name().to_owned()).about(about).args(shown);
    if let Some(version) = version {
        result = result.version(version);
    }
    result.disable_help_subcommand(true).subcommands(command.get_subcommands().map(visible))
}
