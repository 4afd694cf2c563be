//! The contract of the guest: `/init` gives a payload the same surroundings as osbuild/initrd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use xtask::testbed;

use crate::harness::make::initrd;
use crate::harness::programs::{filter, stdout_of};
use crate::harness::trial::needs;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("default_boot",            default_boot),
    ("default_payload_is_sh",   default_payload_is_sh),
    ("mount_is_writable",       mount_is_writable),
    ("mount_ro_is_read_only",   mount_ro_is_read_only),
    ("rootfs_names_the_tag",    rootfs_names_the_tag),
    ("root_names_the_tag",      root_names_the_tag),
    ("rw_makes_the_root_writable", rw_makes_the_root_writable),
    ("words_after_dashes",      words_after_dashes),
    ("debug_is_shown_once",     debug_is_shown_once),
    ("modules_load_in_order",   modules_load_in_order),
    ("module_parameters",       module_parameters),
    ("no_mount_is_left_over",   no_mount_is_left_over),
    ("payload_gets_a_clean_process", payload_gets_a_clean_process),
    ("dev_has_nodes_and_links", dev_has_nodes_and_links),
    ("cgroup2_is_mounted",      cgroup2_is_mounted),
    ("initramfs_is_freed",      initramfs_is_freed),
    ("selinux_kernel_boots",    selinux_kernel_boots),
    ("osbuild_boots",           osbuild_boots),
];

fn default_boot(bed: &Bed) -> Result<()> {
    let machine = bed.machine(
        "echo pid $$ in $PWD
        tr '\\0' ' ' < /proc/1/cmdline; echo
        echo PATH $PATH
        awk '$2 == \"/\" { print \"root\", $1, $3, substr($4, 1, 2) }' /proc/mounts
        echo x > /file || echo refused
        for d in proc sys dev run tmp; do grep -c \" /$d \" /proc/mounts; done | sort | uniq -c
        ls /proc/1/fd > /tmp/fds; echo open $(grep -v .. /tmp/fds)
        readlink /proc/1/fd/0
        umask",
    )?;
    let root = machine.root();
    machine.boot()?.shows(&[
        "pid 1 in /",
        "/bin/sh /bin/test-init ",
        "PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "root rootfs virtiofs ro",
        "/bin/test-init: line 6: can't create /file: Read-only file system",
        "refused",
        "      5 1",
        // The shell itself opens descriptors from 10 on.
        "open 0 1 2",
        "/dev/console",
        "0022",
    ])?;
    ensure!(!root.join("file").exists());
    Ok(())
}

/// Without INIT the payload is /bin/sh on the console.
fn default_payload_is_sh(bed: &Bed) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    machine.input("echo sum $((40 + 2))\npoweroff -f\n");
    machine.boot()?.shows(&["sum 42"])
}

fn mount_is_writable(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "cat /run/mnt/src/question
        echo 42 > /run/mnt/src/answer
        grep -c '/run/mnt/src virtiofs rw' /proc/mounts",
    )?;
    let work = machine.mount("--mount", "src")?;
    fs::write(work.join("question"), "what is it\n")?;
    let mut running = machine.start()?;
    running.ends_with(0)?;
    running.shows(&["what is it\n1\n"])?;
    ensure!(fs::read_to_string(work.join("answer"))? == "42\n");
    Ok(())
}

/// The mount flag refuses writes. Once the guest's root has removed that flag, the host
/// refuses them.
fn mount_ro_is_read_only(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "cat /run/mnt/data/text
        echo x > /run/mnt/data/new || echo refused by the guest
        mount -o remount,rw /run/mnt/data
        mount -o remount,rw / && grep -c ' virtiofs rw' /proc/mounts
        echo x > /run/mnt/data/new || echo refused by the host
        echo x > /new || echo refused by the host as well",
    )?;
    let data = machine.mount("--mount-ro", "data")?;
    fs::write(data.join("text"), "read me\n")?;
    let root = machine.root();
    let mut running = machine.start()?;
    running.ends_with(0)?;
    let lines = "refused by the guest\n2\n";
    running.shows(&[
        "read me\n",
        lines,
        "refused by the host\n",
        "refused by the host as well\n",
    ])?;
    ensure!(!data.join("new").exists() && !root.join("new").exists());
    Ok(())
}

