//! Shape of `-h` and `--help`, the same for all commands.
//!
//! `-h` is one screen of [`SCREEN`] with examples first, `--help` has everything. The examples
//! of a command are its `before_help`.

use clap::Command;

/// Lines and columns of a terminal that shows all of `-h`: those of the VT100.
pub const SCREEN: (usize, usize) = (24, 80);

/// Order of the parts: the examples stand between the description and the usage lines.
const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Sets the shape of the help of `command` and of its subcommands.
#[must_use]
pub fn shaped(command: Command) -> Command {
    let command = command.help_template(TEMPLATE).max_term_width(SCREEN.1);
    command.mut_subcommands(shaped)
}
