//! `cargo xtask deb`, `rpm` and `packages`: packages of distributions, and their test.
//!
//! The tools of the distributions do the work: debhelper with the files in `packaging/debian`, and
//! rpmbuild with `packaging/rpm/virtinitrd.spec`. Both call `make install`. This module gives them
//! the version of the workspace, the time of the source, and a changelog made of both.
//!
//! | Module | Content |
//! |---|---|
//! | `build` | making the packages of a tree |
//! | `steps` | what is tested in a fresh system: shell, one step a row |
//! | `system` | the fresh system: layers of Debian in a mount namespace |
//! | `trial` | `cargo xtask packages`: the test, and its table |

mod build;
mod steps;
mod system;
mod trial;

use std::path::PathBuf;

use anyhow::Result;
use files::tell;

use self::build::{Content, Kind};
pub use self::trial::Packages;
use crate::workspace;

/// Make target/packages/virtinitrd_VERSION-1_amd64.deb of what is built
#[derive(Debug, clap::Args)]
pub struct Deb {
    #[command(flatten)]
    options: Options,
}

/// Make target/packages/virtinitrd-VERSION-1.x86_64.rpm of what is built
#[derive(Debug, clap::Args)]
pub struct Rpm {
    #[command(flatten)]
    options: Options,
}

/// Options of `cargo xtask deb` and of `cargo xtask rpm`.
#[derive(Debug, clap::Args)]
struct Options {
    /// Make the package virtinitrd-kernel instead, of the small kernel in DIR
    #[arg(long, value_name = "DIR")]
    kernel: Option<PathBuf>,
}

impl Deb {
    /// Makes the package and prints its path.
    pub fn run(self) -> Result<()> {
        self.options.make(Kind::Deb)
    }
}

impl Rpm {
    /// Makes the package and prints its path.
    pub fn run(self) -> Result<()> {
        self.options.make(Kind::Rpm)
    }
}

impl Options {
    fn make(self, kind: Kind) -> Result<()> {
        let content = match self.kernel {
            Some(kernel) => Content::kernel(&kernel)?,
            None => Content::programs(),
        };
        let (path, size) = build::build(kind, &content, &workspace::root()?)?;
        tell::result(format_args!("{}: {size} bytes\n", path.display()))
    }
}
