//! What a root runs by itself: an initramfs that stays the root, the file
//! `/etc/virtinit/run`, and `/init` as PID 1 of a root that is mounted already.

use std::fs;

use anyhow::{Context, Result, ensure};
use virtinitrd_proto::settings::{Record, Restart, encode};

use crate::Case;
use crate::harness::{Bed, Guest, Running};
use crate::initrd;
use crate::roots::make_image;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("initramfs_is_the_root",      initramfs_is_the_root),
    ("initramfs_with_an_overlay",  initramfs_with_an_overlay),
    ("run_file",                   run_file),
    ("run_file_is_told_to_end",    run_file_is_told_to_end),
    ("run_file_halts",             run_file_halts),
    ("run_file_is_wrong",          run_file_is_wrong),
    ("pid_1_of_an_image",          pid_1_of_an_image),
    ("pid_1_has_an_overlay",       pid_1_has_an_overlay),
    ("pid_1_without_run_file",     pid_1_without_run_file),
    ("pid_1_misses_a_directory",   pid_1_misses_a_directory),
];

/// pivot_root(2) works, as container runtimes need it.
fn initramfs_is_the_root(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "ls / | tr '\\n' ' '; echo
        echo x > /new-file && echo writable
        mkdir /new && mount -t tmpfs new /new && mkdir /new/bin /new/old && cp /bin/busybox /new/bin
        cd /new && /bin/busybox pivot_root . old
        /bin/busybox cat /old/new-file /old/bin/test-init | /bin/busybox head -n 2",
    )?;
    guest.initrd(&initrd::with_system(bed, &guest.root().join("bin/test-init"))?)?;
    guest.append("root=initramfs");
    let boot = guest.boot()?;
    boot.shows(&["bin dev init proc root run sys tmp ", "writable", "x", "#!/bin/sh"])
}

/// Read-only below, writable above; without an overlay `ro` holds.
fn initramfs_with_an_overlay(bed: &Bed) -> Result<()> {
    for (words, line) in [("virtinit.overlay=8m ro", "overlay, written"), ("ro", "rootfs, refused")]
    {
        let mut guest = bed.guest(
            "kind=$(awk '$2 == \"/\" { print $3 }' /proc/mounts)
            if echo x 2> /dev/null > /new; then echo $kind, written; else echo $kind, refused; fi",
        )?;
        let payload = guest.root().join("bin/test-init");
        let mut bytes = initrd::with_modules(bed, &["overlay"])?;
        bytes.extend(initrd::with_system(bed, &payload)?);
        guest.initrd(&bytes)?;
        guest.append(&format!("root=initramfs {words}"));
        guest.boot()?.shows(&[line])?;
    }
    Ok(())
}

/// A root with a run file, which the host does not overrule by `init=`.
fn write_run_file(guest: &Guest, records: &[u8]) -> Result<()> {
    fs::create_dir_all(guest.root().join("etc/virtinit"))?;
    fs::write(guest.root().join("etc/virtinit/run"), records).context("write the run file")
}

fn start_run_file(guest: &mut Guest, records: &[u8]) -> Result<Running> {
    write_run_file(guest, records)?;
    guest.append("virtinit.fail=poweroff");
    guest.start_edited("", &|commands| commands.replace(" init=/bin/test-init", ""))
}

fn shows(running: &Running, lines: &[&str]) -> Result<()> {
    let text = running.to_string();
    let missing = lines.iter().find(|line| !text.contains(*line));
    ensure!(missing.is_none() && !text.contains("Kernel panic"), "no {missing:?} in {text}");
    Ok(())
}

