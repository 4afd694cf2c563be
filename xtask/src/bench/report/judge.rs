//! Comparison of a report with an earlier report or with a budget.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Report;

/// Largest difference from the earlier report, as a share of the earlier number.
const CHANGE: f64 = 0.01;

/// Largest excess over a budget, as a share of the budget.
const EXCESS: f64 = 0.02;

/// Lists each number that differs from the one in `base`, an earlier [`Report::json`],
/// and each number that only one of the two reports has.
pub fn compare(report: &Report, base: &Value) -> Result<Vec<String>> {
    let bench = base["bench"].as_str().context("no \"bench\"")?;
    ensure!(bench == report.bench, "it is of \"{bench}\", not of \"{}\"", report.bench);
    let base = base["rows"].as_array().context("no \"rows\"")?;
    let of_base = |name: &str| base.iter().find(|row| row["name"] == name);
    let mut faults = Vec::new();
    for row in &report.rows {
        let Some(before) = of_base(&row.name) else {
            faults.push(format!("{}: not in the base", row.name));
            continue;
        };
        let before =
            before["value"].as_f64().with_context(|| format!("{}: no \"value\"", row.name))?;
        let change = row.value / before - 1.0;
        let is_same = change.abs() <= CHANGE || (row.value == 0.0 && before == 0.0);
        if !is_same {
            let percent = change * 100.0;
            faults.push(format!(
                "{}: {:.2} {}, {percent:+.1} % against {before:.2}",
                row.name, row.value, row.unit
            ));
        }
    }
    let is_gone = |name: &&str| report.rows.iter().all(|row| row.name != **name);
    let gone = base.iter().filter_map(|row| row["name"].as_str()).filter(is_gone);
    faults.extend(gone.map(|name| format!("{name}: only in the base")));
    Ok(faults)
}

/// Lists each number that is over its budget. A budget is the number of the same name
/// in the table that has the benchmark's name. A number without a budget may be anything.
///
/// # Errors
/// A budget names a number that was not measured.
pub fn budget(report: &Report, budget: &toml::Table) -> Result<Vec<String>> {
    let table = budget.get(report.bench).and_then(toml::Value::as_table);
    let table = table.with_context(|| format!("no table [{}]", report.bench))?;
    let mut faults = Vec::new();
    for (name, limit) in table {
        let row = report.rows.iter().find(|row| row.name == *name);
        let row = row.with_context(|| format!("{name}: nothing of that name was measured"))?;
        let limit = limit.as_float().or_else(|| limit.as_integer().map(|number| number as f64));
        let limit = limit.with_context(|| format!("{name}: not a number"))?;
        let is_kept = row.value <= limit * (1.0 + EXCESS);
        if !is_kept {
            faults.push(format!(
                "{name}: {:.2} {}, over the budget of {limit:.2}",
                row.value, row.unit
            ));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::super::facts::Facts;
    use super::*;

    fn report(rows: &[(&str, f64)]) -> Report {
        let row = |(name, value): &(&str, f64)| Row::of(*name, "M", *value, &[*value]);
        let rows = rows.iter().map(row).collect();
        Report { bench: "boot", statistic: "minimum", facts: Facts(Vec::new()), rows }
    }

    #[test]
    fn a_change_of_more_than_one_percent_is_told() {
        let base = report(&[("same", 100.0), ("slower", 100.0), ("quicker", 100.0), ("gone", 1.0)]);
        let now = report(&[("same", 100.9), ("slower", 101.2), ("quicker", 98.0), ("new", 1.0)]);
        let faults = compare(&now, &base.json()).unwrap();
        let names: Vec<_> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(names, ["slower", "quicker", "new", "gone"], "{faults:?}");
        assert!(compare(&now, &serde_json::json!({ "bench": "io" })).is_err());
    }

    #[test]
    fn two_percent_over_the_budget_is_too_much() {
        let budgets = "[boot]\nkernel = 100\ninit = 10.0\n".parse().unwrap();
        for (kernel, init, faults) in [(102.0, 10.2, 0), (102.1, 10.0, 1), (1.0, f64::NAN, 1)] {
            let report = report(&[("kernel", kernel), ("init", init), ("other", 1e9)]);
            assert_eq!(budget(&report, &budgets).unwrap().len(), faults, "{kernel} {init}");
        }
        assert!(budget(&report(&[("kernel", 1.0)]), &budgets).is_err());
        assert!(budget(&report(&[]), &toml::Table::new()).is_err());
    }
}
