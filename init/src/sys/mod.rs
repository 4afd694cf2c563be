//! System calls in the shapes that every room needs: small files, errors with the name of
//! their errno, waiting, child processes, devices.
//!
//! No file here knows the boot or its settings. Imports `rt` only.

pub mod children;
pub mod devices;
pub mod error;
pub mod file;
pub mod power_button;
pub mod wait;
