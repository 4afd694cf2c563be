//! Types of a table of known keys.

use super::rules::Rule;

/// Keys of one TOML table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name in messages, such as `a step`.
    pub(crate) name: &'static str,
    /// How to write one, such as `[[step]]`.
    pub(crate) example: &'static str,
    /// The keys. If any of them are verbs, exactly one of the verbs is given.
    pub(crate) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// The key.
    pub(crate) name: &'static str,
    /// Form of its value.
    pub(crate) form: Form,
    /// When it is given.
    pub(crate) need: Need,
    /// Description, for the schema.
    pub(crate) about: &'static str,
}

/// When a key is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Always.
    Must,
    /// Or not.
    May,
    /// It is one of the keys of which there is exactly one.
    Verb,
    /// Only with one of these verbs.
    With(&'static [&'static str]),
    /// Always with one of these verbs, and never with another one.
    MustWith(&'static [&'static str]),
}

impl Need {
    /// The verbs that the key goes with; `None` for all.
    pub(crate) fn verbs(self) -> Option<&'static [&'static str]> {
        match self {
            Self::With(verbs) | Self::MustWith(verbs) => Some(verbs),
            Self::Must | Self::May | Self::Verb => None,
        }
    }

    /// Whether a table with `verb` must have the key.
    pub(crate) fn is_must(self, verb: &str) -> bool {
        match self {
            Self::Must => true,
            Self::MustWith(verbs) => verbs.contains(&verb),
            Self::May | Self::Verb | Self::With(_) => false,
        }
    }
}

/// Form of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// `true` or `false`.
    Truth,
    /// `true`; leaving the key out means the opposite.
    True,
    /// Whole number in a range, ends included.
    Number(u32, u32),
    /// Text.
    Text(Rule),
    /// List of texts.
    Texts(Rule),
    /// List of at least one text.
    SomeTexts(Rule),
    /// Program and its arguments: a list whose first text is not empty.
    Words,
    /// `true`, `false`, or a list of texts.
    TruthOrTexts(Rule),
    /// Table of texts: rule of a name, rule of a value.
    Map(Rule, Rule),
    /// Table.
    Table(&'static Table),
    /// List of tables.
    Tables(&'static Table),
    /// Table of tables: rule of a name, one of the tables.
    Named(Rule, &'static Table),
}

impl Table {
    /// The keys of which exactly one is given.
    pub(crate) fn verbs(&self) -> impl Iterator<Item = &'static str> {
        let verbs = self.keys.iter().filter(|key| matches!(key.need, Need::Verb));
        verbs.map(|key| key.name)
    }
}

impl Key {
    /// How to write the key, such as `size = "64M"`.
    pub(crate) fn example(&self) -> String {
        let value = match self.form {
            Form::Truth | Form::True | Form::TruthOrTexts(_) => "true".to_owned(),
            Form::Number(least, _) => least.max(1).to_string(),
            Form::Text(rule) => format!("\"{}\"", rule.example()),
            Form::Texts(rule) | Form::SomeTexts(rule) => format!("[\"{}\"]", rule.example()),
            Form::Words => "[\"/usr/bin/tool\", \"argument\"]".to_owned(),
            Form::Map(name, value) => {
                format!("{{ {} = \"{}\" }}", name.example(), value.example())
            }
            Form::Table(table) | Form::Tables(table) | Form::Named(_, table) => {
                return table.example.to_owned();
            }
        };
        format!("{} = {value}", self.name)
    }

    /// Names of the TOML types of a value.
    pub(crate) fn types(&self) -> &'static str {
        match self.form {
            Form::Truth => "true or false",
            Form::True => "true",
            Form::Number(..) => "a whole number",
            Form::Text(_) => "a string",
            Form::Texts(_) | Form::SomeTexts(_) | Form::Words => "a list of strings",
            Form::TruthOrTexts(_) => "true, false or a list of strings",
            Form::Map(..) => "a table of strings",
            Form::Table(_) => "a table",
            Form::Tables(_) => "a list of tables",
            Form::Named(..) => "a table of tables",
        }
    }
}
