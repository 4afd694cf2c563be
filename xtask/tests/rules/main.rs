//! Rules of the source tree that no compiler checks.
//!
//! | Module | Content |
//! |---|---|
//! | `coverage` | each row of the documents' tables has tests |
//! | `documents` | documents agree with the code, and their links lead somewhere |
//! | `imports` | crates and rooms import each other in one direction |
//! | `tidy` | what every source file has, and what none has |

mod coverage;
mod documents;
mod imports;
mod tidy;
