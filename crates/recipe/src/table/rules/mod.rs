//! Rules for texts: what is allowed, how to write it, and a pattern for the schema.

mod names;
mod numbers;
mod paths;
pub(crate) mod rule;

/// A rule for a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Says what is wrong with a text, and how to write it.
    check: fn(&str) -> Result<(), String>,
    /// A text that keeps the rule.
    example: &'static str,
    /// What the schema says; the check may be stricter.
    pattern: Pattern,
}

/// Description of the texts that keep a rule, as far as JSON schema can say it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    /// Any text.
    Any,
    /// Regular expression (ECMA-262), which matches a part of the text.
    Regex(&'static str),
    /// One of these texts.
    Names(fn() -> Vec<&'static str>),
}

impl Rule {
    /// Checks a text.
    ///
    /// # Errors
    /// It does not keep the rule.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        // NUL ends a text in every interface of the kernel and in our records.
        match text.contains('\0') {
            true => Err("the text has a NUL character".to_owned()),
            false => (self.check)(text),
        }
    }

    /// A text that keeps the rule.
    pub(crate) fn example(self) -> &'static str {
        self.example
    }

    /// What the schema says.
    pub(crate) fn pattern(self) -> Pattern {
        self.pattern
    }
}
