//! `RUN --mount=…`: fields by a table of known keys.

use super::action::{Access, Mount, Need, Origin};
use super::form::Field;
use super::paths;
use crate::table::{list, nearest, quote};
use crate::values::parse_size;

/// Known key of a mount.
struct Key {
    /// All spellings; the first one names the key here.
    names: &'static [&'static str],
    /// Types that have the key, as in [`TYPES`].
    types: &'static [&'static str],
    /// Whether the key may stand without a value.
    bare: Bare,
}

/// Whether a key may stand without a value, which then is `true`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Yes,
    No,
}

/// Types of mounts. `ssh` is known and refused.
const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret"];

/// Keys of mounts (Dockerfile reference, RUN --mount).
#[rustfmt::skip]
const KEYS: &[Key] = &[
    Key { names: &["type"],                         types: TYPES,                        bare: Bare::No },
    Key { names: &["from"],                         types: &["bind", "cache"],           bare: Bare::No },
    Key { names: &["source", "src"],                types: &["bind", "cache", "secret"], bare: Bare::No },
    Key { names: &["target", "dst", "destination"], types: TYPES,                        bare: Bare::No },
    Key { names: &["readonly", "ro"],               types: &["bind", "cache"],           bare: Bare::Yes },
    Key { names: &["readwrite", "rw"],              types: &["bind", "cache", "tmpfs"],  bare: Bare::Yes },
    Key { names: &["required"],                     types: &["secret"],                  bare: Bare::Yes },
    Key { names: &["size"],                         types: &["tmpfs"],                   bare: Bare::No },
    Key { names: &["id"],                           types: &["cache", "secret"],         bare: Bare::No },
    Key { names: &["sharing"],                      types: &["cache"],                   bare: Bare::No },
    Key { names: &["mode"],                         types: &["cache", "secret"],         bare: Bare::No },
    Key { names: &["uid"],                          types: &["cache", "secret"],         bare: Bare::No },
    Key { names: &["gid"],                          types: &["cache", "secret"],         bare: Bare::No },
    Key { names: &["env"],                          types: &["secret"],                  bare: Bare::No },
];

/// Values of `sharing`. They all mean the same: stages run at the same time, but each machine has
/// its own copy of a cache, and the copy of the one that ends last is kept.
const SHARING: &[&str] = &["shared", "private", "locked"];

/// Reads the fields of one `--mount`. Values keep their variables.
///
/// # Errors
/// A key is unknown or has no value, or the type is not supported.
pub(super) fn fields(text: &str) -> Result<Vec<Field>, String> {
    let fields: Vec<Field> =
        comma_separated(text)?.iter().map(|text| field(text)).collect::<Result<_, _>>()?;
    for field in &fields {
        let value = field.value.as_deref().unwrap_or_default();
        match field.key {
            "type" if !value.contains('$') => mount_type(value).map(|_| ())?,
            // BuildKit decides about the order of stages before it knows any value.
            "from" if value.contains('$') => {
                return Err("RUN --mount: from has no variables: \
                            add a stage FROM ${…} AS NAME and write from=NAME"
                    .to_owned());
            }
            _ => {}
        }
    }
    Ok(fields)
}

/// Field in `text`.
fn field(text: &str) -> Result<Field, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let name = name.to_ascii_lowercase();
    let Some(key) = KEYS.iter().find(|key| key.names.contains(&&*name)) else {
        let names = || KEYS.iter().flat_map(|key| key.names.iter().copied());
        let shown = quote(&name);
        return Err(match nearest(&name, names()) {
            Some(near) => format!("RUN --mount: unknown key {shown}: did you mean {near}?"),
            None => format!("RUN --mount: unknown key {shown}: there are {}", list(names(), "and")),
        });
    };
    if value.is_none() && key.bare == Bare::No {
        return Err(format!("RUN --mount: {name} has no value: write {name}=VALUE"));
    }
    let key = key.names.first().copied().unwrap_or_default();
    Ok(Field { key, value })
}

/// Fields between commas; a field in double quotes may have commas, and a quote as two quotes.
fn comma_separated(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                (field.to_owned(), behind)
            }
            Some(start) => in_quotes(start).ok_or("RUN --mount: a quote does not end")?,
        };
        fields.push(field);
        match (behind.strip_prefix(','), behind) {
            (Some(next), _) => rest = next,
            (None, "") => return Ok(fields),
            (None, behind) => {
                let behind = quote(behind);
                return Err(format!("RUN --mount: {behind} stands behind a quote: add a comma"));
            }
        }
    }
}

