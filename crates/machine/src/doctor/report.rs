//! Findings, and their report as text.

use files::tell::printable;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything is as it should be.
    Ok,
    /// Machines run, but more slowly or with fewer features, or only some of them run.
    Note,
    /// No machine can run.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Severity.
    pub status: Status,
    /// The thing that was checked, such as `QEMU`.
    pub subject: &'static str,
    /// The finding and its remedy.
    pub text: String,
}

impl Status {
    /// The word for it in the report.
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Missing => "missing",
        }
    }
}

/// Formats findings in columns, one line for each. File names in a finding may have control
/// characters; they are left out, and newlines and tabs become blanks.
#[must_use]
pub fn report(findings: &[Finding]) -> String {
    /// Width of the first column: the longest word, `missing`, and a blank.
    const STATUS_WIDTH: usize = 8;
    let subject_width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let line = |Finding { status, subject, text }: &Finding| {
        let text = printable(text.as_bytes()).replace(['\n', '\t'], " ");
        format!("{:STATUS_WIDTH$} {subject:subject_width$}  {text}\n", status.word())
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let finding = |status, subject, text: &str| Finding { status, subject, text: text.into() };
        let findings = [
            finding(Status::Ok, "QEMU", "here"),
            finding(Status::Missing, "virtiofsd", "a\nb \u{1b}[0m"),
            finding(Status::Note, "KVM", "no"),
        ];
        let expected = "\
ok       QEMU       here
missing  virtiofsd  a b [0m
note     KVM        no
";
        assert_eq!(report(&findings), expected);
        assert_eq!(report(&[]), "");
    }
}
