//! What differs between recipes and Containerfiles: where the settings of a build stand.

/// The kind of file that says how an image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Front {
    /// recipe.toml, whose `[build]` has the settings.
    Recipe,
    /// Containerfile, whose settings are options of the command line.
    Containerfile,
}

/// Hints how to change a setting, for messages.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Hints {
    /// A step had no network.
    pub(in crate::image_command::recipe) network: &'static str,
    /// The disk of the build is full.
    pub(in crate::image_command::recipe) disk: &'static str,
    /// The memory of the machine was full.
    pub(in crate::image_command::recipe) memory: &'static str,
    /// The time limit of a step has passed.
    pub(in crate::image_command::recipe) timeout: &'static str,
    /// A secret is missing.
    pub(in crate::image_command::recipe) secret: &'static str,
}

const RECIPE: Hints = Hints {
    network: "network = \"user\" gives it one",
    disk: "[build] disk sets its size",
    memory: "[build] memory sets its size",
    timeout: "timeout sets the limit",
    secret: "[build] does not have it",
};

const CONTAINERFILE: Hints = Hints {
    network: "RUN --network=none and --network none take it away",
    disk: "--disk sets its size",
    memory: "--memory sets its size",
    timeout: "--timeout sets the limit",
    secret: "give it as --secret id=NAME,src=FILE",
};

impl Front {
    /// The hints for this kind of file.
    pub(in crate::image_command::recipe) fn hints(self) -> &'static Hints {
        match self {
            Self::Recipe => &RECIPE,
            Self::Containerfile => &CONTAINERFILE,
        }
    }
}
