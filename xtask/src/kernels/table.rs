//! The results, as a table in Markdown, with the reasons below it.

use std::fmt;

use super::checks::CHECKS;

/// What a kernel did in a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What it must do.
    Worked,
    /// Something else.
    Failed(String),
    /// The check was not run, for this reason.
    NotRun(String),
}

/// The outcomes of each kernel, in the order of the checks.
#[derive(Debug)]
pub(super) struct Table(pub(super) Vec<(&'static str, Vec<Outcome>)>);

impl Table {
    /// Whether a check has failed.
    pub(super) fn has_failures(&self) -> bool {
        let mut outcomes = self.0.iter().flat_map(|(_, outcomes)| outcomes);
        outcomes.any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        writeln!(f, "| Kernel | {} |", names.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(names.len()))?;
        for (name, outcomes) in &self.0 {
            let cells = outcomes.iter().map(|outcome| match outcome {
                Outcome::Worked => "ok",
                Outcome::Failed(_) => "failed",
                Outcome::NotRun(_) => "not run",
            });
            writeln!(f, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        for (name, outcomes) in &self.0 {
            let mut last = None;
            for (outcome, check) in outcomes.iter().zip(CHECKS) {
                match outcome {
                    Outcome::Failed(why) => writeln!(f, "{name}, {}: {why}", check.name)?,
                    // A kernel that does not exist has one reason for all checks.
                    Outcome::NotRun(why) if last != Some(why) => {
                        writeln!(f, "{name}: not run: {why}")?;
                        last = Some(why);
                    }
                    Outcome::Worked | Outcome::NotRun(_) => {}
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
    fn a_failure_has_its_reason_below_the_table() {
        let (ok, failed) = (Outcome::Worked, Outcome::Failed("status 1: x".into()));
        let absent = vec![Outcome::NotRun("no tree".into()); CHECKS.len()];
        let table = Table(vec![("a", vec![ok.clone(), failed, ok.clone(), ok.clone()])]);
        assert!(table.has_failures());
        let text = table.to_string();
        assert!(text.contains("| a | ok | failed | ok | ok |\na, PID 1: status 1: x\n"), "{text}");
        let table = Table(vec![("a", vec![ok; CHECKS.len()]), ("b", absent)]);
        assert!(!table.has_failures());
        let text = table.to_string();
        assert!(
            text.ends_with("| b | not run | not run | not run | not run |\nb: not run: no tree\n")
        );
    }
}
