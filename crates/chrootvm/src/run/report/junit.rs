//! A report as JUnit's XML: a suite with one case. There is no standard; the elements and
//! attributes are those that Jenkins and GitLab read.

use machine::running::outcome::Ending;
use machine::running::script::shell_line;

use super::document::{Document, End};

/// Name of the case if the machine runs the workload of ROOTFS.
const WORKLOAD: &str = "workload";

/// The report as XML 1.0, with a newline at its end.
pub(super) fn text(document: &Document) -> String {
    let Document { run, end, duration, .. } = document;
    let result = result(end);
    let [failures, errors] = ["failure", "error"]
        .map(|kind| usize::from(result.as_ref().is_some_and(|(found, _)| *found == kind)));
    let words = run.words();
    let name = match words.is_empty() {
        true => WORKLOAD.into(),
        false => escaped(&shell_line(&words).to_string_lossy()),
    };
    let (suite, rootfs, start) = (escaped(run.name()), escaped(run.rootfs()), run.started());
    let seconds = format!("{:.3}", duration.as_secs_f64());
    let result = result.map(|(kind, message)| {
        let ending = end.ending.word();
        format!("<{kind} type=\"{ending}\" message=\"{}\"/>\n", escaped(&message))
    });
    let result = result.unwrap_or_default();
    let console = end.console.as_deref().map(escaped).unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"{suite}\" tests=\"1\" failures=\"{failures}\" errors=\"{errors}\" \
         skipped=\"0\" time=\"{seconds}\" timestamp=\"{start}\">\n\
         <testcase classname=\"{rootfs}\" name=\"{name}\" time=\"{seconds}\">\n\
         {result}<system-out>{console}</system-out>\n</testcase>\n</testsuite>\n"
    )
}

/// Element and message for a case that has not passed. A command that says no is a failure; all
/// else is an error.
fn result(end: &End) -> Option<(&'static str, String)> {
    let signal = end.signal.map(|signal| format!("interrupted by {signal}"));
    let message = end.error.clone().or(signal);
    match (end.ending, message) {
        (_, None) if end.status == 0 => None,
        (Ending::PoweredOff, _) => None,
        (Ending::Exited, None) => Some(("failure", format!("exit status {}", end.status))),
        (_, message) => {
            Some(("error", message.unwrap_or_else(|| format!("exit status {}", end.status))))
        }
    }
}

/// `text` in XML. Characters that XML 1.0 cannot express (`Char`, section 2.2) are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader would make a space of it in an attribute.
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::super::document::tests::document;
    use super::*;

    #[test]
    fn a_report_is_well_formed_xml() {
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <testsuite name=\"m\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\" \
            time=\"2.050\" timestamp=\"2024-01-02T03:04:05.000000Z\">\n\
            <testcase classname=\"/r\" name=\"sh -c 'exit 3 # &lt;&amp;\u{fffd}'\" time=\"2.050\">\n\
            <failure type=\"exited\" message=\"exit status 3\"/>\n\
            <system-out>Linux ]]&gt; \u{fffd}&#10;</system-out>\n</testcase>\n</testsuite>\n";
        assert_eq!(text(&document(Ending::Exited, 3)), expected);
    }

    #[test]
    fn only_a_command_fails() {
        for (ending, status, error, signal, expected) in [
            (Ending::Exited, 0, None, None, None),
            (Ending::PoweredOff, 0, Some("PID 1 has ended"), None, None),
            (Ending::Exited, 1, None, None, Some(("failure", "exit status 1"))),
            (
                Ending::Exited,
                143,
                None,
                Some(Signal::SIGTERM),
                Some(("error", "interrupted by SIGTERM")),
            ),
            (Ending::TimeLimit, 124, Some("late"), None, Some(("error", "late"))),
            (Ending::NotStarted, 127, Some("no x"), None, Some(("error", "no x"))),
            (Ending::Interrupted, 129, None, None, Some(("error", "exit status 129"))),
            (Ending::Failed, 125, Some("no QEMU"), None, Some(("error", "no QEMU"))),
        ] {
            let end = End { signal, ..End::new(ending, status, error.map(Into::into)) };
            let found = result(&end);
            let found = found.as_ref().map(|(kind, message)| (*kind, message.as_str()));
            assert_eq!(found, expected, "{end:?}");
        }
    }
}
