//! Roots that need nothing from the host: an initramfs that stays the root, the run file
//! `/etc/virtinit/run`, and `/init` as PID 1 of a root that the kernel has mounted.

use std::fs;

use anyhow::{Context, Result};
use proto::settings::restart::Restart;
use proto::settings::{Record, encode};

use crate::harness::make::disk::{EROFS, make_disk};
use crate::harness::make::initrd;
use crate::harness::{Bed, Case, Machine, RunningMachine, read_only_disk};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("initramfs_is_the_root",      initramfs_is_the_root),
    ("initramfs_with_an_overlay",  initramfs_with_an_overlay),
    ("run_file_restarts_a_command",     run_file_restarts_a_command),
    ("orders_end_command_and_machine",  orders_end_command_and_machine),
    ("halted_machine_stays_on",         halted_machine_stays_on),
    ("bad_run_file_is_an_error",        bad_run_file_is_an_error),
    ("pid_1_mounts_beside_an_image",    pid_1_mounts_beside_an_image),
    ("pid_1_mounts_an_overlay",         pid_1_mounts_an_overlay),
    ("pid_1_runs_words_after_dashes",   pid_1_runs_words_after_dashes),
    ("pid_1_without_tmp_is_an_error",   pid_1_without_tmp_is_an_error),
];

/// pivot_root(2) works on it, which container runtimes need.
fn initramfs_is_the_root(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "ls / | tr '\\n' ' '; echo
        echo x > /new-file && echo writable
        mkdir /new && mount -t tmpfs new /new && mkdir /new/bin /new/old && cp /bin/busybox /new/bin
        cd /new && /bin/busybox pivot_root . old
        /bin/busybox cat /old/new-file /old/bin/test-init | /bin/busybox head -n 2",
    )?;
    machine.initrd(&initrd::with_system(bed, &machine.root().join("bin/test-init"))?)?;
    machine.append("root=initramfs");
    let boot = machine.boot()?;
    boot.shows(&["bin dev init proc root run sys tmp ", "writable", "x", "#!/bin/sh"])
}

/// With an overlay the root can be written to in spite of `ro`; without one it cannot.
fn initramfs_with_an_overlay(bed: &Bed) -> Result<()> {
    for (words, line) in [("virtinit.overlay=8m ro", "overlay, written"), ("ro", "rootfs, refused")]
    {
        let mut machine = bed.machine(
            "kind=$(awk '$2 == \"/\" { print $3 }' /proc/mounts)
            if echo x 2> /dev/null > /new; then echo $kind, written; else echo $kind, refused; fi",
        )?;
        let payload = machine.root().join("bin/test-init");
        let mut bytes = initrd::with_modules(bed, &["overlay"])?;
        bytes.extend(initrd::with_system(bed, &payload)?);
        machine.initrd(&bytes)?;
        machine.append(&format!("root=initramfs {words}"));
        machine.boot()?.shows(&[line])?;
    }
    Ok(())
}

/// Writes the run file of the root.
fn write_run_file(machine: &Machine, records: &[u8]) -> Result<()> {
    fs::create_dir_all(machine.root().join("etc/virtinit"))?;
    fs::write(machine.root().join("etc/virtinit/run"), records).context("write the run file")
}

/// Starts a machine whose payload is the command of its run file. The kernel's command line
/// has no `init=`, which would win over the run file.
fn start_run_file(machine: &mut Machine, records: &[u8]) -> Result<RunningMachine> {
    write_run_file(machine, records)?;
    machine.append("virtinit.fail=poweroff");
    machine.start_edited("", &|commands| commands.replace(" init=/bin/test-init", ""))
}

