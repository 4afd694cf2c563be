//! `cargo xtask day`: what a workload goes through in days, with short times: ten thousand restarts
//! and a hundred thousand health checks. PID 1 and chrootvm need as much memory at the end as at
//! the beginning.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use files::tell;
use proto::settings::health::Schedule;
use proto::settings::restart::{Backoff, Restart};
use proto::settings::{IMAGE_FILE, Record, encode};

use crate::{programs, testbed, workspace};

/// Let a workload start again and be checked as often as in days, and compare the memory of PID 1
/// and of chrootvm before and after
#[derive(Debug, clap::Args)]
pub struct Day {
    /// Number of restarts
    #[arg(long, default_value_t = 10_000)]
    restarts: u32,
    /// Number of health checks
    #[arg(long, default_value_t = 100_000)]
    checks: u32,
}

/// Starts or checks before the first sample: by then, all that is used only once is there.
const WARM_UP: u32 = 100;

/// Limit of a machine, as `--timeout` takes it.
const LIMIT: &str = "2h";

/// Growth of the resident memory of chrootvm in KiB that is no leak: pages of the allocator.
const CHROOTVM_GROWTH_MAX: u64 = 512;

/// Growth of the memory of PID 1 in KiB that is no leak: less than seven bytes for each of ten
/// thousand restarts.
const INIT_GROWTH_MAX: u64 = 64;

/// The shortest time of the records.
const MILLISECOND: Duration = Duration::from_millis(1);

/// The shell function that prints a line about PID 1: its memory in KiB, its descriptors, and the
/// zombies of the machine. The memory is that of pages that PID 1 has written to, because its heap
/// is an arena of a constant size.
const SAMPLE: &str = "sample() {
    while read key value rest; do [ $key = RssAnon: ] && memory=$value; done < /proc/1/status
    set -- /proc/1/fd/*; fds=$#
    zombies=$(busybox grep -l '^State:.Z' /proc/[0-9]*/status 2> /dev/null | busybox wc -l)
    echo sample $memory $fds $zombies
}
";

/// What a sample shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// Memory that PID 1 has written to, in KiB (`RssAnon`).
    init: u64,
    /// Descriptors of PID 1.
    descriptors: u64,
    /// Children that nobody has waited for.
    zombies: u64,
    /// Resident memory of chrootvm in KiB (`VmRSS`).
    chrootvm: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { init, descriptors, zombies, chrootvm } = self;
        write!(
            f,
            "PID 1 has {init} KiB and {descriptors} descriptors, {zombies} zombies, \
             chrootvm has {chrootvm} KiB"
        )
    }
}

impl Day {
    /// Lives the day.
    ///
    /// # Errors
    /// A machine fails, or something has grown.
    pub fn run(self) -> Result<()> {
        let Self { restarts, checks } = self;
        let backoff = Backoff { first: MILLISECOND, longest: MILLISECOND };
        let starts = restarts + 1;
        let script = format!(
            "{SAMPLE}n=0; [ -e /run/n ] && read n < /run/n; n=$((n + 1)); echo $n > /run/n
            case $n in {WARM_UP}|{starts}) sample;; esac
            [ $n -ge {starts} ]"
        );
        let records = [Record::Restart(Restart::OnFailure), Record::RestartBackoff(backoff)];
        live("restarts", restarts, &script, &records)?;
        // The kernel counts all processes that it has started.
        let script = format!(
            "{SAMPLE}started() {{ while read key value rest; do [ $key = processes ] && break; done \
             < /proc/stat; }}
            wait_for() {{ while started; [ $((value - first)) -lt $1 ]; do read -t 1 line <&3; done; }}
            busybox mkfifo /run/never; exec 3<> /run/never; started; first=$value
            wait_for {WARM_UP}; sample; wait_for $(({checks} + {WARM_UP} + 10)); sample"
        );
        let times = Schedule { interval: MILLISECOND, ..Schedule::default() };
        let check = [b"busybox", &b"true"[..]].map(Record::HealthArg);
        live("checks", checks, &script, &[&check[..], &[Record::Health(times)]].concat())
    }
}

/// Runs the workload `script`, which prints two samples, and compares them.
fn live(what: &str, count: u32, script: &str, records: &[Record<'_>]) -> Result<()> {
    let workspace = workspace::root()?;
    let dir = tempfile::Builder::new().prefix("virtinitrd-day-").tempdir()?;
    let root = dir.path().join("root");
    testbed::make_root(&root, &testbed::busybox()?, &[])?;
    let file = root.join(IMAGE_FILE.trim_start_matches('/'));
    fs::create_dir_all(file.parent().context("the directory of the run file")?)?;
    let shell = [b"sh", &b"-c"[..], script.as_bytes()].map(Record::Arg);
    fs::write(&file, encode(&[&shell[..], records].concat()))?;
    let kernel = testbed::kernel(&workspace)?;
    // A directory would cost a request to the host for each program that starts.
    let image = dir.path().join("root.erofs");
    programs::make_image(&root, &image, &[])?;
    let start = Instant::now();
    let mut command = Command::new(workspace.join("scripts/chrootvm"));
    command.args(["--no-config", "--quiet", "--timeout", LIMIT]);
    command.arg("--kernel").arg(&kernel.image).arg("--modules").arg(&kernel.modules).arg(&image);
    let mut chrootvm = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(chrootvm.0.stdout.take().context("stdout")?);
    let samples = [next_sample(&mut lines, &chrootvm)?, next_sample(&mut lines, &chrootvm)?];
    let status = chrootvm.0.wait()?;
    ensure!(status.success(), "the machine has ended with {status}");
    let seconds = start.elapsed().as_secs();
    tell::result(format_args!("{count} {what} in {seconds} s\n"))?;
    for (when, sample) in ["before", "after"].into_iter().zip(&samples) {
        tell::result(format_args!("  {when}: {sample}\n"))?;
    }
    let [before, after] = samples;
    // A check that runs has one descriptor of PID 1, and one that has just ended is a zombie.
    ensure!(
        after.chrootvm <= before.chrootvm + CHROOTVM_GROWTH_MAX
            && after.init <= before.init + INIT_GROWTH_MAX
            && after.descriptors.abs_diff(before.descriptors) <= 1
            && after.zombies <= 1,
        "{what} cost memory, descriptors or processes"
    );
    Ok(())
}

/// The next sample that the workload prints, and that of chrootvm at that time.
fn next_sample(lines: &mut BufReader<ChildStdout>, chrootvm: &Running) -> Result<Sample> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let Some(numbers) = line.trim_end().strip_prefix("sample ") else {
        bail!("the workload has printed {line:?} instead of a sample");
    };
    let mut numbers = numbers.split(' ').map(str::parse);
    let mut next = || numbers.next().context("a short sample")?.context("a bad sample");
    let status = fs::read_to_string(format!("/proc/{}/status", chrootvm.0.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.split_whitespace().next()).context("VmRSS")?;
    Ok(Sample {
        init: next()?,
        descriptors: next()?,
        zombies: next()?,
        chrootvm: resident.parse().context("VmRSS")?,
    })
}

/// chrootvm, killed when this value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