/// Fails twice, then succeeds: it is started three times, as a user, with a
/// terminal, and the machine ends with it.
fn run_file(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "echo run $(($(cat runs 2> /dev/null | wc -l) + 1)) as $(id -u) in $PWD with $A; echo >> runs
        [ -c /dev/tty ] && echo on a terminal < /dev/tty; [ $$ = 1 ] || parent=$PPID
        (sleep 0.1; sleep 0.1) & [ $(cat runs | wc -l) = 3 ] && echo parent $parent && exit 0
        exit 7; ",
    )?;
    let mut running = start_run_file(
        &mut guest,
        &encode(&[
            Record::Arg(b"test-init"),
            Record::Env(b"A=a b"),
            Record::Env(b"PATH=/bin"),
            Record::Cwd(b"/tmp"),
            Record::User(b"12:34"),
            Record::Restart(Restart::OnFailure),
        ]),
    )?;
    ensure!(running.finish()? == 0, "{running}");
    shows(
        &running,
        &[
            "run 1 as 12 in /tmp with a b",
            "run 2 as 12 in /tmp with a b",
            "run 3 as 12 in /tmp with a b",
            "on a terminal",
            "parent 1",
            "virtinit: the command has ended with status 7",
            "reboot: Power down",
        ],
    )?;
    ensure!(!running.to_string().contains("run 4"), "{running}");
    Ok(())
}

/// A machine whose command runs `order`, and waits to be told.
fn start_ordered(bed: &Bed, order: &str) -> Result<(Guest, Running)> {
    let mut guest = bed.guest(&format!(
        "trap 'echo the command was told; exit 0' TERM
        {order}
        while :; do sleep 0.1; done"
    ))?;
    let records = [Record::Arg(b"/bin/test-init"), Record::Restart(Restart::Always)];
    let running = start_run_file(&mut guest, &encode(&records))?;
    Ok((guest, running))
}

/// PID 1 ends the command and the machine, each order in its way.
fn run_file_is_told_to_end(bed: &Bed) -> Result<()> {
    for (order, end) in [
        ("busybox reboot", "reboot: Restarting system"),
        ("busybox poweroff", "reboot: Power down"),
        // systemd's SIGRTMIN+4, by its number.
        ("kill -38 1", "reboot: Power down"),
    ] {
        let (_guest, mut running) = start_ordered(bed, order)?;
        ensure!(running.finish()? == 0, "{order}: {running}");
        shows(&running, &["the command was told", end])?;
    }
    Ok(())
}

/// A machine that halts stays on, and says so.
fn run_file_halts(bed: &Bed) -> Result<()> {
    let (_guest, mut running) = start_ordered(bed, "busybox halt")?;
    running
        .wait_for("virtinit: halted, as ordered: the machine stays on until the host ends it")?;
    running.wait_for("reboot: System halted")?;
    shows(&running, &["the command was told"])?;
    running.stop()
}

fn run_file_is_wrong(bed: &Bed) -> Result<()> {
    for (records, line) in [
        (
            &b"arg=/bin/sh\n"[..],
            "virtinit: read /etc/virtinit/run: unknown record \"arg=/bin/sh\\n\": known records are arg=",
        ),
        (b"arg=gone\0", "virtinit: execute gone: not found"),
    ] {
        let mut guest = bed.guest("echo not reached")?;
        let mut running = start_run_file(&mut guest, records)?;
        ensure!(running.finish()? == 0, "{running}");
        shows(&running, &[line, "reboot: Power down"])?;
    }
    Ok(())
}

