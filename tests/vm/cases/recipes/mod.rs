//! Recipes, whose steps run in a machine.

pub(crate) mod changes;
pub(crate) mod ends;
pub(crate) mod examples;
pub(crate) mod failures;
pub(crate) mod kept;
pub(crate) mod layers;
pub(crate) mod live;
pub(crate) mod networks;
pub(crate) mod outputs;
pub(crate) mod secrets;
pub(crate) mod site;
pub(crate) mod steps;
pub(crate) mod twice;
