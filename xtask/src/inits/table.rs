//! The results as the table of `docs/workloads.md`.

use std::fmt;

use super::cases::Case;
use super::programs::{PROGRAMS, title};

/// What the programs did in one case.
#[derive(Debug)]
pub(super) struct Row {
    /// The case.
    pub(super) case: &'static Case,
    /// Outcome of each program, in their order; `None`: it was not run.
    pub(super) outcomes: Vec<Option<&'static str>>,
}

/// Rows under the names of the programs.
#[derive(Debug)]
pub(super) struct Table(pub(super) Vec<Row>);

impl Table {
    /// What differs from the documented outcomes, a line each.
    pub(super) fn faults(&self) -> Vec<String> {
        let rows = self.0.iter();
        let cells = rows.flat_map(|row| {
            let cells = row.outcomes.iter().zip(row.case.expected).zip(PROGRAMS);
            cells.map(|((found, expected), program)| (row.case.name, *found, expected, program))
        });
        let wrong = cells.filter_map(|(name, found, expected, program)| {
            let found = found.filter(|found| *found != expected)?;
            Some(format!("{}: {name}: \"{found}\", not \"{expected}\"", title(program)))
        });
        wrong.collect()
    }
}

/// Markdown, as it stands in the document.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<_> = PROGRAMS.iter().map(title).collect();
        writeln!(f, "| | {} |", titles.join(" | ").replace("/init", "`/init`"))?;
        writeln!(f, "|---|{}", "---|".repeat(titles.len()))?;
        for row in &self.0 {
            let outcomes: Vec<_> =
                row.outcomes.iter().map(|outcome| outcome.unwrap_or("-")).collect();
            writeln!(f, "| {} | {} |", row.case.name, outcomes.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inits::cases::CASES;

    fn documented() -> Table {
        let row = |case: &'static Case| Row { case, outcomes: case.expected.map(Some).to_vec() };
        Table(CASES.iter().map(row).collect())
    }

    #[test]
    fn the_document_has_this_table() {
        let document = include_str!("../../../docs/workloads.md");
        let table = documented().to_string();
        assert!(document.contains(&table), "docs/workloads.md has another table than\n{table}");
    }

    #[test]
    fn other_outcomes_are_faults() {
        let mut table = documented();
        assert_eq!(table.faults(), [""; 0]);
        table.0[0].outcomes[1] = Some("starts it again");
        table.0[1].outcomes[4] = None;
        assert_eq!(
            table.faults(),
            ["tini 0.19.0: main process exits with 42: \"starts it again\", not \"status 42\""]
        );
        assert!(
            table
                .to_string()
                .contains("| status 137 | status 137 | status 137 | starts it again | - |")
        );
    }
}
