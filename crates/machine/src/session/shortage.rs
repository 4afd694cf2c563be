//! Lack of memory or room in the guest, as `/init` reports it at the end of a command, and the
//! options that help.
//!
//! The guest is not trusted: its report is a number and two words, and changes only warnings.

use proto::control::FullFs;

use crate::plan::memory::option;

/// Lack of memory or room during a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Number of processes that the guest's kernel killed because memory ran out.
    pub killed: u64,
    /// File systems in memory without room.
    pub full: Vec<FullFs>,
}

impl Shortage {
    /// Adds a file system without room.
    pub fn add_full(&mut self, full: FullFs) {
        if !self.full.contains(&full) {
            self.full.push(full);
        }
    }

    /// Advice for each lack. The guest has `memory` MiB, if that is known.
    #[must_use]
    pub fn advice(&self, memory: Option<u64>) -> Vec<String> {
        let killed = (self.killed != 0).then(|| {
            let count = match self.killed {
                1 => "a process".into(),
                count => format!("{count} processes"),
            };
            format!("the guest ran out of memory, and its kernel killed {count}; {}", more(memory))
        });
        let full = self.full.iter().map(|full| match full {
            FullFs::Overlay => {
                "the overlay of the guest is full; make it larger: --overlay=SIZE".into()
            }
            FullFs::Tmp => {
                format!("/tmp of the guest, which is in memory, is full; {}", more(memory))
            }
        });
        killed.into_iter().chain(full).collect()
    }
}

/// Advice to give the guest more than `memory` MiB.
#[must_use]
pub fn more(memory: Option<u64>) -> String {
    match memory {
        Some(now) => {
            let twice = option(now.saturating_mul(2));
            format!("give it more memory: --memory {twice} (now {})", option(now))
        }
        None => "give the machine more memory: chrootvm --memory".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_has_its_advice() {
        use FullFs::{Overlay, Tmp};
        for (killed, full, memory, expected) in [
            (0, vec![], Some(1024), &[][..]),
            (
                1,
                vec![],
                Some(1024),
                &[
                    "the guest ran out of memory, and its kernel killed a process; give it more memory: --memory 2G (now 1G)",
                ],
            ),
            (
                7,
                vec![],
                Some(640),
                &[
                    "the guest ran out of memory, and its kernel killed 7 processes; give it more memory: --memory 1280M (now 640M)",
                ],
            ),
            (
                2,
                vec![],
                None,
                &[
                    "the guest ran out of memory, and its kernel killed 2 processes; give the machine more memory: chrootvm --memory",
                ],
            ),
            (
                0,
                vec![Overlay, Tmp, Overlay],
                Some(1024),
                &[
                    "the overlay of the guest is full; make it larger: --overlay=SIZE",
                    "/tmp of the guest, which is in memory, is full; give it more memory: --memory 2G (now 1G)",
                ],
            ),
        ] {
            let mut shortage = Shortage { killed, full: Vec::new() };
            for one in full {
                shortage.add_full(one);
            }
            assert_eq!(shortage.advice(memory), expected);
        }
    }
}
