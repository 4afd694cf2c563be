//! Everything but directories, read in the order of names and compressed by
//! threads on the way to the image.
//!
//! The thread that walks the tree also writes: it puts steps into a queue, some
//! of which are answers that a thread still has to give, and takes them out in the
//! same order. So what is written does not depend on who was first.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use super::inode::encode_device;
use super::layout::BLOCK_BYTES;
use super::lz4::Filler;
use super::out::{End, Head, Mapped, Out};
use super::segment::{SEGMENT, Segment, compress};
use super::sparse::{self, Chunks, Source};
use super::write::head;
use super::{Compression, Options};
use crate::image::tree::{Content, Id, Kind, Node, Tree, show};

/// Most threads that compress: each has two segments in memory.
const THREADS_MAX: usize = 8;
/// Larger files are not compressed: their map is kept in memory, 8 bytes for
/// each block.
const COMPRESSED_MAX: u64 = 4 << 30;
/// Most steps that wait, whatever they hold.
const STEPS_MAX: usize = 1024;

/// A segment to be compressed, and where to send it then.
type Job = (Vec<u8>, Sender<Segment>);

/// What is to be done next with the image.
enum Step {
    Write(Segment),
    Await(Receiver<Segment>),
    End(Id, Box<Head>, End),
}

/// Writes all nodes that are no directories.
pub(super) fn write(tree: &Tree, options: &Options, out: &mut Out) -> Result<()> {
    let (sender, receiver) = channel::<Job>();
    let receiver = Mutex::new(receiver);
    let threads = options.threads.clamp(1, THREADS_MAX);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&receiver, options.cluster_size as usize));
        }
        // Moved, so that the threads see the end of it.
        let mut queue = Queue {
            out,
            jobs: sender,
            compression: options.compression,
            steps: VecDeque::new(),
            held: 0,
            held_max: (threads + 2) * SEGMENT,
        };
        let mut seen = HashSet::new();
        tree.walk(&mut |path, id| {
            let node = tree.node(id);
            let is_done =
                matches!(node.kind, Kind::Directory(_)) || node.names > 1 && !seen.insert(id);
            if is_done { Ok(()) } else { queue.node(id, node).with_context(|| show(path)) }
        })?;
        queue.drain(0, 0)
    })
}

/// What a thread does until there is nothing more to do.
fn work(jobs: &Mutex<Receiver<Job>>, cluster: usize) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((bytes, sender)) = job else { return };
        // Nobody waits any more where writing has failed.
        let _ = sender.send(compress(&mut Filler::new(), bytes, cluster));
    }
}

struct Queue<'a, 'o> {
    out: &'a mut Out<'o>,
    jobs: Sender<Job>,
    compression: Compression,
    /// With the bytes that each holds.
    steps: VecDeque<(Step, usize)>,
    held: usize,
    held_max: usize,
}

impl Queue<'_, '_> {
    fn node(&mut self, id: Id, node: &Node) -> Result<()> {
        let mut end = End::Contents;
        let mut head = head(node)?;
        match &node.kind {
            Kind::File(content) => {
                head.inode.size = content.size();
                end = self.contents(content)?;
            }
            Kind::Symlink(target) => {
                head.inode.size = target.len() as u64;
                self.push(Step::Write(Segment::Raw(target.to_vec())), target.len())?;
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                end = End::Device(encode_device(*major, *minor)?);
            }
            Kind::Directory(_) | Kind::Fifo | Kind::Socket => end = End::Device(0),
        }
        self.push(Step::End(id, Box::new(head), end), 0)
    }

    fn contents(&mut self, content: &Content) -> Result<End> {
        if let Some(chunks) = sparse::scan(content)? {
            self.chunks(content, &chunks)?;
            return Ok(End::Sparse(chunks));
        }
        let is_compressed = self.compression == Compression::Lz4
            && (BLOCK_BYTES + 1..=COMPRESSED_MAX).contains(&content.size());
        let mut left = content.size();
        let mut reader = content.open()?;
        while left > 0 {
            let mut bytes = vec![0; usize::try_from(left.min(SEGMENT as u64))?];
            reader.read_exact(&mut bytes).context("read")?;
            let length = bytes.len();
            left -= length as u64;
            let step = if is_compressed { self.compress(bytes)? } else { raw(bytes) };
            self.push(step, length)?;
        }
        Ok(End::Contents)
    }

    fn compress(&self, bytes: Vec<u8>) -> Result<Step> {
        let (sender, receiver) = channel();
        self.jobs.send((bytes, sender)).context("the threads that compress have ended")?;
        Ok(Step::Await(receiver))
    }

    /// Writes the chunks with data.
    fn chunks(&mut self, content: &Content, chunks: &Chunks) -> Result<()> {
        let mut source = Source::open(content)?;
        for (start, has_data) in
            (0..content.size()).step_by(usize::try_from(chunks.size())?).zip(&chunks.data)
        {
            let end = if *has_data { content.size().min(start + chunks.size()) } else { start };
            for at in (start..end).step_by(SEGMENT) {
                let mut bytes = vec![0; usize::try_from((end - at).min(SEGMENT as u64))?];
                source.read(at, &mut bytes)?;
                let length = bytes.len();
                self.push(raw(bytes), length)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, step: Step, size: usize) -> Result<()> {
        self.steps.push_back((step, size));
        self.held += size;
        self.drain(self.held_max, STEPS_MAX)
    }

    /// Does steps until few enough are left.
    fn drain(&mut self, bytes: usize, steps: usize) -> Result<()> {
        while self.held > bytes || self.steps.len() > steps {
            let Some((step, size)) = self.steps.pop_front() else { break };
            self.held -= size;
            match step {
                Step::Write(segment) => self.out.segment(segment, Mapped::No)?,
                Step::Await(answer) => {
                    let segment = answer.recv().context("a thread that compresses has ended")?;
                    self.out.segment(segment, Mapped::Yes)?;
                }
                Step::End(id, head, end) => self.out.end(id, *head, end)?,
            }
        }
        Ok(())
    }
}

fn raw(bytes: Vec<u8>) -> Step {
    Step::Write(Segment::Raw(bytes))
}
