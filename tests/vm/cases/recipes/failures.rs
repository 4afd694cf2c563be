//! Steps that fail, each in its way: the message names the step and its place, the exit status
//! tells the kinds apart, no output appears, and the next build takes the steps before.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use super::live::Live;
use super::site::{HEAD, Site, output, run};
use crate::harness::processes::{Victim, family, pid_of};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("failed_steps_are_named",       |bed| failed_steps_are_named(bed, FAILURES)),
    ("lost_machine_is_status_4",     lost_machine_is_status_4),
    ("quiet_build_shows_last_lines", quiet_build_shows_last_lines),
    ("shell_sees_the_failed_step",   shell_sees_the_failed_step),
];

/// Tests that take the way of others; they run on request.
pub(crate) const MORE: &[Case] =
    &[("failed_steps_are_named", |bed| failed_steps_are_named(bed, MORE_FAILURES))];

/// A way to fail.
struct Failure {
    /// The step, as text of a recipe.
    step: &'static str,
    status: i32,
    says: &'static [&'static str],
}

#[rustfmt::skip]
const FAILURES: &[Failure] = &[
    Failure { step: "run = \"echo out; exit 3\"", status: 1, says: &["run echo out; exit 3", "out\n", "failed: exit status 3"] },
    Failure { step: "argv = [\"no-such\", \"x\"]", status: 1, says: &["run no-such x", "no such program in PATH="] },
    Failure { step: "run = \"echo c > /proc/sysrq-trigger\"", status: 4, says: &["the machine of the build has ended", "sysrq triggered crash"] },
    Failure { step: "run = \"dd if=/dev/zero of=/big bs=1M count=100\"", status: 3, says: &["the disk of the build is full ([build] disk sets its size)"] },
    Failure { step: "run = \"a=x; while :; do a=$a$a$a; done\"", status: 3, says: &["killed by SIGKILL: the memory was full ([build] memory sets its size)"] },
    Failure { step: "run = \"sleep 3600\"\ntimeout = \"2s\"", status: 124, says: &["it has not ended after 2 s (timeout sets the limit)"] },
];

/// Rows that take the way of another row.
#[rustfmt::skip]
const MORE_FAILURES: &[Failure] = &[
    Failure { step: "argv = [\"/bin/no-such\"]", status: 1, says: &["execute /bin/no-such: ENOENT"] },
    Failure { step: "argv = [\"/run/inputs/foreign\"]\ninputs = [\"foreign\"]", status: 1, says: &["execute /run/inputs/foreign: ENOEXEC", "another architecture"] },
    Failure { step: "script = \"bad.sh\"", status: 1, says: &["script bad.sh", "its interpreter is missing"] },
    Failure { step: "run = \"true\"\nuser = \"nobody-here\"", status: 1, says: &["nobody-here"] },
    Failure { step: "run = \"true\"\nworkdir = \"/etc/passwd\"", status: 1, says: &["enter the working directory /etc/passwd: ENOTDIR"] },
    Failure { step: "run = \"for i in $(seq 20000); do : > /tmp/$i; done\"", status: 3, says: &["the disk of the build is full"] },
    Failure { step: "run = \"kill -9 $$\"", status: 1, says: &["run kill -9 $$", "killed by SIGKILL"] },
];

/// Head of an ELF program for another architecture: 64 bits, little-endian, `EM_AARCH64` (elf(5)).
const FOREIGN: &[u8; 20] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0";

/// The step before, and the settings.
fn head() -> String {
    format!(
        "build.disk = \"64M\"\nbuild.memory = \"256M\"\n{}{}",
        output("o.tar"),
        run("echo one > /one")
    )
}

/// A step that fails in one of these ways is named.
fn failed_steps_are_named(bed: &Bed, failures: &[Failure]) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("foreign", [&FOREIGN[..], &[0; 44]].concat())?;
    site.write("bad.sh", "#!/no/such\n")?;
    for name in ["foreign", "bad.sh"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(site.own(name), mode)?;
    }
    let head = head();
    let line = format!("{HEAD}{head}").lines().count() + 1;
    let place = format!("error: recipe.toml:{line}:1: step 2 (");
    for (number, Failure { step, status, says }) in failures.iter().enumerate() {
        let built = site.build(&format!("{head}[[step]]\n{step}\n"), &[])?;
        let ran = built.ran();
        built.is(*status, says)?.is(*status, &[&place])?;
        // The first build runs the first step; all others have it.
        let expected: &[usize] = if number == 0 { &[1, 2] } else { &[2] };
        ensure!(ran == expected, "{step}: ran {ran:?}");
        ensure!(!site.own("o.tar").exists(), "{step}: there is an output");
        ensure!(site.kept("output")?.is_empty() && site.kept("layer")?.len() == 1, "{step}");
    }
    let built = site.build(&format!("{head}{}", run("cat /one > /two; test ! -e /big")), &[])?;
    ensure!(built.ran() == [2], "{built}");
    built.is(0, &["step 1: run echo one > /one (kept)"])?;
    ensure!(site.text("o.tar", "/two")? == "one\n");
    Ok(())
}

/// Kills QEMU while the step runs.
fn lost_machine_is_status_4(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let text = format!("{HEAD}{}{}", head(), run("echo waiting; sleep 3600"));
    site.write("recipe.toml", text)?;
    let mut command = site.command(&[]);
    let mut child = Live::start(&mut command)?;
    child.wait_for("waiting")?;
    let qemu = Victim::Qemu.find(&family(pid_of(&child.process))?);
    kill(qemu.context("no QEMU runs")?, Signal::SIGKILL)?;
    let built = child.finish()?;
    site.leaves_nothing()?;
    built.is(
        4,
        &["step 2 (run echo waiting; sleep 3600) failed: the machine of the build has ended"],
    )?;
    ensure!(!site.own("o.tar").exists(), "there is an output");
    let built = site.build(&format!("{}{}", head(), run("test -e /one")), &[])?;
    ensure!(built.ran() == [2], "{built}");
    built.is(0, &[]).map(drop)
}

/// With --quiet, the output of steps is shown if one fails, and then only its end.
fn quiet_build_shows_last_lines(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let text = format!("{}{}{}", output("o.tar"), run("echo unwanted"), run("seq 1000; exit 5"));
    let built = site.build(&text, &["--quiet"])?;
    let built =
        built.is(1, &["failed: exit status 5", "its last lines:\n", "    999\n    1000\n"])?;
    built.lacks("unwanted")?.lacks("  900\n")?.lacks("step 1").map(drop)
}

/// A shell in the place of the step has its files and variables; the build fails as before.
fn shell_sees_the_failed_step(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let step = run("echo half > /half; exit 7");
    let step =
        step.replace("[[step]]\n", "[[step]]\nworkdir = \"/etc\"\nenv = { WORD = \"word\" }\n");
    site.write("recipe.toml", format!("{HEAD}{}{step}", output("o.tar")))?;
    site.write("typed", "cat /half\necho $WORD in $PWD\nexit 0\n")?;
    let typed = std::fs::File::open(site.own("typed"))?;
    let built = site.run(site.command(&["--shell-on-error"]).stdin(typed))?;
    let built = built.is(1, &["step 1 (run echo half", "failed: exit status 7"])?;
    ensure!(built.stdout == "half\nword in /etc\n", "{built}");
    ensure!(!site.own("o.tar").exists() && site.kept("layer")?.is_empty(), "{built}");
    Ok(())
}
