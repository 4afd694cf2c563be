//! `chrootvm ps`: the machines of this user.

use anyhow::{Context, Result};
use files::tell;
use machine::process::messages::{self, MESSAGE_MAX, NO_FDS};
use machine::running::broker::INFO;
use machine::running::registry;

/// List the machines in which a command runs
#[derive(Debug, clap::Args)]
pub struct Ps {}

/// A machine as it describes itself.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    pid: String,
    rootfs: String,
    command: String,
}

impl Ps {
    /// Prints them.
    pub fn run(self) -> Result<()> {
        let names = registry::names()?;
        // At once: each may take its time. One that ended meanwhile is left out.
        let mut rows: Vec<Row> = Vec::new();
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

/// What a machine says of itself when it is asked.
#[must_use]
pub fn description(rootfs: &str, command: &str) -> String {
    // Both fit into one message; what is longer is cut.
    let texts = [&std::process::id().to_string(), rootfs, command];
    texts.map(|text| shorten(printable(text), MESSAGE_MAX / 2 - 16)).join("\n")
}

fn shorten(mut text: String, length: usize) -> String {
    text.truncate((0..=length).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0));
    text
}

/// Most machines that are asked at the same time: any user can make sockets that look
/// like machines.
const AT_ONCE: usize = 64;

/// Stands for what a machine does not tell.
const SILENT: &str = "(does not answer)";

fn ask(name: &str) -> Result<Row> {
    let socket = registry::connect(name)?;
    let pid = registry::peer_pid(&socket).map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    // A machine without a name is known by its process id.
    let name = if registry::is_unnamed(name) { pid.clone() } else { printable(name) };
    messages::send(&socket, INFO, NO_FDS)?;
    let Some(message) = registry::wait_and_receive(&socket)? else {
        let [rootfs, command] = [SILENT, ""].map(String::from);
        return Ok(Row { name, pid, rootfs, command });
    };
    let answer = String::from_utf8_lossy(&message.text).into_owned();
    let mut lines = answer.lines().map(printable);
    let mut next = || lines.next().context("a short answer");
    Ok(Row { name, pid: next()?, rootfs: next()?, command: next()? })
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn table(rows: &[Row]) -> String {
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
    fn columns_are_as_wide_as_they_must_be() {
        let row = |name: &str, rootfs: &str| Row {
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
