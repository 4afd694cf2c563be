//! Keys of a configuration file, and the words of the command line that they stand for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use crate::line::values::parse_volume;

/// Key of a configuration file.
#[derive(Debug)]
pub struct Key {
    /// Name in the file, and name of the argument in `RunArguments`.
    pub name: &'static str,
    /// Option that the key stands for, without `--`.
    pub option: &'static str,
    /// Type of the value.
    pub form: Form,
    /// Arguments that silence the key: they mean the same, or exclude it.
    pub yields_to: &'static [&'static str],
}

/// Type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string, passed on unchanged.
    Word,
    /// A string that is a path of the host.
    File,
    /// An array of volumes: strings that begin with a path of the host.
    Volumes,
    /// An integer.
    Number,
    /// `true`, `false`, or a string that is the option's value.
    SwitchOrWord,
}

/// All keys that hold an option. Besides them, a file has sections ([`SECTION`]).
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    Key { name: "kernel",  option: "kernel",  form: Form::File,         yields_to: &["kernel", "kernel_builtin"] },
    Key { name: "modules", option: "modules", form: Form::File,         yields_to: &["modules", "kernel", "kernel_builtin", "initrd"] },
    Key { name: "memory",  option: "memory",  form: Form::Word,         yields_to: &["memory"] },
    Key { name: "cpus",    option: "cpus",    form: Form::Number,       yields_to: &["cpus"] },
    Key { name: "net",     option: "net",     form: Form::Word,         yields_to: &["net", "publish"] },
    Key { name: "cache",   option: "cache",   form: Form::Word,         yields_to: &["cache"] },
    Key { name: "warm",    option: "warm",    form: Form::Word,         yields_to: &["warm"] },
    Key { name: "volumes", option: "volume",  form: Form::Volumes,      yields_to: &[] },
    Key { name: "overlay", option: "overlay", form: Form::SwitchOrWord, yields_to: &["overlay", "rw"] },
];

/// Table of the sections for one root each.
pub const SECTION: &str = "root";

/// Directories against which the paths of a file are resolved.
#[derive(Clone, Copy, Debug)]
pub struct Bases<'a> {
    /// Directory of the file.
    pub directory: &'a Path,
    /// The user's home directory, which `~` means.
    pub home: Option<&'a Path>,
}

/// Value of a key, as options of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Words for the command line.
    pub words: Vec<OsString>,
    /// The value with absolute paths, for people.
    pub shown: String,
    /// Paths of the host in the value.
    pub paths: Vec<PathBuf>,
}

impl Key {
    /// The words for `value`.
    ///
    /// # Errors
    /// The value has another type, or a path in it cannot be resolved.
    pub fn words(&self, value: &DeValue<'_>, bases: Bases<'_>) -> Result<Words, String> {
        let values: Vec<OsString> = match (self.form, value) {
            (Form::Word | Form::SwitchOrWord, DeValue::String(text)) => vec![(&**text).into()],
            (Form::File, DeValue::String(text)) => vec![bases.resolve(self.filled(text)?)?],
            (Form::Number, DeValue::Integer(number)) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                vec![number.map_err(|error| format!("{}: {error}", self.name))?.to_string().into()]
            }
            (Form::SwitchOrWord, DeValue::Boolean(is_on)) => {
                let words = is_on.then(|| format!("--{}", self.option).into());
                let words = Vec::from_iter(words);
                return Ok(Words { words, shown: is_on.to_string(), paths: Vec::new() });
            }
            (Form::Volumes, DeValue::Array(items)) => {
                let resolve = |text: &str| bases.resolve(self.filled(text)?);
                let texts = items.iter().map(|item| item.get_ref().as_str());
                let texts = texts.collect::<Option<Vec<_>>>().ok_or_else(|| self.form(value))?;
                texts.into_iter().map(resolve).collect::<Result<_, _>>()?
            }
            _ => return Err(self.form(value)),
        };
        let shown: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
        let shown = shown.join(", ");
        let paths = values.iter().map(|value| self.path(value)).collect::<Result<Vec<_>, _>>()?;
        let words = values.iter().map(|value| self.word(value)).collect();
        Ok(Words { words, shown, paths: paths.into_iter().flatten().collect() })
    }

    /// The path of the host in `value`, if it has one.
    fn path(&self, value: &OsStr) -> Result<Option<PathBuf>, String> {
        Ok(match self.form {
            Form::File => Some(value.into()),
            Form::Volumes => {
                let volume = parse_volume(value);
                let context = |error| format!("{} {}: {error}", self.name, value.display());
                Some(volume.map_err(context)?.source)
            }
            Form::Word | Form::Number | Form::SwitchOrWord => None,
        })
    }

    /// `--option=value`.
    fn word(&self, value: &OsStr) -> OsString {
        [OsStr::new("--"), self.option.as_ref(), "=".as_ref(), value].into_iter().collect()
    }

    fn filled<'t>(&self, text: &'t str) -> Result<&'t str, String> {
        match text {
            "" => Err(format!("a path of {} is empty", self.name)),
            text => Ok(text),
        }
    }

    /// Message about a `value` of another type.
    fn form(&self, value: &DeValue<'_>) -> String {
        let Self { name, form, .. } = self;
        let example = match form {
            Form::Word => "a string, such as \"4G\"",
            Form::File => "a string, such as \"/boot/vmlinuz\"",
            Form::Volumes => "an array of strings, such as [\"./src:/mnt:ro\"]",
            Form::Number => "a number without quotes, such as 4",
            Form::SwitchOrWord => "true, false, or a string such as \"2G\"",
        };
        format!("{name} has the wrong type ({}): give {example}", value.type_str())
    }
}

