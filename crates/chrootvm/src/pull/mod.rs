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

use files::named::Named;
use oci::name::platform::Platform;

use self::credentials::GivenCredentials;
use crate::line::named::named;

/// When a registry is asked for an image that the cache may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// For every use.
    Always,
    /// For every use; without a connection, the cached image serves.
    Newer,
    /// If the cache does not have the image.
    Missing,
    /// At no time.
    Never,
}

impl Named for Pull {
    #[rustfmt::skip]
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("always",  Self::Always,  "ask the registry; without an answer, fail"),
        ("newer",   Self::Newer,   "ask the registry; without an answer, use the cached image"),
        ("missing", Self::Missing, "ask the registry only if the image is not in the cache"),
        ("never",   Self::Never,   "use the cached image or fail"),
    ];
}

/// Options of OCI images
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "OCI images")]
pub struct PullArguments {
    /// Platform of the image, such as arm64 or linux/arm/v7 [default: linux on this processor]
    #[arg(long, hide_short_help = true, value_name = "[OS/]ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// When to ask the registry for an image [default: newer]
    #[arg(long, hide_short_help = true, value_name = "WHEN", value_parser = named::<Pull>())]
    pull: Option<Pull>,
    /// User and password at the registry
    ///
    /// Without PASSWORD, it is asked for on the terminal, or it is the first line of standard
    /// input. A password on a command line is visible to all users of the host.
    #[arg(long, hide_short_help = true, value_name = "USER[:PASSWORD]")]
    creds: Option<GivenCredentials>,
    /// File with credentials of registries, as podman login and docker login write it [default:
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
}
