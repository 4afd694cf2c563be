//! Slurm: `docs/examples/fleets/matrix.sbatch` as an array job, and jobs that end early.
//!
//! Settings: slurm.conf(5). The daemons of the distribution run on loopback, as one node with two
//! processors, with all of their files in the directory of the runs. They end with this program
//! (`setpriv --pdeathsig`), and before it in any case that it survives.
//! Results: `jobcomp/filetxt` writes a line of `KEY=VALUE` for each job that has ended.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, gethostname};

use super::matrix::{COMMANDS, check, command_of, read};
use super::site::{PAUSE, Site};

/// Longest time until the daemons listen, until a job runs its command, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(180);

/// Longest time of the array job, as timeout(1) takes it.
const LIMIT: &str = "40m";

/// Time for a daemon to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// Beginning of the names of the machines.
const NAMES: &str = "slurm-";

/// Command of jobs that end early. It ignores no signal, and says when it runs.
const ENDLESS: &str = "echo up; exec sleep 3600";

/// The job that ends early, what is done to it when its command runs, and its end.
struct EarlyEnd {
    name: &'static str,
    /// Options of sbatch.
    options: &'static [&'static str],
    /// Arguments of scancel; empty for a job that Slurm ends by itself.
    cancel: &'static [&'static str],
    /// State and exit code (status and signal) of the job.
    result: (&'static str, &'static str),
    /// Status, possible endings and signal of the report; `None` if chrootvm is killed with all
    /// others, and may still write one before.
    report: Option<(u64, &'static [&'static str], u64)>,
}

/// Jobs that end early. If QEMU gets the signal, too, the command may still be faster.
#[rustfmt::skip]
const EARLY_ENDS: &[EarlyEnd] = &[
    EarlyEnd { name: "cancelled",   options: &[], cancel: &["--quiet"],                  result: ("CANCELLED", "0:0"), report: Some((143, &["interrupted", "exited"], 15)) },
    EarlyEnd { name: "signalled",   options: &[], cancel: &["--batch", "--signal=TERM"], result: ("FAILED", "143:0"),  report: Some((143, &["exited"], 15)) },
    EarlyEnd { name: "over --mem",  options: &["--mem=80"], cancel: &[],                 result: ("FAILED", "0:9"),    report: None },
];

/// Runs the array job, and the jobs that end early.
///
/// # Errors
/// Slurm does not start, a task has another end than it should, or something is left.
pub(super) fn run(site: &Site) -> Result<String> {
    ensure!(geteuid().is_root(), "slurm: slurmd starts jobs as root; run this as root");
    let cluster = Cluster::start(site)?;
    let tasks = site.kernels.len() * COMMANDS.len();
    let script = site.tree.join("docs/examples/fleets/matrix.sbatch");
    let array = format!("--array=0-{}", tasks - 1);
    site.forget_results()?;
    let mut sbatch = site.command("timeout");
    sbatch.args([LIMIT, "sbatch", "--parsable", "--wait", &array]).arg(&script);
    let output = cluster.output(sbatch)?;
    let highest = COMMANDS.iter().map(|command| command.status).max();
    // With --wait, the status is the highest one of all tasks.
    let status = output.status.code().and_then(|code| u64::try_from(code).ok());
    ensure!(status == highest, "sbatch: {output:?}");
    let job = String::from_utf8(output.stdout)?.trim().to_owned();
    for task in 0..tasks {
        let kernel = &site.kernels[task / COMMANDS.len()];
        check(task, kernel, &read(&site.path(&format!("results/{task}.json")))?)?;
        let expected = format!("{}:0", command_of(task).status);
        let (state, code) = cluster.result(&job, task)?;
        ensure!(code == expected, "task {task}: Slurm has {state} {code}, not {expected}");
    }
    site.check_nothing_left(NAMES)?;
    let commands = fs::read(site.path("commands"))?;
    fs::write(site.path("commands"), format!("{ENDLESS}\n"))?;
    for end in EARLY_ENDS {
        early_end(site, &cluster, end).with_context(|| format!("the job {}", end.name))?;
    }
    fs::write(site.path("commands"), commands)?;
    let names: Vec<_> = EARLY_ENDS.iter().map(|end| end.name).collect();
    Ok(format!(
        "{}: {tasks} tasks, {} kernels × {} commands, statuses as expected; jobs {}: nothing left",
        cluster.version()?,
        site.kernels.len(),
        COMMANDS.len(),
        names.join(", ")
    ))
}

