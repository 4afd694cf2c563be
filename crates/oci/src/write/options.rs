//! What an archive is made of, besides its tree.

use archive::compress::{Compression, Method};
use image::tree::{Meta, Tree};

use crate::document::config::Process;
use crate::image::Image;
use crate::name::platform::Platform;

/// One step of making the image. The history gets an entry for each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made<'a> {
    /// The command of the step, for people.
    pub created_by: &'a str,
    /// A remark, for people.
    pub comment: Option<&'a str>,
    /// The changes in the form of a layer, as [`layer()`](super::layer) returns it; `None` if only
    /// the config has changed. A tree with nothing but a root whose attributes are those of the
    /// layer before counts as `None`. Before the first layer, those are [`Meta::default()`]; if
    /// there is a base, its root is not known here, and the first layer always stays.
    pub layer: Option<&'a Tree>,
}

impl<'a> Made<'a> {
    /// `steps` without the layers that change nothing. `root` has the attributes of the root below
    /// the first step, if they are known.
    pub(super) fn without_empty_layers(steps: &[Self], root: Option<&Meta>) -> Vec<Self> {
        let mut root = root;
        let mut kept = |layer: &&'a Tree| {
            let before = root.replace(&layer.node(Tree::ROOT).meta);
            layer.len() > 1 || before != root
        };
        steps.iter().map(|step| Made { layer: step.layer.filter(&mut kept), ..*step }).collect()
    }
}

/// Options for writing an archive.
///
/// | `base` | `base_tree` | Layers |
/// |---|---|---|
/// | given | given | those of the base, of the steps, and one with what turns `base_tree` into the tree |
/// | none | given | those of the steps, and one with what turns `base_tree` into the tree |
/// | none | none | one with everything; no step may have a layer |
///
/// If `base_tree` is equal to the tree, there is no last layer.
#[derive(Clone, Debug)]
pub struct ArchiveOptions<'a> {
    /// The image of which the tree is a changed copy. Its layers and its config stay.
    pub base: Option<&'a Image>,
    /// The tree after the last step; without steps, that of the base.
    pub base_tree: Option<&'a Tree>,
    /// The steps that made `base_tree` from the base, or from nothing.
    pub steps: &'a [Made<'a>],
    /// The command and its surroundings; `None` for those of the base.
    pub process: Option<&'a Process>,
    /// The platform, if there is no base.
    pub platform: Platform,
    /// Compression of the new layers: none, gzip or zstd.
    pub method: Method,
    /// Further threads for compression.
    pub threads: u32,
    /// The name of the image in the layout, as [`Reference::for_new_image`] reads it:
    /// `[HOST[:PORT]/]NAME[:TAG]`; `None` for none.
    ///
    /// [`Reference::for_new_image`]: crate::name::reference::Reference::for_new_image
    pub tag: Option<&'a str>,
    /// Who made the image; `None` for the author of the base.
    pub author: Option<&'a str>,
    /// Time of the image in seconds since 1970, unless the base is younger.
    pub time: i64,
    /// What the history says about the last layer, which is of no step.
    pub created_by: &'a str,
}

impl Default for ArchiveOptions<'_> {
    fn default() -> Self {
        Self {
            base: None,
            base_tree: None,
            steps: &[],
            process: None,
            platform: Platform::host(),
            method: Method { compression: Compression::Gzip, level: None },
            threads: 0,
            tag: None,
            author: None,
            time: 0,
            created_by: "chrootvm image build",
        }
    }
}