/// Boots a second root, which has another tag and a payload of its own.
fn boots_other_root(bed: &Bed, words: &str) -> Result<()> {
    let mut machine = bed.machine("echo wrong root")?;
    let other = machine.mount("--mount-ro", "other")?;
    let script =
        "#!/bin/sh\nawk '$2 == \"/\" { print $1, substr($4, 1, 2) }' /proc/mounts\npoweroff -f\n";
    testbed::make_root(&other, &bed.busybox, &[("bin/test-init", script)])?;
    machine.append(words);
    machine.payload("/bin/test-init");
    machine.boot()?.shows(&["other ro"])
}

fn rootfs_names_the_tag(bed: &Bed) -> Result<()> {
    boots_other_root(bed, "rootfs=other")
}

fn root_names_the_tag(bed: &Bed) -> Result<()> {
    boots_other_root(bed, "root=other rootfstype=virtiofs ro")
}

fn rw_makes_the_root_writable(bed: &Bed) -> Result<()> {
    let mut machine =
        bed.machine("grep -c '^rootfs / virtiofs rw' /proc/mounts | sed 's/^/rw roots: /'")?;
    machine.append("rw");
    machine.boot()?.shows(&["rw roots: 1"])
}

fn words_after_dashes(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("for word; do echo \"<$word>\"; done")?;
    machine.append("-- one \"two three\" K=\"v w\" 'single quotes' debug --");
    machine.boot()?.shows(&[
        "<one>",
        "<two three>",
        "<K=v w>",
        "<'single>",
        "<quotes'>",
        "<debug>",
        "<-->",
    ])
}

fn debug_is_shown_once(bed: &Bed) -> Result<()> {
    let line = "virtinit: mounted the root, virtiofs tag \"rootfs\"";
    for words in ["debug", "virtinit.debug loglevel=0"] {
        let mut machine = bed.machine("echo done")?;
        machine.append(words);
        let boot = machine.boot()?;
        if boot.console.matches(line).count() != 1 {
            return Err(boot.failure(&format!("{words}: not shown exactly once: {line}")));
        }
        boot.shows(&["done"])?;
    }
    bed.machine("echo done")?.boot()?.ends_with(0, &["done"])?.lacks("virtinit:")
}

/// `/init` loads the modules in the order of their file names, and each module behind those
/// that modinfo(8) says it depends on.
fn modules_load_in_order(bed: &Bed) -> Result<()> {
    needs(&["modinfo"])?;
    let mut machine = bed.machine("echo done")?;
    machine.append("virtinit.debug");
    let boot = machine.boot()?;
    let loaded = boot.console.lines().filter_map(|line| line.split_once("virtinit: loaded "));
    let loaded: Vec<_> = loaded.map(|(_, name)| name.trim().to_owned()).collect();
    ensure!(loaded.is_sorted(), "{loaded:?}");
    let names: Vec<_> = loaded
        .iter()
        .filter_map(|name| name.split_once('-')?.1.strip_suffix(".ko").map(String::from))
        .collect();
    ensure!(names.len() == loaded.len() && names.contains(&"virtio_pci".into()), "{loaded:?}");
    for (index, name) in names.iter().enumerate() {
        for needed in modinfo_depends(&bed.kernel.modules, name)? {
            ensure!(names[..index].contains(&needed), "{name} before {needed}: {names:?}");
        }
    }
    boot.shows(&["done"])
}

/// The modules that a module depends on, as modinfo(8) prints them.
fn modinfo_depends(modules: &Path, name: &str) -> Result<Vec<String>> {
    let name = format!("{name}.ko*");
    let file = stdout_of(Command::new("find").arg(modules).args(["-name", &name]))?;
    let text = stdout_of(Command::new("modinfo").args(["-F", "depends", file.trim()]))?;
    Ok(text.trim().split(',').filter(|name| !name.is_empty()).map(String::from).collect())
}

fn module_parameters(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("cat /sys/module/fuse/parameters/max_user_bgreq")?;
    machine.append("fuse.max_user_bgreq=4321");
    machine.boot()?.shows(&["4321"])
}

/// Nothing is mounted twice, and the initramfs is gone.
fn no_mount_is_left_over(bed: &Bed) -> Result<()> {
    bed.machine(
        "awk '{ print $2 }' /proc/mounts | sort | uniq -d | sed 's/^/twice: /'
        awk '{ n++ } END { print n, \"mounts\" }' /proc/mounts
        ls -d /sysroot /init || echo no initramfs",
    )?
    .boot()?
    .ends_with(0, &["9 mounts", "no initramfs"])?
    .lacks("twice: ")
}

