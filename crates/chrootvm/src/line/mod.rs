//! The words of the command lines, for all commands alike: values of options, help, and words
//! of other programs.
//!
//! | Module | Content |
//! |---|---|
//! | [`values`], [`sizes`], `named` | parsers of the values of options |
//! | [`help`] | shape of `-h` and `--help` |
//! | `run_help` | texts of the help of `chrootvm ROOTFS` around the options |
//! | [`locations`] | words that name an OCI image |
//! | [`foreign`] | words of other programs, and what to type in their place |

pub mod foreign;
pub mod help;
pub mod locations;
pub(crate) mod named;
pub(crate) mod run_help;
pub mod sizes;
pub mod values;
