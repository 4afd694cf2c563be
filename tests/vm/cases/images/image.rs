//! Images as roots: every format holds the same tree, and every option works on them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nix::sys::stat::{Mode, SFlag, mknod};
use virtinitrd_vm_tests::tool;

use crate::harness::command_run::CommandRun;
use crate::harness::make::image::{LIST, build, list};
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("erofs_holds_the_tree",    |bed| holds_the_tree(bed, "erofs", &[])),
    ("ext4_holds_the_tree",     |bed| holds_the_tree(bed, "ext4", &[])),
    ("btrfs_boots",             |bed| made_by_programs(bed, &["mkfs.btrfs"], |bed| boots(bed, "btrfs", &[]))),
    // mkfs.xfs before 6.2 takes no names with spaces, which that tree has.
    ("xfs_boots",               |bed| made_by_programs(bed, &["mkfs.xfs"], |bed| boots(bed, "xfs", &[]))),
    ("squashfs_holds_the_tree", |bed| holds_the_tree(bed, "squashfs", &[])),
    ("small_erofs_boots",      |bed| boots(bed, "erofs", &["--compress", "lz4hc", "--cluster-size", "64k"])),
    ("lz4_squashfs_boots",     |bed| boots(bed, "squashfs", &["--compress", "lz4"])),
    ("slack_ext4_boots",       |bed| boots(bed, "ext4", &["--slack", "50"])),
    ("cpio_holds_the_tree",     |bed| holds_the_tree(bed, "cpio", &[])),
    ("rw_changes_the_image",    rw_changes_the_image),
    ("overlay_is_discarded",    overlay_is_discarded),
    ("two_machines_share_an_image", two_machines_share_an_image),
    ("data_is_a_disk",          data_is_a_disk),
    ("mounted_disk_is_clean",   mounted_disk_is_clean),
    ("run_option_is_the_default_command", run_option_is_the_default_command),
    ("init_option_is_pid_1",    init_option_is_pid_1),
    ("bad_roots_are_refused",   bad_roots_are_refused),
    ("debian_image_brings_its_kernel", debian_image_brings_its_kernel),
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[Case] = &[
    ("uncompressed_erofs_holds_the_tree", |bed| holds_the_tree(bed, "erofs", &["--compress", "none"])),
    ("zstd_squashfs_boots",    |bed| boots(bed, "squashfs", &["--compress", "zstd", "--cluster-size", "16k"])),
    ("xz_squashfs_boots",      |bed| boots(bed, "squashfs", &["--compress", "xz"])),
    ("sized_ext4_boots",       |bed| boots(bed, "ext4", &["--size", "40M"])),
    ("zstd_cpio_holds_the_tree", |bed| holds_the_tree(bed, "cpio.zst", &[])),
    ("debian_systemd",         debian_systemd),
];

/// Makes files with every property that a writer of images may get wrong.
fn make_nasty(dir: &Path) -> Result<()> {
    let path = |name: &[u8]| dir.join(OsStr::from_bytes(name));
    fs::create_dir_all(path(b"sub/empty"))?;
    fs::write(path(b"set-id"), "x")?;
    lchown(path(b"set-id"), Some(1000), Some(4_000_000))?;
    fs::set_permissions(path(b"set-id"), fs::Permissions::from_mode(0o6751))?;
    fs::write(path(b"no utf-8: \xff\xfe"), "contents")?;
    fs::write(path(&[b'n'; 255]), "long name")?;
    fs::hard_link(path(b"set-id"), path(b"sub/same"))?;
    symlink("/nowhere/../x", path(b"dangling"))?;
    symlink("t".repeat(200), path(b"long link"))?;
    fs::write(path(b"zeroes"), vec![0; 200_000])?;
    let noise = (0_u32..300_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    fs::write(path(b"noise"), noise.collect::<Vec<_>>())?;
    fs::write(path(b"text"), "all work and no play\n".repeat(40_000))?;
    let deep = (0..40).fold(dir.to_path_buf(), |at, _| at.join("deep"));
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("end"), "here")?;
    for number in 0..100 {
        fs::write(path(format!("sub/file {number}").as_bytes()), number.to_string())?;
    }
    let mode = Mode::from_bits_truncate(0o640);
    mknod(&path(b"fifo"), SFlag::S_IFIFO, mode, 0)?;
    mknod(&path(b"null"), SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, 3))?;
    mknod(&path(b"disk"), SFlag::S_IFBLK, mode, nix::sys::stat::makedev(259, 70_000))?;
    Ok(())
}

/// A machine whose root will be an image, and the tree for that image.
struct ImageMachine {
    machine: Machine,
    tree: PathBuf,
    image: PathBuf,
}

