//! The name of a template.

/// Digest of everything that a template depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateKey(String);
