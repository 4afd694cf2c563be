//! Builds that are interrupted or killed, and builds in unusual surroundings.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};

use super::live::Live;
use super::site::{HEAD, Site, output, run};
use crate::harness::make::random::Random;
use crate::harness::processes::{Victim, eventually, family, pid_of};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("interrupt_leaves_nothing",   |bed| leaves_nothing(bed, End::Interrupt)),
    ("sigkill_leaves_nothing",     |bed| leaves_nothing(bed, End::Kill)),
    ("needs_neither_streams_nor_home", needs_neither_streams_nor_home),
    ("read_only_cache_keeps_nothing", read_only_cache_keeps_nothing),
];

/// How a build is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Ctrl-C: SIGINT to the process group.
    Interrupt,
    /// SIGKILL to the builder alone.
    Kill,
}

/// What the build does when it is ended.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The machine boots.
    Boot,
    /// The second step runs.
    Step,
    /// The output is written.
    Output,
}

/// Bytes of a file that is compressed slowly: enough to be interrupted.
const NOISE: usize = 16 << 20;

fn leaves_nothing(bed: &Bed, end: End) -> Result<()> {
    let site = Site::new(bed)?;
    let noise = Random::new(1).bytes(NOISE);
    site.write("noise", noise)?;
    let put = "[[step]]\nput = \"noise\"\nto = \"/noise\"\n";
    let wait = run("echo waiting; read line < /run/inputs/wait; test $line = no || sleep 3600");
    let wait = wait.replace("[[step]]\n", "[[step]]\ninputs = [\"wait\"]\n");
    let slow = "[[output]]\nfile = \"o.squashfs\"\ncompress = \"xz\"\n";
    let steps = format!("{put}{}{wait}", run("echo one > /one"));
    for phase in [Phase::Boot, Phase::Step, Phase::Output] {
        site.write("wait", if matches!(phase, Phase::Output) { "no\n" } else { "yes\n" })?;
        site.write("recipe.toml", format!("{HEAD}{slow}{steps}"))?;
        let mut live = Live::start(&mut site.command(&[]))?;
        let pid = pid_of(&live.process);
        let runs = || family(pid).map(|family| Victim::Qemu.find(&family).is_some());
        match phase {
            Phase::Boot => Victim::Qemu.wait(pid).map(drop)?,
            Phase::Step => live.wait_for("waiting")?,
            Phase::Output => {
                live.wait_for("waiting")?;
                eventually("the machine has ended", || Ok((!runs()?).then_some(())))?;
            }
        }
        match end {
            End::Interrupt => killpg(pid, Signal::SIGINT)?,
            End::Kill => kill(pid, Signal::SIGKILL)?,
        }
        let built = live.finish()?;
        let expected: &[i32] = if end == End::Kill { &[137] } else { &[130] };
        ensure!(expected.contains(&built.status), "{phase:?}: {built}");
        site.leaves_nothing().with_context(|| format!("{phase:?}: {built}"))?;
        ensure!(!site.own("o.squashfs").exists(), "{phase:?}: there is an output");
    }
    // The second step is kept since the last round.
    let built = site.build(&format!("{}{steps}", output("o.tar")), &[])?;
    ensure!(built.ran().is_empty(), "{built}");
    built.is(0, &[])?;
    ensure!(site.text("o.tar", "/one")? == "one\n");
    Ok(())
}

/// Few descriptors, closed streams, no variables.
fn needs_neither_streams_nor_home(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let text =
        format!("{}{}", output("o.tar"), run("echo one > /one; readlink /proc/self/fd/0 > /in"));
    site.write("recipe.toml", format!("{HEAD}{text}"))?;
    let plain = site.command(&["--no-cache"]);
    let through = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(plain.get_program()).args(plain.get_args());
        site.set_surroundings(&mut command);
        command
    };
    for (script, message) in [
        ("exec \"$@\" <&- 2>/dev/null", ""),
        ("ulimit -n 64; exec \"$@\"", "step 1: "),
        ("unset HOME XDG_CACHE_HOME; exec \"$@\"", "steps are not kept"),
    ] {
        let built = site.run(&mut through(script))?.is(0, &[message]);
        built.with_context(|| script.to_owned())?;
        let text = site.text("o.tar", "/in")?;
        ensure!(text == "/dev/null\n", "{script}: a step's standard input is {text}");
        std::fs::remove_file(site.own("o.tar")).context(script)?;
    }
    Ok(())
}

/// Nothing can be kept, which is no reason to fail.
fn read_only_cache_keeps_nothing(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let cache = site.path("cache/virtinitrd/steps");
    std::fs::create_dir(&cache)?;
    std::fs::set_permissions(&cache, PermissionsExt::from_mode(0o700))?;
    site.write("recipe.toml", format!("{HEAD}{}{}", output("o.tar"), run("echo one > /one")))?;
    let plain = site.command(&[]);
    let mut command = Command::new("unshare");
    let script =
        "mount --bind -o ro \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&cache);
    command.arg(plain.get_program()).args(plain.get_args());
    site.set_surroundings(&mut command);
    site.run(&mut command)?.is(0, &["o.tar: tar"])?;
    ensure!(site.text("o.tar", "/one")? == "one\n");
    ensure!(std::fs::read_dir(&cache)?.next().is_none(), "a file is kept");
    Ok(())
}
