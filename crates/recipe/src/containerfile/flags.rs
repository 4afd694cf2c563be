//! Flags of instructions: `--name` and `--name=value`, by tables of known names.

use crate::table::{list, nearest, quote};

/// Known flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Name without `--`.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) takes: Takes,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value, at most once.
    Value,
    /// A value; the flag can be repeated.
    Values,
    /// `true` or `false`; the flag alone means `true`.
    Truth,
    /// The flag is known and refused; this is why, and what to do.
    Refused(&'static str),
}

/// Flags of one instruction: names and values, in the order of the text.
#[derive(Debug)]
pub(super) struct Flags {
    found: Vec<(&'static str, String)>,
}

impl Flags {
    /// Reads `flags`, which are written without `--`, by the table `known` of `keyword`.
    ///
    /// # Errors
    /// A flag is unknown, refused, repeated, or has a value of the wrong form.
    pub(super) fn read(
        keyword: &str,
        known: &'static [Flag],
        flags: &[String],
    ) -> Result<Self, String> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for text in flags {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&**text, None),
            };
            let flag = known.iter().find(|flag| flag.name == name);
            let flag = flag.ok_or_else(|| unknown(keyword, known, name))?;
            let is_known = |(found, _): &(&str, String)| *found == flag.name;
            if flag.takes != Takes::Values && found.iter().any(is_known) {
                return Err(format!("{keyword} --{name} is given twice: keep one"));
            }
            let value = match (flag.takes, value) {
                (Takes::Refused(why), _) => {
                    return Err(format!("{keyword} --{name} is not supported: {why}"));
                }
                (Takes::Value | Takes::Values, Some(value)) => value.to_owned(),
                (Takes::Value | Takes::Values, None) => {
                    return Err(format!("{keyword} --{name} has no value: write --{name}=VALUE"));
                }
                (Takes::Truth, value) => truth(value).ok_or_else(|| {
                    let value = quote(value.unwrap_or_default());
                    format!("{keyword} --{name}={value} is wrong: give true or false")
                })?,
            };
            found.push((flag.name, value));
        }
        Ok(Self { found })
    }

    /// Value of the flag `name`, if it is given.
    pub(super) fn value(&self, name: &'static str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of the flag `name`.
    pub(super) fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.found.iter().filter(move |(found, _)| *found == name).map(|(_, value)| &**value)
    }
}

/// `true` or `false`; a flag without a value means `true`.
fn truth(value: Option<&str>) -> Option<String> {
    let value = value.unwrap_or("true").to_ascii_lowercase();
    matches!(&*value, "true" | "false").then_some(value)
}

/// Message about a flag that the table does not have.
fn unknown(keyword: &str, known: &'static [Flag], name: &str) -> String {
    let names = || known.iter().map(|flag| flag.name);
    let shown = quote(&format!("--{name}"));
    if known.is_empty() {
        return format!(
            "unknown flag {shown}: {keyword} has no flags; write -- before a first word that begins with --"
        );
    }
    match nearest(name, names()) {
        Some(near) => format!("unknown flag {shown}: did you mean --{near}?"),
        None => {
            let taken = known.iter().filter(|flag| !matches!(flag.takes, Takes::Refused(_)));
            let taken: Vec<_> = taken.map(|flag| format!("--{}", flag.name)).collect();
            let taken = list(taken.iter().map(|name| &**name), "and");
            format!("unknown flag {shown}: {keyword} has {taken}")
        }
    }
}
