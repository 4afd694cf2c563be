//! Networks of steps and machines.

/// Network of a step or a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Loopback only.
    None,
    /// User-mode network behind the host's addresses.
    User,
}

impl Network {
    /// All networks by their names in a recipe.
    pub const ALL: &[(&str, Self)] = &[("none", Self::None), ("user", Self::User)];
}
