//! The `/init` binary: its start-up, and nothing else.
//!
//! There is no `std` to call a Rust `main`; musl's crt1 calls the C one in
//! [`start`].

#![no_std]
#![no_main]

extern crate alloc;

#[path = "rt/start.rs"]
mod start;
