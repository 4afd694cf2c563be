//! Builds that are ended from outside: nothing is left, and the next build works.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};

use super::site::{build, command, kept, write};
use crate::harness::make::random::Random;
use crate::harness::processes::{Victim, eventually, family, pid_of};
use crate::harness::{Bed, Case};
use crate::recipes::live::Live;
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("sigint_leaves_nothing",  |bed| leaves_nothing(bed, End::Interrupt)),
    ("sigterm_leaves_nothing", |bed| leaves_nothing(bed, End::Terminate)),
    ("sigkill_leaves_nothing", |bed| leaves_nothing(bed, End::Kill)),
];

/// How a build is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Ctrl-C: SIGINT to the process group.
    Interrupt,
    /// SIGTERM to the builder alone.
    Terminate,
    /// SIGKILL to the builder alone.
    Kill,
}

/// What the build does when it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A registry is asked for a base.
    Base,
    /// A machine boots.
    Boot,
    /// Two stages run.
    Stages,
    /// The output is written.
    Output,
}

const PHASES: [Phase; 4] = [Phase::Base, Phase::Boot, Phase::Stages, Phase::Output];

/// Bytes of a file that is compressed slowly: enough to be interrupted.
const NOISE: usize = 16 << 20;

/// Two stages, which wait for an hour if the file `wait` says so.
const STAGES: &str = "\
FROM base AS left
RUN echo one > /one
RUN --mount=source=wait,target=/wait \
    echo waiting; read line < /wait; test $line = no || sleep 3600; echo left > /left
FROM base AS right
RUN --mount=source=wait,target=/wait \
    echo waiting; read line < /wait; test $line = no || sleep 3600; echo right > /right
FROM base
COPY noise /
COPY --from=left /one /left /
COPY --from=right /right /
";

fn leaves_nothing(bed: &Bed, end: End) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("noise", Random::new(1).bytes(NOISE))?;
    // A registry that never answers.
    let registry = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    registry.set_nonblocking(true)?;
    let slow_base = format!("FROM {}/image:1\nRUN true\n", registry.local_addr()?);
    for phase in PHASES {
        site.write("wait", if phase == Phase::Output { "no\n" } else { "yes\n" })?;
        write(&site, if phase == Phase::Base { &slow_base } else { STAGES })?;
        let mut live = Live::start(&mut command(&site, &["-o", "o.squashfs", "--compress", "xz"]))?;
        let pid = pid_of(&live.process);
        let mut connection = None;
        let wait_for_stages = |live: &mut Live| {
            live.wait_for("left: waiting")?;
            live.wait_for("right: waiting")
        };
        match phase {
            Phase::Base => {
                let accept = || Ok(registry.accept().ok());
                connection = Some(eventually("the registry is asked", accept)?);
            }
            Phase::Boot => Victim::Qemu.wait(pid).map(drop)?,
            Phase::Stages => wait_for_stages(&mut live)?,
            Phase::Output => {
                wait_for_stages(&mut live)?;
                let runs = || family(pid).map(|family| Victim::Qemu.find(&family).is_some());
                eventually("all machines have ended", || Ok((!runs()?).then_some(())))?;
            }
        }
        match end {
            End::Interrupt => killpg(pid, Signal::SIGINT)?,
            End::Terminate => kill(pid, Signal::SIGTERM)?,
            End::Kill => kill(pid, Signal::SIGKILL)?,
        }
        let built = live.finish()?;
        drop(connection);
        let expected = match end {
            End::Interrupt => 130,
            End::Terminate => 143,
            End::Kill => 137,
        };
        ensure!(built.status == expected, "{phase:?}: {built}");
        site.leaves_nothing().with_context(|| format!("{phase:?}: {built}"))?;
        ensure!(!site.own("o.squashfs").exists(), "{phase:?}: there is an output");
    }
    // All layers are kept since the last round.
    let built = build(&site, STAGES, &["-o", "o.tar"])?.is(0, &[])?;
    ensure!(kept(&built) == ["left 1", "left 2", "right 1"], "{built}");
    ensure!(site.text("o.tar", "/left")? == "left\n");
    ensure!(fs::metadata(site.own("o.tar"))?.len() > NOISE as u64);
    Ok(())
}
