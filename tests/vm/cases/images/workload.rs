//! Workloads of images with the records that the configuration of an OCI image becomes: stop
//! signal, volumes, working directory, user; and what their roots may lack.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use proto::settings::{Record, encode};

use crate::harness::command_run::CommandRun;
use crate::harness::make::disk::{EROFS, make_disk};
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("sigterm_sends_the_stop_signal",    sigterm_sends_the_stop_signal),
    ("real_time_signal_stops_a_workload", real_time_signal_stops_a_workload),
    ("ignored_stop_signal_ends_in_kill", ignored_stop_signal_ends_in_kill),
    ("words_of_a_workload_are_verbatim", words_of_a_workload_are_verbatim),
    ("volumes_of_an_image_are_writable", volumes_of_an_image_are_writable),
    ("volume_of_the_user_wins",          volume_of_the_user_wins),
    ("missing_volume_is_a_warning",      missing_volume_is_a_warning),
    ("missing_workdir_is_made",          missing_workdir_is_made),
    ("users_without_entries",            users_without_entries),
    ("hosts_have_the_machines_names",    hosts_have_the_machines_names),
    ("name_server_in_any_image",         name_server_in_any_image),
    ("image_of_one_program_boots",       image_of_one_program_boots),
];

/// A machine whose root will be an EROFS, and whose workload is a script for a shell.
struct Workload {
    machine: Machine,
}

impl Workload {
    /// A busybox root, without a workload yet.
    fn new(bed: &Bed) -> Result<Self> {
        Ok(Self { machine: bed.busybox_machine()? })
    }

    /// Writes a file of the image.
    fn file(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.machine.root().join(path);
        fs::create_dir_all(path.parent().context("a path in the root")?)?;
        fs::write(path, contents).context("write a file of the image")
    }

    /// Makes the image with a workload: `sh -c SCRIPT`, and these records.
    fn running(mut self, script: &str, records: &[Record<'_>]) -> Result<Machine> {
        let shell = [Record::Arg(b"sh"), Record::Arg(b"-c"), Record::Arg(script.as_bytes())];
        self.file("etc/virtinit/run", encode(&[&shell, records].concat()))?;
        self.make_image()?;
        self.machine.options(&["--console"]);
        Ok(self.machine)
    }

    /// Makes the image; the script is a command of the host.
    fn commanded(mut self, script: &str) -> Result<CommandRun> {
        self.make_image()?;
        Ok(CommandRun::new(self.machine, &["sh", "-c", script]))
    }

    fn make_image(&mut self) -> Result<()> {
        let image = self.machine.path("image.erofs");
        make_disk(EROFS, &self.machine.root(), &image)?;
        self.machine.root_is(&image);
        Ok(())
    }
}

/// Boots a machine that powers off after it has shown each of `texts`, and not `other`.
fn powers_off(machine: &Machine, texts: &[&str], other: &str) -> Result<()> {
    let mut running = machine.start()?;
    running.ends_with(0)?;
    running.shows(texts)?;
    running.shows(&["reboot: Power down"])?;
    running.lacks(other)
}

/// Boots a machine whose workload cannot be started: `/init` says `text`, and gives up.
fn gives_up(machine: &Machine, text: &str, other: &str) -> Result<()> {
    let mut running = machine.start()?;
    running.ends_with(125)?;
    running.shows(&[text, "reboot: Restarting system"])?;
    running.lacks(other)
}

/// Text that no console shows: nothing must be absent.
const NOTHING: &str = "\0";

/// The workload gets the signal of its image alone, and the machine powers off.
fn sigterm_sends_the_stop_signal(bed: &Bed) -> Result<()> {
    let script = "trap 'echo got TERM; exit 1' TERM; trap 'echo got QUIT; exit 0' QUIT
                  echo is up; while :; do sleep 0.1; done";
    let machine = Workload::new(bed)?.running(script, &[Record::StopSignal(3)])?;
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(0)?;
    running.shows(&[
        "got QUIT",
        "chrootvm: SIGTERM: asked the guest to power off",
        "Power down",
    ])?;
    running.lacks("got TERM")
}

/// SIGRTMIN+3 ends the workload, after a program of the guest has ordered the end.
fn real_time_signal_stops_a_workload(bed: &Bed) -> Result<()> {
    let script = "trap 'echo got 37; exit 0' 37; trap 'echo got TERM; exit 1' TERM
                  busybox poweroff; while :; do sleep 0.1; done";
    let machine = Workload::new(bed)?.running(script, &[Record::StopSignal(37)])?;
    powers_off(&machine, &["got 37"], "got TERM")
}

fn ignored_stop_signal_ends_in_kill(bed: &Bed) -> Result<()> {
    let script = "trap '' QUIT; trap 'echo got TERM' TERM; echo is up
                  while :; do sleep 1; done";
    let machine = Workload::new(bed)?.running(script, &[Record::StopSignal(3)])?;
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    let began = Instant::now();
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(0)?;
    ensure!(began.elapsed() >= Duration::from_secs(9), "the workload had no time to end");
    running.shows(&["reboot: Power down"])?;
    running.lacks("got TERM")
}

/// An entrypoint with every character that a shell or a line could change.
fn words_of_a_workload_are_verbatim(bed: &Bed) -> Result<()> {
    let words: [&[u8]; 8] = [b"", b"*", b"a b", b"\"'`", b"$HOME\\", b"a\nb", b"=", b"\xff"];
    let records = [&[Record::Arg(b"sh")][..], &words.map(Record::Arg)].concat();
    // A console does not show all bytes as they are.
    let script = "od -An -v -tx1 < /proc/$$/cmdline | tr -d ' \\n'; echo";
    let machine = Workload::new(bed)?.running(script, &records)?;
    let expected = [b"sh", b"-c", script.as_bytes(), b"sh"].into_iter().chain(words);
    let expected = expected.flat_map(|word: &[u8]| [word, b"\0"].concat());
    let digits: Vec<_> = expected.map(|byte| format!("{byte:02x}")).collect();
    powers_off(&machine, &[&digits.concat()], NOTHING)
}

/// A volume begins with the files of the image, and keeps owner and mode. The root stays
/// read-only, and the next start knows nothing.
fn volumes_of_an_image_are_writable(bed: &Bed) -> Result<()> {
    let on = Workload::new(bed)?;
    on.file("data/seed", "from the image\n")?;
    let data = on.machine.root().join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750))?;
    chown(&data, Some(101), Some(102))?;
    chown(data.join("seed"), Some(101), Some(102))?;
    let script = "stat -c '%a %u:%g' /data; cat /data/seed; ls /data | wc -l
        echo changed > /data/seed && mkdir -p /data/deep/dir && echo wrote && cat /data/seed
        mkdir /var/lib/more/x && echo nested
        echo x 2> /dev/null > /new || echo the root is read-only; id -u";
    let root = on.machine.root();
    fs::create_dir_all(root.join("var/lib/more"))?;
    chown(root.join("var/lib/more"), Some(101), None)?;
    let records = [
        Record::ImageVolume(b"/data"),
        Record::ImageVolume(b"/var/lib/more"),
        Record::User(b"101:102"),
    ];
    let machine = on.running(script, &records)?;
    for _ in 0..2 {
        let shown =
            "750 101:102\nfrom the image\n1\nwrote\nchanged\nnested\nthe root is read-only\n101\n";
        powers_off(&machine, &[shown], "virtinit: ")?;
    }
    Ok(())
}

