//! Keys of `[run]` and `[machine]`.

use crate::table::Form::{Map, Number, Table as One, Tables, Text, Texts, Words};
use crate::table::Need::{May, Must, Verb};
use crate::table::{Key, Table, rule};

/// Keys of `[run]`.
#[rustfmt::skip]
pub(super) const RUN: Table = Table { name: "[run]", example: "[run]", keys: &[
    Key { name: "command",     need: May, form: Words,                          about: "Program and its arguments" },
    Key { name: "args",        need: May, form: Texts(rule::ANY),               about: "Arguments after the command, or after that of the base" },
    Key { name: "env",         need: May, form: Map(rule::VARIABLE, rule::ANY), about: "Variables" },
    Key { name: "user",        need: May, form: Text(rule::OWNER),              about: "USER or USER:GROUP, names of the image or numbers" },
    Key { name: "workdir",     need: May, form: Text(rule::GUEST_PATH),         about: "Working directory" },
    Key { name: "stop-signal", need: May, form: Text(rule::SIGNAL),             about: "Signal that ends the workload: a name or a number" },
    Key { name: "stop-timeout", need: May, form: Text(rule::DURATION),          about: "Time for the workload to end after that signal" },
    Key { name: "volumes",     need: May, form: Texts(rule::GUEST_PATH),        about: "Directories for data" },
    Key { name: "before",      need: May, form: Tables(&BEFORE),                about: "Commands that run before the workload, one after the other" },
    Key { name: "restart",     need: May, form: One(&RESTART),                  about: "When the workload is started again" },
    Key { name: "health",      need: May, form: One(&HEALTH),                   about: "Health check" },
    Key { name: "expose",      need: May, form: Texts(rule::PORT),              about: "Ports of the workload, such as 8080/tcp" },
    Key { name: "labels",      need: May, form: Map(rule::LINE, rule::ANY),     about: "Labels of the image" },
] };

/// Keys of `restart`.
#[rustfmt::skip]
const RESTART: Table = Table { name: "restart", example: "restart = { policy = \"on-failure\" }", keys: &[
    Key { name: "policy",  need: Must, form: Text(rule::RESTART),  about: "no, on-failure or always" },
    Key { name: "max",     need: May,  form: Number(1, u32::MAX),  about: "Most starts after the first one" },
    Key { name: "backoff", need: May,  form: Text(rule::BACKOFF),  about: "First and longest pause before it is started again" },
] };

/// Keys of one of `before`.
#[rustfmt::skip]
const BEFORE: Table = Table { name: "before", example: "before = [{ run = \"mkdir -p /run/app\" }]", keys: &[
    Key { name: "run",  need: Verb, form: Text(rule::SCRIPT), about: "Text for sh -c" },
    Key { name: "argv", need: Verb, form: Words,              about: "Program and its arguments" },
] };

/// Keys of `health`.
#[rustfmt::skip]
const HEALTH: Table = Table { name: "health", example: "health = { run = \"curl -fs localhost\" }", keys: &[
    Key { name: "run",            need: Verb, form: Text(rule::SCRIPT),    about: "Text for sh -c" },
    Key { name: "argv",           need: Verb, form: Words,                 about: "Program and its arguments" },
    Key { name: "interval",       need: May,  form: Text(rule::DURATION),  about: "Time between two checks" },
    Key { name: "timeout",        need: May,  form: Text(rule::DURATION),  about: "Time limit of one check" },
    Key { name: "start-period",   need: May,  form: Text(rule::DURATION),  about: "Time after the start in which failures do not count" },
    Key { name: "start-interval", need: May,  form: Text(rule::DURATION),  about: "Time between two checks in the start period" },
    Key { name: "retries",        need: May,  form: Number(1, u32::MAX),   about: "Failures in a row that make the workload unhealthy" },
    Key { name: "on-failure",     need: May,  form: Text(rule::UNHEALTHY), about: "What happens to an unhealthy workload: none, restart or poweroff" },
] };

/// Keys of `[machine]`.
#[rustfmt::skip]
pub(super) const MACHINE: Table = Table { name: "[machine]", example: "[machine]", keys: &[
    Key { name: "cpus",    need: May, form: Number(1, u32::MAX),  about: "Number of processors" },
    Key { name: "memory",  need: May, form: Text(rule::MEMORY),   about: "Memory; without a suffix in MiB" },
    Key { name: "network", need: May, form: Text(rule::NETWORK),  about: "Network: none or user" },
    Key { name: "publish", need: May, form: Texts(rule::PUBLISH), about: "Ports of the host, as HOST:GUEST, ADDRESS:HOST:GUEST, with /udp for UDP" },
] };
