//! Whether a run starts from a saved machine (`--warm`), and from which one.

use anyhow::{Context, Result, bail};
use machine::kernel::bootable::Bootable;
use machine::plan::machine_plan::{MachinePlan, MachineStart};
use machine::root::kinds::Root;
use machine::template::TemplateUse;
use machine::template::key::TemplateKey;
use machine::template::store::TemplateStore;

use super::arguments::RunArguments;
use super::machine_options::WarmWhen;

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

/// Comment of `--dry-run`, which always prints a boot, about a run that would be warm.
pub(super) fn comment(arguments: &RunArguments, root: &Root) -> Option<String> {
    let is_warm = arguments.machine.warm != WarmWhen::Never && obstacle(arguments, root).is_none();
    is_warm.then(|| "chrootvm would start this from a saved machine (--warm).".to_owned())
}

/// The template of the machine of `plan`; `None` if the machine boots, or cannot be saved.
///
/// # Errors
/// The machine cannot be saved, although `when` says always.
pub(super) fn template(
    when: WarmWhen,
    plan: &MachinePlan,
    kernel: &Bootable,
    initrd: &[u8],
) -> Result<Option<TemplateUse>> {
    let MachineStart::Orders { .. } = plan.start else { return Ok(None) };
    let is_required = when == WarmWhen::Always;
    let store = TemplateStore::of_user().context("no cache directory that can be used");
    let found = store.and_then(|store| {
        let key = TemplateKey::of(plan, kernel, initrd)?;
        Ok(TemplateUse { store, key, is_required })
    });
    match found {
        Err(error) if is_required => Err(error.context("--warm always")),
        Err(error) => {
            log::debug!("the machine cannot be saved for later runs: {error:#}");
            Ok(None)
        }
        Ok(found) => Ok(Some(found)),
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
            (&["X", "--", "true"][..], Ok(Warmth::Warm)),
            (&["--warm=never", "X", "--", "true"], Ok(Warmth::Cold)),
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

    #[test]
    fn dry_run_says_that_a_run_would_be_warm() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().to_str().unwrap();
        for (options, expected) in [
            (&["--warm=auto"][..], true),
            (&["--warm=always"], true),
            (&[], true),
            (&["--warm=never"], false),
            (&["--warm=auto", "--qemu-arg=-s"], false),
        ] {
            let words = [&["--dry-run"], options, &[rootfs, "--", "true"]].concat();
            let arguments = arguments(&words, SingleWord::Init).unwrap();
            let root = Root::open(dir.path()).unwrap();
            assert_eq!(decide(&arguments, &root).unwrap(), Warmth::Cold, "{options:?}");
            assert_eq!(comment(&arguments, &root).is_some(), expected, "{options:?}");
        }
    }
}
