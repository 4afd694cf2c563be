//! Keys of a `[[step]]`.

use crate::table::Form::{Map, SomeTexts, Text, Texts, Truth, Words};
use crate::table::Need::{May, MustWith, Verb, With};
use crate::table::{Key, Table, rule};

/// Verbs that run a program.
const COMMANDS: &[&str] = &["run", "argv", "script"];

/// Verbs that put files.
const PUTS: &[&str] = &["put", "text", "url"];

/// Keys of a step.
#[rustfmt::skip]
pub(super) const STEP: Table = Table { name: "a step", example: "[[step]]", keys: &[
    Key { name: "run",    need: Verb, form: Text(rule::SCRIPT),         about: "Text for sh -eu -c" },
    Key { name: "argv",   need: Verb, form: Words,                      about: "Program and its arguments" },
    Key { name: "script", need: Verb, form: Text(rule::PACKAGE_PATH),   about: "File of the package to run as a program" },
    Key { name: "put",    need: Verb, form: Text(rule::PACKAGE_PATH),   about: "File, directory (its contents) or glob of the package to put into the image" },
    Key { name: "text",   need: Verb, form: Text(rule::ANY),            about: "Contents of a file to put into the image" },
    Key { name: "url",    need: Verb, form: Text(rule::URL),            about: "File to download and put into the image" },
    Key { name: "link",   need: Verb, form: Text(rule::LINE),           about: "Text of a symbolic link to make" },
    Key { name: "mkdir",  need: Verb, form: Text(rule::GUEST_PATH),     about: "Directory to make, with those above it" },
    Key { name: "remove", need: Verb, form: SomeTexts(rule::REMOVAL),   about: "Patterns of what to remove; a pattern after ! keeps, the last match wins" },
    Key { name: "label",  need: May,  form: Text(rule::LINE),           about: "Text to show for the step" },
    Key { name: "to",     need: MustWith(&["put", "text", "url", "link"]), form: Text(rule::GUEST_PATH), about: "Path in the image; a directory if it ends in /" },
    Key { name: "sha256", need: MustWith(&["url"]), form: Text(rule::SHA256), about: "SHA-256 of the download" },
    Key { name: "owner",  need: With(&["put", "text", "url", "link", "mkdir"]), form: Text(rule::OWNER), about: "USER or USER:GROUP, names of the image or numbers; 0:0 by default" },
    Key { name: "mode",   need: With(&["put", "text", "url", "mkdir"]), form: Text(rule::MODE), about: "Permission bits in octal, or auto (default): by the execute bits and the directory" },
    Key { name: "mount",  need: With(PUTS), form: Truth,                about: "Only in the machine of the build, not in the image; false by default" },
    Key { name: "network", need: With(COMMANDS), form: Text(rule::NETWORK),  about: "Network of the step: none or user" },
    Key { name: "user",    need: With(COMMANDS), form: Text(rule::OWNER),    about: "USER or USER:GROUP, names of the image or numbers; root by default" },
    Key { name: "workdir", need: With(COMMANDS), form: Text(rule::GUEST_PATH), about: "Working directory; / by default" },
    Key { name: "env",     need: With(COMMANDS), form: Map(rule::VARIABLE, rule::ANY), about: "Variables that are added to those of [build]" },
    Key { name: "secrets", need: With(COMMANDS), form: Texts(rule::SECRET),  about: "Names of secrets of [build]; files at /run/secrets/NAME" },
    Key { name: "inputs",  need: With(COMMANDS), form: Texts(rule::PACKAGE_PATH), about: "Files and directories of the package, seen at /run/inputs/NAME" },
    Key { name: "timeout", need: With(COMMANDS), form: Text(rule::DURATION), about: "Time limit of the step" },
] };
