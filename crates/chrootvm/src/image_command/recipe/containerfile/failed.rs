//! Error of a stage for the threads that wait for it: the reason is noted once, for the whole build.

use std::fmt;

/// A stage has failed; the error of the build has the reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageFailed;

impl fmt::Display for StageFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stage has failed")
    }
}

impl std::error::Error for StageFailed {}
