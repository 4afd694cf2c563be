//! The `/init` binary. It contains only its start-up.
//!
//! Without `std`, nothing calls a Rust `main`; musl's crt1 calls the C `main` in [`start`].

#![no_std]
#![no_main]

extern crate alloc;

#[path = "rt/start.rs"]
mod start;
