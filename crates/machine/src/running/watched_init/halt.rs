//! Detection of a halted guest that runs INIT. Its console may show any text, so the kernel's
//! message about a halt proves nothing.
//!
//! A kernel that halts stops every processor with its interrupts off. QEMU then runs on and
//! sends no event. Interface: `info registers` of QEMU's monitor (QEMU doc: system/monitor),
//! sent through QMP. The answer shows halted processors only on x86.

use std::time::{Duration, Instant};

use crate::process::qmp::Qmp;

/// Interval between questions to QEMU.
const TICK: Duration = Duration::from_secs(2);

/// Interrupt flag of RFLAGS (`X86_EFLAGS_IF`).
const INTERRUPTS: u32 = 1 << 9;

/// State of the detection.
#[derive(Debug)]
pub struct HaltDetector {
    next: Instant,
    was_stopped: bool,
    /// Number of the last question.
    question: Option<u64>,
}

impl HaltDetector {
    /// Initial state, for a machine that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { next: Instant::now() + TICK, was_stopped: false, question: None }
    }

    /// Time at which the next [`HaltDetector::is_halted`] is due.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Reads QEMU's last answer and asks again, if that is due. Returns true if two answers in
    /// a row show that every processor has stopped for good.
    pub fn is_halted(&mut self, qmp: &mut Qmp) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next = now + TICK;
        let answer = self.question.and_then(|question| qmp.take_text(question));
        let is_stopped = answer.is_some_and(|text| are_stopped(&text));
        let is_halted = is_stopped && self.was_stopped;
        self.was_stopped = is_stopped;
        // The next call reads the answer. An error means that QEMU is about to end.
        self.question = qmp.send_monitor("info registers -a").ok();
        is_halted
    }
}

impl Default for HaltDetector {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether all processors in the output of `info registers` are halted with their interrupts
/// off; only an NMI or a reset wakes them then.
fn are_stopped(registers: &str) -> bool {
    let mut flags = registers.lines().filter(|line| line.contains(" HLT=")).map(|line| {
        let value = |names: &[&str]| {
            let mut words = line.split_whitespace();
            words.find_map(|word| names.iter().find_map(|name| word.strip_prefix(name)))
        };
        let flags = u32::from_str_radix(value(&["RFL=", "EFL="])?, 16).ok()?;
        Some(value(&["HLT="])? == "1" && flags & INTERRUPTS == 0)
    });
    // If there is no line about a processor, the state is unknown.
    let first = flags.next().flatten();
    first == Some(true) && flags.all(|is_stopped| is_stopped == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halted_processors_without_interrupts_are_stopped() {
        let cpu = |flags: &str, halted| {
            format!(
                "CPU#0\nRAX=0000000000000000 RBX=1\n\
                 RIP=ffffffff81a2b3c4 {flags} [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\n\
                 ES =0000 0000000000000000 ffffffff 00cf1300\n"
            )
        };
        let (stopped, idle) = (cpu("RFL=00000046", 1), cpu("RFL=00000246", 1));
        for (text, expected) in [
            (stopped.clone(), true),
            (cpu("EFL=00000046", 1), true),
            (stopped.repeat(2), true),
            (idle.clone(), false),
            (cpu("RFL=00000046", 0), false),
            (format!("{stopped}{idle}"), false),
            (format!("{idle}{stopped}"), false),
            (cpu("RFL=x", 1), false),
            (String::new(), false),
            ("PC=ffff800008b5d3a8 X00=0000000000000000\n".into(), false),
        ] {
            assert_eq!(are_stopped(&text), expected, "{text}");
        }
    }
}
