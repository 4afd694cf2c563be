//! Whether a run starts from a saved machine (`--warm`), and from which one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use machine::kernel::bootable::Bootable;
use machine::plan::architecture::Architecture;
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

/// Oldest kernel that draws new random numbers when it is told to (random(4)).
const OLDEST: (u32, u32) = (4, 14);

/// Decides for these `arguments`, this `root`, the kernel with these `modules` and a machine of
/// this `architecture`.
///
/// # Errors
/// `--warm always` is given, and the run cannot start from a saved machine.
pub(super) fn decide(
    arguments: &RunArguments,
    root: &Root,
    modules: Option<&Path>,
    architecture: &Architecture,
) -> Result<Warmth> {
    // The commands of a boot work everywhere.
    if arguments.dry_run {
        return Ok(Warmth::Cold);
    }
    match (arguments.machine.warm, obstacle(arguments, root, modules, architecture)) {
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
pub(super) fn comment(
    arguments: &RunArguments,
    root: &Root,
    modules: Option<&Path>,
    architecture: &Architecture,
) -> Option<String> {
    let can_be = obstacle(arguments, root, modules, architecture).is_none();
    (can_be && arguments.machine.warm != WarmWhen::Never)
        .then(|| "chrootvm would start this from a saved machine (--warm).".to_owned())
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
fn obstacle(
    arguments: &RunArguments,
    root: &Root,
    modules: Option<&Path>,
    architecture: &Architecture,
) -> Option<&'static str> {
    let RunArguments { machine, diagnostics, .. } = arguments;
    let obstacles = [
        (!arguments.is_hosted(), "only a machine with a COMMAND waits for orders"),
        (machine.initrd.is_some(), "the /init of --initrd may not know orders"),
        (!machine.qemu_arguments.is_empty(), "--qemu-arg may add what cannot be saved"),
        (diagnostics.keep, "--keep saves the commands of a boot"),
        (diagnostics.details.debug, "--debug shows a boot"),
        (root.archive().is_some(), "the root is unpacked into memory while the machine boots"),
        (modules.is_some_and(is_too_old), "its kernel is older than 4.14"),
        (
            !architecture.has_root_ports,
            "chrootvm plugs devices into root ports of PCI Express, which its machine lacks",
        ),
    ];
    obstacles.into_iter().find_map(|(is_there, why)| is_there.then_some(why))
}

/// Whether the kernel with the directory `modules`, which has its release as its name, is older
/// than [`OLDEST`]. Without such a name it is not.
fn is_too_old(modules: &Path) -> bool {
    let name = modules.file_name().unwrap_or_default().to_string_lossy();
    let mut numbers = name.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) < OLDEST)
}

#[cfg(test)]
mod tests {
    use super::super::arguments::SingleWord;
    use super::super::arguments::tests::arguments;
    use super::*;
    use machine::plan::architecture;

    #[test]
    fn only_runs_that_gain_by_it_start_from_a_saved_machine() {
        let x86 = architecture::named("x86_64").unwrap();
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
            match (decide(&arguments, &root, None, x86), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{words:?}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{words:?}: {error}");
                }
                (found, _) => panic!("{words:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn machines_without_root_ports_boot() {
        let dir = tempfile::tempdir().unwrap();
        let words = [dir.path().to_str().unwrap(), "--", "true"];
        let arguments = arguments(&words, SingleWord::Init).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (arch, expected) in [("aarch64", Warmth::Warm), ("s390x", Warmth::Cold)] {
            let architecture = architecture::named(arch).unwrap();
            assert_eq!(decide(&arguments, &root, None, architecture).unwrap(), expected, "{arch}");
        }
    }

    #[test]
    fn old_kernels_boot() {
        for (modules, expected) in [
            ("/lib/modules/3.10.0-1160.el7.x86_64", true),
            ("/lib/modules/4.9.0-19-amd64", true),
            ("/lib/modules/4.14.0", false),
            ("/lib/modules/6.1.0-56-cloud-amd64", false),
            ("/lib/modules/10.0", false),
            ("/lib/modules", false),
            ("/srv/4", false),
            ("/", false),
        ] {
            assert_eq!(is_too_old(Path::new(modules)), expected, "{modules}");
        }
    }

    #[test]
    fn dry_run_says_that_a_run_would_be_warm() {
        let x86 = architecture::named("x86_64").unwrap();
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
            assert_eq!(decide(&arguments, &root, None, x86).unwrap(), Warmth::Cold, "{options:?}");
            assert_eq!(comment(&arguments, &root, None, x86).is_some(), expected, "{options:?}");
        }
    }
}
