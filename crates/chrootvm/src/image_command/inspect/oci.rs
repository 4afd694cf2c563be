//! Facts about an OCI image: its config and its layers.
//!
//! All texts come from the image and are not trusted: for people, they are shown with escapes.

use std::collections::BTreeMap;

use anyhow::Result;
use files::tell::show;
use files::time::timestamp;
use indicatif::HumanBytes;
use oci::document::config::{Healthcheck, Process};
use oci::image::Image;
use serde::Serialize;

use super::Line;

/// What there is to say about an OCI image without reading its layers.
#[derive(Debug, Serialize)]
pub(in super::super) struct OciFacts {
    /// Name of the image, as it was opened.
    name: String,
    /// Digest of the manifest.
    digest: String,
    /// Digest of the config.
    config_digest: String,
    /// Platform of the image.
    platform: String,
    /// Platforms of the index; only the image's own if there is no index.
    platforms: Vec<String>,
    /// Time of the image, as RFC 3339 has it; `None` if the config has none.
    created: Option<String>,
    /// The command and its surroundings.
    config: ProcessFacts,
    /// The layers, the lowest first.
    pub(in super::super) layers: Vec<LayerFacts>,
}

/// The command of an image and its surroundings, as in the image's config.
#[derive(Debug, Serialize)]
struct ProcessFacts {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    user: String,
    working_dir: String,
    stop_signal: Option<String>,
    volumes: Vec<String>,
    exposed_ports: Vec<String>,
    labels: BTreeMap<String, String>,
    healthcheck: Option<HealthFacts>,
}

