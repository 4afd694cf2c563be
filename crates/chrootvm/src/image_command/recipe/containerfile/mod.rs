//! `chrootvm image build CONTAINERFILE`: an image from a Containerfile, without a container engine.
//!
//! A Containerfile is another front of what builds recipes: its instructions become the same steps,
//! with the same keys, layers and machines. What is built is a source of `image build` as an OCI
//! image is one.
//!
//! | Module | Content |
//! |---|---|
//! | `options` | the options that only Containerfiles have |
//! | `build` | a build from the command line to a tree and its config |
//! | `stages` | stages are planned and built when somebody needs them |
//! | `planning` | opens the base of a stage, and computes the keys of its steps |
//! | `translate` | from instructions to steps with keys |
//! | `images`, `context` | what FROM, COPY and --from name |
//! | `config` | the config of an image, as instructions and as documents have it |
//! | `failed` | what those who wait for a failed stage get |
//! | `room` | how many machines run at the same time |

mod build;
mod config;
mod context;
mod failed;
mod images;
mod options;
mod planning;
mod room;
mod stages;
mod translate;

pub(in crate::image_command) use build::{BuildContainerfile, BuiltLayers, WantedLayers, check};
pub(in crate::image_command) use options::{ContainerfileOptions, is_name_of_containerfile};
