//! `chrootvm logs`: prints the log files of a machine, and follows them.
//!
//! The files are those of [`machine::session::log_files`]. The chrootvm of a running machine names
//! their directory. Output goes to standard output, errors go to standard error.
//!
//! | Module | Content |
//! |---|---|
//! | `chain` | the files of one stream, one after the other, through rotations |
//! | `lines` | the lines of one stream, with their time stamps |
//! | `printer` | the lines of all streams in the order of their time stamps |

mod chain;
mod lines;
mod printer;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::builder::{OsStringValueParser, TypedValueParser};
use files::named::Named;
use files::tell;
use machine::process::messages::{self, NO_FDS};
use machine::process::wait::{self, Awaited};
use machine::running::broker::LOGS;
use machine::running::{broker, registry};
use machine::session::log_files::{LogStream, is_written};

use self::chain::LogChain;
use self::lines::LogLines;
use self::printer::Printer;
use crate::line::named::named;
use crate::line::values::parse_name;

/// Interval at which `--follow` looks for more output.
const TICK: Duration = Duration::from_millis(200);

/// Print the log files of a machine that was started with --logs
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm logs box                  all output of the machine box so far\n  \
                   chrootvm logs -f --tail 20 box     the last lines, and all that follows\n  \
                   chrootvm logs ./logs 2>/dev/null   the files of a directory, without errors",
    override_usage = "chrootvm logs [OPTIONS] NAME|DIR",
    after_help = "Standard output of the command goes to standard output, its standard error to\n\
                  standard error."
)]
pub struct Logs {
    /// Name of a running machine, as `chrootvm ps` lists it, or the DIR of --logs, with a /
    #[arg(value_name = "NAME|DIR", value_parser = OsStringValueParser::new().try_map(parse_subject))]
    subject: Subject,
    /// Go on with what is written until the machine has ended
    #[arg(short, long)]
    follow: bool,
    /// Print only the last N lines of each stream
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Print only this stream
    #[arg(long, value_parser = named::<LogStream>())]
    stream: Option<LogStream>,
}

/// What a user names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    /// Name of a running machine.
    Machine(String),
    /// Directory of log files.
    Directory(PathBuf),
}

/// Log files that were found.
#[derive(Debug)]
struct Found {
    dir: PathBuf,
    /// Connection to the machine, if the user has named one. It ends with the machine.
    machine: Option<OwnedFd>,
}

impl Logs {
    /// Prints the log files.
    ///
    /// # Errors
    /// There are no log files, they cannot be read, or the result cannot be written.
    pub fn run(self) -> Result<()> {
        let found = self.subject.find()?;
        let streams = LogStream::all().filter(|known| self.stream.is_none_or(|one| one == *known));
        let mut sources = Vec::new();
        for stream in streams {
            let mut chain = LogChain::open(&found.dir, stream)?;
            if let Some(lines) = self.tail {
                chain.skip_to_last(lines)?;
            }
            sources.push(LogLines::new(chain));
        }
        let dir = found.dir.display();
        let is_empty = sources.iter().all(LogLines::has_no_file);
        ensure!(!is_empty, "no log files in {dir}: `chrootvm --logs DIR` makes them");
        let mut printer = Printer::new(sources);
        tell::while_read(match self.follow {
            true => follow(&mut printer, &found),
            false => printer.print_available(),
        })
    }
}

/// Prints what is there, and what follows until nobody writes any more, or nobody reads.
fn follow(printer: &mut Printer, found: &Found) -> Result<()> {
    loop {
        // Ask before printing: all output is in the files when the machine has ended.
        let is_over = !is_written(&found.dir) || found.has_ended()?;
        printer.print_available()?;
        if is_over || printer.is_reader_gone() {
            return Ok(());
        }
        let fds: Vec<_> = found.machine.iter().map(|fd| Awaited::readable(fd.as_fd())).collect();
        wait::sleep(&fds, Some(Instant::now() + TICK))?;
    }
}

impl Subject {
    /// Finds the log files.
    fn find(self) -> Result<Found> {
        match self {
            Self::Directory(dir) => Ok(Found { dir, machine: None }),
            Self::Machine(name) => {
                let socket = registry::find(&name)?;
                messages::send(&socket, LOGS, NO_FDS)?;
                let answer = registry::wait_and_receive(&socket)?;
                let answer = answer.with_context(|| registry::no_answer(&name))?.text;
                ensure!(!answer.is_empty(), "machine \"{name}\" ended");
                broker::accept(&name, &answer)?;
                Ok(Found { dir: OsString::from_vec(answer).into(), machine: Some(socket) })
            }
        }
    }
}

impl Found {
    /// Whether the machine that the user has named has ended.
    fn has_ended(&self) -> Result<bool> {
        let Some(socket) = &self.machine else { return Ok(false) };
        Ok(messages::receive(socket)?.is_some_and(|message| message.text.is_empty()))
    }
}

/// Parses the name of a machine or a directory, which has a slash.
fn parse_subject(text: OsString) -> Result<Subject, String> {
    if text.as_bytes().contains(&b'/') {
        return Ok(Subject::Directory(text.into()));
    }
    let name = text.to_str().ok_or("a name is ASCII; a directory has a /, as in ./DIR")?;
    match parse_name(name) {
        Ok(name) => Ok(Subject::Machine(name)),
        Err(error) => Err(format!("{error}; a directory has a /, as in ./DIR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_directory() {
        for (text, expected) in [
            ("box", Some(Subject::Machine("box".into()))),
            ("./box", Some(Subject::Directory("./box".into()))),
            ("box/", Some(Subject::Directory("box/".into()))),
            ("/", Some(Subject::Directory("/".into()))),
            ("", None),
            (".", None),
            ("a b", None),
        ] {
            assert_eq!(parse_subject(text.into()).ok(), expected, "{text:?}");
        }
        let name = OsString::from_vec(vec![0xff]);
        assert!(parse_subject(name).unwrap_err().ends_with("as in ./DIR"));
    }
}
