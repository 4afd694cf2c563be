//! Options for reading OCI images: where they come from, as whom, and for which platform. All
//! commands that take an image share them.
//!
//! | Module | Content |
//! |---|---|
//! | [`credentials`] | user and password of `--creds` |
//! | [`progress`] | bars and lines while an image is read |

pub mod credentials;
pub mod progress;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use archive::spool::TooLarge;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use image::source::SIZE_MAX;
use image::source::tar::layer::DirectoryLinks;
use machine::host;
use oci::cache::{Bounds, Cache};
use oci::image::{OpenOptions, Pull};
use oci::name::platform::Platform;
use oci::registry::{Insecure, RegistryOptions, UserPassword};

use self::credentials::GivenCredentials;
use crate::line::sizes::parse_size;

/// Values of `--pull`, and the line of help for each.
#[rustfmt::skip]
const WHEN: &[(&str, Pull, &str)] = &[
    ("always",  Pull::Always,  "for every use; fail if it does not answer"),
    ("newer",   Pull::Newer,   "for every use; if it does not answer, use the kept image"),
    ("missing", Pull::Missing, "if the image is not kept"),
    ("never",   Pull::Never,   "never; fail if the image is not kept"),
];

/// Options of OCI images
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "OCI images")]
pub struct PullArguments {
    /// Platform of the image, such as arm64 or linux/arm/v7 [default: linux on this processor]
    #[arg(long, hide_short_help = true, value_name = "[OS/]ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// When to ask the registry for an image that is kept already [default: missing]
    #[arg(long, hide_short_help = true, value_name = "WHEN", value_parser = parse_when())]
    pull: Option<Pull>,
    /// User and password at the registry
    ///
    /// Without PASSWORD, it is asked for on the terminal, or it is the first line of standard
    /// input. A password on a command line is visible to all users of the host.
    #[arg(long, hide_short_help = true, value_name = "USER[:PASSWORD]")]
    creds: Option<GivenCredentials>,
    /// File with credentials, as podman login and docker login write it [default:
    /// $REGISTRY_AUTH_FILE, or else the files of podman and docker]
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Trust the certificates in FILE (PEM), too; repeatable
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Accept a registry without TLS, or with a certificate that nobody vouches for
    #[arg(long, hide_short_help = true)]
    insecure: bool,
    /// Keep a link to a directory where a higher layer has a directory, and fill its target
    #[arg(long, hide_short_help = true)]
    keep_dirlinks: bool,
    /// Most bytes that may be unpacked or copied, from the layers of an OCI image, from a
    /// compressed archive, or from standard input [default: 64G]
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
}

/// Parser of a value of `--pull`.
fn parse_when() -> impl TypedValueParser<Value = Pull> {
    let values = WHEN.iter().map(|(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).try_map(|word| {
        let found = WHEN.iter().find(|row| row.0 == word);
        found.map(|row| row.1).ok_or("no such value")
    })
}

impl PullArguments {
    /// The option of the platform, which is also that of an image that is written.
    pub const PLATFORM: &'static str = "--platform";

    /// The platform of `--platform`.
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// The same options for this platform; without one, they stay as they are.
    #[must_use]
    pub fn with_platform(mut self, platform: Option<Platform>) -> Self {
        self.platform = platform.or(self.platform);
        self
    }

    /// The same options, but registries are asked even for images that are kept.
    #[must_use]
    pub fn asking(mut self) -> Self {
        self.pull = Some(Pull::Always);
        self
    }

    /// The options that are given, as on the command line.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let rows = [
            (self.platform.is_some(), Self::PLATFORM),
            (self.pull.is_some(), "--pull"),
            (self.creds.is_some(), "--creds"),
            (self.authfile.is_some(), "--authfile"),
            (!self.ca.is_empty(), "--ca"),
            (self.insecure, "--insecure"),
            (self.keep_dirlinks, "--keep-dirlinks"),
        ];
        rows.into_iter().filter_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Whether [`Self::open_options`] reads standard input, for a password.
    #[must_use]
    pub fn reads_stdin(&self) -> bool {
        self.creds.as_ref().is_some_and(GivenCredentials::needs_stdin)
    }

    /// Most bytes that may be unpacked or copied.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.max_size.unwrap_or(SIZE_MAX)
    }

    /// Options for opening images. They are kept in the user's cache directory.
    ///
    /// # Errors
    /// A password that cannot be read; a file of credentials that does not exist; a cache directory
    /// that others can write to.
    pub fn open_options(&self) -> Result<OpenOptions> {
        if let Some(path) = &self.authfile {
            // A file that is only looked up may be missing, but this one was named.
            path.metadata().with_context(|| format!("--authfile {}", path.display()))?;
        }
        let credentials = self.creds.as_ref().map(GivenCredentials::complete).transpose()?;
        Ok(OpenOptions {
            platform: self.platform.clone(),
            pull: self.pull.unwrap_or_default(),
            registry: RegistryOptions {
                credentials: credentials.map(|(user, password)| UserPassword { user, password }),
                auth_file: self.authfile.clone(),
                ca: self.ca.clone(),
                insecure: if self.insecure { Insecure::Permit } else { Insecure::Refuse },
                ..RegistryOptions::default()
            },
            cache: Arc::new(cache()?),
            max_size: self.max_size(),
            links: match self.keep_dirlinks {
                true => DirectoryLinks::Keep,
                false => DirectoryLinks::Replace,
            },
        })
    }
}

/// Names the option that helps in an error about a size.
#[must_use]
pub fn explain_size(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(TooLarge { .. }) => anyhow!("{error:#} (--max-size SIZE sets another limit)"),
        None => error,
    }
}

/// The user's cache of images. Without a cache directory, nothing is kept. Root with the HOME of
/// another user has none (`sudo -E`).
///
/// # Errors
/// A directory of another user, or one that others can write to.
pub fn cache() -> Result<Cache> {
    match host::user_cache() {
        Some(dir) => Cache::below(&dir, Bounds::default()),
        None => {
            log::warn!("images are not kept: set HOME to your own directory, or XDG_CACHE_HOME");
            Ok(Cache::unkept())
        }
    }
}