/// The user's volume covers the volume of the image at the same path; the other one stays.
fn volume_of_the_user_wins(bed: &Bed) -> Result<()> {
    let on = Workload::new(bed)?;
    on.file("data/seed", "image\n")?;
    on.file("cache/seed", "image\n")?;
    let script = "cat /data/*; cat /cache/*; echo from the guest > /data/new
                  echo x > /cache/new && echo wrote";
    let records = [Record::ImageVolume(b"/data"), Record::ImageVolume(b"/cache")];
    let mut machine = on.running(script, &records)?;
    let share = machine.directory("share")?;
    fs::write(share.join("host"), "host\n")?;
    let volume = [share.as_os_str().as_bytes(), b":/data"].concat();
    machine.option("-v", OsStr::from_bytes(&volume));
    powers_off(&machine, &["host\nimage\nwrote\n"], NOTHING)?;
    let new = fs::read_to_string(share.join("new"))?;
    ensure!(new == "from the guest\n", "{new}");
    Ok(())
}

fn missing_volume_is_a_warning(bed: &Bed) -> Result<()> {
    let records = [Record::ImageVolume(b"/gone/away")];
    let machine = Workload::new(bed)?.running("echo runs", &records)?;
    let warning = "virtinit: find /gone/away, a volume of the image: ENOENT: the root lacks it";
    powers_off(&machine, &[warning, "\nruns\n"], NOTHING)?;
    // With an overlay, it is made.
    let script = "echo x > /gone/away/new && echo wrote";
    let mut machine = Workload::new(bed)?.running(script, &records)?;
    machine.options(&["--overlay"]);
    powers_off(&machine, &["wrote"], "virtinit: ")
}

