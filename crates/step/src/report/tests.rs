//! Tests of reports.

use proptest::prelude::*;

use super::*;

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<u8>().prop_map(Outcome::Exit),
        (1..=SIGNAL_MAX).prop_map(Outcome::Signal),
        any::<String>().prop_map(|text| Outcome::fault(&text)),
    ]
}

proptest! {
    #[test]
    fn reports_are_read_again(
        outcome in outcomes(), left: u64, oom: u64, free: u64, free_inodes: u64,
    ) {
        let report = Report { outcome, left, oom, free, free_inodes };
        let text = report.to_text();
        prop_assert!(text.len() <= MAX);
        prop_assert_eq!(Report::parse(text.as_bytes()), Ok(report));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Report::parse(&bytes); // every answer is allowed
    }
}

#[test]
fn faults_are_printable_lines_of_bounded_length() {
    for (text, expected) in [
        ("mount x: EINVAL", "mount x: EINVAL"),
        (" two\nlines\x1b[31m\n", "two lines [31m"),
        ("", "without a reason"),
        ("\n", "without a reason"),
    ] {
        assert_eq!(Outcome::fault(text), Outcome::Fault(expected.to_owned()), "{text:?}");
    }
    let Outcome::Fault(text) = Outcome::fault(&"é".repeat(FAULT_MAX)) else { unreachable!() };
    assert_eq!(text.len(), FAULT_MAX);
}

#[test]
fn bad_reports_are_refused() {
    const REST: &str = "left 0\noom 0\nfree 1\nfree-inodes 2\n";
    let long = format!("fault {}\n{REST}", "x".repeat(FAULT_MAX + 1));
    let longer = format!("exit 0\n{REST}{}", "\n".repeat(MAX));
    for (name, text, expected) in [
        ("nothing", String::new(), "no line \"exit, signal or fault\""),
        ("no outcome", REST.to_owned(), "no line \"exit, signal or fault\""),
        ("no count", "exit 0\nleft 0\noom 0\nfree 1\n".to_owned(), "no line \"free-inodes\""),
        ("two outcomes", format!("exit 0\nsignal 9\n{REST}"), "bad line \"signal 9"),
        ("a count twice", format!("exit 0\n{REST}left 1\n"), "bad line \"left 1"),
        ("status", format!("exit 256\n{REST}"), "bad line \"exit 256"),
        ("negative", format!("exit -1\n{REST}"), "bad line \"exit -1"),
        ("signal 0", format!("signal 0\n{REST}"), "bad line \"signal 0"),
        ("signal 65", format!("signal 65\n{REST}"), "bad line \"signal 65"),
        ("no reason", format!("fault \n{REST}"), "bad line \"fault "),
        ("escape", format!("fault \x1b[2J\n{REST}"), "bad line \"fault \\x1b[2J"),
        ("long fault", long, "bad line \"fault xxx"),
        ("long report", longer, "bytes"),
        ("unknown", format!("exit 0\n{REST}more 1\n"), "bad line \"more 1"),
        (
            "number",
            format!("exit 0\n{}", REST.replace("free 1", "free 99999999999999999999")),
            "bad line \"free 9",
        ),
        ("unfinished", format!("exit 0\n{}", REST.trim_end()), "bad line \"free-inodes 2\""),
        ("empty line", format!("exit 0\n\n{REST}"), "bad line \"\\n\""),
    ] {
        let error = Report::parse(text.as_bytes()).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
