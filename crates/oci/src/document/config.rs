//! The config of an image: what runs in it, as whom and where, and the digests of its unpacked
//! layers.
//!
//! Format: OCI image specification, `config.md`; `Healthcheck`, `Shell` and `OnBuild` are
//! Docker's.
//! Unknown members are ignored, as the specification demands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use anyhow::{Result, anyhow, ensure};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::name::digest::Digest;
use crate::name::platform::Platform;
use crate::shown::shown;

/// The config of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The platform for which the image was built.
    pub platform: Platform,
    /// Time at which the image was built, in seconds since 1970; 0 if the config has none.
    pub created: i64,
    /// Digests of the unpacked layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// The steps that made the image, the first one first. Steps that made a layer have the order
    /// of the layers, if the image is consistent.
    pub history: Vec<Step>,
    /// The command and its surroundings.
    pub process: Process,
}

/// One step of making an image (a member of `history`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// Time of the step, as RFC 3339 has it.
    #[serde(default, deserialize_with = "or_default")]
    pub created: String,
    /// The command, as its author wrote it.
    #[serde(default, deserialize_with = "or_default")]
    pub created_by: String,
    /// A remark.
    #[serde(default, deserialize_with = "or_default")]
    pub comment: String,
    /// Whether the step changed no files, so that it has no layer.
    #[serde(default, deserialize_with = "or_default")]
    pub empty_layer: bool,
}

/// The command of an image and its surroundings (the member `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The first words of the command.
    pub entrypoint: Vec<String>,
    /// The further words, which a user can replace.
    pub cmd: Vec<String>,
    /// Environment variables, each as `NAME=VALUE`.
    pub env: Vec<String>,
    /// User and group as text: names or numbers. Empty for root.
    pub user: String,
    /// Working directory. Empty for `/`.
    pub working_dir: String,
    /// Signal that asks the command to end: a name or a number.
    pub stop_signal: Option<String>,
    /// Paths of volumes.
    pub volumes: Vec<String>,
    /// Ports at which the command listens, each as `PORT` or `PORT/PROTOCOL`.
    pub exposed_ports: Vec<String>,
    /// Names and values for people.
    pub labels: BTreeMap<String, String>,
    /// The shell of lines of a Containerfile, as words; empty for `/bin/sh -c`.
    pub shell: Vec<String>,
    /// Lines of a Containerfile for images that are built from this one.
    pub on_build: Vec<String>,
    /// How to find out whether the command works.
    pub health: Option<Healthcheck>,
}

/// How to find out whether a command works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`; `CMD` and the words of a command; or `CMD-SHELL` and a line for a shell.
    #[serde(default, deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks; 0 for the default.
    #[serde(default)]
    pub interval: u64,
    /// Nanoseconds that a check may take; 0 for the default.
    #[serde(default)]
    pub timeout: u64,
    /// Nanoseconds after the start in which a failed check does not count.
    #[serde(default)]
    pub start_period: u64,
    /// Nanoseconds between two checks in that time; 0 for the default.
    #[serde(default)]
    pub start_interval: u64,
    /// Failed checks in a row after which the command counts as broken; 0 for the default.
    #[serde(default)]
    pub retries: u32,
}

impl Config {
    /// The step that made each layer. `None` for all layers if the history has another number of
    /// them than the image.
    pub fn steps(&self) -> impl Iterator<Item = Option<&Step>> {
        let made = self.history.iter().filter(|step| !step.empty_layer);
        let is_whole = made.clone().count() == self.diff_ids.len();
        let mut made = made.filter(move |_| is_whole);
        self.diff_ids.iter().map(move |_| made.next())
    }

    /// Parses a config.
    ///
    /// # Errors
    /// Text that is no config; a member of a wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let raw = serde_json::from_slice::<Raw>(bytes).map_err(|error| {
            anyhow!("not the config of an image: {}", shown(&error.to_string()))
        })?;
        let process = raw.config.unwrap_or_default();
        ensure!(
            raw.rootfs.kind.is_empty() || raw.rootfs.kind == "layers",
            "a root file system of type {}: only \"layers\" is known",
            shown(&raw.rootfs.kind)
        );
        Ok(Self {
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant.filter(|text| !text.is_empty()),
            },
            created: raw.created.as_deref().and_then(seconds).unwrap_or_default(),
            diff_ids: raw.rootfs.diff_ids,
            history: raw.history,
            process: Process {
                entrypoint: process.entrypoint,
                cmd: process.cmd,
                env: variables(process.env),
                user: process.user,
                working_dir: process.working_dir,
                stop_signal: process.stop_signal.filter(|text| !text.is_empty()),
                volumes: process.volumes.0.into_iter().collect(),
                exposed_ports: process.exposed_ports.0.into_iter().collect(),
                labels: process.labels,
                shell: process.shell,
                on_build: process.on_build,
                health: process.healthcheck,
            },
        })
    }
}

/// The environment: of two values for a name the last one, at the place of the first. Text
/// without a name or without a value is left out: no process can have it.
fn variables(given: Vec<String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for pair in given {
        let Some((name, _)) = pair.split_once('=').filter(|pair| !pair.0.is_empty()) else {
            continue;
        };
        match places.get(name) {
            Some(&place) => found[place] = pair,
            None => {
                places.insert(name.to_owned(), found.len());
                found.push(pair);
            }
        }
    }
    found
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawProcess>,
    #[serde(default, deserialize_with = "or_default")]
    history: Vec<Step>,
    #[serde(default)]
    rootfs: RawRootfs,
}

#[derive(Default, Deserialize)]
struct RawRootfs {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

/// Members may be missing or `null`; writers differ.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    stop_signal: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    volumes: Keys,
    #[serde(default, deserialize_with = "or_default")]
    exposed_ports: Keys,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    shell: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    on_build: Vec<String>,
    healthcheck: Option<Healthcheck>,
}

/// The names of an object whose values say nothing. They are in byte order, so that the order of
/// the text does not show.
#[derive(Default)]
struct Keys(BTreeSet<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            keys.insert(key);
        }
        Ok(Keys(keys))
    }
}

/// Reads `null` as the default value.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Most digits of a number in a time: those of a year are four, or a few more.
const DIGITS_MAX: usize = 6;

/// Seconds since 1970 of a time as in RFC 3339; `None` if it is none.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    // Short numbers cannot overflow below.
    let is_number =
        |text: &&str| text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| Some(text).filter(is_number)?.parse::<i64>().ok();
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (number(clock.next()?)?, number(clock.next()?)?);
    let second = number(clock.next()?.split('.').next()?)?;
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, rest) => {
            let (hours, minutes) = rest.split_once(':')?;
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            if hours >= 24 || minutes >= 60 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && year < 10_000;
    let in_range = in_range && hour < 24 && minute < 60 && second <= 60;
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset;
    in_range.then_some(minutes * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. A year is counted from March, so
/// that the leap day is its last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    const BEFORE_1970: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_month = (153 * month + 2) / 5;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_month + day
        - 1
        - BEFORE_1970
}
