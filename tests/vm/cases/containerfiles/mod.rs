//! Containerfiles, whose RUN instructions run in machines.

pub(crate) mod changes;
pub(crate) mod ends;
pub(crate) mod examples;
pub(crate) mod failures;
pub(crate) mod layers;
pub(crate) mod mounts;
pub(crate) mod networks;
pub(crate) mod parallel;
pub(crate) mod stages;
pub(crate) mod twice;

mod meeting;
mod site;
