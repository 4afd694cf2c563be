//! Warm machines: `chrootvm --warm` starts a run from a template that an earlier run has saved.

pub(crate) mod answers;
pub(crate) mod damage;
pub(crate) mod kills;
pub(crate) mod refusals;
pub(crate) mod site;
pub(crate) mod twins;
