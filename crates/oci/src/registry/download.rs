//! A blob or a file as a stream that survives broken connections.
//!
//! Protocol: range requests (RFC 9110 §14). After a break the stream asks for the rest. A server
//! that sends everything again is read up to where the stream was, a few times. Whether the bytes are right
//! is for the reader to find out by their digest; what can be seen earlier is an error here: an
//! answer of another length, or another entity tag from the same server.
//!
//! The size of a blob is known from its manifest. That of a file is what the first answer that
//! tells it says; an answer that does not tell it ends the file by its own end.

use std::fmt::Display;
use std::io::{self, Read};
use std::thread::sleep;

use anyhow::{Context, Result, bail, ensure};
use ureq::BodyReader;
use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, TRANSFER_ENCODING};

use super::exchange::{Answer, tell_wait};
use super::failure::Failure;
use super::retry::{Limits, Retry};
use super::url::Url;

/// After so many bytes a connection counts as good, and the attempts are counted anew.
const PROGRESS: u64 = 64 << 10;
/// Bytes that are read at a time to be skipped.
const SKIP_PIECE: usize = 64 << 10;

/// Requests the contents from a byte on. The status of the answer is one of success.
type Open = dyn Fn(u64) -> Result<Answer> + Send;

/// How many bytes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// So many, by a manifest.
    Exact(u64),
    /// As many as the server says, but at most so many. A server that does not say it may send
    /// more.
    AtMost(u64),
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By its length or its last chunk: the connection can be used again.
    Marked,
    /// By the end of the connection, which may come late or never.
    Closed,
}

/// A blob or a file as a stream.
pub(super) struct Download {
    open: Box<Open>,
    /// Number of the next byte.
    at: u64,
    /// What is known about the size before the first answer.
    bound: Size,
    /// Bytes of the whole; `None` until they are known.
    size: Option<u64>,
    body: Option<BodyReader<'static>>,
    ending: Ending,
    /// Entity tag, and the server that gave it.
    tag: Option<(Url, String)>,
    limits: Limits,
    retry: Retry,
    /// Bytes since the attempts were last counted anew.
    progress: u64,
    /// Whether the connection began where the stream was.
    is_resumed: bool,
}

impl Download {
    /// The bytes from `at` on of something that has the size `bound`. `open` asks for the bytes
    /// from a number on; it is called at once, and again after a break.
    ///
    /// # Errors
    /// Those of `open`; an answer of another length.
    pub(super) fn start(
        at: u64,
        bound: Size,
        limits: Limits,
        open: impl Fn(u64) -> Result<Answer> + Send + 'static,
    ) -> Result<Self> {
        let size = match bound {
            Size::Exact(size) => Some(size),
            Size::AtMost(_) => None,
        };
        ensure!(
            size.is_none_or(|size| at <= size),
            "byte {at} of a blob of {} bytes",
            size.unwrap_or_default()
        );
        let retry = Retry::new(limits);
        let mut download = Self {
            open: Box::new(open),
            at,
            bound,
            size,
            body: None,
            ending: Ending::Closed,
            tag: None,
            limits,
            retry,
            progress: 0,
            is_resumed: true,
        };
        if at == 0 || size != Some(at) {
            download.connect()?;
        }
        Ok(download)
    }