/// Text up to the quote that ends it, and what is behind this quote.
fn in_quotes(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, behind)),
        }
    }
}

/// The known type that `value` names.
fn mount_type(value: &str) -> Result<&'static str, String> {
    let value = value.to_ascii_lowercase();
    if value == "ssh" {
        return Err("RUN --mount=type=ssh is not supported: give a key with type=secret".to_owned());
    }
    let unknown = || {
        let known = list(TYPES.iter().copied(), "and");
        format!("RUN --mount: type={} is not known: there are {known}", quote(&value))
    };
    TYPES.iter().find(|known| **known == value).copied().ok_or_else(unknown)
}

/// Directories of the kernel, in which nothing can be mounted.
const KERNEL_DIRECTORIES: &[&str] = &["/proc", "/sys"];

/// Checks the absolute mount point `target`.
fn mount_point(target: String) -> Result<String, String> {
    if target == "/" {
        return Err("RUN --mount: / cannot be a mount point".to_owned());
    }
    let is_in = |directory: &&&str| {
        target
            .strip_prefix(**directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match KERNEL_DIRECTORIES.iter().find(is_in) {
        Some(directory) => Err(format!(
            "RUN --mount: {} cannot be a mount point: nothing can be mounted in {directory}",
            quote(&target)
        )),
        None => Ok(target),
    }
}

/// Values of one mount, expanded.
struct Values {
    kind: &'static str,
    found: Vec<Field>,
}

/// Makes a mount of `fields`, whose values are expanded.
///
/// # Errors
/// A key does not belong to the type, or a value is wrong or missing.
pub(super) fn mount(
    fields: Vec<Field>,
    workdir: &str,
    origin: impl FnOnce(&str) -> Result<Origin, String>,
) -> Result<Mount, String> {
    let last = |key: &str| fields.iter().rfind(|field| field.key == key);
    let kind =
        last("type").and_then(|field| field.value.as_deref()).map_or(Ok("bind"), mount_type)?;
    for field in &fields {
        let key = KEYS.iter().find(|key| key.names.first() == Some(&field.key));
        if key.is_some_and(|key| !key.types.contains(&kind)) {
            return Err(format!("RUN --mount: a mount of type {kind} has no {}", field.key));
        }
    }
    let values = Values { kind, found: fields };
    match kind {
        "cache" => values.cache(workdir, origin),
        "secret" => values.secret(workdir),
        "tmpfs" => Ok(Mount::Tmpfs { target: values.target(workdir)?, size: values.size()? }),
        _ => values.bind(workdir, origin),
    }
}

impl Values {
    /// Value of the last field `key`, if it is not empty.
    fn text(&self, key: &str) -> Option<&str> {
        let field = self.found.iter().rfind(|field| field.key == key)?;
        field.value.as_deref().filter(|value| !value.is_empty())
    }

    /// Mount point, which must be given.
    fn target(&self, workdir: &str) -> Result<String, String> {
        let kind = self.kind;
        let target = self.text("target").ok_or_else(|| {
            format!("RUN --mount: a mount of type {kind} has no target: add target=PATH")
        })?;
        mount_point(paths::absolute(workdir, target))
    }

    /// Truth of the last field `key`.
    fn truth(&self, key: &str) -> Result<Option<bool>, String> {
        /// Spellings (Go `strconv.ParseBool`).
        const SPELLINGS: &[(&str, bool)] = &[
            ("true", true),
            ("1", true),
            ("t", true),
            ("false", false),
            ("0", false),
            ("f", false),
        ];
        let Some(field) = self.found.iter().rfind(|field| field.key == key) else {
            return Ok(None);
        };
        let Some(value) = &field.value else { return Ok(Some(true)) };
        let lower = value.to_ascii_lowercase();
        let found = SPELLINGS.iter().find(|(spelling, _)| *spelling == lower);
        let wrong = || format!("RUN --mount: {key}={} is wrong: give true or false", quote(value));
        found.map(|(_, truth)| Some(*truth)).ok_or_else(wrong)
    }

    /// Access; the last of `readonly` and `readwrite` counts.
    fn access(&self, default: Access) -> Result<Access, String> {
        let is_access = |field: &&Field| matches!(field.key, "readonly" | "readwrite");
        let Some(field) = self.found.iter().rfind(is_access) else { return Ok(default) };
        let is_true = self.truth(field.key)? == Some(true);
        Ok(match (field.key == "readonly", is_true) {
            (true, true) | (false, false) => Access::ReadOnly,
            _ => Access::ReadWrite,
        })
    }

    /// Permission bits.
    fn mode(&self, default: u16) -> Result<u16, String> {
        let Some(value) = self.text("mode") else { return Ok(default) };
        super::modes::octal(value).ok_or_else(|| {
            format!("RUN --mount: mode={} is wrong: give an octal mode such as 0400", quote(value))
        })
    }

    /// Number of a user or a group; the largest one means "no change" (chown(2)).
    fn number(&self, key: &str) -> Result<u32, String> {
        let Some(value) = self.text(key) else { return Ok(0) };
        let number = value.parse().ok().filter(|number| *number != u32::MAX);
        number.ok_or_else(|| {
            let value = quote(value);
            format!("RUN --mount: {key}={value} is wrong: give a number from 0 to 4294967294")
        })
    }

    /// Size in bytes.
    fn size(&self) -> Result<Option<u64>, String> {
        let size = self.text("size").map(parse_size).transpose();
        size.map_err(|error| format!("RUN --mount: size: {error}"))
    }

    /// Absolute path in the origin.
    fn source(&self) -> String {
        paths::absolute("/", self.text("source").unwrap_or("/"))
    }

    /// Mount of type `bind`.
    fn bind(
        &self,
        workdir: &str,
        origin: impl FnOnce(&str) -> Result<Origin, String>,
    ) -> Result<Mount, String> {
        let target = self.target(workdir)?;
        let access = self.access(Access::ReadOnly)?;
        let origin = match self.text("from") {
            None => Origin::Context,
            // An empty tree whose changes are dropped.
            Some("scratch") => return Ok(Mount::Tmpfs { target, size: None }),
            Some(from) => origin(from)?,
        };
        Ok(Mount::Bind { origin, source: self.source(), target, access })
    }

    /// Mount of type `cache`.
    fn cache(
        &self,
        workdir: &str,
        origin: impl FnOnce(&str) -> Result<Origin, String>,
    ) -> Result<Mount, String> {
        if let Some(sharing) = self.text("sharing")
            && !SHARING.contains(&&*sharing.to_ascii_lowercase())
        {
            let (sharing, known) = (quote(sharing), list(SHARING.iter().copied(), "and"));
            return Err(format!("RUN --mount: sharing={sharing} is not known: there are {known}"));
        }
        let target = self.target(workdir)?;
        Ok(Mount::Cache {
            id: self.text("id").unwrap_or(&target).to_owned(),
            access: self.access(Access::ReadWrite)?,
            from: self.text("from").filter(|from| *from != "scratch").map(origin).transpose()?,
            source: self.source(),
            mode: self.mode(0o755)?,
            uid: self.number("uid")?,
            gid: self.number("gid")?,
            target,
        })
    }

    /// Mount of type `secret`.
    fn secret(&self, workdir: &str) -> Result<Mount, String> {
        let (id, source, target) = (self.text("id"), self.text("source"), self.text("target"));
        let last_name =
            |path: &str| path.rsplit('/').find(|n| !n.is_empty()).unwrap_or("").to_owned();
        let id = match (source, id, target) {
            (Some(_), Some(_), _) => {
                return Err("RUN --mount: a secret has both id and source: keep one".to_owned());
            }
            (Some(id), None, _) | (None, Some(id), _) => id.to_owned(),
            (None, None, Some(target)) => last_name(target),
            (None, None, None) => String::new(),
        };
        if id.is_empty() {
            return Err("RUN --mount: a secret has no id: add id=NAME".to_owned());
        }
        let env = self.text("env").map(ToOwned::to_owned);
        let target = match (target, &env) {
            (Some(target), _) => Some(paths::absolute(workdir, target)),
            (None, Some(_)) => None,
            (None, None) => Some(paths::absolute("/run/secrets", &last_name(&id))),
        };
        let target = target.map(mount_point).transpose()?;
        Ok(Mount::Secret {
            id,
            target,
            env,
            need: match self.truth("required")? {
                Some(true) => Need::Must,
                _ => Need::May,
            },
            mode: self.mode(0o400)?,
            uid: self.number("uid")?,
            gid: self.number("gid")?,
        })
    }
}
