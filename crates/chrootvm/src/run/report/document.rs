//! What a report says, and its JSON: one object in one line.
//!
//! Members are always there and keep their meaning; new versions may add some. The tables in
//! `docs/fleets.md` and chrootvm(1) describe them; a test compares those with [`Document`].

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use files::time::timestamp_micros;
use machine::running::outcome::Ending;
use nix::sys::signal::Signal;
use serde::{Serialize, Serializer};

/// Version of the format. It changes if a member changes its meaning or goes.
const VERSION: u32 = 1;

/// Facts about a run that are known before its end.
#[derive(Clone, Debug, Serialize)]
pub(in crate::run) struct Run {
    version: u32,
    chrootvm: &'static str,
    name: String,
    rootfs: Option<String>,
    /// The OCI image that ROOTFS is.
    pub(in crate::run) image: Option<ImageFacts>,
    command: Vec<String>,
    init: Option<String>,
    #[serde(flatten)]
    pub(in crate::run) machine: MachineFacts,
    #[serde(serialize_with = "time")]
    start: SystemTime,
    #[serde(skip)]
    clock: Instant,
}

/// An OCI image.
#[derive(Clone, Debug, Serialize)]
pub(in crate::run) struct ImageFacts {
    pub(in crate::run) name: String,
    /// Digest of its config.
    pub(in crate::run) digest: String,
}

/// The machine, once it is planned.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::run) struct MachineFacts {
    pub(in crate::run) kernel: Option<KernelFacts>,
    /// Executor of guest code: `kvm` or `tcg`.
    pub(in crate::run) accelerator: Option<&'static str>,
    /// Memory in bytes.
    pub(in crate::run) memory: Option<u64>,
    pub(in crate::run) processors: Option<usize>,
}

/// The kernel of a machine.
#[derive(Clone, Debug, Serialize)]
pub(in crate::run) struct KernelFacts {
    pub(in crate::run) path: String,
    /// Release (`uname -r`), if the file tells it.
    pub(in crate::run) release: Option<String>,
}

/// The end of a run.
#[derive(Clone, Debug, Serialize)]
pub(in crate::run) struct End {
    /// Exit status of chrootvm.
    pub(in crate::run) status: u8,
    #[serde(serialize_with = "word")]
    pub(in crate::run) ending: Ending,
    /// The first signal that asked chrootvm to end.
    #[serde(serialize_with = "number")]
    pub(in crate::run) signal: Option<Signal>,
    /// Message of chrootvm.
    pub(in crate::run) error: Option<String>,
    /// Phases that the run has reached.
    #[serde(serialize_with = "durations")]
    pub(in crate::run) phases: Vec<(&'static str, Duration)>,
    /// Tail of the console, unless standard output has it.
    pub(in crate::run) console: Option<String>,
}

/// A whole report.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    #[serde(flatten)]
    pub(super) run: Run,
    #[serde(flatten)]
    pub(super) end: End,
    #[serde(rename = "end", serialize_with = "time")]
    ended: SystemTime,
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub(super) duration: Duration,
}

impl Run {
    /// A run of a machine with this `name` that starts now.
    pub(in crate::run) fn new(name: Option<&str>, rootfs: Option<&Path>) -> Self {
        Self {
            version: VERSION,
            chrootvm: env!("CARGO_PKG_VERSION"),
            name: name.map_or_else(|| std::process::id().to_string(), str::to_owned),
            rootfs: rootfs.map(|path| path.to_string_lossy().into_owned()),
            image: None,
            command: Vec::new(),
            init: None,
            machine: MachineFacts::default(),
            start: SystemTime::now(),
            clock: Instant::now(),
        }
    }

    /// Sets what the machine runs.
    pub(in crate::run) fn runs(&mut self, command: &[OsString], init: Option<&OsString>) {
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        self.command = command.iter().map(text).collect();
        self.init = init.map(text);
    }

    /// Name of the machine.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// ROOTFS; empty if none is given.
    pub(super) fn rootfs(&self) -> &str {
        self.rootfs.as_deref().unwrap_or_default()
    }

    /// Words that the machine runs; empty for the workload of ROOTFS.
    pub(super) fn words(&self) -> Vec<OsString> {
        let words = self.command.iter().chain(&self.init);
        words.map(OsString::from).collect()
    }

    /// Start of the run.
    pub(super) fn started(&self) -> String {
        timestamp(self.start)
    }
}

