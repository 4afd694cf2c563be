//! Pipe between two threads of one process, made of recycled buffers.
//!
//! Invariants: a pipe has at most [`BUFFERS`] buffers of [`BUFFER`] bytes, so a fast writer waits
//! for a slow reader. If one end is dropped, the other end gets an error and never waits for
//! ever. A reader takes the end of the bytes for their end only if the writer said so.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a buffer. It fits into the second-level cache of a core, and one system call is
/// cheap against it.
pub(super) const BUFFER: usize = 256 << 10;
/// Most buffers of a pipe.
pub(super) const BUFFERS: usize = 4;

/// Makes a pipe.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    // The end mark needs a place, too, so that sending it never waits.
    let (filled, to_read) = sync_channel(BUFFERS + 1);
    let (emptied, to_fill) = sync_channel(BUFFERS);
    let writer = PipeWriter { filled, to_fill, unmade: BUFFERS, buffer: None, is_closed: false };
    (writer, PipeReader { to_read, emptied, buffer: Vec::new(), at: 0, has_ended: false })
}

/// Writing end of a pipe.
pub(super) struct PipeWriter {
    /// `None` marks the end.
    filled: SyncSender<Option<Vec<u8>>>,
    to_fill: Receiver<Vec<u8>>,
    /// Number of buffers that were not needed so far.
    unmade: usize,
    /// The buffer that [`Write`] fills.
    buffer: Option<Vec<u8>>,
    is_closed: bool,
}

/// The reading end is gone. Whoever dropped it knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl PipeWriter {
    /// An empty buffer with room for [`BUFFER`] bytes; waits until the reader returns one.
    pub(super) fn empty(&mut self) -> Result<Vec<u8>, Closed> {
        if let Ok(buffer) = self.to_fill.try_recv() {
            return Ok(buffer);
        }
        if self.unmade == 0 {
            return self.to_fill.recv().map_err(|_| Closed);
        }
        self.unmade -= 1;
        Ok(Vec::with_capacity(BUFFER))
    }

    /// Passes a buffer to the reader.
    pub(super) fn send(&mut self, buffer: Vec<u8>) -> Result<(), Closed> {
        self.filled.send(Some(buffer)).map_err(|_| Closed)
    }

    /// Moves as many of `bytes` as fit into one buffer.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Closed> {
        let mut buffer = match self.buffer.take() {
            Some(buffer) => buffer,
            None => self.empty()?,
        };
        let count = bytes.len().min(BUFFER - buffer.len());
        buffer.extend_from_slice(&bytes[..count]);
        match buffer.len() < BUFFER {
            true => self.buffer = Some(buffer),
            false => self.send(buffer)?,
        }
        Ok(count)
    }

    /// Whether a write has failed because the reading end is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Passes the rest to the reader and marks the end. A writer that is dropped without it
    /// makes the reader fail.
    pub(super) fn finish(mut self) -> Result<(), Closed> {
        if let Some(buffer) = self.buffer.take() {
            self.send(buffer)?;
        }
        self.filled.send(None).map_err(|_| Closed)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes).map_err(|Closed| {
            self.is_closed = true;
            io::ErrorKind::BrokenPipe.into()
        })
    }

    /// Does nothing: buffers are passed on when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reading end of a pipe.
pub(super) struct PipeReader {
    to_read: Receiver<Option<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    /// The buffer that is being read.
    buffer: Vec<u8>,
    /// Number of its bytes that were read.
    at: usize,
    has_ended: bool,
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() && !self.has_ended {
            let mut empty = std::mem::take(&mut self.buffer);
            if empty.capacity() > 0 {
                empty.clear();
                // A writer that has finished needs no buffers.
                let _ = self.emptied.send(empty);
            }
            self.at = 0;
            match self.to_read.recv() {
                Ok(Some(buffer)) => self.buffer = buffer,
                Ok(None) => self.has_ended = true,
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let bytes: Vec<u8> = (0..251).cycle().take(9 * BUFFER + 17).collect();
        for piece in [1000, BUFFER - 1, BUFFER, 3 * BUFFER] {
            let (mut writer, mut reader) = pipe();
            let found = thread::scope(|scope| {
                scope.spawn(|| {
                    for piece in bytes.chunks(piece) {
                        writer.write_all(piece).unwrap();
                    }
                    writer.finish().unwrap();
                });
                let mut found = Vec::new();
                reader.read_to_end(&mut found).unwrap();
                found
            });
            assert!(found == bytes, "{piece}");
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
        }
    }

    #[test]
    fn an_end_that_is_gone_is_an_error_for_the_other() {
        let (mut writer, reader) = pipe();
        writer.write_all(b"abc").unwrap();
        drop(reader);
        assert_eq!(writer.finish(), Err(Closed));

        let (mut writer, reader) = pipe();
        let waiting = thread::spawn(move || writer.write_all(&vec![0; BUFFER * (BUFFERS + 1)]));
        drop(reader);
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (mut writer, mut reader) = pipe();
        writer.write_all(&vec![7; BUFFER]).unwrap();
        drop(writer);
        let mut found = Vec::new();
        let error = reader.read_to_end(&mut found).unwrap_err();
        assert_eq!((error.kind(), found.len()), (io::ErrorKind::BrokenPipe, BUFFER));
    }

    #[test]
    fn a_fast_writer_waits() {
        let (mut writer, mut reader) = pipe();
        for _ in 0..BUFFERS {
            let buffer = writer.empty().unwrap();
            writer.send(buffer).unwrap();
        }
        assert_eq!(writer.unmade, 0);
        assert!(writer.to_fill.try_recv().is_err(), "there is a buffer too many");
        writer.filled.send(None).unwrap();
        assert!(reader.fill_buf().unwrap().is_empty());
    }
}