/// The command fails twice, then succeeds. `/init` starts it three times, as a user and with
/// a terminal, and powers off when it succeeds.
fn run_file_restarts_a_command(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "echo run $(($(cat runs 2> /dev/null | wc -l) + 1)) as $(id -u) in $PWD with $A; echo >> runs
        [ -c /dev/tty ] && echo on a terminal < /dev/tty; [ $$ = 1 ] || parent=$PPID
        (sleep 0.1; sleep 0.1) & [ $(cat runs | wc -l) = 3 ] && echo parent $parent && exit 0
        exit 7; ",
    )?;
    let mut running = start_run_file(
        &mut machine,
        &encode(&[
            Record::Arg(b"test-init"),
            Record::Env(b"A=a b"),
            Record::Env(b"PATH=/bin"),
            Record::Cwd(b"/tmp"),
            Record::User(b"12:34"),
            Record::Restart(Restart::OnFailure),
        ]),
    )?;
    running.ends_with(0)?;
    running.shows(&[
        "run 1 as 12 in /tmp with a b",
        "run 2 as 12 in /tmp with a b",
        "run 3 as 12 in /tmp with a b",
        "on a terminal",
        "parent 1",
        "virtinit: the command has ended with status 7",
        "reboot: Power down",
    ])?;
    running.lacks("run 4")
}

/// Starts a machine whose command runs `order` and waits for SIGTERM.
fn start_ordered(bed: &Bed, order: &str) -> Result<(Machine, RunningMachine)> {
    let mut machine = bed.machine(&format!(
        "trap 'echo the command got SIGTERM; exit 0' TERM
        {order}
        while :; do sleep 0.1; done"
    ))?;
    let records = [Record::Arg(b"/bin/test-init"), Record::Restart(Restart::Always)];
    let running = start_run_file(&mut machine, &encode(&records))?;
    Ok((machine, running))
}

/// PID 1 ends the command, and then the machine as ordered.
fn orders_end_command_and_machine(bed: &Bed) -> Result<()> {
    for (order, end) in [
        ("busybox reboot", "reboot: Restarting system"),
        ("busybox poweroff", "reboot: Power down"),
        // SIGRTMIN+4, by which systemd powers off.
        ("kill -38 1", "reboot: Power down"),
    ] {
        let (_machine, mut running) = start_ordered(bed, order)?;
        running.ends_with(0).context(order)?;
        running.shows(&["the command got SIGTERM", end])?;
    }
    Ok(())
}

/// A machine that was ordered to halt stays on, and `/init` says so.
fn halted_machine_stays_on(bed: &Bed) -> Result<()> {
    let (_machine, mut running) = start_ordered(bed, "busybox halt")?;
    running
        .wait_for("virtinit: halted, as ordered: the machine stays on until the host ends it")?;
    running.wait_for("reboot: System halted")?;
    running.shows(&["the command got SIGTERM"])?;
    running.stop()
}

fn bad_run_file_is_an_error(bed: &Bed) -> Result<()> {
    for (records, line) in [
        (
            &b"arg=/bin/sh\n"[..],
            "virtinit: read /etc/virtinit/run: unknown record \"arg=/bin/sh\\n\": virtinitrd(7) lists the known records",
        ),
        (b"arg=gone\0", "virtinit: execute gone: not found"),
    ] {
        let mut machine = bed.machine("echo not reached")?;
        let mut running = start_run_file(&mut machine, records)?;
        running.ends_with(0)?;
        running.shows(&[line, "reboot: Power down"])?;
    }
    Ok(())
}