/// What a kernel with all drivers built in does by itself: mounts the disk, and
/// executes `/init` from there.
const STAND_IN: &str = "#!/bin/sh
    busybox mkdir -p /dev /sysroot
    for module in /usr/lib/modules/*; do busybox insmod $module; done
    busybox mount -t devtmpfs dev /dev
    until [ -b /dev/vda ]; do busybox sleep 0.1; done
    busybox mount -t erofs -o ro /dev/vda /sysroot
    busybox umount /dev
    exec busybox switch_root /sysroot /sbin/virtinit
    ";

/// Boots the guest's root as an erofs with `/init` in it, which is PID 1 of the
/// root that is mounted already.
fn start_direct(bed: &Bed, guest: &mut Guest, words: &str) -> Result<Running> {
    let (root, image, script) = (guest.root(), guest.path("image"), guest.path("script"));
    fs::create_dir_all(root.join("sbin"))?;
    fs::copy(bed.init(), root.join("sbin/virtinit"))?;
    make_image(&root, &image, "mkfs.erofs --quiet {image} {root}")?;
    fs::write(&script, STAND_IN)?;
    let modules = initrd::with_modules(bed, &["virtio_blk", "erofs", "overlay"])?;
    let system = initrd::with_system(bed, &script)?;
    guest.initrd(&[modules, system].concat())?;
    guest.append(&format!("rdinit=/bin/test-init virtinit.fail=poweroff {words}"));
    guest.start_unwatched(&format!(
        "-drive file={},format=raw,if=virtio,readonly=on",
        image.display()
    ))
}

fn pid_1_of_an_image(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "awk '{ print $2, $3 }' /proc/mounts | sort | tr '\\n' ';'; echo
        echo controllers $(grep -c memory /sys/fs/cgroup/cgroup.subtree_control)
        cat /etc/hostname; echo other > /etc/hostname; cat /etc/hostname
        mkdir /run/group && echo made; echo parent $PPID; ls /run; exit 0",
    )?;
    fs::create_dir_all(guest.root().join("data"))?;
    write_run_file(&guest, &encode(&[Record::Arg(b"/bin/test-init")]))?;
    fs::write(guest.root().join("etc/hostname"), "image\n")?;
    let words = "virtinit.etc=overlay virtinit.mount=tmpfs:/data:tmpfs:size=1m -- /bin/false";
    let mut running = start_direct(bed, &mut guest, words)?;
    ensure!(running.finish()? == 0, "{running}");
    shows(
        &running,
        &[
            "/ erofs;/data tmpfs;/dev devtmpfs;/dev/pts devpts;/dev/shm tmpfs;/etc overlay;/proc proc;/run tmpfs;/sys sysfs;/sys/fs/cgroup cgroup2;/tmp tmpfs;",
            "controllers 1",
            "image",
            "other",
            "made",
            "parent 1",
            "reboot: Power down",
        ],
    )
}

/// An image is read-only, so that what it runs has a root to write to in memory
/// where it is asked for.
fn pid_1_has_an_overlay(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "awk '{ print $2, $3 }' /proc/mounts | sort | tr '\\n' ';'; echo
        cat /srv/text; echo other > /srv/text; cat /srv/text
        echo size $(df -m / | awk 'END { print $2 }'); echo parent $PPID; ls /run; exit 0",
    )?;
    fs::create_dir_all(guest.root().join("srv"))?;
    fs::write(guest.root().join("srv/text"), "image\n")?;
    write_run_file(&guest, &encode(&[Record::Arg(b"/bin/test-init")]))?;
    let words = "virtinit.overlay=16m virtinit.mount=tmpfs:/mnt/new:tmpfs";
    let mut running = start_direct(bed, &mut guest, words)?;
    ensure!(running.finish()? == 0, "{running}");
    shows(
        &running,
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

/// The words after `--` are a command then. Its last words come after more than a
/// serial line takes in at once.
fn pid_1_without_run_file(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("")?;
    let mut running =
        start_direct(bed, &mut guest, "-- sh -c \"seq 3000; echo in $PWD, parent $PPID; exit 3\"")?;
    ensure!(running.finish()? == 0, "{running}");
    let lines =
        ["in /, parent 1", "virtinit: the command has ended with status 3", "reboot: Power down"];
    shows(&running, &lines)
}

fn pid_1_misses_a_directory(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    fs::remove_dir(guest.root().join("tmp"))?;
    let mut running = start_direct(bed, &mut guest, "")?;
    ensure!(running.finish()? == 0, "{running}");
    let line =
        "virtinit: mount tmpfs at /tmp: ENOENT: there is no such directory, and it cannot be made";
    shows(&running, &[line, "reboot: Power down"])
}