/// Runs one job, and ends it early.
fn early_end(site: &Site, cluster: &Cluster<'_>, end: &EarlyEnd) -> Result<()> {
    site.forget_results()?;
    let script = site.tree.join("docs/examples/fleets/matrix.sbatch");
    let mut sbatch = site.command("sbatch");
    sbatch.args(["--parsable", "--array=0"]).args(end.options).arg(script);
    let output = cluster.output(sbatch)?;
    ensure!(output.status.success(), "sbatch: {output:?}");
    let job = String::from_utf8(output.stdout)?.trim().to_owned();
    if !end.cancel.is_empty() {
        wait_until("the command runs", || {
            let text = fs::read_to_string(site.path("results/0.out")).unwrap_or_default();
            Ok(text.contains("up\n"))
        })?;
        let mut scancel = site.command("scancel");
        scancel.args(end.cancel).arg(&job);
        let output = cluster.output(scancel)?;
        ensure!(output.status.success(), "scancel: {output:?}");
    }
    wait_until("the job ends", || Ok(cluster.result(&job, 0).is_ok()))?;
    let (state, code) = cluster.result(&job, 0)?;
    ensure!((&*state, &*code) == end.result, "Slurm has {state} {code}");
    site.check_nothing_left(NAMES)?;
    let Some((status, endings, signal)) = end.report else { return Ok(()) };
    let report = read(&site.path("results/0.json"))?;
    let ending = report["ending"].as_str().unwrap_or_default();
    ensure!(
        report["status"] == status && report["signal"] == signal && endings.contains(&ending),
        "the report is {report}"
    );
    Ok(())
}

/// A Slurm on this host. Drop ends the daemons, the last one first.
struct Cluster<'a> {
    site: &'a Site,
    daemons: Vec<Child>,
}

impl<'a> Cluster<'a> {
    /// Starts the daemons, and waits until they take jobs.
    ///
    /// # Errors
    /// A program is missing, or does not start in time.
    fn start(site: &'a Site) -> Result<Self> {
        for name in ["slurm", "slurm/state", "slurm/spool"] {
            fs::create_dir(site.path(name)).with_context(|| format!("make {name}"))?;
        }
        fs::set_permissions(site.path("slurm"), fs::Permissions::from_mode(0o711))?;
        let key = site.path("slurm/key");
        fs::write(&key, key_bytes()?)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400))?;
        fs::write(site.path("slurm/slurm.conf"), settings(site)?)?;
        let mut cluster = Self { site, daemons: Vec::new() };
        let file = |option: &str, name: &str| {
            format!("--{option}={}", site.path("slurm").join(name).display())
        };
        let munged = [
            "--foreground".to_owned(),
            file("key-file", "key"),
            file("socket", "munge"),
            file("pid-file", "munge.pid"),
            file("log-file", "munge.log"),
            file("seed-file", "seed"),
        ];
        cluster.daemon("munged", &munged)?;
        wait_until("munged listens", || Ok(site.path("slurm/munge").exists()))?;
        cluster.daemon("slurmctld", &["-D".to_owned()])?;
        cluster.daemon("slurmd", &["-D", "-N", NODE].map(str::to_owned))?;
        let is_idle = || {
            let mut sinfo = site.command("sinfo");
            sinfo.args(["--noheader", "--format=%T"]);
            Ok(cluster.output(sinfo)?.stdout == b"idle\n")
        };
        wait_until("the node is idle", is_idle).with_context(|| {
            let log = fs::read_to_string(site.path("slurm/slurmctld.log")).unwrap_or_default();
            format!("the log of slurmctld:\n{log}")
        })?;
        Ok(cluster)
    }

    fn daemon(&mut self, program: &str, arguments: &[String]) -> Result<()> {
        let log = File::create(self.site.path(&format!("slurm/{program}.log")))?;
        let mut command = self.site.command("setpriv");
        command.args(["--pdeathsig", "TERM", program]).args(arguments);
        command.env("SLURM_CONF", self.site.path("slurm/slurm.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn();
        self.daemons.push(
            child
                .with_context(|| format!("start {program}; `scripts/setup fleets` installs it"))?,
        );
        Ok(())
    }

    /// Runs a command of Slurm.
    fn output(&self, mut command: std::process::Command) -> Result<std::process::Output> {
        command.env("SLURM_CONF", self.site.path("slurm/slurm.conf")).stdin(Stdio::null());
        command.output().with_context(|| format!("run {}", command.get_program().display()))
    }

    /// State and exit code of a task of an array job that has ended.
    fn result(&self, job: &str, task: usize) -> Result<(String, String)> {
        let lines = fs::read_to_string(self.site.path("slurm/jobs")).context("read the jobs")?;
        result_in(&lines, job, task)
    }

    fn version(&self) -> Result<String> {
        let mut command = self.site.command("sbatch");
        command.arg("--version");
        Ok(String::from_utf8(self.output(command)?.stdout)?.trim().to_owned())
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Jobs that still run, after an error, would outlive the daemons.
        let mut scancel = self.site.command("scancel");
        scancel.args(["--quiet", "--full", "--signal=KILL", "--user=root"]);
        let _ = self.output(scancel); // Slurm may not have started
        for daemon in self.daemons.iter_mut().rev() {
            let pid = Pid::from_raw(daemon.id().try_into().unwrap_or(i32::MAX));
            let _ = kill(pid, Signal::SIGTERM); // it may have ended
            let deadline = Instant::now() + GRACE;
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
            }
            let _ = daemon.kill(); // it has ended, or does not end
            let _ = daemon.wait();
        }
    }
}