fn image_machine(bed: &Bed, ending: &str) -> Result<ImageMachine> {
    let mut machine = bed.busybox_machine()?;
    let tree = machine.root();
    let image = machine.path(&format!("image.{ending}"));
    machine.root_is(&image);
    Ok(ImageMachine { machine, tree, image })
}

impl ImageMachine {
    /// Makes the image of the tree.
    fn build(&self, bed: &Bed, options: &[&str]) -> Result<()> {
        build(bed, &self.tree, &self.image, options)
    }
}

/// A script for the shell of the image.
fn shell(on: ImageMachine, script: &str) -> CommandRun {
    CommandRun::new(on.machine, &["sh", "-c", script])
}

/// The guest and the host list the same tree.
fn holds_the_tree(bed: &Bed, ending: &str, options: &[&str]) -> Result<()> {
    let on = image_machine(bed, ending)?;
    let nasty = on.tree.join("nasty");
    make_nasty(&nasty)?;
    if matches!(ending, "erofs" | "squashfs") {
        // Nobody hashes this file: 5 GiB would take minutes.
        let large = nasty.join("large");
        let file = fs::File::create(&large)?;
        std::os::unix::fs::FileExt::write_at(&file, b"end", (5 << 30) - 3)?;
        fs::write(nasty.join("large.long"), "")?;
    }
    on.build(bed, options)?;
    let expected = list(bed, &nasty)?;
    ensure!(expected.len() > 5_000, "the list is short: {}", expected.escape_ascii());
    let mut run = CommandRun::new(on.machine, &["sh", "-c", LIST, "sh", "/nasty"]);
    run.machine.options(&["--memory", "512M"]);
    run.finish()?.is(0, expected, "").map(drop)
}

/// Runs `body` if the programs that make the image are installed.
fn made_by_programs(
    bed: &Bed,
    programs: &[&str],
    body: impl FnOnce(&Bed) -> Result<()>,
) -> Result<()> {
    needs(programs)?;
    body(bed)
}

/// The guest's kernel reads an image that was made with these options.
fn boots(bed: &Bed, ending: &str, options: &[&str]) -> Result<()> {
    let on = image_machine(bed, ending)?;
    let text = "all work and no play\n".repeat(20_000);
    fs::write(on.tree.join("text"), &text)?;
    on.build(bed, options)?;
    shell(on, "cat /text").finish()?.is(0, text, "").map(drop)
}

/// The image holds the writes of the guest, and is as clean as after umount(8).
fn rw_changes_the_image(bed: &Bed) -> Result<()> {
    needs(&["e2fsck"])?;
    let on = image_machine(bed, "ext4")?;
    on.build(bed, &[])?;
    let image = on.image.clone();
    let run = shell(on, "echo kept > /new; mkdir /dir").options(&["--rw"]);
    let machine = run.finish()?.is(0, "", "")?;
    let fsck = tool("e2fsck").arg("-fn").arg(&image).output()?;
    let said = String::from_utf8_lossy(&fsck.stdout);
    ensure!(fsck.status.success() && !said.contains("recover"), "{said}");
    CommandRun::new(machine, &["sh", "-c", "cat /new"]).finish()?.is(0, "kept\n", "").map(drop)
}

fn overlay_is_discarded(bed: &Bed) -> Result<()> {
    for ending in ["erofs", "cpio"] {
        let on = image_machine(bed, ending)?;
        on.build(bed, &[])?;
        let before = fs::read(&on.image)?;
        let image = on.image.clone();
        let run = shell(on, "echo x > /new && cat /new").options(&["--overlay"]);
        let machine = run.finish()?.is(0, "x\n", "")?;
        ensure!(fs::read(image)? == before, "{ending} has changed");
        drop(machine);
    }
    Ok(())
}

fn two_machines_share_an_image(bed: &Bed) -> Result<()> {
    let first = image_machine(bed, "erofs")?;
    first.build(bed, &[])?;
    let mut other = bed.bare_machine()?;
    other.root_is(&first.image);
    let mut one = shell(first, "echo one is up; cat").start()?;
    one.wait_for("one is up\n")?;
    CommandRun::new(other, &["sh", "-c", "echo two"]).finish()?.is(0, "two\n", "")?;
    one.finish()?.is(0, "one is up\n", "").map(drop)
}

fn data_is_a_disk(bed: &Bed) -> Result<()> {
    let on = image_machine(bed, "erofs")?;
    on.build(bed, &[])?;
    let (rw, ro) = (on.machine.path("rw"), on.machine.path("ro"));
    for disk in [&rw, &ro] {
        fs::write(disk, [0; 4096])?;
    }
    let script = "echo written > /dev/vdb; echo no > /dev/vdc; cat /sys/block/vdc/ro";
    let mut run = shell(on, script);
    run.machine.option("--data", &rw);
    run.machine.option("--data", format!("{}:ro", ro.display()));
    let machine = run.finish()?.says(0, "1\n", &["Operation not permitted"])?;
    ensure!(fs::read(rw)?.starts_with(b"written\n") && fs::read(ro)? == [0; 4096]);
    drop(machine);
    Ok(())
}

