//! What `/init` does until the payload runs, and how it reports a failure.

pub(crate) mod contract;
pub(crate) mod distribution;
pub(crate) mod fault;
pub(crate) mod unwatched;