    /// Asks for the bytes from `self.at` on. A connection that breaks while bytes are skipped is
    /// no error: the next reading asks again.
    fn connect(&mut self) -> Result<()> {
        let answer = (self.open)(self.at)?;
        let (server, status) = (answer.url.clone(), answer.status);
        if let Some(tag) = answer.header(&ETAG) {
            let known = self.tag.as_ref().filter(|known| known.0.is_same_server(&server));
            ensure!(
                known.is_none_or(|known| known.1 == tag),
                "{server}: the contents changed while they were read"
            );
            self.tag = Some((server.clone(), tag.to_owned()));
        }
        let start = match status {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header(&CONTENT_RANGE).unwrap_or_default();
                let found = content_range(range);
                let (start, size) = found
                    .with_context(|| format!("{server}: sends a part without saying which"))?;
                ensure!(start == self.at, "{server}: sends byte {start} instead of {}", self.at);
                self.check_size(&server, size)?;
                start
            }
            StatusCode::OK => {
                self.check_size(&server, answer.body.content_length())?;
                0
            }
            status => bail!("{server}: {status} is no answer with contents"),
        };
        self.is_resumed = start == self.at;
        let marks = [CONTENT_LENGTH, TRANSFER_ENCODING];
        self.ending = match marks.iter().any(|mark| answer.headers.contains_key(mark)) {
            true => Ending::Marked,
            false => Ending::Closed,
        };
        let mut body = answer.body.into_reader();
        match skip(&mut body, self.at - start) {
            Ok(()) => self.body = Some(body),
            Err(error) => self.after_break(error)?,
        }
        Ok(())
    }

    /// Compares the size that an answer tells with what is known. It becomes known if it was not.
    fn check_size(&mut self, server: &Url, told: Option<u64>) -> Result<()> {
        let Some(told) = told else { return Ok(()) };
        match (self.bound, self.size) {
            (Size::Exact(size), _) => {
                ensure!(told == size, "{server}: has {told} bytes; the manifest says {size}");
            }
            (Size::AtMost(_), Some(size)) => {
                ensure!(told == size, "{server}: has {told} bytes, and had {size} before");
            }
            (Size::AtMost(max), None) => {
                ensure!(told <= max, "{server}: has {told} bytes, more than the limit of {max}");
                let at = self.at;
                ensure!(at <= told, "{server}: has {told} bytes; byte {at} was asked for");
                self.size = Some(told);
            }
        }
        Ok(())
    }

    /// Waits after a break.
    fn after_break(&mut self, error: impl Display) -> Result<()> {
        self.body = None;
        let read = match self.size {
            Some(size) => format!("{} of {size}", self.at),
            None => self.at.to_string(),
        };
        let Some(pause) = self.retry.after_failure(None) else {
            bail!("broken off after {read} bytes, and again in further attempts: {error}");
        };
        tell_wait(&format!("broken off after {read} bytes: {error}"), pause);
        sleep(pause);
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let left = self.size.map_or(u64::MAX, |size| size - self.at);
            if left == 0 || buffer.is_empty() {
                return Ok(0);
            }
            let Some(body) = &mut self.body else {
                match self.connect() {
                    Err(error) if is_outage(&error) => self.after_break(format!("{error:#}"))?,
                    connected => connected?,
                }
                continue;
            };
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let error = match body.read(&mut buffer[..room]) {
                Ok(0) if self.size.is_none() => {
                    self.size = Some(self.at);
                    continue;
                }
                Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof),
                Ok(count) => {
                    self.advance(count as u64);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.after_break(error)?;
        }
    }

    fn advance(&mut self, count: u64) {
        self.at += count;
        self.progress += count;
        // A server that begins again each time would send a large blob very often.
        if self.progress >= PROGRESS && self.is_resumed {
            self.progress = 0;
            self.retry = Retry::new(self.limits);
        }
        if self.size.is_none_or(|size| self.at < size) {
            return;
        }
        if let (Some(mut body), Ending::Marked) = (self.body.take(), self.ending) {
            // A body that was read to its end leaves the connection for the next request.
            let end = body.read(&mut [0]);
            log::trace!("end of the contents: {end:?}");
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

fn is_outage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.reason.is_outage())
}

/// Reads `count` bytes and forgets them.
fn skip(body: &mut impl Read, count: u64) -> io::Result<()> {
    let mut piece = vec![0; SKIP_PIECE.min(usize::try_from(count).unwrap_or(SKIP_PIECE))];
    let mut left = count;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        match body.read(&mut piece[..room])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read as u64,
        }
    }
    Ok(())
}

/// The first byte and the whole size, if it is known, of a header `Content-Range`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.trim().parse().ok()?, end.trim().parse::<u64>().ok()?);
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    (start <= end).then_some((start, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            (" bytes 0-0/1 ", Some((0, Some(1)))),
            ("bytes */10", None),
            ("bytes 9-5/10", None),
            ("bytes 5-/10", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("bytes 5-9/x", None),
            ("bytes 99999999999999999999-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }
}
