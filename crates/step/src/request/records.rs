//! The records of a request: written by the host, read by the guest.

use std::collections::HashSet;

use proto::error::{Error, Result};
use proto::text::show;
use proto::words::{hex, number, text};

use super::{
    Access, Bind, BindAccess, Cache, EtcFiles, Lower, MAX, Network, Request, RunDirectory, Secret,
    Tmpfs, check,
};

/// Word for a device or a size that is not given.
const NOT_GIVEN: &[u8] = b"-";

/// Keys of records that may come only once.
const ONCE: [&str; 8] =
    ["number", "user", "cwd", "hostname", "network", "resolv-conf", "run", "etc"];

/// What is in `/run`, as words.
const RUN_DIRECTORIES: [(&str, RunDirectory); 2] =
    [("fresh", RunDirectory::Fresh), ("image", RunDirectory::Image)];

/// What the files in `/etc` are, as words.
const ETC_FILES: [(&str, EtcFiles); 2] =
    [("image", EtcFiles::Image), ("private", EtcFiles::Private)];

/// Accesses as words.
const ACCESSES: [(&str, Access); 2] = [("ro", Access::ReadOnly), ("rw", Access::ReadWrite)];

/// Accesses to binds as words.
const BIND_ACCESSES: [(&str, BindAccess); 3] =
    [("ro", BindAccess::ReadOnly), ("rw", BindAccess::ReadWrite), ("scratch", BindAccess::Scratch)];

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
        put("run", &[word(&RUN_DIRECTORIES, &self.run).as_bytes()]);
        put("etc", &[word(&ETC_FILES, &self.etc).as_bytes()]);
        for Bind { access, source, path } in &self.binds {
            let head = format!("{} {} ", word(&BIND_ACCESSES, access), source.len());
            put("bind", &[head.as_bytes(), source, b" ", path]);
        }
        for Cache { device, number, access, mode, uid, gid, path } in &self.caches {
            let device = device.as_deref().map_or(NOT_GIVEN, str::as_bytes);
            let access = word(&ACCESSES, access);
            let middle = format!(" {number} {access} {mode:o} {uid} {gid} ");
            put("cache", &[device, middle.as_bytes(), path]);
        }
        for Tmpfs { size, path } in &self.tmpfs {
            let size = size.map(|size| size.to_string().into_bytes());
            put("tmpfs", &[size.as_deref().unwrap_or(NOT_GIVEN), b" ", path]);
        }
        for Secret { path, mode, uid, gid, bytes } in &self.secrets {
            let head = format!("{mode:o} {uid} {gid} {} ", path.len());
            put("secret", &[head.as_bytes(), path, b" ", to_hex(bytes).as_bytes()]);
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
    match key.starts_with(b"secret") {
        true => b"secret=...".to_vec(),
        false => record.iter().copied().take(SHOWN_MAX).collect(),
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
            "run" => request.run = with_word(&RUN_DIRECTORIES, value)?,
            "etc" => request.etc = with_word(&ETC_FILES, value)?,
            "bind" => request.binds.push(bind(value)?),
            "cache" => request.caches.push(cache(value)?),
            "tmpfs" => request.tmpfs.push(tmpfs(value)?),
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
    let ([access, length], rest) = words(value)?;
    let access = with_word(&BIND_ACCESSES, access)?;
    let (source, path) = counted(length, rest)?;
    Some(Bind { access, source: source.to_vec(), path: path.to_vec() })
}

fn cache(value: &[u8]) -> Option<Cache> {
    let ([device, number, access, mode, uid, gid], path) = words(value)?;
    Some(Cache {
        device: if device == NOT_GIVEN { None } else { Some(string(device)?) },
        number: number32(number)?,
        access: with_word(&ACCESSES, access)?,
        mode: octal(mode)?,
        uid: number32(uid)?,
        gid: number32(gid)?,
        path: path.to_vec(),
    })
}

fn tmpfs(value: &[u8]) -> Option<Tmpfs> {
    let ([size], path) = words(value)?;
    let size = if size == NOT_GIVEN { None } else { Some(number(size)?) };
    Some(Tmpfs { size, path: path.to_vec() })
}

fn secret(value: &[u8]) -> Option<Secret> {
    let ([mode, uid, gid, length], rest) = words(value)?;
    let (path, digits) = counted(length, rest)?;
    let (pairs, odd) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::try_from(hex(pair)?).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<_>>()?;
    let (mode, uid, gid) = (octal(mode)?, number32(uid)?, number32(gid)?);
    odd.is_empty().then_some(Secret { path: path.to_vec(), mode, uid, gid, bytes })
}

/// The word of a row.
fn word<T: PartialEq>(rows: &[(&'static str, T)], value: &T) -> &'static str {
    rows.iter().find(|(_, row)| row == value).map_or("", |row| row.0)
}

/// The value of the row with this word.
fn with_word<T: Copy>(rows: &[(&str, T)], word: &[u8]) -> Option<T> {
    rows.iter().find(|(row, _)| *row == text(word)).map(|row| row.1)
}

/// The first words, each of which a blank ends, and the bytes after them.
fn words<const N: usize>(mut text: &[u8]) -> Option<([&[u8]; N], &[u8])> {
    let mut words = [&[][..]; N];
    for word in &mut words {
        (*word, text) = split(text, b' ')?;
    }
    Some((words, text))
}

/// The first `length` bytes, which a blank ends, and the bytes after them.
fn counted<'a>(length: &[u8], text: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (head, rest) = text.split_at_checked(usize::try_from(number(length)?).ok()?)?;
    Some((head, rest.strip_prefix(b" ")?))
}

/// An octal number; digits only.
fn octal(text: &[u8]) -> Option<u16> {
    let is_octal = !text.is_empty() && text.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    u16::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok().filter(|_| is_octal)
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
