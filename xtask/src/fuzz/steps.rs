//! Targets for the steps of recipes: the request that the guest reads, and the report that the
//! host reads.

use anyhow::{Context, Result, ensure};
use step::report::{FAULT_MAX, Outcome, Report};
use step::request::Request;

use super::input::Answer;

/// Keys and values of requests.
#[rustfmt::skip]
pub(super) const REQUEST_WORDS: &[&str] = &[
    "number=", "lower=disk:", "lower=step:", "arg=", "env=", "user=", "cwd=", "hostname=", "network=none",
    "network=user", "resolv-conf=", "run=fresh", "run=image", "etc=image", "etc=private", "bind=ro ", "bind=rw ", "bind=scratch ", "cache=- ", "cache=", "tmpfs=", "tmpfs=- ", " rw 755 0 0 ", "secret=", "/dev/vdb", "/", "..",
    " ", "=", ":", "\0", "0", "00", "1", "4294967295", "4294967296", "A=b", "\n", "é",
];

/// Seeds of requests.
pub(super) fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "number=1\0arg=true\0",
        "number=3\0lower=disk:/dev/vdb\0lower=step:2\0arg=sh\0arg=-c\0arg=id\0env=A=b\0user=app:1\0\
         cwd=/srv\0hostname=box\0network=user\0resolv-conf=nameserver 10.0.2.3\n\0run=image\0etc=private\0bind=ro 4 /a b /c\0\
         bind=rw 2 /d /e\0cache=- 1 rw 755 0 0 /var/cache\0cache=/dev/vdc 2 ro 1770 5 6 /x\0\
         tmpfs=4096 /t\0secret=400 0 0 2 /k 00ff\0",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Rules for every request.
pub(super) fn check_request(bytes: &[u8]) -> Result<Answer> {
    let Ok(request) = Request::parse(bytes) else { return Ok(Answer::Refused) };
    ensure!(!request.args.is_empty(), "a request without a command");
    let again = request.to_bytes().context("a request that was read cannot be written")?;
    ensure!(Request::parse(&again).as_ref() == Ok(&request), "a request is not read again");
    Ok(Answer::Accepted)
}

/// Keys and values of reports.
#[rustfmt::skip]
pub(super) const REPORT_WORDS: &[&str] = &[
    "exit ", "signal ", "fault ", "left ", "oom ", "free ", "free-inodes ", "0", "9", "64", "65", "255", "256", "\n",
    " ", "\0", "18446744073709551616", "\u{1b}[2J", "é",
];

/// Seeds of reports.
pub(super) fn reports() -> Vec<Vec<u8>> {
    let outcomes = ["exit 0", "signal 9", "fault mount overlay at /: EINVAL: é"];
    let rest = "left 2\noom 0\nfree 4096\nfree-inodes 12\n";
    outcomes.iter().map(|outcome| format!("{outcome}\n{rest}").into_bytes()).collect()
}

/// Rules for every report.
pub(super) fn check_report(bytes: &[u8]) -> Result<Answer> {
    let Ok(report) = Report::parse(bytes) else { return Ok(Answer::Refused) };
    if let Outcome::Fault(text) = &report.outcome {
        let is_line = !text.is_empty() && !text.contains(char::is_control);
        ensure!(is_line && text.len() <= FAULT_MAX, "a fault that cannot be shown");
    }
    let again = Report::parse(report.to_text().as_bytes());
    ensure!(again.as_ref() == Ok(&report), "a report is not read again");
    Ok(Answer::Accepted)
}