/// Signals and umask are the kernel's defaults, and no thread is left. The payload is no
/// shell, for shells change signals. At its end it waits until the console has its output (`stty`
/// does), and powers off: had it just ended, the kernel would write about a panic between the letters.
fn payload_gets_a_clean_process(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("")?;
    machine.payload("/bin/busybox");
    machine.append(
        "-- awk -v \"end=stty -echo; poweroff -f\" \
         \"/Sig[BIC]|Threads|Umask/; END { system(end) }\" /proc/1/status",
    );
    let boot = machine.boot()?.ends_with(
        0,
        &[
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "SigCgt:\t0000000000000000",
            "Threads:\t1",
            "Umask:\t0022",
        ],
    )?;
    boot.lacks("virtinit:")
}

fn dev_has_nodes_and_links(bed: &Bed) -> Result<()> {
    bed.machine(
        "stat -c '%n %F %a %t:%T' /dev/kvm /dev/loop-control /dev/fuse
        for l in fd stdin stdout stderr; do echo $l $(readlink /dev/$l); done
        stat -c '%n %a' /dev/shm /tmp /run
        echo through the link > /dev/stdout
        test -c /dev/ptmx && ls /dev/pts",
    )?
    .boot()?
    .shows(&[
        "/dev/kvm character special file 660 a:e8",
        "/dev/loop-control character special file 660 a:ed",
        "/dev/fuse character special file 666 a:e5",
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "/dev/shm 1777",
        "/tmp 1777",
        "/run 755",
        "through the link",
        "ptmx",
    ])
}

fn cgroup2_is_mounted(bed: &Bed) -> Result<()> {
    bed.machine(
        "mkdir /sys/fs/cgroup/test && cat /sys/fs/cgroup/test/cgroup.type
        grep -o pids /sys/fs/cgroup/cgroup.controllers",
    )?
    .boot()?
    .shows(&["domain", "pids"])
}

/// A file of 64 MB beside `/init` is free memory again when the payload runs. It may be in
/// `MemFree`, or on the lists of free pages that each processor keeps (`count:` in
/// /proc/zoneinfo, in pages of 4 kB; up to 27 MB on each list here).
fn initramfs_is_freed(bed: &Bed) -> Result<()> {
    const FILLER: usize = 64 << 20;
    let mut machine = bed.machine(
        "awk '/MemTotal/ { used = $2 }
            /MemFree/ { used -= $2 }
            $1 == \"count:\" { used -= 4 * $2 }
            END { print (used < 49152 ? \"freed\" : used \" kB used\") }' /proc/meminfo /proc/zoneinfo",
    )?;
    let mut filler = archive::Archive::default();
    filler.add_file("deep/er/filler", 0o600, vec![1; FILLER]);
    let mut bytes = initrd::default(bed)?;
    filler.write(&mut bytes, 0)?;
    machine.initrd(&bytes)?;
    machine.boot()?.shows(&["freed"])
}

fn selinux_kernel_boots(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("test -d /sys/fs/selinux && echo selinux is on; echo done")?;
    machine.append("security=selinux selinux=1 enforcing=0");
    machine.boot()?.shows(&["selinux is on", "done"])
}

/// An initrd as osbuild's `qemu.py` makes it with the system's cpio, and its command line
/// word for word. `.` has mode 0700, `bin` is empty, and the payload is on a share.
fn osbuild_boots(bed: &Bed) -> Result<()> {
    needs(&["cpio"])?;
    let mut machine = bed.machine("echo wrong payload")?;
    let share = machine.mount("--mount", "mnt0")?;
    fs::create_dir(share.join("osbuild"))?;
    let script = "#!/bin/sh\necho \"$0 is PID $$, root $(awk '$2 == \"/\" { print $3 }' /proc/mounts)\"\npoweroff -f\n";
    fs::write(share.join("osbuild/vm.py"), script)?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(share.join("osbuild/vm.py"), mode)?;

    let tree = machine.directory("tree")?;
    let script = "set -e; cd \"$1\"; chmod 700 .; mkdir bin
        cpio -id --quiet
        find . -print0 | cpio --null --create --format=newc --quiet > \"$2\"";
    let archive = machine.directory("out")?.join("initrd");
    let mut cpio = Command::new("sh");
    cpio.args(["-c", script, "sh"]).arg(&tree).arg(&archive);
    filter(&mut cpio, initrd::default(bed)?)?;
    machine.initrd(&fs::read(&archive)?)?;
    machine.append(&format!(
        "console={} quiet selinux=1 enforcing=0 rootfstype=virtiofs root=rootfs ro mount=mnt0 \
         init=/run/mnt/mnt0/osbuild/vm.py",
        bed.architecture.console
    ));
    machine.boot()?.shows(&["/run/mnt/mnt0/osbuild/vm.py is PID 1, root virtiofs"])
}
