//! Values that a person chooses by a word, as after an option.

/// A value with a name. Command lines take the names, and messages show them.
pub trait Named: Copy + PartialEq + 'static {
    /// Name, value and one line of help of each value, in the order in which help lists
    /// them. A value without help is only listed.
    const NAMES: &'static [(&'static str, Self, &'static str)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }

    /// All values, in the order of [`Named::NAMES`].
    fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.iter().map(|row| row.1)
    }
}
