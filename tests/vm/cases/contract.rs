//! The guest contract: what osbuild/initrd promises, and what we add.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::testbed;

use crate::Case;
use crate::harness::Bed;
use crate::trial::needs;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("default_boot",            default_boot),
    ("default_payload_is_sh",   default_payload_is_sh),
    ("mount_is_writable",       mount_is_writable),
    ("mount_ro_is_not",         mount_ro_is_not),
    ("rootfs_names_the_tag",    rootfs_names_the_tag),
    ("root_names_the_tag",      root_names_the_tag),
    ("rw_root",                 rw_root),
    ("words_after_dashes",      words_after_dashes),
    ("debug_is_shown_once",     debug_is_shown_once),
    ("modules_load_in_order",   modules_load_in_order),
    ("module_parameters",       module_parameters),
    ("mounts_are_clean",        mounts_are_clean),
    ("process_is_clean",        process_is_clean),
    ("nodes_and_links",         nodes_and_links),
    ("cgroup2",                 cgroup2),
    ("initramfs_is_freed",      initramfs_is_freed),
    ("selinux_kernel",          selinux_kernel),
    ("osbuild",                 osbuild),
];

fn default_boot(bed: &Bed) -> Result<()> {
    let guest = bed.guest(
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
    let root = guest.root();
    guest.boot()?.shows(&[
        "pid 1 in /",
        "/bin/sh /bin/test-init ",
        "PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "root rootfs virtiofs ro",
        "/bin/test-init: line 6: can't create /file: Read-only file system",
        "refused",
        "      5 1",
        // From 10 on they are the shell's own.
        "open 0 1 2",
        "/dev/console",
        "0022",
    ])?;
    ensure!(!root.join("file").exists());
    Ok(())
}

/// Without INIT the payload is /bin/sh, on the console.
fn default_payload_is_sh(bed: &Bed) -> Result<()> {
    let mut guest = bed.bare_guest()?;
    testbed::make_root(&guest.root(), &bed.busybox, &[])?;
    guest.input("echo sum $((40 + 2))\npoweroff -f\n");
    guest.boot()?.shows(&["sum 42"])
}

fn mount_is_writable(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "cat /run/mnt/src/question
        echo 42 > /run/mnt/src/answer
        grep -c '/run/mnt/src virtiofs rw' /proc/mounts",
    )?;
    let work = guest.mount("--mount", "src")?;
    fs::write(work.join("question"), "what is it\n")?;
    let mut running = guest.start()?;
    ensure!(running.finish()? == 0);
    let console = String::from_utf8_lossy(&running.console).replace('\r', "");
    ensure!(console.contains("what is it\n1\n"), "{console}");
    ensure!(fs::read_to_string(work.join("answer"))? == "42\n");
    Ok(())
}

/// Neither the mount flag nor, once the guest's root has lifted that, the host
/// lets anything be written.
fn mount_ro_is_not(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "cat /run/mnt/data/text
        echo x > /run/mnt/data/new || echo refused by the guest
        mount -o remount,rw /run/mnt/data
        mount -o remount,rw / && grep -c ' virtiofs rw' /proc/mounts
        echo x > /run/mnt/data/new || echo refused by the host
        echo x > /new || echo refused by the host as well",
    )?;
    let data = guest.mount("--mount-ro", "data")?;
    fs::write(data.join("text"), "read me\n")?;
    let root = guest.root();
    let mut running = guest.start()?;
    ensure!(running.finish()? == 0);
    let console = String::from_utf8_lossy(&running.console).replace('\r', "");
    for line in [
        "read me",
        "refused by the guest",
        "2",
        "refused by the host",
        "refused by the host as well",
    ] {
        ensure!(console.lines().any(|shown| shown == line), "no \"{line}\" in {console}");
    }
    ensure!(!data.join("new").exists() && !root.join("new").exists());
    Ok(())
}

