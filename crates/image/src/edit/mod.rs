//! Changes of a tree between reading a source and writing an image.
//!
//! | Module | Contents |
//! |---|---|
//! | [`copy`] | puts files and directories into a tree as `COPY` and `ADD` do |
//! | [`difference`] | the layer between two trees |
//! | [`exclude`] | leaves files out by patterns |
//! | `glob` | patterns for paths, as Go and Docker read them |
//! | [`graft`] | adds files and directories of the host, which then belong to root |
//! | [`ignore`] | patterns of a `.dockerignore` file |
//! | [`inject`] | adds `/init` and the run file of a workload; limits times |
//! | [`normalise`] | removes what programs leave and what differs from build to build |
//! | [`overlay`] | layers in the form of an overlay's upper directory |
//! | [`put`] | adds files of the host with an owner and modes |
//! | [`remove`] | removes files by patterns, or all but some |
//! | [`select`] | the files and directories that a source of `COPY` selects |

pub mod copy;
pub mod difference;
pub mod exclude;
mod glob;
pub mod graft;
pub mod ignore;
pub mod inject;
pub mod normalise;
pub mod overlay;
pub mod put;
pub mod remove;
pub mod select;
