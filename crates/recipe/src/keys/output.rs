//! Keys of an `[[output]]`.

use crate::table::Form::{Text, Texts, Truth};
use crate::table::Need::{May, Must};
use crate::table::{Key, Table, rule};

/// Keys of an output.
#[rustfmt::skip]
pub(super) const OUTPUT: Table = Table { name: "an output", example: "[[output]]", keys: &[
    Key { name: "file",         need: Must, form: Text(rule::HOST_PATH),   about: "Path of the file; no two outputs share it" },
    Key { name: "format",       need: May,  form: Text(rule::LINE),        about: "Name of the format; by default the ending of the file says it" },
    Key { name: "init",         need: May,  form: Truth,                   about: "Whether the file contains PID 1; by default as [init] says" },
    Key { name: "include",      need: May,  form: Texts(rule::GUEST_PATH), about: "Only these paths, what is below and what is above them" },
    Key { name: "exclude",      need: May,  form: Texts(rule::LINE),       about: "Patterns of names to leave out" },
    Key { name: "compress",     need: May,  form: Text(rule::LINE),        about: "Compression, as METHOD or METHOD:LEVEL" },
    Key { name: "size",         need: May,  form: Text(rule::SIZE),        about: "Size of the file" },
    Key { name: "slack",        need: May,  form: Text(rule::PERCENT),     about: "Free space; not together with size" },
    Key { name: "label",        need: May,  form: Text(rule::LINE),        about: "Label of the file system" },
    Key { name: "uuid",         need: May,  form: Text(rule::LINE),        about: "UUID of the file system" },
    Key { name: "cluster-size", need: May,  form: Text(rule::SIZE),        about: "Size of the units that are compressed" },
    Key { name: "mkfs-args",    need: May,  form: Texts(rule::ANY),        about: "Arguments for the tool that makes the file system" },
] };
