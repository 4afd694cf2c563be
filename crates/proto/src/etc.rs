//! Values of `virtinit.etc=`, which makes `/etc` writable in a read-only root.

use crate::error::{Error, Result};
use crate::text::show;
use crate::words::text;

/// The file system over `/etc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etc {
    /// An empty tmpfs.
    Tmpfs,
    /// An overlay with the root's own files as its lower layer.
    Overlay,
}

impl Etc {
    /// Reads the value of `virtinit.etc=`.
    ///
    /// # Errors
    /// The value is unknown.
    pub fn parse(value: &[u8]) -> Result<Self> {
        match text(value) {
            "tmpfs" => Ok(Self::Tmpfs),
            "overlay" => Ok(Self::Overlay),
            _ => Err(Error::new(
                format_args!("virtinit.etc={}", show(value)),
                "the value must be tmpfs or overlay",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_kinds() {
        for (value, etc) in
            [("tmpfs", Some(Etc::Tmpfs)), ("overlay", Some(Etc::Overlay)), ("", None), ("ro", None)]
        {
            assert_eq!(Etc::parse(value.as_bytes()).ok(), etc, "{value}");
        }
    }
}