/// The directory belongs to root; a link counts as the directory to which it leads.
fn missing_workdir_is_made(bed: &Bed) -> Result<()> {
    let script = "pwd -P; stat -c '%a %u' .; echo $A, $HOME, ${B-unset}";
    let user = [Record::User(b"1000"), Record::Env(b"A=1"), Record::Env(b"B"), Record::Env(b"A=2")];
    let machine = |path: &[u8], options: &[&str]| {
        let on = Workload::new(bed)?;
        symlink("tmp", on.machine.root().join("link"))?;
        let mut machine = on.running(script, &[&[Record::MakeCwd(path)][..], &user].concat())?;
        machine.options(options);
        Ok::<_, anyhow::Error>(machine)
    };
    let made = machine(b"/srv/app/x", &["--overlay"])?;
    powers_off(&made, &["/srv/app/x\n755 0\n2, /, unset\n"], NOTHING)?;
    powers_off(&machine(b"/link", &[])?, &["/tmp\n1777 0\n2, /, unset\n"], NOTHING)?;
    let error =
        "enter the working directory /srv/app: EROFS: it is missing, and the root is read-only";
    gives_up(&machine(b"/srv/app", &[])?, error, "unset")
}

/// A number needs no file; a name that no file has is an error, and the command never runs.
fn users_without_entries(bed: &Bed) -> Result<()> {
    let machine = |user| {
        let script = "echo reached as $(id -u):$(id -g):$(id -G)";
        Workload::new(bed)?.running(script, &[Record::User(user)])
    };
    powers_off(&machine(b"1000")?, &["reached as 1000:0:0"], "no such")?;
    powers_off(&machine(b"1000:50")?, &["reached as 1000:50:50"], "no such")?;
    for (user, text) in [
        (&b"app"[..], "virtinit: find user app: no such user in /etc/passwd of the root"),
        (b"1000:app", "virtinit: find user 1000:app: no such group in /etc/group of the root"),
    ] {
        gives_up(&machine(user)?, text, "reached")?;
    }
    Ok(())
}

/// The names of the guest, whatever file the image has. The image's own lines stay.
fn hosts_have_the_machines_names(bed: &Bed) -> Result<()> {
    let added = "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tbox\n";
    for (name, own, options, expected) in [
        ("absent", None, &[][..], added.to_owned()),
        ("empty", Some(""), &[], added.to_owned()),
        ("own names", Some("10.0.0.1 db\n"), &[], format!("10.0.0.1 db\n{added}")),
        ("complete", Some("::1 localhost box\n"), &[], "::1 localhost box\n".into()),
        ("absent, overlay", None, &["--overlay"], added.to_owned()),
        (
            "network",
            None,
            &["--net", "user"],
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.2.15\tbox\n".into(),
        ),
    ] {
        let on = Workload::new(bed)?;
        on.file("etc/other", "")?;
        if let Some(text) = own {
            on.file("etc/hosts", text)?;
        }
        let script = "cat /etc/hosts; ping -c 1 box > /dev/null 2>&1 || echo no such host";
        let run = on.commanded(script)?.options(&["--hostname", "box"]).options(options);
        run.finish()?.is(0, expected, "").with_context(|| name)?;
    }
    Ok(())
}

/// `/etc/resolv.conf` of the image may be empty, missing, or a link that leads nowhere.
fn name_server_in_any_image(bed: &Bed) -> Result<()> {
    for link in [None, Some(""), Some("../run/systemd/resolve/stub-resolv.conf"), Some("/gone/x")] {
        let on = Workload::new(bed)?;
        on.file("etc/other", "")?;
        match link {
            None => {}
            Some("") => on.file("etc/resolv.conf", "")?,
            Some(target) => symlink(target, on.machine.root().join("etc/resolv.conf"))?,
        }
        let run = on.commanded("cat /etc/resolv.conf")?.options(&["--net", "user"]);
        run.finish()?.is(0, "nameserver 10.0.2.3\n", "").with_context(|| format!("{link:?}"))?;
    }
    Ok(())
}

/// An image that consists of one static program, as a command's root and as a workload. Its
/// mount points are there, and the root is still read-only.
fn image_of_one_program_boots(bed: &Bed) -> Result<()> {
    let script = "/busybox echo $(/busybox ls /) on $(/busybox stat -f -c %T /proc /tmp /dev)
        /busybox mkdir /new 2> /dev/null || /busybox echo read-only; /busybox echo > /dev/null";
    let shown = "busybox dev proc run sys tmp on proc tmpfs tmpfs\nread-only\n";
    let words = ["/busybox", "sh", "-c", script];
    let make = |records: &[Record<'_>]| {
        let machine = bed.bare_machine()?;
        fs::copy(&bed.busybox, machine.root().join("busybox")).context("copy busybox")?;
        let mut on = Workload { machine };
        if !records.is_empty() {
            on.file("etc/virtinit/run", encode(records))?;
        }
        on.make_image()?;
        Ok::<_, anyhow::Error>(on.machine)
    };
    CommandRun::new(make(&[])?, &words).finish()?.is(0, shown, "")?;
    let records = words.map(|word| Record::Arg(word.as_bytes()));
    let shown = shown.replace("dev proc", "dev etc proc");
    let mut machine = make(&records)?;
    machine.options(&["--console"]);
    powers_off(&machine, &[&shown], NOTHING)
}
