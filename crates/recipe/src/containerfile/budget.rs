//! Limits of what a text can make: variables that contain each other double with every line, and
//! a stage inherits the config of its base.
//!
//! All evaluations of a file together stay within [`BYTES_MAX`], because each gets an equal share.

/// Most bytes that the evaluations of all stages make in total.
const BYTES_MAX: usize = 64 << 20;

/// Most steps that the patterns of one evaluation take in total: characters times places in the
/// pattern.
const STEPS_MAX: usize = 4_000_000;

/// What one evaluation may still use.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes that it had at first.
    share: usize,
    bytes: usize,
    steps: usize,
}

impl Budget {
    /// Budget of one of `count` evaluations.
    pub(super) fn one_of(count: usize) -> Self {
        let share = BYTES_MAX / count.max(1);
        Self { share, bytes: share, steps: STEPS_MAX }
    }

    /// Uses `count` bytes.
    ///
    /// # Errors
    /// No bytes are left.
    pub(super) fn bytes(&mut self, count: usize) -> Result<(), String> {
        let left = self.bytes.checked_sub(count);
        self.bytes = left.ok_or_else(|| {
            let (kibibytes, mebibytes) = (self.share >> 10, BYTES_MAX >> 20);
            format!(
                "the values take more than {kibibytes} KiB, the share of one stage of {mebibytes} \
                 MiB: shorten them, or make fewer stages"
            )
        })?;
        Ok(())
    }

    /// Uses one step of a pattern.
    ///
    /// # Errors
    /// No steps are left.
    pub(super) fn step(&mut self) -> Result<(), String> {
        let left = self.steps.checked_sub(1);
        self.steps = left.ok_or("the patterns of variables take too long: shorten them")?;
        Ok(())
    }
}