/// A second root, exported under another tag, with a payload of its own.
fn other_root(bed: &Bed, words: &str) -> Result<()> {
    let mut guest = bed.guest("echo wrong root")?;
    let other = guest.mount("--mount-ro", "other")?;
    let script =
        "#!/bin/sh\nawk '$2 == \"/\" { print $1, substr($4, 1, 2) }' /proc/mounts\npoweroff -f\n";
    testbed::make_root(&other, &bed.busybox, &[("bin/test-init", script)])?;
    guest.append(words);
    guest.payload("/bin/test-init");
    guest.boot()?.shows(&["other ro"])
}

fn rootfs_names_the_tag(bed: &Bed) -> Result<()> {
    other_root(bed, "rootfs=other")
}

fn root_names_the_tag(bed: &Bed) -> Result<()> {
    other_root(bed, "root=other rootfstype=virtiofs ro")
}

fn rw_root(bed: &Bed) -> Result<()> {
    let mut guest =
        bed.guest("grep -c '^rootfs / virtiofs rw' /proc/mounts | sed 's/^/rw roots: /'")?;
    guest.append("rw");
    guest.boot()?.shows(&["rw roots: 1"])
}

fn words_after_dashes(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("for word; do echo \"<$word>\"; done")?;
    guest.append("-- one \"two three\" K=\"v w\" 'single quotes' debug --");
    guest.boot()?.shows(&[
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
    for words in
        ["virtinit.debug", "debug", "virtinit.debug loglevel=8", "virtinit.debug loglevel=0"]
    {
        let mut guest = bed.guest("echo done")?;
        guest.append(words);
        let boot = guest.boot()?;
        if boot.console.matches(line).count() != 1 {
            return Err(boot.failure(&format!("{words}: not shown exactly once: {line}")));
        }
        boot.shows(&["done"])?;
    }
    bed.guest("echo done")?.boot()?.ends_with(0, &["done"])?.lacks("virtinit:")
}

/// What /init loads, in which order, against the archive's own listing and
/// modinfo(8).
fn modules_load_in_order(bed: &Bed) -> Result<()> {
    needs(&["modinfo"])?;
    let mut guest = bed.guest("echo done")?;
    guest.append("virtinit.debug");
    let boot = guest.boot()?;
    let loaded: Vec<_> = boot
        .console
        .lines()
        .filter_map(|line| {
            line.split_once("virtinit: loaded ").map(|(_, name)| name.trim().to_owned())
        })
        .collect();
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

fn modinfo_depends(modules: &Path, name: &str) -> Result<Vec<String>> {
    let find =
        Command::new("find").arg(modules).args(["-name", &format!("{name}.ko*")]).output()?;
    let file = String::from_utf8(find.stdout)?;
    let modinfo = Command::new("modinfo").args(["-F", "depends", file.trim()]).output();
    let output = modinfo.context("run modinfo: run scripts/setup test")?;
    ensure!(output.status.success(), "modinfo {file}");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().split(',').filter(|name| !name.is_empty()).map(String::from).collect())
}

fn module_parameters(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("cat /sys/module/fuse/parameters/max_user_bgreq")?;
    guest.append("fuse.max_user_bgreq=4321");
    guest.boot()?.shows(&["4321"])
}

/// No mount is there twice, and the initramfs is gone.
fn mounts_are_clean(bed: &Bed) -> Result<()> {
    bed.guest(
        "awk '{ print $2 }' /proc/mounts | sort | uniq -d | sed 's/^/twice: /'
        awk '{ n++ } END { print n, \"mounts\" }' /proc/mounts
        ls -d /sysroot /init || echo no initramfs",
    )?
    .boot()?
    .ends_with(0, &["9 mounts", "no initramfs"])?
    .lacks("twice: ")
}

/// Signals and umask are as the kernel made them, and no thread is left. The
/// payload is no shell, for shells set signals; it exits, and so the kernel
/// panics.
fn process_is_clean(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("")?;
    guest.payload("/bin/busybox");
    guest.append("-- grep -E \"Sig[BIC]|Threads|Umask\" /proc/1/status");
    let boot = guest.boot()?.ends_with(
        125,
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

fn nodes_and_links(bed: &Bed) -> Result<()> {
    bed.guest(
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

fn cgroup2(bed: &Bed) -> Result<()> {
    bed.guest(
        "mkdir /sys/fs/cgroup/test && cat /sys/fs/cgroup/test/cgroup.type
        grep -o pids /sys/fs/cgroup/cgroup.controllers",
    )?
    .boot()?
    .shows(&["domain", "pids"])
}

/// 64 MB packed beside /init are free memory again when the payload runs: in
/// `MemFree`, or on the lists of free pages that each processor keeps (`count:`
/// in /proc/zoneinfo, in pages of 4 kB; up to 27 MB each here).
fn initramfs_is_freed(bed: &Bed) -> Result<()> {
    const FILLER: usize = 64 << 20;
    let mut guest = bed.guest(
        "awk '/MemTotal/ { used = $2 }
            /MemFree/ { used -= $2 }
            $1 == \"count:\" { used -= 4 * $2 }
            END { print (used < 49152 ? \"freed\" : used \" kB used\") }' /proc/meminfo /proc/zoneinfo",
    )?;
    let mut filler = archive::Archive::default();
    filler.add_file("deep/er/filler", 0o600, vec![1; FILLER]);
    let mut bytes = packed(bed)?;
    filler.write(&mut bytes, 0)?;
    guest.initrd(&bytes)?;
    guest.boot()?.shows(&["freed"])
}

/// The initrd that chrootvm would pack.
fn packed(bed: &Bed) -> Result<Vec<u8>> {
    let root = files::root_dir::RootDir::open(Path::new("/"))?;
    let init = machine::kernel::pack::read_init(&bed.init())?;
    let choice = machine::kernel::pack::Choice::default();
    machine::kernel::pack::initrd(
        init,
        Some((&root, &bed.kernel.modules)),
        &choice,
        &mut Vec::new(),
    )
}

fn selinux_kernel(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("test -d /sys/fs/selinux && echo selinux is on; echo done")?;
    guest.append("security=selinux selinux=1 enforcing=0");
    guest.boot()?.shows(&["selinux is on", "done"])
}

/// An initrd as osbuild's `qemu.py` makes it with the system's cpio, and its
/// command line word for word: `.` in mode 0700, an empty `bin`, the payload on
/// a share.
fn osbuild(bed: &Bed) -> Result<()> {
    needs(&["cpio"])?;
    let mut guest = bed.guest("echo wrong payload")?;
    let share = guest.mount("--mount", "mnt0")?;
    fs::create_dir(share.join("osbuild"))?;
    let script = "#!/bin/sh\necho \"$0 is PID $$, root $(awk '$2 == \"/\" { print $3 }' /proc/mounts)\"\npoweroff -f\n";
    fs::write(share.join("osbuild/vm.py"), script)?;
    Command::new("chmod").arg("755").arg(share.join("osbuild/vm.py")).status()?;

    let tree = guest.directory("tree")?;
    let script = "set -e; cd \"$1\"; chmod 700 .; mkdir bin
        cpio -id --quiet
        find . -print0 | cpio --null --create --format=newc --quiet > \"$2\"";
    let archive = guest.directory("out")?.join("initrd");
    let mut cpio = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&tree)
        .arg(&archive)
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(&mut cpio.stdin.take().context("stdin")?, &packed(bed)?)?;
    ensure!(cpio.wait()?.success(), "cpio failed");
    guest.initrd(&fs::read(&archive)?)?;
    guest.append(
        "console=ttyS0 quiet selinux=1 enforcing=0 rootfstype=virtiofs root=rootfs ro mount=mnt0 \
         init=/run/mnt/mnt0/osbuild/vm.py",
    );
    guest.boot()?.shows(&["/run/mnt/mnt0/osbuild/vm.py is PID 1, root virtiofs"])
}
