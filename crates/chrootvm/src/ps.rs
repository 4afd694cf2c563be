//! `chrootvm ps`: lists the machines of this user.
//!
//! Each machine is a chrootvm that answers on a socket of `machine::running::registry`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use files::tell;
use machine::process::messages::{self, MESSAGE_MAX, NO_FDS};
use machine::running::broker::INFO;
use machine::running::registry;
use machine::running::state::{MachineState, health_word};
use serde::Serialize;

use crate::json;

/// List your running machines
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm ps\n  chrootvm ps --json")]
pub struct Ps {
    /// Print a JSON array, for programs
    #[arg(long)]
    json: bool,
}

/// A machine of the list. What another version of chrootvm, or one that does not answer, has not
/// told is `None`.
#[derive(Debug, PartialEq, Eq)]
struct MachineRow {
    name: String,
    pid: Option<i32>,
    state: Option<MachineState>,
    /// ROOTFS and what the machine runs.
    texts: Option<[String; 2]>,
}

/// A machine of `--json`. Members are always there and keep their meaning.
#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    pid: Option<i32>,
    /// `booting`, `before`, `running`, `restarting` or `stopping`.
    state: Option<&'static str>,
    /// `starting`, `healthy` or `unhealthy`; null without a check, or while the workload does not
    /// run.
    health: Option<&'static str>,
    /// Seconds since the start of the present run; null while nothing runs.
    uptime: Option<u64>,
    /// Starts of the workload after the first one; null without a workload.
    restarts: Option<u32>,
    /// Exit status of the last run of the workload; null without a workload.
    status: Option<u8>,
    rootfs: Option<&'a str>,
    command: Option<&'a str>,
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
        let now = Instant::now();
        match self.json {
            true => tell::result(json(&rows, now)?),
            false => tell::result(table(&rows, now)),
        }
    }
}

/// Answer of a machine to the request for a description: process id, ROOTFS and what it runs,
/// a line each.
#[must_use]
pub fn description(rootfs: &str, command: &str) -> String {
    // Longer texts are cut, so that both fit into one message with the line of the state.
    let texts = [&std::process::id().to_string(), rootfs, command];
    texts.map(|text| shorten(printable(text), MESSAGE_MAX / 2 - STATE_MAX)).join("\n")
}

/// Room in bytes for half of the process id and of the line of the state: a line has at most 80
/// bytes.
const STATE_MAX: usize = 64;

fn shorten(mut text: String, length: usize) -> String {
    text.truncate((0..=length).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0));
    text
}

/// Largest number of machines that are asked at the same time. It bounds the threads: any
/// user can make sockets that look like machines.
const AT_ONCE: usize = 64;

/// Shown instead of ROOTFS for a machine that does not answer.
const SILENT: &str = "(does not answer)";

/// Shown in place of what a machine does not have, or has not told.
const NOTHING: &str = "-";

fn ask(name: &str) -> Result<MachineRow> {
    let socket = registry::connect(name)?;
    let pid = registry::peer_pid(&socket);
    // A machine without a name is listed by its process id.
    let name = match registry::is_unnamed(name) {
        true => shown(pid),
        false => printable(name),
    };
    messages::send(&socket, INFO, NO_FDS)?;
    match registry::wait_and_receive(&socket)? {
        Some(message) => read(name, &String::from_utf8_lossy(&message.text), Instant::now()),
        None => Ok(MachineRow { name, pid, state: None, texts: None }),
    }
}

/// Reads the answer of a machine: the lines of [`description`], and the state, which older versions
/// of chrootvm do not tell.
fn read(name: String, answer: &str, now: Instant) -> Result<MachineRow> {
    let mut lines = answer.lines();
    let mut next = || lines.next().context("a short answer");
    let pid = next()?.parse().ok();
    let texts = Some([printable(next()?), printable(next()?)]);
    let state = lines.next().and_then(|line| MachineState::parse(line, now));
    Ok(MachineRow { name, pid, state, texts })
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Text of a value that may be missing.
fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOTHING.into(), |value| value.to_string())
}

/// Units of [`span`], the longest first, with their seconds.
const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

/// A time in its largest unit, rounded down: 3s, 5m, 2h, 4d.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = UNITS.into_iter().find(|(size, _)| seconds >= *size);
    unit.map_or_else(|| "0s".into(), |(size, name)| format!("{}{name}", seconds / size))
}

/// Names of the columns.
const HEAD: [&str; 7] = ["NAME", "PID", "STATE", "UPTIME", "RESTARTS", "ROOTFS", "COMMAND"];

