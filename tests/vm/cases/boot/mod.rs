//! The boot until the payload runs, and the reports of `/init` about failures.

pub(crate) mod contract;
pub(crate) mod distribution;
pub(crate) mod fault;
pub(crate) mod unwatched;
