//! The records of a request: written by the host, read by the guest.

use std::collections::HashSet;

use proto::error::{Error, Result};
use proto::text::show;
use proto::words::{hex, number, text};

use super::{Access, Bind, Cache, Lower, MAX, Network, Request, Secret, check};

/// Value of `cache=` for a cache without a device.
const NO_DEVICE: &[u8] = b"-";

/// Keys of records that may come only once.
const ONCE: [&str; 6] = ["number", "user", "cwd", "hostname", "network", "resolv-conf"];

/// Accesses as words.
const ACCESSES: [(&str, Access); 2] = [("ro", Access::ReadOnly), ("rw", Access::ReadWrite)];

impl Request {
    /// The records.
    ///
    /// # Errors
    /// A value that the guest would refuse, or more than [`MAX`] bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        check::check(self)?;
        let mut out = Vec::new();
        let mut put = |key: &str, parts: &[&[u8]]| {
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            out.extend(parts.concat());
            out.push(0);
        };
        put("number", &[self.number.to_string().as_bytes()]);
        for lower in &self.lowers {
            match lower {
                Lower::Disk(device) => put("lower", &[b"disk:", device.as_bytes()]),
                Lower::Step(number) => put("lower", &[b"step:", number.to_string().as_bytes()]),
            }
        }
        self.disks.iter().for_each(|device| put("disk", &[device.as_bytes()]));
        self.args.iter().for_each(|word| put("arg", &[word]));
        self.env.iter().for_each(|variable| put("env", &[variable]));
        self.user.iter().for_each(|user| put("user", &[user]));
        put("cwd", &[&self.cwd]);
        put("hostname", &[&self.hostname]);
        match &self.network {
            Network::None => put("network", &[b"none"]),
            Network::User { resolv_conf } => {
                put("network", &[b"user"]);
                put("resolv-conf", &[resolv_conf]);
            }
        }
        for Bind { access, source, path } in &self.binds {
            let access = ACCESSES.iter().find(|(_, row)| row == access).map_or("", |row| row.0);
            let head = format!("{access} {} ", source.len());
            put("bind", &[head.as_bytes(), source, b" ", path]);
        }
        for Cache { device, number, path } in &self.caches {
            let device = device.as_deref().map_or(NO_DEVICE, str::as_bytes);
            put("cache", &[device, b" ", number.to_string().as_bytes(), b" ", path]);
        }
        for Secret { name, bytes } in &self.secrets {
            put("secret", &[name.as_bytes(), b" ", to_hex(bytes).as_bytes()]);
        }
        check_length(out.len())?;
        Ok(out)
    }

    /// Reads the records.
    ///
    /// # Errors
    /// A record is unknown, malformed, missing, or given twice; a value makes no sense; or the
    /// text is longer than [`MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        check_length(bytes.len())?;
        let mut reader = Reader::default();
        for record in bytes.split_inclusive(|&byte| byte == 0) {
            let malformed = || {
                Error::new(
                    format_args!("request of a step: bad record \"{}\"", show(&shown(record))),
                    "chrootvm and its program for steps are of different versions",
                )
            };
            reader.take(record).ok_or_else(malformed)?;
        }
        let missing = |key| Error::new(format_args!("request of a step: {key}= is missing"), "");
        let mut request = reader.request;
        if !reader.seen.contains("number") {
            return Err(missing("number"));
        }
        match (&mut request.network, reader.resolv_conf) {
            (_, None) => {}
            (Network::User { resolv_conf }, Some(text)) => *resolv_conf = text,
            (Network::None, Some(_)) => return Err(missing("network=user for resolv-conf")),
        }
        check::check(&request)?;
        Ok(request)
    }
}

fn check_length(length: usize) -> Result<()> {
    match length <= MAX {
        true => Ok(()),
        false => Err(Error::new(
            format_args!("request of a step: it has {length} bytes"),
            "at most 4 MiB are allowed",
        )),
    }
}

/// The part of a record that a message may show: no bytes of secrets, and not too much.
fn shown(record: &[u8]) -> Vec<u8> {
    /// Most bytes of a record in a message.
    const SHOWN_MAX: usize = 100;
    let key = record.split(|&byte| byte == b'=').next().unwrap_or_default();
    match key {
        b"secret" => b"secret=...".to_vec(),
        _ => record.iter().copied().take(SHOWN_MAX).collect(),
    }
}

/// A request of which some records have been read.
#[derive(Default)]
struct Reader {
    request: Request,
    resolv_conf: Option<Vec<u8>>,
    /// Keys of [`ONCE`] that were read.
    seen: HashSet<String>,
}

impl Reader {
    /// Takes one record with its NUL.
    fn take(&mut self, record: &[u8]) -> Option<()> {
        let record = record.strip_suffix(b"\0")?;
        let (key, value) = split(record, b'=')?;
        let key = text(key);
        if ONCE.contains(&key) && !self.seen.insert(key.to_owned()) {
            return None;
        }
        let request = &mut self.request;
        match key {
            "number" => request.number = number32(value)?,
            "lower" => request.lowers.push(lower(value)?),
            "disk" => request.disks.push(string(value)?),
            "arg" => request.args.push(value.to_vec()),
            "env" => request.env.push(value.to_vec()),
            "user" => request.user = Some(value.to_vec()),
            "cwd" => request.cwd = value.to_vec(),
            "hostname" => request.hostname = value.to_vec(),
            "network" => {
                request.network = match value {
                    b"none" => Network::None,
                    b"user" => Network::User { resolv_conf: Vec::new() },
                    _ => return None,
                }
            }
            "resolv-conf" => self.resolv_conf = Some(value.to_vec()),
            "bind" => request.binds.push(bind(value)?),
            "cache" => request.caches.push(cache(value)?),
            "secret" => request.secrets.push(secret(value)?),
            _ => return None,
        }
        Some(())
    }
}

fn lower(value: &[u8]) -> Option<Lower> {
    match split(value, b':')? {
        (b"disk", device) => Some(Lower::Disk(string(device)?)),
        (b"step", number) => Some(Lower::Step(number32(number)?)),
        _ => None,
    }
}

fn bind(value: &[u8]) -> Option<Bind> {
    let (access, rest) = split(value, b' ')?;
    let access = ACCESSES.iter().find(|(word, _)| *word == text(access))?.1;
    let (length, rest) = split(rest, b' ')?;
    let (source, rest) = rest.split_at_checked(usize::try_from(number(length)?).ok()?)?;
    Some(Bind { access, source: source.to_vec(), path: rest.strip_prefix(b" ")?.to_vec() })
}

fn cache(value: &[u8]) -> Option<Cache> {
    let (device, rest) = split(value, b' ')?;
    let (number, path) = split(rest, b' ')?;
    let device = if device == NO_DEVICE { None } else { Some(string(device)?) };
    Some(Cache { device, number: number32(number)?, path: path.to_vec() })
}

fn secret(value: &[u8]) -> Option<Secret> {
    let (name, digits) = split(value, b' ')?;
    let (pairs, odd) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::try_from(hex(pair)?).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<_>>()?;
    odd.is_empty().then_some(Secret { name: string(name)?, bytes })
}

/// The bytes before and after the first `separator`.
fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn number32(text: &[u8]) -> Option<u32> {
    u32::try_from(number(text)?).ok()
}

fn string(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
