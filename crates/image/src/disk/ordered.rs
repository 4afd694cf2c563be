//! Work for threads, whose results are used in the order in which it was given.
//!
//! One thread reads and writes an image: it puts steps into a queue, some of which
//! are results that a thread still has to give, and takes them out in the same
//! order. So what is written does not depend on who was first.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Most steps that wait, whatever they hold.
const STEPS_MAX: usize = 1024;

/// Something to be done, and where to send what comes of it.
type Job<J, S> = (J, Sender<S>);

/// What waits for its turn.
enum Step<S> {
    Ready(S),
    Await(Receiver<S>),
}

/// Steps in their order.
pub(super) struct Queue<'a, J, S> {
    jobs: Sender<Job<J, S>>,
    /// With the bytes that each holds.
    steps: VecDeque<(Step<S>, usize)>,
    held: usize,
    held_max: usize,
    take: &'a mut dyn FnMut(S) -> Result<()>,
}

/// Lets `produce` fill a queue, of which `take` gets the steps; at most `held_max`
/// bytes wait. What a thread makes of jobs is told by `worker`, once a thread.
///
/// # Errors
/// The first of `produce` or `take`.
pub(super) fn run<J: Send, S: Send, W: FnMut(J) -> S>(
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
        // Dropped in here, so that the threads see the end of it.
        let mut queue = Queue { jobs: sender, steps: VecDeque::new(), held: 0, held_max, take };
        produce(&mut queue)?;
        queue.drain(0, 0)
    })
}

/// What a thread does until there is nothing more to do.
fn work<J, S>(jobs: &Mutex<Receiver<Job<J, S>>>, mut worker: impl FnMut(J) -> S) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, sender)) = job else { return };
        // Nobody waits any more where writing has failed.
        let _ = sender.send(worker(job));
    }
}

impl<J, S> Queue<'_, J, S> {
    /// The next step, which holds `size` bytes.
    ///
    /// # Errors
    /// Those of the steps whose turn it is.
    pub(super) fn push(&mut self, step: S, size: usize) -> Result<()> {
        self.add(Step::Ready(step), size)
    }

    /// The next step is what a thread makes of `job`, which holds `size` bytes.
    ///
    /// # Errors
    /// As those of [`Queue::push`].
    pub(super) fn work(&mut self, job: J, size: usize) -> Result<()> {
        let (sender, receiver) = channel();
        self.jobs.send((job, sender)).ok().context("the threads that compress have ended")?;
        self.add(Step::Await(receiver), size)
    }

    fn add(&mut self, step: Step<S>, size: usize) -> Result<()> {
        self.steps.push_back((step, size));
        self.held += size;
        self.drain(self.held_max, STEPS_MAX)
    }

    /// Does steps until few enough are left.
    fn drain(&mut self, bytes: usize, steps: usize) -> Result<()> {
        while self.held > bytes || self.steps.len() > steps {
            let Some((step, size)) = self.steps.pop_front() else { break };
            self.held -= size;
            let step = match step {
                Step::Ready(step) => step,
                Step::Await(answer) => {
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
    fn the_first_error_ends_it() {
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