impl MachineRow {
    /// The entries of the columns.
    fn cells(&self, now: Instant) -> [String; HEAD.len()] {
        let uptime = self.state.and_then(|state| state.uptime(now)).map(span);
        let restarts = self.state.and_then(|state| state.restarts);
        let silent = [SILENT, ""].map(String::from);
        let [rootfs, command] = self.texts.clone().unwrap_or(silent);
        let (pid, state) = (shown(self.pid), shown(self.state));
        [self.name.clone(), pid, state, shown(uptime), shown(restarts), rootfs, command]
    }

    fn json(&self, now: Instant) -> JsonRow<'_> {
        let state = self.state.as_ref();
        let texts = self.texts.as_ref();
        JsonRow {
            name: &self.name,
            pid: self.pid,
            state: state.map(|state| state.activity.word()),
            health: state.and_then(|state| state.health).map(health_word),
            uptime: state.and_then(|state| state.uptime(now)).map(|uptime| uptime.as_secs()),
            restarts: state.and_then(|state| state.restarts),
            status: state.and_then(|state| state.status),
            rootfs: texts.map(|[rootfs, _]| &**rootfs),
            command: texts.map(|[_, command]| &**command),
        }
    }
}

fn json(rows: &[MachineRow], now: Instant) -> Result<String> {
    json::text(&rows.iter().map(|row| row.json(now)).collect::<Vec<_>>())
}

fn table(rows: &[MachineRow], now: Instant) -> String {
    let cells = rows.iter().map(|row| row.cells(now));
    let lines: Vec<_> = [HEAD.map(String::from)].into_iter().chain(cells).collect();
    let width = |column: usize| {
        // Nothing follows the last column.
        let longest = lines.iter().map(|line| line[column].chars().count()).max();
        longest.filter(|_| column + 1 < HEAD.len()).unwrap_or_default()
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let show = |line: &[String; HEAD.len()]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    lines.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use machine::running::state::Activity;
    use proto::workload::Health;

    use super::*;

    /// A row from the answer of a machine.
    fn row(name: &str, answer: &str, now: Instant) -> MachineRow {
        read(name.into(), answer, now).unwrap()
    }

    /// Machines of all kinds at `now`.
    fn rows(now: Instant) -> Vec<MachineRow> {
        vec![
            row("a", "7\n/srv/debian\nsleep 9\nbooting", now),
            row("b", "8\n/x\nsleep 9\nrunning uptime=300", now),
            row(
                "long-name",
                "9\n/x\nhttpd -f\nrunning health=healthy restarts=2 status=1 uptime=7",
                now,
            ),
            row("old", "10\n/x\nls", now),
            MachineRow { name: "silent".into(), pid: Some(11), state: None, texts: None },
        ]
    }

    #[test]
    fn columns_fit_their_longest_entry() {
        let now = Instant::now();
        assert_eq!(
            table(&rows(now), now),
            "NAME       PID  STATE              UPTIME  RESTARTS  ROOTFS             COMMAND\n\
             a          7    booting            -       -         /srv/debian        sleep 9\n\
             b          8    running            5m      -         /x                 sleep 9\n\
             long-name  9    running (healthy)  7s      2         /x                 httpd -f\n\
             old        10   -                  -       -         /x                 ls\n\
             silent     11   -                  -       -         (does not answer)  \n"
        );
        assert_eq!(table(&[], now), format!("{}\n", HEAD.join("  ")));
    }

    #[test]
    fn programs_get_all_that_is_known() {
        let now = Instant::now();
        assert_eq!(json(&[], now).unwrap(), "[]\n");
        let text = json(&rows(now), now).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "name": "long-name", "pid": 9, "state": "running", "health": "healthy", "uptime": 7,
            "restarts": 2, "status": 1, "rootfs": "/x", "command": "httpd -f",
        });
        assert_eq!(found[2], expected);
        let silent = serde_json::json!({
            "name": "silent", "pid": 11, "state": null, "health": null, "uptime": null,
            "restarts": null, "status": null, "rootfs": null, "command": null,
        });
        assert_eq!(found[4], silent);
    }

    #[test]
    fn a_time_has_its_largest_unit() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (7200, "2h"),
            (86_399, "23h"),
            (4 * 86_400, "4d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_description_fits_into_a_message() {
        let now = Instant::now();
        let text = description(&"/é".repeat(9000), &"é".repeat(9000));
        let state = MachineState {
            activity: Activity::Restarting,
            health: Some(Health::Unhealthy),
            restarts: Some(u32::MAX),
            status: Some(u8::MAX),
            since: Some(now),
        };
        let line = state.to_line(now + Duration::from_secs(u64::from(u32::MAX)));
        assert!(text.len() + 1 + line.len() <= MESSAGE_MAX && text.lines().count() == 3);
        assert_eq!(shorten("aé".into(), 2), "a");
    }

    #[test]
    fn a_description_cannot_steer_a_terminal() {
        assert!(description("/a\nb", "x\u{1b}[2J").ends_with("\n/a?b\nx?[2J"));
    }
}
