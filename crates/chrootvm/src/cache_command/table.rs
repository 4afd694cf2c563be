//! The list of what is kept: a table for people, JSON for programs.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use files::tell::show;
use indicatif::HumanBytes;
use serde_json::json;

use super::entry::Entry;
use super::kept::Removed;
use crate::json;

/// Hexadecimal digits of a digest that people see; JSON has all.
const DIGITS: usize = 12;

/// Lengths of time that people see, the longest first.
const SPANS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// The table of `entries` in `dir`, and their sum. `now` is the time.
pub(super) fn lines(dir: &Path, entries: &[Entry], now: SystemTime) -> String {
    let mut text =
        format!("{:8}  {:>11}  {:>6}  {:7}  {}\n", "KIND", "SIZE", "USED", "STATE", "NAME");
    for entry in entries {
        let state = match (entry.in_use, entry.complete) {
            (true, _) => "in use",
            (false, true) => "",
            (false, false) => "partial",
        };
        let (kind, size) = (entry.kind.name(), HumanBytes(entry.size).to_string());
        let age = age(now.duration_since(entry.used).unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{kind:8}  {size:>11}  {age:>6}  {state:7}  {}", name(entry));
    }
    let sum = HumanBytes(entries.iter().map(|entry| entry.size).sum());
    let _ = writeln!(text, "{sum} in {}", show(dir.as_os_str().as_encoded_bytes()));
    text
}

/// The name of an entry for people.
fn name(entry: &Entry) -> String {
    let name = match entry.name.split_once(':') {
        Some((algorithm, digits)) => {
            format!("{algorithm}:{}", digits.get(..DIGITS).unwrap_or(digits))
        }
        None => entry.name.clone(),
    };
    let shown = if entry.label.is_empty() { &name } else { &entry.label };
    show(shown.as_bytes())
}

/// A time as people see it, such as `3d`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let span = SPANS.iter().find(|(_, length)| seconds >= *length);
    span.map_or("now".into(), |(unit, length)| format!("{}{unit}", seconds / length))
}

/// The `entries` in `dir` as JSON.
///
/// # Errors
/// A path or a text that JSON cannot express.
pub(super) fn json(dir: &Path, entries: &[Entry]) -> Result<String> {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    };
    let entry = |entry: &Entry| {
        json!({
            "kind": entry.kind.name(),
            "name": entry.name,
            "label": entry.label,
            "size": entry.size,
            "used": seconds(entry.used),
            "in_use": entry.in_use,
            "complete": entry.complete,
        })
    };
    let size: u64 = entries.iter().map(|entry| entry.size).sum();
    let entries: Vec<_> = entries.iter().map(entry).collect();
    json::text(&json!({ "dir": dir.to_string_lossy(), "size": size, "entries": entries }))
}

/// The line about a removal.
pub(super) fn removed(removed: &Removed) -> String {
    let Removed { count, bytes, in_use } = removed;
    let mut text = format!("removed {count}, {}", HumanBytes(*bytes));
    if *in_use > 0 {
        let _ = write!(text, "; {in_use} in use stay"); // a String takes all
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::entry::Kind;
    use super::super::entry::tests::entry;
    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry {
                kind: Kind::Blob,
                complete: false,
                ..entry("sha256:0123456789abcdef", 1 << 20, 0)
            },
            Entry {
                kind: Kind::Image,
                label: "oci\u{1b}[2J:x".into(),
                in_use: true,
                ..entry("erofs-1", 3, 60)
            },
            Entry { kind: Kind::Unpacked, ..entry("1-abc", 0, 121) },
        ]
    }

    #[test]
    fn the_table_is_for_people() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2 * 3600 + 60);
        assert_eq!(
            lines(Path::new("/c"), &entries(), now),
            "KIND             SIZE    USED  STATE    NAME\n\
             blob         1.00 MiB      2h  partial  sha256:0123456789ab\n\
             image             3 B      1h  in use   oci\\u{1b}[2J:x\n\
             unpacked          0 B     now           1-abc\n\
             1.00 MiB in /c\n"
        );
        assert_eq!(age(Duration::from_secs(86_400 * 40)), "40d");
        assert_eq!(age(Duration::from_secs(59)), "59s");
    }

    #[test]
    fn json_has_everything() {
        let text = json(Path::new("/c"), &entries()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["dir"], &value["size"]), (&json!("/c"), &json!((1 << 20) + 3)));
        assert_eq!(
            value["entries"][0],
            json!({
                "kind": "blob", "name": "sha256:0123456789abcdef", "label": "", "size": 1 << 20,
                "used": 0, "in_use": false, "complete": false
            })
        );
        assert_eq!(value["entries"][1]["in_use"], true);
    }

    #[test]
    fn a_removal_is_one_line() {
        let nothing = Removed::default();
        assert_eq!(removed(&nothing), "removed 0, 0 B\n");
        let some = Removed { count: 2, bytes: 2048, in_use: 1 };
        assert_eq!(removed(&some), "removed 2, 2.00 KiB; 1 in use stay\n");
    }
}
