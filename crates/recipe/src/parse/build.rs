//! `[from]`, `[build]`, `[init]` and `[busybox]`.

use std::collections::BTreeSet;

use super::path;
use crate::model::{
    Base, Build, Busybox, BusyboxSource, From, HostVolume, Init, Network, Normalisation, Secret,
};
use crate::table::{Fault, Fields, quote};
use crate::values::{parse_duration, parse_memory, parse_size};

/// `[from]`.
pub(super) fn from(fields: &Fields) -> From {
    let verb = fields.verb();
    let text = fields.text(verb).unwrap_or_default();
    let base = match verb {
        "oci" => Base::Oci(text),
        "oci-layout" => Base::OciLayout(text),
        "oci-archive" => Base::OciArchive(text),
        "docker-archive" => Base::DockerArchive(text),
        "image" => Base::Image(text.into()),
        "dir" => Base::Dir(text.into()),
        "tar" => Base::Tar(text.into()),
        "recipe" => Base::Recipe(text.into()),
        _ => Base::Empty,
    };
    let digest = fields.text("digest").map(|digest| digest.to_ascii_lowercase());
    From { base, platform: fields.text("platform"), digest }
}

/// `[build]`; without it, the defaults.
pub(super) fn build(fields: Option<&Fields>) -> Result<Build, Fault> {
    let default = Build::default();
    let Some(fields) = fields else { return Ok(default) };
    let secret = |(name, fields): (&String, &Fields)| {
        let text = fields.text(fields.verb()).unwrap_or_default();
        let secret = match fields.verb() {
            "env" => Secret::Env(text),
            _ => Secret::File(text.into()),
        };
        (name.clone(), secret)
    };
    let volume = |(at, fields): (&String, &Fields)| {
        let path = path(fields, "path").unwrap_or_default();
        let writable = fields.truth("writable").unwrap_or(false);
        (at.clone(), HostVolume { path, writable })
    };
    unique(fields, "cache")?;
    Ok(Build {
        network: fields.named("network", Network::ALL).unwrap_or(default.network),
        timeout: fields.parsed("timeout", parse_duration)?.unwrap_or(default.timeout),
        memory: memory(fields)?,
        cpus: fields.number("cpus"),
        disk: fields.parsed("disk", parse_size)?.unwrap_or(default.disk),
        hostname: fields.text("hostname").unwrap_or(default.hostname),
        env: fields.map("env"),
        secrets: fields.named_tables("secrets").map(secret).collect(),
        cache: fields.texts("cache"),
        volumes: fields.named_tables("volumes").map(volume).collect(),
        normalise: normalise(fields, default.normalise)?,
        time: fields.number("time"),
    })
}

/// The key `memory`, in bytes.
pub(super) fn memory(fields: &Fields) -> Result<Option<u64>, Fault> {
    /// Bytes of a MiB.
    const MEBIBYTE: u64 = 1 << 20;
    fields.parsed("memory", |text| {
        let bytes = parse_memory(text)?.checked_mul(MEBIBYTE);
        bytes.ok_or_else(|| "the size is too large".to_owned())
    })
}

/// Fails if a list names something twice.
pub(super) fn unique(fields: &Fields, key: &str) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    match fields.items(key).iter().find(|item| !names.insert(&item.text)) {
        Some(item) => {
            Err(Fault::new(item.at, format!("{key}: {} is named twice", quote(&item.text))))
        }
        None => Ok(()),
    }
}

fn normalise(fields: &Fields, all: Vec<Normalisation>) -> Result<Vec<Normalisation>, Fault> {
    const KEY: &str = "normalise";
    unique(fields, KEY)?;
    let listed = |text: String| {
        let row = Normalisation::ALL.iter().find(|(name, _)| *name == text);
        row.map(|(_, kind)| *kind)
    };
    Ok(match (fields.truth(KEY), fields.given_texts(KEY)) {
        (Some(false), _) => Vec::new(),
        (_, Some(names)) => names.into_iter().filter_map(listed).collect(),
        (_, None) => all,
    })
}

/// `[init]`.
pub(super) fn init(fields: &Fields) -> Init {
    let text = fields.text(fields.verb()).unwrap_or_default();
    match fields.verb() {
        "builtin" => Init::Builtin,
        "file" => Init::File(text.into()),
        "image" => Init::Image(text),
        _ => Init::None,
    }
}

/// `[busybox]`.
pub(super) fn busybox(fields: &Fields) -> Busybox {
    let text = fields.text(fields.verb()).unwrap_or_default();
    let source = match fields.verb() {
        "url" => BusyboxSource::Url { url: text, sha256: sha256(fields) },
        _ => BusyboxSource::Path(text.into()),
    };
    Busybox {
        source,
        to: fields.text("to").unwrap_or_else(|| Busybox::TO.to_owned()),
        applets: fields.given_texts("applets"),
    }
}

/// The key `sha256`, in small letters.
pub(super) fn sha256(fields: &Fields) -> String {
    fields.text("sha256").unwrap_or_default().to_ascii_lowercase()
}