impl Bases<'_> {
    /// `text`, a path or a volume, with an absolute path.
    ///
    /// # Errors
    /// The path begins with `~/`, and the home directory is unknown.
    pub fn resolve(&self, text: &str) -> Result<OsString, String> {
        let (base, rest) = match text.strip_prefix("~/") {
            Some(rest) => (self.home.ok_or(format!("{text}: HOME is not set"))?, rest),
            None => (self.directory, text.strip_prefix("./").unwrap_or(text)),
        };
        Ok(base.join(rest).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases() -> Bases<'static> {
        Bases { directory: Path::new("/p"), home: Some(Path::new("/home/u")) }
    }

    fn words(name: &str, value: &str) -> Result<Words, String> {
        let key = KEYS.iter().find(|key| key.name == name).unwrap();
        key.words(DeValue::parse(value).unwrap().get_ref(), bases())
    }

    #[test]
    fn values_become_options() {
        for (name, value, expected) in [
            ("memory", "'4G'", &["--memory=4G"][..]),
            ("cpus", "0x10", &["--cpus=16"]),
            ("warm", "'auto'", &["--warm=auto"]),
            ("kernel", "'vmlinuz'", &["--kernel=/p/vmlinuz"]),
            ("kernel", "'./a/vmlinuz'", &["--kernel=/p/a/vmlinuz"]),
            ("kernel", "'~/vmlinuz'", &["--kernel=/home/u/vmlinuz"]),
            ("modules", "'/lib/modules/x'", &["--modules=/lib/modules/x"]),
            ("overlay", "true", &["--overlay"]),
            ("overlay", "false", &[]),
            ("overlay", "'2G'", &["--overlay=2G"]),
            ("volumes", "[]", &[]),
            (
                "volumes",
                "['./a:/b', '~/c:/d:ro']",
                &["--volume=/p/a:/b", "--volume=/home/u/c:/d:ro"],
            ),
        ] {
            let found = words(name, value).unwrap();
            assert_eq!(found.words, expected, "{name} = {value}");
        }
        let volumes = words("volumes", "['./a:/b', '/c:/d:ro']").unwrap();
        assert_eq!(volumes.paths, [Path::new("/p/a"), Path::new("/c")]);
        assert_eq!(volumes.shown, "/p/a:/b, /c:/d:ro");
    }

    #[test]
    fn wrong_types_are_explained() {
        for (name, value, expected) in [
            ("memory", "4096", "memory has the wrong type (integer): give a string"),
            ("warm", "true", "warm has the wrong type (boolean): give a string"),
            ("cpus", "'4'", "cpus has the wrong type (string): give a number without quotes"),
            ("cpus", "1.5", "cpus has the wrong type (float)"),
            ("cpus", "99999999999999999999", "cpus: number too large"),
            ("kernel", "true", "kernel has the wrong type (boolean)"),
            ("kernel", "''", "a path of kernel is empty"),
            ("volumes", "'a:/b'", "volumes has the wrong type (string): give an array"),
            ("volumes", "[1]", "volumes has the wrong type (array): give an array of strings"),
            ("volumes", "['a']", "volumes /p/a: give HOST:GUEST"),
            ("overlay", "1", "overlay has the wrong type (integer): give true, false"),
        ] {
            let error = words(name, value).unwrap_err();
            assert!(error.starts_with(expected), "{name} = {value}: {error}");
        }
        let homeless = Bases { home: None, ..bases() };
        assert_eq!(homeless.resolve("~/x").unwrap_err(), "~/x: HOME is not set");
    }
}
