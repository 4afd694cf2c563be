//! `cargo xtask fuzz`: random command lines against the guest's parser.
//!
//! Property tests know what a good line looks like; this one does not. It runs
//! on the host, where a million lines take seconds, on the very code that PID 1
//! runs.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use virtinitrd_init::cmdline::{Config, PARAMETERS};
use virtinitrd_init::fail::Fail;
use virtinitrd_init::tag::Tag;
use virtinitrd_init::words::Words;

use crate::tell;

/// Feed random command lines to the parser of /init
#[derive(Debug, clap::Args)]
pub struct Fuzz {
    /// How long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Repeat the run with this seed [default: the time]
    #[arg(long)]
    seed: Option<u64>,
}

/// Pieces that mean something, for lines that get past the first check.
const PIECES: &[&str] = &[
    "=",
    "\"",
    " ",
    "\n",
    "\t",
    "--",
    "-",
    "_",
    ".",
    "/",
    "..",
    "a",
    "virtiofs",
    "/dev/vda",
    "é",
    "\0",
    "module.param",
    "virtinit.",
    "reboot",
    "5",
    "4294967296",
    "0123456789012345678901234567890123456",
];

/// Pieces in a line: with these lengths some reach the kernel's own limit.
const PIECES_MAX: usize = 300;

impl Fuzz {
    /// Stops at the first line that breaks a rule, and shows it.
    pub fn run(self) -> Result<()> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seed = self.seed.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
        tell::result(format_args!("seed {seed}\n"))?;
        let mut random = Random(seed | 1);
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut count = 0_u64;
        while Instant::now() < end {
            // The clock is looked at now and then only.
            for _ in 0..1000 {
                let line = random.line();
                let checked = std::panic::catch_unwind(|| check(&line));
                let checked = checked.unwrap_or_else(|_| Err(anyhow!("the parser panics")));
                checked.with_context(|| format!("\"{}\"", line.escape_ascii()))?;
                count += 1;
            }
        }
        tell::result(format_args!("{count} command lines, no rule broken\n"))
    }
}

/// What holds for every line.
fn check(line: &[u8]) -> Result<()> {
    let words: Vec<_> = Words::new(line).collect();
    let length: usize = words.iter().map(|word| word.param.len()).sum();
    ensure!(length <= line.len(), "words are longer than the line");
    let blank = [line, b" \n"].concat();
    let same = Words::new(&blank).collect::<Vec<_>>() == words;
    // Inside an open quote the blank is part of the last word.
    ensure!(same || line.contains(&b'"'), "white space at the end means something");

    let fail = Fail::parse(line);
    ensure!(
        fail == Fail::parse(&[line, b" -- virtinit.fail=panic"].concat()) || line.contains(&b'"'),
        "a payload's argument is taken for a parameter"
    );

    let Ok(config) = Config::parse(line) else { return Ok(()) };
    for (index, share) in config.shares.iter().enumerate() {
        ensure!(Tag::parse(share.tag.as_bytes()).is_ok(), "a bad tag came through");
        let twice = config.shares.iter().skip(index + 1).any(|other| other.tag == share.tag);
        ensure!(!twice, "a tag is mounted twice");
    }
    ensure!(!config.init.is_empty(), "an empty init=");
    ensure!(config.args.len() <= words.len(), "more arguments than words");
    Ok(())
}

/// xorshift64: enough for mixing pieces.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }

    fn line(&mut self) -> Vec<u8> {
        let pieces = self.below(PIECES_MAX);
        let mut line = Vec::new();
        for _ in 0..pieces {
            match self.below(8) {
                0 => line.push(self.below(256).to_le_bytes()[0]),
                1..4 => line.extend(PARAMETERS[self.below(PARAMETERS.len())].bytes()),
                _ => line.extend(PIECES[self.below(PIECES.len())].bytes()),
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_lines() {
        let lines = |seed| {
            let mut random = Random(seed);
            [random.line(), random.line(), random.line()]
        };
        assert_eq!(lines(7), lines(7));
        assert_ne!(lines(7), lines(9));
    }

    #[test]
    fn a_short_run_finds_nothing() {
        let mut random = Random(1);
        for _ in 0..2000 {
            check(&random.line()).unwrap();
        }
    }
}