/// A disk of `virtinit.mount=` is unmounted at the end of the machine.
fn mounted_disk_is_clean(bed: &Bed) -> Result<()> {
    needs(&["mke2fs", "dumpe2fs"])?;
    let mut run = bed.sh("echo written > /data/file")?;
    fs::create_dir(run.machine.root().join("data"))?;
    let disk = run.machine.path("disk");
    stdout_of(tool("mke2fs").args(["-q", "-t", "ext4"]).arg(&disk).arg("16M"))?;
    run.machine.option("--data", &disk);
    run.machine.append("virtinit.mount=/dev/vda:/data:ext4");
    let machine = run.options(&["--module", "ext4"]).finish()?.is(0, "", "")?;
    let state = stdout_of(tool("dumpe2fs").arg("-h").arg(&disk))?;
    ensure!(state.contains("has_journal") && !state.contains("needs_recovery"), "{state}");
    drop(machine);
    Ok(())
}

/// The image runs the command of `--run` if `chrootvm` names neither a payload nor a command.
fn run_option_is_the_default_command(bed: &Bed) -> Result<()> {
    let on = image_machine(bed, "erofs")?;
    let words = ["--env", "A=b c", "--workdir", "/tmp", "--run", "--"];
    let script = ["sh", "-c", "echo $PWD $A $(cat /proc/1/comm)"];
    on.build(bed, &[&words[..], &script].concat())?;
    on.machine.boot()?.shows(&["/tmp b c init"])
}

/// `--init` puts `/init` into the image, where it can be PID 1. A kernel with all drivers
/// built in needs no initrd for that; here, the `/init` of an initrd executes it.
fn init_option_is_pid_1(bed: &Bed) -> Result<()> {
    let mut on = image_machine(bed, "erofs")?;
    let init = format!("--init={}", bed.init().display());
    let script = "echo $(cat /proc/1/comm) on $(stat -f -c %T /proc /run /tmp)";
    on.build(bed, &[&init, "--run", "--", "sh", "-c", script])?;
    on.machine.payload("/sbin/virtinit");
    on.machine.boot()?.shows(&["virtinit on proc tmpfs tmpfs"])
}

fn bad_roots_are_refused(bed: &Bed) -> Result<()> {
    let erofs = image_machine(bed, "erofs")?;
    erofs.build(bed, &[])?;
    let image = erofs.image.display().to_string();
    let run = shell(erofs, "true").options(&["--rw"]);
    let machine = run.finish()?.says(125, "", &["--rw", &image, "use --overlay"])?;
    drop(machine);
    for ending in ["tar", "tar.gz", "tar.zst", "tar.xz"] {
        let tar = image_machine(bed, ending)?;
        tar.build(bed, &[])?;
        shell(tar, "true").finish()?.says(125, "", &["chrootvm image build"])?;
    }
    for (contents, words) in [
        (&b"neither this nor that"[..], &["root.bin"][..]),
        (&[0; 2048], &["root.bin"]),
        (b"", &["root.bin"]),
    ] {
        let mut machine = bed.bare_machine()?;
        let file = machine.path("root.bin");
        fs::write(&file, contents)?;
        machine.root_is(&file);
        CommandRun::new(machine, &["true"]).finish()?.says(125, "", words)?;
    }
    Ok(())
}

/// A machine whose root is an EROFS with a Debian and its kernel.
fn debian_machine(bed: &Bed) -> Result<Machine> {
    let root = bed.debian_root()?;
    let mut machine = bed.machine_on(&root)?;
    let image = machine.path("debian.erofs");
    build(bed, &root, &image, &[])?;
    machine.root_is(&image);
    Ok(machine)
}

fn debian_image_brings_its_kernel(bed: &Bed) -> Result<()> {
    let machine = debian_machine(bed)?;
    let script =
        "cat /proc/mounts | grep ' / '; test -d /usr/lib/modules/$(uname -r) && echo its own";
    let finished = CommandRun::new(machine, &["sh", "-c", script]).finish()?;
    let stdout = String::from_utf8_lossy(finished.stdout()).into_owned();
    let is_expected = stdout.starts_with("/dev/vda / erofs ro") && stdout.ends_with("\nits own\n");
    finished.check(is_expected, || "expected the image's own kernel".into()).map(drop)
}

/// systemd as PID 1 on an EROFS with an overlay.
fn debian_systemd(bed: &Bed) -> Result<()> {
    let mut machine = debian_machine(bed)?;
    machine.options(&["--overlay"]);
    machine.payload("/lib/systemd/systemd");
    machine.boots_systemd()
}
