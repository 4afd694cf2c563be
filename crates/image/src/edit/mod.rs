//! Changes of a tree between reading a source and writing an image.
//!
//! | Module | Contents |
//! |---|---|
//! | [`exclude`] | leaves files out by patterns |
//! | [`graft`] | adds files and directories of the host |
//! | [`inject`] | adds `/init` and the run file of a workload; limits times |
//! | [`normalise`] | removes what programs leave and what differs from build to build |

pub mod exclude;
pub mod graft;
pub mod inject;
pub mod normalise;
