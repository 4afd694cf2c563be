//! A package of tests only; see `cases/main.rs`.
