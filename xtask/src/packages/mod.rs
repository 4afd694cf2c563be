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

use anyhow::Result;
use files::tell;

pub use self::build::Kind;
pub use self::trial::Packages;
use crate::workspace;

/// Make target/packages/virtinitrd_VERSION-1_amd64.deb of what is built
#[derive(Debug, clap::Args)]
pub struct Deb {}

/// Make target/packages/virtinitrd-VERSION-1.x86_64.rpm of what is built
#[derive(Debug, clap::Args)]
pub struct Rpm {}

impl Deb {
    /// Makes the package and prints its path.
    pub fn run(self) -> Result<()> {
        make(Kind::Deb)
    }
}

impl Rpm {
    /// Makes the package and prints its path.
    pub fn run(self) -> Result<()> {
        make(Kind::Rpm)
    }
}

fn make(kind: Kind) -> Result<()> {
    let (path, size) = build::build(kind, &workspace::root()?)?;
    tell::result(format_args!("{}: {size} bytes\n", path.display()))
}
