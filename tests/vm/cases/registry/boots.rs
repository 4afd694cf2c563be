//! Images of a registry as machines of a user without root: a Debian, an image in the manner of
//! Alpine, one of a single program, and the stop signal.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use super::site::{Site, Tree};
use crate::harness::command_run::CommandRun;
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("debian_boots",                     debian_boots),
    ("image_of_packages_boots",          image_of_packages_boots),
    ("image_of_one_program_boots",       image_of_one_program_boots),
    ("stop_signal_ends_the_workload",    stop_signal_ends_the_workload),
];

/// Builds an EROFS of an image of the registry, as a user, and returns the user's machine, which
/// shows its console.
fn machine(site: &Site, source: &str, options: &[&str]) -> Result<Machine> {
    let reader = site.reader(0)?;
    reader.prints(&[&["build", source, "-o", "x.erofs"][..], options].concat())?;
    let mut machine = site.machine(&reader.path("x.erofs"))?;
    machine.options(&["--console"]);
    Ok(machine)
}

/// Boots a machine that powers off after it has shown each of `texts`.
fn powers_off(machine: &Machine, texts: &[&str]) -> Result<()> {
    let mut running = machine.start()?;
    running.ends_with(0)?;
    running.shows(texts)?;
    running.shows(&["reboot: Power down"])
}

/// The testbed's Debian with one more user, who runs the entrypoint.
fn debian_boots(bed: &Bed) -> Result<()> {
    let debian = Tree::at(bed.debian_root()?);
    let site = Site::new(bed)?;
    let more = site.tree("more")?;
    let passwd = std::fs::read_to_string(debian.join("etc/passwd"))?;
    let group = std::fs::read_to_string(debian.join("etc/group"))?;
    let account = "app:x:1234:1234::/srv/app:/bin/bash\n";
    more.file("etc/passwd", 0o644, 0, passwd + account)?;
    more.file("etc/group", 0o644, 0, group + "app:x:1234:\nextra:x:1300:app\n")?;
    more.directory("srv/app", 0o750, 1234)?;
    let script = "id; echo $GREETING; pwd; echo $HOME; cat /etc/debian_version
                  ls -ldn /srv/app /etc/shadow /usr/bin/passwd /tmp; touch /srv/app/new && echo wrote";
    let image = site.image(
        "image",
        &[&debian, &more],
        &[
            "--config.entrypoint=/bin/bash",
            "--config.entrypoint=-c",
            &format!("--config.cmd={script}"),
            "--config.env=GREETING=hello from the image",
            "--config.user=app",
            "--config.workingdir=/srv/app",
            "--config.volume=/srv/app",
        ],
    )?;
    let source = site.push(&image, "debian:1", &["--dest-compress-format=zstd"])?;
    let machine = machine(&site, &source, &["--run"])?;
    let texts = [
        "uid=1234(app) gid=1234(app) groups=1234(app),1300(extra)",
        "hello from the image\n/srv/app\n/srv/app\n12.",
        "drwxr-x---",
        " 1234 1234 ",
        "-rw-r-----",
        " 0   42 ",
        "-rwsr-xr-x",
        "drwxrwxrwt",
        "wrote",
    ];
    powers_off(&machine, &texts)
}

/// A base, and a layer of a package that replaces the database of the package manager. A command
/// of the user runs instead of the image's own.
fn image_of_packages_boots(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let base = site.tree("base")?;
    base.add_busybox(bed)?;
    base.file("etc/passwd", 0o644, 0, "root:x:0:0::/root:/bin/sh\n")?;
    base.file("etc/apk/world", 0o644, 0, "busybox\n")?;
    base.file("lib/apk/db/installed", 0o644, 0, "P:busybox\n")?;
    base.file("var/cache/apk/index", 0o644, 0, "x")?;
    let package = site.tree("package")?;
    package.file("etc/apk/world", 0o644, 0, "busybox\ntool\n")?;
    package.file("lib/apk/db/installed", 0o644, 0, "P:busybox\n\nP:tool\n")?;
    package.file("usr/bin/tool", 0o755, 0, "#!/bin/sh\necho the tool runs as $(id -u)\n")?;
    package.file("var/lib/tool/state", 0o600, 990, "")?;
    package.file("var/cache/apk/.wh..wh..opq", 0o644, 0, "")?;
    let image = site.image("image", &[&base, &package], &["--config.cmd=/bin/sh"])?;
    let source = site.push(&image, "packages:1", &["--format=v2s2"])?;
    let script = "tool; cat /lib/apk/db/installed; ls /var/cache/apk | wc -l
                  stat -c '%a %u:%g %n' /var/lib/tool/state /bin/busybox";
    let machine = machine(&site, &source, &[])?;
    let run = CommandRun::new(machine, &["sh", "-c", script]);
    let expected = "the tool runs as 0\nP:busybox\n\nP:tool\n0\n\
                    600 990:990 /var/lib/tool/state\n755 0:0 /bin/busybox\n";
    run.finish()?.is(0, expected, "").map(drop)
}

/// A static program with neither a shell, nor a user database, nor mount points; as a user that no
/// file names.
fn image_of_one_program_boots(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let tree = site.tree("tree")?;
    tree.file("busybox", 0o755, 0, std::fs::read(&bed.busybox)?)?;
    let image = site.image(
        "image",
        &[&tree],
        &[
            "--config.entrypoint=/busybox",
            "--config.entrypoint=sh",
            "--config.entrypoint=-c",
            "--config.cmd=/busybox id; /busybox echo \"[$1] $A\"; /busybox stat -c %F /proc/self /dev/null",
            "--config.cmd=app",
            "--config.cmd=a * b",
            "--config.env=A=*",
            "--config.user=65532:65532",
        ],
    )?;
    let source = site.push(&image, "one:1", &["--dest-compress-format=zstd:chunked"])?;
    let machine = machine(&site, &source, &["--run"])?;
    let texts = ["uid=65532 gid=65532", "[a * b] *", "symbolic link\ncharacter special file"];
    powers_off(&machine, &texts)
}

fn stop_signal_ends_the_workload(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let tree = site.tree("tree")?;
    tree.add_busybox(bed)?;
    let script = "trap 'echo got TERM; exit 1' TERM; trap 'echo got QUIT; exit 0' QUIT
                  echo is up; while :; do sleep 0.1; done";
    let image = site.image(
        "image",
        &[&tree],
        &[
            "--config.cmd=sh",
            "--config.cmd=-c",
            &format!("--config.cmd={script}"),
            "--config.stopsignal=SIGQUIT",
        ],
    )?;
    let source = site.push(&image, "stop:1", &[])?;
    let machine = machine(&site, &source, &["--run"])?;
    let mut running = machine.start()?;
    running.wait_for("is up").context("the workload has not started")?;
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(0)?;
    running.shows(&["got QUIT", "Power down"])?;
    running.lacks("got TERM")?;
    ensure!(!running.console().contains("Kernel panic"));
    Ok(())
}
