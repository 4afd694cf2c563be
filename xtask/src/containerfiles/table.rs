//! The results of all fixtures, as a table.

use std::fmt;
use std::time::Duration;

/// How the images of a fixture compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing differs but what is explained.
    Same,
    /// Something differs.
    Differs,
    /// A builder failed.
    Failed,
    /// There is one image only.
    Built,
}

/// Times of one builder; `None` stands for a build that failed or was not asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Without kept steps.
    pub(super) cold: Option<Duration>,
    /// The same build again.
    pub(super) cached: Option<Duration>,
}

/// Result of one fixture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Name of the fixture.
    pub(super) name: &'static str,
    /// How the images compare.
    pub(super) verdict: Verdict,
    /// Times of chrootvm.
    pub(super) ours: Times,
    /// Times of buildah.
    pub(super) theirs: Times,
}

/// Rows under their headings. Times are in seconds.
#[derive(Debug)]
pub(super) struct Table(pub(super) Vec<Row>);

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Failed => "failed",
            Self::Built => "built",
        })
    }
}

impl Table {
    /// Whether every image was built, and none differs.
    pub(super) fn is_good(&self) -> bool {
        self.0.iter().all(|row| matches!(row.verdict, Verdict::Same | Verdict::Built))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, verdict: &str, times: [String; 4]| {
            let [cold, cached, buildah, again] = times;
            writeln!(
                f,
                "| {name:<13} | {verdict:<7} | {cold:>8} | {cached:>8} | {buildah:>8} | {again:>8} |"
            )
        };
        let headings = ["cold", "cached", "buildah", "cached"];
        line(f, "Containerfile", "images", headings.map(String::from))?;
        writeln!(f, "|---|---|--:|--:|--:|--:|")?;
        for row in &self.0 {
            let times = [row.ours.cold, row.ours.cached, row.theirs.cold, row.theirs.cached];
            line(f, row.name, &row.verdict.to_string(), times.map(seconds))?;
        }
        Ok(())
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{:.1}", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, verdict: Verdict) -> Row {
        let times = |cold, cached| Times {
            cold: Some(Duration::from_millis(cold)),
            cached: Some(Duration::from_millis(cached)),
        };
        Row { name, verdict, ours: times(12_340, 260), theirs: Times::default() }
    }

    #[test]
    fn times_are_seconds_and_missing_ones_dashes() {
        let table = Table(vec![row("web", Verdict::Built)]).to_string();
        let expected = "| web           | built   |     12.3 |      0.3 |        - |        - |";
        assert_eq!(table.lines().last(), Some(expected));
        let widths: Vec<_> = table.lines().map(str::len).collect();
        assert_eq!((widths.len(), widths[0]), (3, widths[2]), "{table}");
    }

    #[test]
    fn one_bad_row_makes_a_bad_table() {
        for (verdict, is_good) in [
            (Verdict::Same, true),
            (Verdict::Built, true),
            (Verdict::Differs, false),
            (Verdict::Failed, false),
        ] {
            let table = Table(vec![row("a", Verdict::Same), row("b", verdict)]);
            assert_eq!(table.is_good(), is_good, "{verdict}");
        }
    }
}
