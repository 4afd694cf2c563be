//! Changes of a tree between reading a source and writing an image.
//!
//! | Module | Contents |
//! |---|---|
//! | [`inject`] | adds `/init` and the run file of a workload; limits times |

pub mod inject;
