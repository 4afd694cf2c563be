//! One step of a recipe that runs a command in the machine of the build: what the host asks
//! for ([`request`]), and what the guest answers ([`report`]).
//!
//! Everything in this library is pure; no input makes it panic. The program `virtinitrd-step`
//! does what a request says. It is `/step` of the build's machine, whose root is a small EROFS,
//! and whose further disks are `/dev/vdb`, an ext4 for scratch, and EROFS images:
//!
//! | Command | Does |
//! |---|---|
//! | `/step hold` | says `ready`, and waits for the end of its input: it keeps the machine running |
//! | `/step run` | runs the request from its input, and writes the report to its output; what the step's program says goes to standard error |
//! | `/step shell [WORD…]` | runs a shell, or the words, as the last request says, with the caller's streams |
//!
//! # The scratch disk
//!
//! | Path | Is |
//! |---|---|
//! | `/N/upper` | what step N has changed, as the upper directory of overlayfs |
//! | `/N/work` | work directory of overlayfs, only while step N runs |
//! | `/N/points` | mount points that the image lacks, only while step N runs |
//! | `/N/dropped` | what step N writes and nobody keeps, only while step N runs |
//! | `/caches/K/upper`, `/caches/K/work`, `/caches/K/points` | likewise for cache K |

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod report;
pub mod request;
