//! Changes of a tree between reading a source and writing an image.
//!
//! | Module | Contents |
//! |---|---|
//! | [`difference`] | the layer between two trees |
//! | [`exclude`] | leaves files out by patterns |
//! | [`graft`] | adds files and directories of the host, which then belong to root |
//! | [`inject`] | adds `/init` and the run file of a workload; limits times |
//! | [`normalise`] | removes what programs leave and what differs from build to build |
//! | [`overlay`] | layers in the form of an overlay's upper directory |
//! | [`put`] | adds files of the host with an owner and modes |
//! | [`remove`] | removes files by patterns, or all but some |

pub mod difference;
pub mod exclude;
pub mod graft;
pub mod inject;
pub mod normalise;
pub mod overlay;
pub mod put;
pub mod remove;
