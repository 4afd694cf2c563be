//! The line that `chrootvm --timing` prints: the phases of a run.

/// The line, without what precedes the first phase.
#[derive(Clone, Copy, Debug)]
pub struct TimingLine<'a>(&'a str);

impl<'a> TimingLine<'a> {
    /// Finds the line in what chrootvm has written to standard error.
    #[must_use]
    pub fn of(stderr: &'a str) -> Option<Self> {
        stderr.lines().find_map(|line| line.strip_prefix("timing: ")).map(Self)
    }

    /// Milliseconds of the phase `name`.
    #[must_use]
    pub fn phase(self, name: &str) -> Option<f64> {
        let words = self.0.split([';', ',']).find_map(|part| part.trim().strip_prefix(name));
        words?.trim().parse().ok()
    }

    /// Whether the machine came from a template.
    #[must_use]
    pub fn is_warm(self) -> bool {
        self.0.ends_with("(warm)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_by_name() {
        let stderr =
            "noise\ntiming: host set-up 30.5, load 40.0, init 7.1; 90.0 ms in all (warm)\n";
        let line = TimingLine::of(stderr).unwrap();
        assert_eq!(
            ["host set-up", "init", "devices"].map(|name| line.phase(name)),
            [Some(30.5), Some(7.1), None]
        );
        assert!(line.is_warm());
        assert!(!TimingLine::of("timing: init 7.1; 90.0 ms in all\n").unwrap().is_warm());
        assert!(TimingLine::of("noise\n").is_none());
    }
}
