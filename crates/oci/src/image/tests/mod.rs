//! Tests of opening images and of their trees.
//!
//! | Module | Contents |
//! |---|---|
//! | `platforms` | which image of an index is taken, and bad documents |
//! | `fake` | a registry in this process |
//! | `layers` | layers that are odd or wrong |
//! | `remote` | pull policies, downloads that break, and damage in the cache |
//! | `tools` | images that other programs wrote |

mod fake;
mod layers;
mod platforms;
mod remote;
mod tools;

use std::path::Path;

use files::notes::Notes;
use image::tree::{Kind, Tree};
use serde_json::Value;

use super::*;
use crate::cache::Bounds;
use crate::name::location::Selector;
use crate::progress::Silent;
use crate::sample::LayoutDir;

/// The platform of the tests, whatever the host is.
const PLATFORM: &str = "linux/amd64";

/// Options with a cache in `dir`.
fn options(dir: &Path) -> OpenOptions {
    OpenOptions {
        platform: Some(PLATFORM.parse().unwrap()),
        cache: Arc::new(Cache::open(dir, Bounds::default()).unwrap()),
        ..OpenOptions::default()
    }
}

/// Options without a cache.
fn unkept() -> OpenOptions {
    OpenOptions { platform: Some(PLATFORM.parse().unwrap()), ..OpenOptions::default() }
}

/// The location of the only image of a layout.
fn location(dir: &LayoutDir) -> Location {
    Location::Layout(dir.path().to_path_buf(), Selector::Only)
}

fn digest(entry: &Value) -> Digest {
    entry["digest"].as_str().unwrap().parse().unwrap()
}

/// The text of a file of a tree.
fn text(tree: &Tree, path: &str) -> String {
    let id = tree.find(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
    let Kind::File(content) = &tree.node(id).kind else { panic!("{path} is not a file") };
    std::io::read_to_string(content.open().unwrap()).unwrap()
}

fn tree(image: &Image) -> Result<Tree> {
    image.tree(&mut Notes::default(), &Silent)
}

fn error<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().expect("an error"))
}
