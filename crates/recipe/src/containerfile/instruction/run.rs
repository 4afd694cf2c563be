//! RUN.

use super::{Parts, simple};
use crate::Network;
use crate::containerfile::documents::of_word;
use crate::containerfile::flags::{Flag, Takes};
use crate::containerfile::form::{Command, RunCommand, RunForm};
use crate::containerfile::model::Kind;
use crate::containerfile::mounts;
use crate::containerfile::text::with_documents;
use crate::table::quote;

/// Flags of RUN.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "mount",    takes: Takes::Values },
    Flag { name: "network",  takes: Takes::Value },
    Flag { name: "security", takes: Takes::Refused("all commands run in a machine of their own; remove the flag") },
    Flag { name: "device",   takes: Takes::Refused("the machine of a build has no devices of the host") },
];

/// Networks by the value of `--network`.
const NETWORKS: &[(&str, Network)] = &[("default", Network::User), ("none", Network::None)];

/// Reads RUN.
pub(super) fn run(parts: &Parts<'_>) -> Result<Kind, String> {
    let network = parts.flags.value("network").map(network).transpose()?;
    let mounts = parts.flags.values("mount").map(mounts::fields).collect::<Result<_, _>>()?;
    let command = simple::command(parts.keyword, parts.needed("RUN COMMAND")?)?;
    let command = match (command, &*parts.line.documents) {
        (Command::Words(words), _) if words.is_empty() => {
            return Err("RUN has no words: write RUN COMMAND".to_owned());
        }
        (Command::Shell(text), [only]) if of_word(&text).is_some() => {
            RunCommand::Document(only.clone())
        }
        (Command::Shell(text), documents) => {
            RunCommand::Command(Command::Shell(with_documents(&text, documents)))
        }
        (words, _) => RunCommand::Command(words),
    };
    Ok(Kind::Run(Box::new(RunForm { command, network, mounts })))
}

/// Network that a value of `--network` means.
fn network(value: &str) -> Result<Network, String> {
    if value == "host" {
        return Err("RUN --network=host is not supported: the command runs in a machine; \
                    leave the flag out for a network"
            .to_owned());
    }
    let found = NETWORKS.iter().find(|(name, _)| *name == value);
    let unknown = || format!("RUN --network={} is not known: give default or none", quote(value));
    found.map(|(_, network)| *network).ok_or_else(unknown)
}