/// Payload that does the work of a kernel with all drivers built in: it mounts the disk, and
/// executes the `/init` on it.
const STAND_IN: &str = "#!/bin/sh
    busybox mkdir -p /dev /sysroot
    for module in /usr/lib/modules/*; do busybox insmod $module; done
    busybox mount -t devtmpfs dev /dev
    until [ -b /dev/vda ]; do busybox sleep 0.1; done
    busybox mount -t erofs -o ro /dev/vda /sysroot
    busybox umount /dev
    exec busybox switch_root /sysroot /sbin/virtinit
    ";

/// Starts a machine whose root is an EROFS that contains `/init`. That `/init` is PID 1 of a
/// root that is already mounted.
fn start_direct(bed: &Bed, machine: &mut Machine, words: &str) -> Result<RunningMachine> {
    let (root, image, script) = (machine.root(), machine.path("image"), machine.path("script"));
    fs::create_dir_all(root.join("sbin"))?;
    fs::copy(bed.init(), root.join("sbin/virtinit"))?;
    make_disk(EROFS, &root, &image)?;
    fs::write(&script, STAND_IN)?;
    let modules = initrd::with_modules(bed, &["virtio_blk", "erofs", "overlay"])?;
    let system = initrd::with_system(bed, &script)?;
    machine.initrd(&[modules, system].concat())?;
    machine.append(&format!("rdinit=/bin/test-init virtinit.fail=poweroff {words}"));
    machine.start_unwatched(&read_only_disk(&image))
}

fn pid_1_mounts_beside_an_image(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "awk '{ print $2, $3 }' /proc/mounts | sort | tr '\\n' ';'; echo
        echo controllers $(grep -c memory /sys/fs/cgroup/cgroup.subtree_control)
        cat /etc/hostname; echo other > /etc/hostname; cat /etc/hostname
        mkdir /run/group && echo made; echo parent $PPID; ls /run
        cat /srv/seed; echo volume > /srv/seed && cat /srv/seed; head -n 1 /etc/hosts; exit 0",
    )?;
    fs::create_dir_all(machine.root().join("data"))?;
    fs::create_dir_all(machine.root().join("srv"))?;
    fs::write(machine.root().join("srv/seed"), "seed\n")?;
    let records = [Record::Arg(b"/bin/test-init"), Record::ImageVolume(b"/srv")];
    write_run_file(&machine, &encode(&records))?;
    fs::write(machine.root().join("etc/hostname"), "image\n")?;
    let words = "virtinit.etc=overlay virtinit.mount=tmpfs:/data:tmpfs:size=1m -- /bin/false";
    let mut running = start_direct(bed, &mut machine, words)?;
    running.ends_with(0)?;
    running.shows(
        &[
            "/ erofs;/data tmpfs;/dev devtmpfs;/dev/pts devpts;/dev/shm tmpfs;/etc overlay;/proc proc;/run tmpfs;/srv overlay;/sys sysfs;/sys/fs/cgroup cgroup2;/tmp tmpfs;",
            "controllers 1",
            "image",
            "other",
            "made",
            "seed",
            "volume",
            "127.0.0.1\tlocalhost",
            "parent 1",
            "reboot: Power down",
        ],
    )
}

/// An image is read-only, so `virtinit.overlay` gives its command a root in memory that it can
/// write to.
fn pid_1_mounts_an_overlay(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "awk '{ print $2, $3 }' /proc/mounts | sort | tr '\\n' ';'; echo
        cat /srv/text; echo other > /srv/text; cat /srv/text
        echo size $(df -m / | awk 'END { print $2 }'); echo parent $PPID; ls /run; exit 0",
    )?;
    fs::create_dir_all(machine.root().join("srv"))?;
    fs::write(machine.root().join("srv/text"), "image\n")?;
    write_run_file(&machine, &encode(&[Record::Arg(b"/bin/test-init")]))?;
    let words = "virtinit.overlay=16m virtinit.mount=tmpfs:/mnt/new:tmpfs";
    let mut running = start_direct(bed, &mut machine, words)?;
    running.ends_with(0)?;
    running.shows(
        &[
            "/ overlay;/dev devtmpfs;/dev/pts devpts;/dev/shm tmpfs;/mnt/new tmpfs;/proc proc;/run tmpfs;/sys sysfs;/sys/fs/cgroup cgroup2;/tmp tmpfs;",
            "image",
            "other",
            "size 16",
            "parent 1",
            "reboot: Power down",
        ],
    )
}

/// Without a run file the words after `--` are the command. Its output is longer than a serial
/// line takes at once.
fn pid_1_runs_words_after_dashes(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("")?;
    let mut running = start_direct(
        bed,
        &mut machine,
        "-- sh -c \"seq 3000; echo in $PWD, parent $PPID; exit 3\"",
    )?;
    running.ends_with(0)?;
    let lines =
        ["in /, parent 1", "virtinit: the command has ended with status 3", "reboot: Power down"];
    running.shows(&lines)
}

fn pid_1_without_tmp_is_an_error(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo not reached")?;
    fs::remove_dir(machine.root().join("tmp"))?;
    let mut running = start_direct(bed, &mut machine, "")?;
    running.ends_with(0)?;
    let line =
        "virtinit: mount tmpfs at /tmp: ENOENT: there is no such directory, and it cannot be made";
    running.shows(&[line, "reboot: Power down"])
}
