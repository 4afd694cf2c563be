//! What a recipe makes: outputs, the workload in them, and the manifest about them.

pub(super) mod kept_output;
pub(super) mod manifest;
pub(super) mod outputs;
pub(super) mod workload;
