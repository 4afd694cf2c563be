//! `chrootvm image`, run as users run it: what it prints, what it leaves, and how it fails.
//!
//! | Module | Content |
//! |---|---|
//! | `bench` | a directory to work in, and the program |
//! | `edits` | `--exclude`, `--inject` and the summary |

mod bench;
mod edits;
