//! Values that users choose by a word, for example as the value of an option.

/// A value with a name. Command lines take the names, and messages show them.
pub trait Named: Copy + PartialEq + 'static {
    /// All values in the order of the help text, each with its name and one line of help. The
    /// line is empty if the name explains itself.
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
