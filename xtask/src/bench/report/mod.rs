//! The numbers of one benchmark: as a Markdown table, as JSON, as a picture ([`svg`]),
//! and judged against other numbers ([`judge`]).

pub mod facts;
pub mod judge;
pub mod svg;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use self::facts::Facts;

/// One measured quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the quantity.
    pub name: String,
    /// Unit of the three numbers.
    pub unit: &'static str,
    /// The result, such as the median; [`Report::statistic`] says which.
    pub value: f64,
    /// Smallest number of all runs.
    pub min: f64,
    /// Largest number of all runs.
    pub max: f64,
    /// Number of runs.
    pub runs: usize,
}

/// All numbers of a benchmark, and the facts of the measurement.
#[derive(Debug)]
pub struct Report {
    /// Name of the benchmark.
    pub bench: &'static str,
    /// Meaning of [`Row::value`]: "best", "median".
    pub statistic: &'static str,
    /// Host, programs, revision.
    pub facts: Facts,
    /// The numbers.
    pub rows: Vec<Row>,
}

impl Row {
    /// Makes a row from several runs; the value is their median.
    #[must_use]
    pub fn median(name: impl Into<String>, unit: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let value = match (values.get(values.len() / 2), values.len() % 2) {
            (Some(upper), 0) => f64::midpoint(values[values.len() / 2 - 1], *upper),
            (Some(middle), _) => *middle,
            (None, _) => f64::NAN,
        };
        Self::of(name, unit, value, &values)
    }

    /// Makes a row from several runs and a given value.
    #[must_use]
    pub fn of(name: impl Into<String>, unit: &'static str, value: f64, values: &[f64]) -> Self {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { name: name.into(), unit, value, min, max, runs: values.len() }
    }
}

impl Report {
    /// Formats a Markdown table, and a line of facts.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text =
            format!("| {} | {} | spread | n |\n|---|--:|--:|--:|\n", self.bench, self.statistic);
        for Row { name, unit, value, min, max, runs } in &self.rows {
            let (value, min, max) = (short(*value), short(*min), short(*max));
            let _ = writeln!(text, "| {name} | {value} {unit} | {min}–{max} | {runs} |"); // a String takes everything
        }
        let facts: Vec<_> =
            self.facts.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        text + &format!("\n{}\n", facts.join(", "))
    }

    /// Converts the report to JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name, "unit": row.unit, "value": row.value,
                "min": row.min, "max": row.max, "n": row.runs,
            })
        };
        json!({
            "bench": self.bench,
            "statistic": self.statistic,
            "facts": self.facts.0.iter().cloned().collect::<BTreeMap<_, _>>(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// Formats a number with at least three digits, and with all digits before the point.
pub(super) fn short(number: f64) -> String {
    let digits = if number.fract() == 0.0 || number >= 1000.0 {
        0
    } else if number >= 100.0 {
        1
    } else if number >= 1.0 {
        2
    } else {
        3
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_between_the_halves() {
        for (values, median) in [
            (&[3.0][..], 3.0),
            (&[3.0, 1.0], 2.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 9.0], 3.0),
        ] {
            let row = Row::median("x", "ms", values.to_vec());
            assert!((row.value - median).abs() < 1e-9, "{values:?}: {row:?}");
            assert_eq!(row.runs, values.len());
        }
    }

    #[test]
    fn numbers_have_few_digits_after_the_point() {
        let shown: Vec<_> = [80312.0, 562.72, 18.04, 0.4567].map(short).to_vec();
        assert_eq!(shown, ["80312", "562.7", "18.04", "0.457"]);
    }
}
