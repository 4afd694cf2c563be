//! Stages that do not depend on each other run at the same time, and end together.

use anyhow::{Result, ensure};

use super::meeting::Meeting;
use super::site::{build, kept, ran};
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("stages_run_at_the_same_time", stages_run_at_the_same_time),
    ("failed_stage_ends_the_other", failed_stage_ends_the_other),
];

/// Whether two machines run at the same time: each takes a processor.
pub(crate) fn can_run() -> bool {
    std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1)
}

/// Two stages that meet, with what each does afterwards.
fn text(url: &str, left: &str, right: &str) -> String {
    format!(
        "FROM base AS first\n\
         RUN echo first > /first\n\
         FROM first AS left\n\
         RUN wget -q -O /left {url}left; echo met; {left}\n\
         FROM base AS right\n\
         RUN wget -q -O /right {url}right; echo met; {right}\n\
         FROM base AS end\n\
         COPY --from=left /left /first /\n\
         RUN --mount=from=right,target=/of-right cat /left /of-right/right > /both\n"
    )
}

fn stages_run_at_the_same_time(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let meeting = Meeting::of(2)?;
    let built = build(&site, &text(&meeting.url, "true", "true"), &["-o", "o.tar"])?;
    let built = built.is(0, &["\nleft: met\n", "\nright: met\n"])?;
    meeting.end()?;
    ensure!(ran(&built) == ["end 2", "first 1", "left 1", "right 1"], "{built}");
    ensure!(site.text("o.tar", "/both")? == "met\nmet\n");
    Ok(())
}

fn failed_stage_ends_the_other(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    for (left, right, place) in [
        ("sleep 3600", "exit 3", "error: Containerfile:6:1: right 1/1 (RUN wget"),
        ("exit 3", "sleep 3600", "error: Containerfile:4:1: left 1/1 (RUN wget"),
    ] {
        let meeting = Meeting::of(2)?;
        let built = build(&site, &text(&meeting.url, left, right), &["-o", "o.tar"])?;
        let built = built.is(1, &[place, "failed: exit status 3\n"])?;
        meeting.end()?;
        ensure!(built.stderr.matches("error: ").count() == 1, "{built}");
        ensure!(!site.own("o.tar").exists(), "there is an output");
    }
    // What was done before is kept.
    let meeting = Meeting::of(2)?;
    let built = build(&site, &text(&meeting.url, "true", "true"), &["-o", "o.tar"])?.is(0, &[])?;
    meeting.end()?;
    ensure!(ran(&built) == ["end 2", "left 1", "right 1"], "{built}");
    ensure!(!kept(&built).contains(&"left 1".to_owned()), "{built}");
    ensure!(site.text("o.tar", "/first")? == "first\n");
    Ok(())
}