impl End {
    /// An end without a machine.
    pub(super) fn new(ending: Ending, status: u8, error: Option<String>) -> Self {
        Self { status, ending, signal: None, error, phases: Vec::new(), console: None }
    }
}

impl Document {
    /// The report of a run that ends now.
    pub(super) fn new(run: Run, end: End) -> Self {
        let duration = run.clock.elapsed();
        Self { ended: run.start + duration, run, end, duration }
    }
}

fn timestamp(time: SystemTime) -> String {
    timestamp_micros(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

// serde passes a reference to the field.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn word<S: Serializer>(ending: &Ending, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(ending.word())
}

// serde passes a reference to the field.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn number<S: Serializer>(signal: &Option<Signal>, serializer: S) -> Result<S::Ok, S::Error> {
    signal.map(|signal| signal as i32).serialize(serializer)
}

/// Milliseconds with one decimal, as `--timing` prints them.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(millis(*time))
}

fn durations<S: Serializer>(
    phases: &[(&'static str, Duration)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(phases.iter().map(|(name, time)| (name, millis(*time))))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use machine::running::outcome::ENDINGS;

    use super::*;
    use crate::json;

    /// The report of a command that has ended with `status`.
    pub(in crate::run::report) fn document(ending: Ending, status: u8) -> Document {
        let mut run = Run::new(Some("m"), Some(Path::new("/r")));
        run.runs(&["sh".into(), "-c".into(), "exit 3 # <&\u{1}".into()], None);
        run.start = UNIX_EPOCH + Duration::from_secs(1_704_164_645);
        let phases = vec![("host set-up", Duration::from_micros(1_260))];
        let console = Some("Linux ]]> \u{fffd}\n".into());
        let end = End { phases, console, ..End::new(ending, status, None) };
        let duration = Duration::from_micros(2_049_960);
        Document { ended: run.start + duration, run, end, duration }
    }

    #[test]
    fn a_report_is_one_line_of_json() {
        let mut document = document(Ending::Interrupted, 143);
        document.end.signal = Some(Signal::SIGTERM);
        document.end.error = Some("x\ny".into());
        let line = json::line(&document).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let found: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "version": 1,
            "chrootvm": env!("CARGO_PKG_VERSION"),
            "name": "m",
            "rootfs": "/r",
            "image": null,
            "command": ["sh", "-c", "exit 3 # <&\u{1}"],
            "init": null,
            "kernel": null,
            "accelerator": null,
            "memory": null,
            "processors": null,
            "start": "2024-01-02T03:04:05.000000Z",
            "end": "2024-01-02T03:04:07.049960Z",
            "milliseconds": 2050.0,
            "status": 143,
            "ending": "interrupted",
            "signal": 15,
            "error": "x\ny",
            "phases": {"host set-up": 1.3},
            "console": "Linux ]]> \u{fffd}\n",
        });
        assert_eq!(found, expected);
    }

    /// First cells of the rows of the table in a Markdown `text` whose first heading is `heading`.
    fn cells<'a>(text: &'a str, heading: &str) -> BTreeSet<&'a str> {
        let rows = text.split_once(&format!("\n| {heading} |")).expect(heading).1.lines().skip(2);
        let rows = rows.map_while(|row| row.strip_prefix("| `")?.split_once('`'));
        rows.map(|(cell, _)| cell).collect()
    }

    /// Tags of the section of a manual page that begins with `start`.
    fn tags<'a>(page: &'a str, start: &str) -> BTreeSet<&'a str> {
        let section = page.split_once(start).expect(start).1;
        let section = section.split_once("\n.PP").expect("the end of the list").0;
        section.split("\n.TP\n.B ").skip(1).map(|tag| tag.lines().next().unwrap()).collect()
    }

    #[test]
    fn the_documents_describe_all_members_and_endings() {
        let read = |name: &str| {
            fs::read_to_string(format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        };
        let (fleets, page) = (read("docs/fleets.md"), read("man/chrootvm.1").replace("\\-", "-"));
        let value = serde_json::to_value(document(Ending::Exited, 0)).unwrap();
        let members: BTreeSet<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(cells(&fleets, "Member"), members);
        assert_eq!(tags(&page, "\nMembers of a report:"), members);
        let endings: BTreeSet<_> = ENDINGS.iter().map(|(word, _)| *word).collect();
        assert_eq!(cells(&fleets, "Ending"), endings);
        assert_eq!(tags(&page, "\nEndings of a run:"), endings);
    }
}
