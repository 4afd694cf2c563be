//! Table of what was tried where, in Markdown, with the reasons below it.

use std::fmt;

use anyhow::{Result, bail, ensure};
use files::tell;

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The thing that must happen was seen.
    Worked,
    /// The right packages were asked for, and none was installed.
    NamesOnly,
    /// Something else, for this reason.
    Failed(String),
    /// The check was not run, for this reason.
    NotRun(String),
}

/// Outcomes of each subject, in the order of the checks.
#[derive(Debug)]
pub(crate) struct Table {
    /// Heading of the first column.
    pub(crate) subject: &'static str,
    /// Headings of the other columns.
    pub(crate) checks: Vec<&'static str>,
    /// Name of each subject, and its outcomes.
    pub(crate) rows: Vec<(&'static str, Vec<Outcome>)>,
}

/// The rows whose names contain one of `names`; all rows without names. `subject` is for the error.
///
/// # Errors
/// One of `names` is in the name of no row.
pub(crate) fn select<'a, Row>(
    subject: &str,
    rows: &'a [Row],
    name: fn(&Row) -> &str,
    names: &[String],
) -> Result<Vec<&'a Row>> {
    let is_in = |part: &String, row: &Row| name(row).contains(&**part);
    let useless = names.iter().find(|part| !rows.iter().any(|row| is_in(part, row)));
    if let Some(part) = useless {
        let known: Vec<_> = rows.iter().map(name).collect();
        bail!("no {subject} has a name with {part}; there are: {}", known.join("; "));
    }
    let is_wanted = |row: &&Row| names.is_empty() || names.iter().any(|part| is_in(part, row));
    Ok(rows.iter().filter(is_wanted).collect())
}

/// The last line of the first of `texts` that is not empty: why a program failed.
pub(crate) fn last_words(texts: [&str; 2]) -> Option<&str> {
    texts.into_iter().find_map(|text| text.trim_end().lines().last())
}

impl Table {
    /// Prints the table.
    ///
    /// # Errors
    /// A check has failed, or the table cannot be written.
    pub(crate) fn tell(&self) -> Result<()> {
        tell::result(self)?;
        ensure!(!self.has_failures(), "a check has failed");
        Ok(())
    }

    /// Whether a check has failed.
    fn has_failures(&self) -> bool {
        let mut outcomes = self.rows.iter().flat_map(|(_, outcomes)| outcomes);
        outcomes.any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} | {} |", self.subject, self.checks.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(self.checks.len()))?;
        for (name, outcomes) in &self.rows {
            let cells = outcomes.iter().map(|outcome| match outcome {
                Outcome::Worked => "ok",
                Outcome::NamesOnly => "names only",
                Outcome::Failed(_) => "failed",
                Outcome::NotRun(_) => "not run",
            });
            writeln!(f, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        for (name, outcomes) in &self.rows {
            let mut last = None;
            for (outcome, check) in outcomes.iter().zip(&self.checks) {
                match outcome {
                    Outcome::Failed(why) => writeln!(f, "{name}, {check}: {why}")?,
                    // A subject that does not exist has one reason for all checks.
                    Outcome::NotRun(why) if last != Some(why) => {
                        writeln!(f, "{name}: not run: {why}")?;
                        last = Some(why);
                    }
                    Outcome::Worked | Outcome::NamesOnly | Outcome::NotRun(_) => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_select_rows() {
        let select = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            select("row", &["ab", "bc"], |row| row, &names).map_err(|error| error.to_string())
        };
        assert_eq!(select(&[]).unwrap(), [&"ab", &"bc"]);
        assert_eq!(select(&["c"]).unwrap(), [&"bc"]);
        assert_eq!(select(&["c", "a"]).unwrap(), [&"ab", &"bc"]);
        let error = select(&["c", "x"]).unwrap_err();
        assert_eq!(error, "no row has a name with x; there are: ab; bc");
    }

    #[test]
    fn a_failure_has_its_reason_below_the_table() {
        let (ok, failed) = (Outcome::Worked, Outcome::Failed("status 1: x".into()));
        let absent = || Outcome::NotRun("no tree".into());
        let table = |rows| Table { subject: "Kernel", checks: vec!["command", "PID 1"], rows };
        let failing = table(vec![("a", vec![ok.clone(), failed])]);
        assert!(failing.has_failures());
        assert_eq!(
            failing.to_string(),
            "| Kernel | command | PID 1 |\n|---|---|---|\n| a | ok | failed |\na, PID 1: status 1: x\n"
        );
        let rows = vec![("a", vec![ok, Outcome::NamesOnly]), ("b", vec![absent(), absent()])];
        let passing = table(rows);
        assert!(!passing.has_failures());
        let text = passing.to_string();
        assert!(
            text.ends_with(
                "| a | ok | names only |\n| b | not run | not run |\nb: not run: no tree\n"
            ),
            "{text}"
        );
    }
}