/// Name of the node.
const NODE: &str = "node";

/// Text of slurm.conf. Memory is enforced by adding up that of the processes, because a host may
/// have no cgroups to give.
fn settings(site: &Site) -> Result<String> {
    let host = gethostname().context("gethostname")?;
    let (host, dir) = (host.to_string_lossy(), site.path("slurm"));
    let dir = dir.display();
    let [controller, node] = free_ports()?;
    Ok(format!(
        "ClusterName=fleet\n\
         SlurmctldHost={host}(127.0.0.1)\n\
         AuthType=auth/munge\n\
         AuthInfo=socket={dir}/munge\n\
         SlurmUser=root\n\
         SlurmdUser=root\n\
         StateSaveLocation={dir}/state\n\
         SlurmdSpoolDir={dir}/spool\n\
         SlurmctldPort={controller}\n\
         SlurmdPort={node}\n\
         CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\n\
         SlurmctldPidFile={dir}/slurmctld.pid\n\
         SlurmdPidFile={dir}/slurmd.pid\n\
         ProctrackType=proctrack/linuxproc\n\
         TaskPlugin=task/none\n\
         SelectType=select/cons_tres\n\
         SelectTypeParameters=CR_CPU_Memory\n\
         SwitchType=switch/none\n\
         MpiDefault=none\n\
         MailProg=/bin/true\n\
         JobAcctGatherType=jobacct_gather/linux\n\
         JobAcctGatherFrequency=1\n\
         JobAcctGatherParams=OverMemoryKill\n\
         AccountingStorageType=accounting_storage/none\n\
         JobCompType=jobcomp/filetxt\n\
         JobCompLoc={dir}/jobs\n\
         NodeName={NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2048\n\
         PartitionName=all Nodes={NODE} Default=YES State=UP MaxTime=INFINITE\n"
    ))
}

/// Two ports of loopback that nobody uses now.
fn free_ports() -> Result<[u16; 2]> {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).context("find a free port");
    let listeners = [listen()?, listen()?];
    let [first, second] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([first?.port(), second?.port()])
}

/// Bytes of a key for munged.
fn key_bytes() -> Result<[u8; 64]> {
    let mut bytes = [0; 64];
    let mut source = File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes)
}

/// State and exit code of a task in the `lines` of `jobcomp/filetxt`.
fn result_in(lines: &str, job: &str, task: usize) -> Result<(String, String)> {
    let marks = [format!(" ArrayJobId={job} "), format!(" ArrayTaskId={task} ")];
    let line = lines.lines().find(|line| marks.iter().all(|mark| line.contains(mark)));
    let Some(line) = line else { bail!("job {job} has no task {task} that has ended") };
    let value = |key: &str| {
        let words = line.split_whitespace().map(|word| word.split_once('='));
        let found = words.flatten().find(|(name, _)| *name == key).map(|(_, value)| value);
        found.map(str::to_owned).with_context(|| format!("no {key} in {line}"))
    };
    Ok((value("JobState")?, value("ExitCode")?))
}

/// Waits until `is_so`.
fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_by_its_numbers() {
        let line = |job, task, code| {
            format!(
                "JobId=9 Name=x JobState=FAILED ArrayJobId={job} ArrayTaskId={task} \
                 DerivedExitCode=0:0 ExitCode={code} \n"
            )
        };
        let lines = [line(1, 3, "3:0"), line(11, 1, "1:0"), line(1, 1, "0:9")].concat();
        let result = |job, task| result_in(&lines, job, task).ok();
        assert_eq!(result("1", 1), Some(("FAILED".into(), "0:9".into())));
        assert_eq!(result("11", 1), Some(("FAILED".into(), "1:0".into())));
        assert_eq!(result("11", 3), None);
    }
}
