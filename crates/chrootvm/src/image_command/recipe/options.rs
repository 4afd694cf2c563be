//! Options of `chrootvm image build` that only recipes have.

use std::ffi::OsString;
use std::path::PathBuf;

/// Heading of the options that Containerfiles have, too.
const SHARED: &str = "Recipes and Containerfiles";

/// How a recipe is built
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recipes")]
pub(in crate::image_command) struct RecipeOptions {
    #[command(flatten)]
    pub(super) shown: Shown,
    /// Run all steps, even those whose layers are kept
    #[arg(long, hide_short_help = true, help_heading = SHARED)]
    pub(super) no_cache: bool,
    /// Run step N and all steps after it, even if their layers are kept
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) from_step: Option<u32>,
    /// Use only what recipe.lock names, and fail if it lacks something
    #[arg(long, hide_short_help = true, conflicts_with = "update")]
    pub(super) locked: bool,
    /// Ask registries again, for the image NAME or for all, and change recipe.lock
    #[arg(long, hide_short_help = true, value_name = "NAME", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    pub(super) update: Option<Option<String>>,
    /// Run a shell in the place of a step that fails, before the machine ends
    #[arg(long, hide_short_help = true, help_heading = SHARED)]
    pub(super) shell_on_error: bool,
    /// Kernel of the machine in which steps run [default: as for chrootvm]
    #[arg(long, hide_short_help = true, help_heading = SHARED, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Directory with the modules of that kernel
    #[arg(long, hide_short_help = true, help_heading = SHARED, value_name = "DIR")]
    modules: Option<PathBuf>,
}

/// What a build tells, in place of or besides its outputs
#[derive(Debug, clap::Args)]
pub(in crate::image_command) struct Shown {
    /// Print the steps, and which of them would run; build nothing
    #[arg(long, hide_short_help = true, help_heading = SHARED, conflicts_with = "explain")]
    pub(super) dry_run: bool,
    /// Say of every step why it runs
    #[arg(long, hide_short_help = true, help_heading = SHARED)]
    pub(super) explain: bool,
    /// Build twice, with another time of day, and compare the outputs
    #[arg(long, hide_short_help = true, conflicts_with_all = ["dry_run", "shell_on_error"])]
    pub(super) check: bool,
}

impl RecipeOptions {
    /// The options of the machine, as words of `chrootvm run`.
    pub(in crate::image_command) fn machine_words(&self) -> Vec<OsString> {
        let rows = [("--kernel", &self.kernel), ("--modules", &self.modules)];
        let given = rows.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
        given.flat_map(|(name, path)| [name.into(), path.clone().into_os_string()]).collect()
    }

    /// The first option that is given and that Containerfiles do not have, for a message.
    pub(in crate::image_command) fn first_of_recipes(&self) -> Option<&'static str> {
        let rows = [
            (self.shown.check, "--check"),
            (self.from_step.is_some(), "--from-step"),
            (self.locked, "--locked"),
            (self.update.is_some(), "--update"),
        ];
        rows.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Whether the steps are only shown.
    pub(in crate::image_command) fn is_dry_run(&self) -> bool {
        self.shown.dry_run
    }

    /// Whether all steps run, even those whose layers are kept.
    pub(in crate::image_command) fn is_without_cache(&self) -> bool {
        self.no_cache
    }

    /// The first option that is given, for a message.
    pub(in crate::image_command) fn first_given(&self) -> Option<&'static str> {
        let rows = [
            (self.shown.dry_run, "--dry-run"),
            (self.shown.explain, "--explain"),
            (self.no_cache, "--no-cache"),
            (self.from_step.is_some(), "--from-step"),
            (self.locked, "--locked"),
            (self.update.is_some(), "--update"),
            (self.shell_on_error, "--shell-on-error"),
            (self.shown.check, "--check"),
            (self.kernel.is_some(), "--kernel"),
            (self.modules.is_some(), "--modules"),
        ];
        rows.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}
