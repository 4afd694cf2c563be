//! The legacy container of lz4, the only lz4 container that the kernel unpacks
//! (`lib/decompress_unlz4.c`).
//!
//! | Bytes | Contents |
//! |---|---|
//! | 4 | [`LZ4_MAGIC`] |
//! | 4 | length of a compressed block, little endian; then the block, which unpacks to 8 MiB or less |
//! | … | more lengths and blocks, or the magic again if another file was appended |
//!
//! The container has no end mark. The kernel (since 5.14) stops at a length of 0, or if
//! fewer than four bytes are left; it takes anything else for the length of a block. So a
//! writer must put four NUL bytes between such a file and any data that follows.

use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result};

use super::container::LZ4_MAGIC;

/// Bytes of the magic, and of a length.
const WORD: usize = size_of::<u32>();
/// Uncompressed bytes in each block but the last (`LZ4_DEFAULT_UNCOMPRESSED_CHUNK_SIZE`).
pub(super) const BLOCK: usize = 8 << 20;

/// Writer that compresses into the container.
pub struct Lz4Encoder<W> {
    out: W,
    block: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Lz4Encoder<W> {
    pub(super) fn new(mut out: W) -> Result<Self> {
        out.write_all(LZ4_MAGIC).context("lz4")?;
        Ok(Self { out, block: Vec::new(), packed: Vec::new() })
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.packed.resize(lz4_flex::block::get_maximum_output_size(self.block.len()), 0);
        let size = lz4_flex::block::compress_into(&self.block, &mut self.packed);
        let size = size.map_err(io::Error::other)?;
        let length = u32::try_from(size).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.packed[..size])?;
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Lz4Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reader of the contents of one file. It stops before a length of 0, and does not
/// consume it.
pub(super) struct Lz4Decoder<R> {
    input: R,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Lz4Decoder<R> {
    /// A decoder of `input`, which must start with the magic.
    pub(super) fn new(mut input: R) -> Self {
        input.consume(WORD);
        Self { input, packed: Vec::new(), block: Vec::new(), at: 0 }
    }

    /// Unpacks the next block; returns `false` if there are no more blocks.
    fn next_block(&mut self) -> io::Result<bool> {
        let damaged = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let Some(length) = self.length()? else { return Ok(false) };
        let most = lz4_flex::block::get_maximum_output_size(BLOCK);
        if length > most {
            return Err(damaged("a block is too long"));
        }
        self.packed.resize(length, 0);
        self.input.read_exact(&mut self.packed)?;
        self.block.resize(BLOCK, 0);
        let size = lz4_flex::block::decompress_into(&self.packed, &mut self.block);
        let size = size.map_err(|_| damaged("a block does not unpack"))?;
        self.block.truncate(size);
        self.at = 0;
        Ok(true)
    }

    /// Reads the length of the next block; `None` at the end. Skips the magic of another
    /// file that was appended.
    fn length(&mut self) -> io::Result<Option<usize>> {
        loop {
            let ahead = self.input.fill_buf()?;
            if let Some([0, 0, 0, 0]) = ahead.first_chunk::<WORD>() {
                return Ok(None);
            }
            let mut length = [0; WORD];
            for (index, place) in length.iter_mut().enumerate() {
                match self.input.fill_buf()?.first() {
                    Some(byte) => *place = *byte,
                    None if length[..index].iter().all(|&byte| byte == 0) => return Ok(None),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
                self.input.consume(1);
            }
            match &length {
                [0, 0, 0, 0] => return Ok(None),
                LZ4_MAGIC => {}
                length => return Ok(usize::try_from(u32::from_le_bytes(*length)).ok()),
            }
        }
    }
}

impl<R: BufRead> Read for Lz4Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if buffer.is_empty() || !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
