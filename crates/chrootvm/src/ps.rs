//! `chrootvm ps`: lists the machines of this user.
//!
//! Each machine is a chrootvm that answers on a socket of `machine::running::registry`.

use anyhow::{Context, Result};
use files::tell;
use machine::process::messages::{self, MESSAGE_MAX, NO_FDS};
use machine::running::broker::INFO;
use machine::running::registry;

/// List your running machines
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm ps")]
pub struct Ps {}

/// A line of the list: the answer of one machine.
#[derive(Debug, PartialEq, Eq)]
struct MachineRow {
    name: String,
    pid: String,
    rootfs: String,
    command: String,
}

impl Ps {
    /// Prints the list.
    pub fn run(self) -> Result<()> {
        let names = registry::names()?;
        // Ask many at a time: a machine may answer late. Leave out those that ended meanwhile.
        let mut rows: Vec<MachineRow> = Vec::new();
        for names in names.chunks(AT_ONCE) {
            rows.extend(std::thread::scope(|scope| {
                let asked: Vec<_> =
                    names.iter().map(|name| scope.spawn(move || ask(name))).collect();
                let answers = asked.into_iter().filter_map(|asked| asked.join().ok()?.ok());
                answers.collect::<Vec<_>>()
            }));
        }
        tell::result(table(&rows))
    }
}

/// Answer of a machine to the request for a description: process id, ROOTFS and what it runs,
/// a line each.
#[must_use]
pub fn description(rootfs: &str, command: &str) -> String {
    // Longer texts are cut, so that both fit into one message.
    let texts = [&std::process::id().to_string(), rootfs, command];
    texts.map(|text| shorten(printable(text), MESSAGE_MAX / 2 - 16)).join("\n")
}

fn shorten(mut text: String, length: usize) -> String {
    text.truncate((0..=length).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0));
    text
}

/// Largest number of machines that are asked at the same time. It bounds the threads: any
/// user can make sockets that look like machines.
const AT_ONCE: usize = 64;

/// Shown instead of ROOTFS for a machine that does not answer.
const SILENT: &str = "(does not answer)";

fn ask(name: &str) -> Result<MachineRow> {
    let socket = registry::connect(name)?;
    let pid = registry::peer_pid(&socket).map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    // A machine without a name is listed by its process id.
    let name = if registry::is_unnamed(name) { pid.clone() } else { printable(name) };
    messages::send(&socket, INFO, NO_FDS)?;
    let Some(message) = registry::wait_and_receive(&socket)? else {
        let [rootfs, command] = [SILENT, ""].map(String::from);
        return Ok(MachineRow { name, pid, rootfs, command });
    };
    let answer = String::from_utf8_lossy(&message.text).into_owned();
    let mut lines = answer.lines().map(printable);
    let mut next = || lines.next().context("a short answer");
    Ok(MachineRow { name, pid: next()?, rootfs: next()?, command: next()? })
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn table(rows: &[MachineRow]) -> String {
    let head = ["NAME", "PID", "ROOTFS", "COMMAND"].map(String::from);
    let cells: Vec<_> = rows
        .iter()
        .map(|row| [&row.name, &row.pid, &row.rootfs, &row.command].map(Clone::clone))
        .collect();
    let lines: Vec<_> = [head].into_iter().chain(cells).collect();
    let widths = [0, 1, 2].map(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    let show = |[name, pid, rootfs, command]: &[String; 4]| {
        let [a, b, c] = widths;
        format!("{name:a$}  {pid:b$}  {rootfs:c$}  {command}\n")
    };
    lines.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_longest_entry() {
        let row = |name: &str, rootfs: &str| MachineRow {
            name: name.into(),
            pid: "7".into(),
            rootfs: rootfs.into(),
            command: "sleep 9".into(),
        };
        assert_eq!(
            table(&[row("a", "/srv/debian"), row("long-name", "/x")]),
            "NAME       PID  ROOTFS       COMMAND\n\
             a          7    /srv/debian  sleep 9\n\
             long-name  7    /x           sleep 9\n"
        );
        assert_eq!(table(&[]), "NAME  PID  ROOTFS  COMMAND\n");
    }

    #[test]
    fn a_description_fits_into_a_message() {
        let text = description(&"/é".repeat(9000), &"é".repeat(9000));
        assert!(text.len() <= MESSAGE_MAX && text.lines().count() == 3);
        assert_eq!(shorten("aé".into(), 2), "a");
    }

    #[test]
    fn a_description_cannot_steer_a_terminal() {
        assert!(description("/a\nb", "x\u{1b}[2J").ends_with("\n/a?b\nx?[2J"));
    }
}
