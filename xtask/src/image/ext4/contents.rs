//! Contents of files in an image.

use std::io::{self, Read};
use std::sync::Arc;

use anyhow::Result;

use super::volume::{Map, Run, Volume};
use crate::image::tree::Stored;

/// A file in an image.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) volume: Arc<Volume>,
    pub(super) number: u32,
    pub(super) map: Map,
    pub(super) size: u64,
}

impl Stored for Contents {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Reader { contents: self, at: 0, run: (None, 0) }))
    }
}

#[derive(Debug)]
struct Reader<'a> {
    contents: &'a Contents,
    at: u64,
    /// What is at `at`: the block that it is in, and blocks in a row from there.
    run: Run,
}

impl Reader<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Contents { volume, map, size, .. } = self.contents;
        let block_size = volume.block_size() as u64;
        let offset = self.at % block_size;
        if self.run.1 == 0 {
            self.run = volume.find(map, u32::try_from(self.at / block_size)?)?;
        }
        let (block, blocks) = self.run;
        let left = (u64::from(blocks) * block_size - offset).min(size - self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..count];
        match block {
            Some(block) => volume.read(block, offset, buffer)?,
            None => buffer.fill(0),
        }
        self.at += count as u64;
        let passed = (offset + count as u64) / block_size;
        let left = u64::from(blocks) - passed;
        self.run = (block.map(|block| block + passed), u32::try_from(left)?);
        Ok(count)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.at < self.contents.size && !buffer.is_empty() {
            true => self.fill(buffer).map_err(|error| {
                io::Error::other(format!("inode {}: {error:#}", self.contents.number))
            }),
            false => Ok(0),
        }
    }
}
