//! Thread pool whose results come back in submission order.
//!
//! One thread reads the tree and writes the image. It puts results into a queue; for some of
//! them it puts a job instead, whose result another thread computes. It takes the results
//! out in the same order, so the image does not depend on which thread was first.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Most results that wait in the queue, however small they are.
const STEPS_MAX: usize = 1024;

/// A job for a thread, and the channel for its result.
type SentJob<J, S> = (J, Sender<S>);

/// A result in the queue.
enum QueuedStep<S> {
    /// The result itself.
    Ready(S),
    /// The channel on which a thread will send the result.
    Await(Receiver<S>),
}

/// Queue of results in the order of submission.
pub(crate) struct Queue<'a, J, S> {
    jobs: Sender<SentJob<J, S>>,
    /// Results, each with the number of bytes that it or its job holds.
    steps: VecDeque<(QueuedStep<S>, usize)>,
    /// Number of bytes that all results and jobs in the queue hold.
    held: usize,
    held_max: usize,
    take: &'a mut dyn FnMut(S) -> Result<()>,
}

/// Runs `produce`, which submits results and jobs to a queue, and passes the results to
/// `take` in the order of submission. Results and jobs in the queue hold at most `held_max`
/// bytes. Each thread calls `worker` once, and the returned function for each job.
///
/// # Errors
/// The first error of `produce` or `take`.
pub(crate) fn run<J: Send, S: Send, W: FnMut(J) -> S>(
    threads: usize,
    held_max: usize,
    worker: impl Fn() -> W + Sync,
    take: &mut dyn FnMut(S) -> Result<()>,
    produce: impl FnOnce(&mut Queue<J, S>) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&receiver, worker()));
        }
        // Drop the queue within the scope: the threads end when the channel is closed.
        let mut queue = Queue { jobs: sender, steps: VecDeque::new(), held: 0, held_max, take };
        produce(&mut queue)?;
        queue.drain(0, 0)
    })
}

/// Does jobs until the channel is closed.
fn work<J, S>(jobs: &Mutex<Receiver<SentJob<J, S>>>, mut worker: impl FnMut(J) -> S) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, sender)) = job else { return };
        // Sending fails if the writer has failed and no longer waits for results.
        let _ = sender.send(worker(job));
    }
}

impl<J, S> Queue<'_, J, S> {
    /// Submits a result that holds `size` bytes.
    ///
    /// # Errors
    /// Errors of `take` for earlier results.
    pub(crate) fn push(&mut self, step: S, size: usize) -> Result<()> {
        self.add(QueuedStep::Ready(step), size)
    }

    /// Submits a job that holds `size` bytes; its result takes this place in the queue.
    ///
    /// # Errors
    /// Errors of `take` for earlier results.
    pub(crate) fn work(&mut self, job: J, size: usize) -> Result<()> {
        let (sender, receiver) = channel();
        self.jobs.send((job, sender)).ok().context("the threads that compress have ended")?;
        self.add(QueuedStep::Await(receiver), size)
    }

    fn add(&mut self, step: QueuedStep<S>, size: usize) -> Result<()> {
        self.steps.push_back((step, size));
        self.held += size;
        self.drain(self.held_max, STEPS_MAX)
    }

    /// Passes results to `take` until the rest holds at most `bytes` bytes and has at most
    /// `steps` results.
    fn drain(&mut self, bytes: usize, steps: usize) -> Result<()> {
        while self.held > bytes || self.steps.len() > steps {
            let Some((step, size)) = self.steps.pop_front() else { break };
            self.held -= size;
            let step = match step {
                QueuedStep::Ready(step) => step,
                QueuedStep::Await(answer) => {
                    answer.recv().context("a thread that compresses has ended")?
                }
            };
            (self.take)(step)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn results_keep_their_order() {
        let mut taken = Vec::new();
        let mut take = |number: u32| {
            taken.push(number);
            Ok(())
        };
        let worker = || {
            |number: u32| {
                thread::sleep(std::time::Duration::from_micros(u64::from(number * 7 % 50)));
                number
            }
        };
        run(3, 10, worker, &mut take, |queue| {
            for number in 0..500 {
                match number % 3 {
                    0 => queue.push(number, 0)?,
                    _ => queue.work(number, 1)?,
                }
            }
            Ok(())
        })
        .unwrap();
        assert!(taken.into_iter().eq(0..500));
    }

    #[test]
    fn the_first_error_ends_the_run() {
        let mut left = 10;
        let mut take = |(): ()| {
            left -= 1;
            ensure!(left > 0, "full");
            Ok(())
        };
        let result = run(
            2,
            3,
            || |()| (),
            &mut take,
            |queue| {
                loop {
                    queue.work((), 1)?;
                }
            },
        );
        assert_eq!(result.unwrap_err().to_string(), "full");
        assert_eq!(left, 0);
    }
}
