//! What this host has and lacks to boot machines.
//!
//! [`gather`] looks around and fills in [`facts`]; [`findings`] and [`kernels`]
//! judge them, [`packages`] knows what mends; only then is anything printed.

pub mod facts;
pub mod findings;
pub mod gather;
pub mod kernels;
pub mod packages;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Machines run, but less well, or not all of them.
    Note,
    /// chrootvm cannot work.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub status: Status,
    /// What it is about.
    pub subject: &'static str,
    /// What was found, and what mends it.
    pub text: String,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Missing => "missing",
        }
    }
}

/// One line a finding, in columns. Control characters, which file names may
/// have, become `?`: a finding is one line, and says nothing to the terminal.
#[must_use]
pub fn report(findings: &[Finding]) -> String {
    /// `missing`, and a gap.
    const STATUS_WIDTH: usize = 8;
    let subject_width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let line = |Finding { status, subject, text }: &Finding| {
        let text = text.replace(|c: char| c.is_control(), "?");
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
missing  virtiofsd  a?b ?[0m
note     KVM        no
";
        assert_eq!(report(&findings), expected);
        assert_eq!(report(&[]), "");
    }
}
