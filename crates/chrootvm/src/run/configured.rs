//! Configuration files for `chrootvm ROOTFS`: which settings apply to this command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{Args, Command};
use files::tell;
use machine::doctor::report::{Finding, Status};

use super::arguments::RunArguments;
use crate::config::merge::Settings;
use crate::config::read;
use crate::logger;

impl RunArguments {
    /// Settings of configuration files that apply to these arguments, which have been parsed
    /// from `words`.
    ///
    /// # Errors
    /// A configuration file cannot be read, or has a mistake.
    pub fn settings(&self, words: &[OsString]) -> Result<Settings> {
        logger::set_verbosity(self.diagnostics.verbosity());
        if self.no_config || read::is_off() {
            return Ok(Settings::default());
        }
        let command = Self::augment_args(Command::new("chrootvm"));
        let given = given(command.clone(), words);
        read::settings(&given, self.rootfs.as_deref(), &|words| check(command.clone(), words))
    }
}

/// Names of the arguments that `words` give.
fn given(command: Command, words: &[OsString]) -> Vec<String> {
    // The words have been parsed before, without an error.
    let Ok(matches) = command.try_get_matches_from(words) else { return Vec::new() };
    let is_given = |id: &&clap::Id| {
        matches.try_contains_id(id.as_str()).is_ok()
            && matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
    };
    matches.ids().filter(is_given).map(ToString::to_string).collect()
}

/// Parses `words` of a setting as options of the command line.
fn check(command: Command, words: &[OsString]) -> Result<(), String> {
    let line = ["chrootvm".into(), "/".into()].into_iter().chain(words.iter().cloned());
    command.try_get_matches_from(line).map(drop).map_err(|error| reason(&error.to_string()))
}

/// The reason in an `error` of clap, which goes on with advice for the command line.
fn reason(error: &str) -> String {
    let lines = error.trim_start_matches("error: ").lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("For more information"));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The `settings` and `others` as comments for a shell, before the commands in `script`.
pub(super) fn commented(
    settings: &Settings,
    others: impl IntoIterator<Item = String>,
    script: &OsStr,
) -> OsString {
    // A line break in a value would end the comment.
    let comment = |line: String| format!("# {}\n", tell::show(line.as_bytes()));
    let settings = settings.lines().into_iter().map(|line| format!("config: {line}"));
    let mut text: Vec<u8> =
        settings.chain(others).flat_map(|line| comment(line).into_bytes()).collect();
    text.extend_from_slice(script.as_bytes());
    OsString::from_vec(text)
}

/// The `settings` as lines of the report of `--doctor`.
pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let finding = |text| Finding { status: Status::Ok, subject: "config", text };
    settings.lines().into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    fn command() -> Command {
        RunArguments::augment_args(Command::new("chrootvm"))
    }

    /// Without a default, an argument occurs in `given` only if a user has given it.
    #[test]
    fn keys_name_arguments_and_options() {
        let command = command();
        let argument = |id: &str| command.get_arguments().find(|argument| argument.get_id() == id);
        for key in KEYS {
            let found = argument(key.name).unwrap_or_else(|| panic!("{}", key.name));
            assert_eq!(found.get_long(), Some(key.option), "{}", key.name);
            for id in key.yields_to {
                assert!(argument(id).is_some(), "{}: {id}", key.name);
            }
        }
    }

    #[test]
    fn only_typed_arguments_are_given() {
        let words = ["chrootvm", "--rw", "-v", "/a:/b", "/", "--", "ls"].map(OsString::from);
        let mut given = given(command(), &words);
        // clap also names the groups of arguments, which begin with a capital.
        given.retain(|name| name.starts_with(char::is_lowercase));
        given.sort();
        assert_eq!(given, ["rootfs", "rw", "volumes", "words"]);
    }

    #[test]
    fn settings_have_the_limits_of_options() {
        for (word, expected) in [
            ("--memory=4G", Ok(())),
            ("--memory=much", Err("invalid value 'much' for '--memory <SIZE>'")),
            ("--cpus=0", Err("invalid value '0' for '--cpus <N>': 0 is not in 1..=1024")),
            ("--net=x", Err("invalid value 'x' for '--net <NET>' [possible values: none, user]")),
        ] {
            let found = check(command(), &[word.into()]);
            match (&found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) => assert!(error.starts_with(part), "{word}: {error}"),
                _ => panic!("{word}: {found:?}"),
            }
        }
    }
}
