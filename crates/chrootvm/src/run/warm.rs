//! Whether a run starts from a saved machine (`--warm`).

use anyhow::{Result, bail};
use files::named::Named;
use machine::root::kinds::Root;

use super::arguments::RunArguments;

/// Value of `--warm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WarmWhen {
    /// Boot.
    #[default]
    Never,
    /// Start from a saved machine, if this run can.
    Auto,
    /// Start from a saved machine.
    Always,
}

#[rustfmt::skip]
impl Named for WarmWhen {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("never", Self::Never, "boot"),
        ("auto", Self::Auto, "start from a saved machine if possible, else boot"),
        ("always", Self::Always, "start from a saved machine; fail where that is impossible"),
    ];
}

/// The decision about one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warmth {
    /// The machine boots with everything of its run.
    Cold,
    /// The machine waits for orders; it may come from a template, or become one.
    Warm,
}

/// Decides for these `arguments` and this `root`.
///
/// # Errors
/// `--warm always` is given, and the run cannot start from a saved machine.
pub(super) fn decide(arguments: &RunArguments, root: &Root) -> Result<Warmth> {
    // The commands of a boot work everywhere.
    if arguments.dry_run {
        return Ok(Warmth::Cold);
    }
    match (arguments.machine.warm, obstacle(arguments, root)) {
        (WarmWhen::Never, _) => Ok(Warmth::Cold),
        (_, None) => Ok(Warmth::Warm),
        (WarmWhen::Auto, Some(why)) => {
            log::debug!("this run boots, because {why}");
            Ok(Warmth::Cold)
        }
        (WarmWhen::Always, Some(why)) => bail!("--warm always: {why}; leave it out to boot"),
    }
}

/// Why this run cannot start from a saved machine, or would gain nothing.
fn obstacle(arguments: &RunArguments, root: &Root) -> Option<&'static str> {
    let RunArguments { machine, diagnostics, command, .. } = arguments;
    let obstacles = [
        (command.is_empty(), "only a machine with a COMMAND waits for orders"),
        (machine.initrd.is_some(), "the /init of --initrd may not know orders"),
        (!machine.qemu_arguments.is_empty(), "--qemu-arg may add what cannot be saved"),
        (diagnostics.keep, "--keep saves the commands of a boot"),
        (diagnostics.details.debug, "--debug shows a boot"),
        (root.archive().is_some(), "the root is unpacked into memory while the machine boots"),
    ];
    obstacles.into_iter().find_map(|(is_there, why)| is_there.then_some(why))
}

#[cfg(test)]
mod tests {
    use super::super::arguments::SingleWord;
    use super::super::arguments::tests::arguments;
    use super::*;

    #[test]
    fn only_runs_that_gain_by_it_start_from_a_saved_machine() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().to_str().unwrap();
        for (words, expected) in [
            (&["X", "--", "true"][..], Ok(Warmth::Cold)),
            (&["--warm=auto", "X", "--", "true"], Ok(Warmth::Warm)),
            (&["--warm=always", "X", "--", "true"], Ok(Warmth::Warm)),
            (&["--warm=auto", "X", "init"], Ok(Warmth::Cold)),
            (&["--warm=always", "X", "init"], Err("--warm always: only a machine with a COMMAND")),
            (&["--warm=auto", "--qemu-arg=-s", "X", "--", "true"], Ok(Warmth::Cold)),
            (&["--warm=always", "--qemu-arg=-s", "X", "--", "true"], Err("--qemu-arg")),
            (&["--warm=always", "--keep", "X", "--", "true"], Err("--keep")),
            (&["--warm=always", "--debug", "X", "--", "true"], Err("--debug")),
            (&["--warm=always", "--initrd=/i", "X", "--", "true"], Err("--initrd")),
        ] {
            let words: Vec<_> =
                words.iter().map(|&word| if word == "X" { rootfs } else { word }).collect();
            let arguments = arguments(&words, SingleWord::Init).unwrap();
            let root = Root::open(dir.path()).unwrap();
            match (decide(&arguments, &root), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{words:?}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{words:?}: {error}");
                }
                (found, _) => panic!("{words:?}: {found:?}"),
            }
        }
    }
}