/// A health check. Times are in nanoseconds, and 0 stands for the default, as in the config.
#[derive(Debug, Serialize)]
struct HealthFacts {
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

/// One layer.
#[derive(Debug, Serialize)]
pub(in super::super) struct LayerFacts {
    /// Digest of the blob.
    pub(in super::super) digest: String,
    /// Media type of the blob.
    pub(in super::super) media_type: String,
    /// Compression by the media type: `gzip`, `zstd` or `none`.
    pub(in super::super) compression: &'static str,
    /// Bytes of the blob.
    pub(in super::super) size: u64,
    /// Digest of the unpacked layer.
    pub(in super::super) diff_id: String,
    /// Bytes of the unpacked layer; `None` unless the cache has it.
    pub(in super::super) unpacked_size: Option<u64>,
    /// The command that made the layer; `None` if the image does not say.
    pub(in super::super) created_by: Option<String>,
}

/// Endings of media types, and the compressions that they name.
#[rustfmt::skip]
const COMPRESSIONS: &[(&str, &str)] = &[
    ("gzip", "gzip"),
    ("zstd", "zstd"),
];

impl OciFacts {
    /// The facts about `image`.
    ///
    /// # Errors
    /// A layer of the cache that cannot be opened.
    pub(in super::super) fn of(image: &Image) -> Result<Self> {
        let (manifest, config) = (&image.manifest, &image.config);
        let parts = manifest.layers.iter().zip(&config.diff_ids).zip(config.steps());
        let layers = parts.enumerate().map(|(number, ((layer, diff_id), step))| {
            Ok(LayerFacts {
                digest: layer.digest.to_string(),
                media_type: layer.media_type.clone(),
                compression: compression(&layer.media_type),
                size: layer.size,
                diff_id: diff_id.to_string(),
                unpacked_size: image.unpacked_size(number)?,
                created_by: step
                    .map(|step| step.created_by.clone())
                    .filter(|text| !text.is_empty()),
            })
        });
        Ok(Self {
            name: image.name.clone(),
            digest: image.manifest_digest.to_string(),
            config_digest: image.config_digest.to_string(),
            platform: config.platform.to_string(),
            platforms: image.platforms.iter().map(ToString::to_string).collect(),
            created: (config.created != 0).then(|| timestamp(config.created)),
            config: ProcessFacts::of(&config.process),
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// The facts for people.
    pub(super) fn lines(&self) -> Vec<Line> {
        let text = |text: &str| show(text.as_bytes());
        let quoted = |words: &[String]| {
            let words: Vec<_> = words.iter().map(|word| format!("\"{}\"", text(word))).collect();
            words.join(" ")
        };
        let process = &self.config;
        let mut lines = vec![
            ("image", text(&self.name)),
            ("digest", self.digest.clone()),
            ("config", self.config_digest.clone()),
            ("platform", text(&self.platform)),
        ];
        let others = self.platforms.iter().filter(|other| **other != self.platform);
        lines.extend(others.map(|platform| ("also for", text(platform))));
        lines.extend(self.created.clone().map(|time| ("created", time)));
        let words = [("entrypoint", &process.entrypoint), ("command", &process.cmd)];
        let given = words.into_iter().filter(|(_, words)| !words.is_empty());
        lines.extend(given.map(|(name, words)| (name, quoted(words))));
        lines.extend(process.env.iter().map(|pair| ("env", text(pair))));
        let single = [
            ("user", Some(&process.user)),
            ("directory", Some(&process.working_dir)),
            ("stop signal", process.stop_signal.as_ref()),
        ];
        let given = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        lines.extend(given.filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n, text(v))));
        lines.extend(process.volumes.iter().map(|path| ("volume", text(path))));
        lines.extend(process.exposed_ports.iter().map(|port| ("port", text(port))));
        let labels = process.labels.iter();
        lines.extend(labels.map(|(name, value)| ("label", text(&format!("{name}={value}")))));
        lines.extend(process.healthcheck.as_ref().map(|health| ("health", health.text())));
        lines.push(("layers", self.sizes()));
        lines
    }

    /// Number and sizes of the layers.
    fn sizes(&self) -> String {
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let read = HumanBytes(sum(&mut self.layers.iter().map(|layer| layer.size)));
        let unpacked: Option<Vec<u64>> =
            self.layers.iter().map(|layer| layer.unpacked_size).collect();
        let count = self.layers.len();
        match unpacked {
            Some(sizes) if count > 0 => {
                let unpacked = HumanBytes(sum(&mut sizes.into_iter()));
                format!("{count}, {read}, {unpacked} unpacked")
            }
            _ => format!("{count}, {read}"),
        }
    }
}

impl ProcessFacts {
    fn of(process: &Process) -> Self {
        let process = process.clone();
        Self {
            entrypoint: process.entrypoint,
            cmd: process.cmd,
            env: process.env,
            user: process.user,
            working_dir: process.working_dir,
            stop_signal: process.stop_signal,
            volumes: process.volumes,
            exposed_ports: process.exposed_ports,
            labels: process.labels,
            healthcheck: process.health.map(HealthFacts::of),
        }
    }
}

impl HealthFacts {
    fn of(health: Healthcheck) -> Self {
        let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = health;
        Self { test, interval, timeout, start_period, start_interval, retries }
    }

    /// The check in one line. Times that are left to the default are left out.
    fn text(&self) -> String {
        let words = self.test.iter().map(|word| show(word.as_bytes()));
        let mut parts = vec![words.collect::<Vec<_>>().join(" ")];
        let times = [
            ("every", self.interval),
            ("for at most", self.timeout),
            ("after", self.start_period),
            ("until then every", self.start_interval),
        ];
        let given = times.into_iter().filter(|(_, nanoseconds)| *nanoseconds > 0);
        parts.extend(given.map(|(name, nanoseconds)| {
            format!("{name} {:?}", std::time::Duration::from_nanos(nanoseconds))
        }));
        parts.extend((self.retries > 0).then(|| format!("{} retries", self.retries)));
        parts.join(", ")
    }
}

/// The compression that a media type names.
fn compression(media_type: &str) -> &'static str {
    let row = COMPRESSIONS.iter().find(|(ending, _)| media_type.ends_with(ending));
    row.map_or("none", |row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_name_compressions() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", "none"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
        ] {
            assert_eq!(compression(media_type), expected);
        }
    }

    #[test]
    fn a_health_check_is_one_line() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".into(), "curl\n-f x".into()],
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        assert_eq!(HealthFacts::of(check).text(), "CMD-SHELL curl\\n-f x, every 30s, 3 retries");
    }
}
