//! Roots that are images: the same tree, whatever it is in, and what can be done
//! with it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, SFlag, mknod};
use virtinitrd_vm_tests::tool;
use xtask::testbed;

use crate::Case;
use crate::command_run::CommandRun;
use crate::distribution::systemd_starts;
use crate::harness::{Bed, Guest};
use crate::trial::needs;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("erofs_is_the_tree",      |bed| is_the_tree(bed, "erofs", &[])),
    ("plain_erofs_is_it",      |bed| is_the_tree(bed, "erofs", &["--compress", "none"])),
    ("ext4_is_the_tree",       |bed| is_the_tree(bed, "ext4", &[])),
    ("squashfs_is_the_tree",   |bed| is_the_tree(bed, "squashfs", &[])),
    ("small_erofs_boots",      |bed| boots(bed, "erofs", &["--compress", "lz4hc", "--cluster-size", "64k"])),
    ("zstd_squashfs_boots",    |bed| boots(bed, "squashfs", &["--compress", "zstd", "--cluster-size", "16k"])),
    ("xz_squashfs_boots",      |bed| boots(bed, "squashfs", &["--compress", "xz"])),
    ("lz4_squashfs_boots",     |bed| boots(bed, "squashfs", &["--compress", "lz4"])),
    ("sized_ext4_boots",       |bed| boots(bed, "ext4", &["--size", "40M"])),
    ("slack_ext4_boots",       |bed| boots(bed, "ext4", &["--slack", "50"])),
    ("cpio_is_the_tree",       |bed| is_the_tree(bed, "cpio", &[])),
    ("packed_cpio_is_it",      |bed| is_the_tree(bed, "cpio.zst", &[])),
    ("rw_is_kept",             rw_is_kept),
    ("overlay_is_forgotten",   overlay_is_forgotten),
    ("two_share_one",          two_share_one),
    ("data_is_a_disk",         data_is_a_disk),
    ("it_knows_what_to_run",   it_knows_what_to_run),
    ("init_is_pid_1",          init_is_pid_1),
    ("refused",                refused),
    ("debian_has_its_kernel",  debian_has_its_kernel),
    ("debian_systemd",         debian_systemd),
];

/// Tells all of the tree in `/nasty` but its xattrs, for which busybox has no word.
pub(crate) const LIST: &str = r#"cd "$1"; find . | sort | while read -r name; do
    stat -c '%n %a %u %g %Y %F %t %T' "$name"
    if test -h "$name"; then readlink "$name"
    elif test -f "$name"; then stat -c '%h %s' "$name"; test -e "$name.long" || md5sum < "$name"; fi
done"#;

/// What trips up a writer of images.
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

/// A machine whose root will be an image, and the directory to make it of.
struct Subject {
    guest: Guest,
    tree: PathBuf,
    image: PathBuf,
}

fn subject(bed: &Bed, ending: &str) -> Result<Subject> {
    let mut guest = bed.bare_guest()?;
    let tree = guest.root();
    testbed::make_root(&tree, &bed.busybox, &[])?;
    let image = guest.path(&format!("image.{ending}"));
    guest.root_is(&image);
    Ok(Subject { guest, tree, image })
}

impl Subject {
    fn build(&self, bed: &Bed, options: &[&str]) -> Result<()> {
        build(bed, &self.tree, &self.image, options)
    }
}

pub(crate) fn build(bed: &Bed, tree: &Path, image: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new(bed.workspace.join("target/release/chrootvm"));
    command.args(["image", "build"]).arg(tree).arg("-o").arg(image).args(options);
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn shell(subject: Subject, script: &str) -> CommandRun {
    CommandRun::new(subject.guest, &["sh", "-c", script])
}

fn is_the_tree(bed: &Bed, ending: &str, options: &[&str]) -> Result<()> {
    let subject = subject(bed, ending)?;
    let nasty = subject.tree.join("nasty");
    make_nasty(&nasty)?;
    if matches!(ending, "erofs" | "squashfs") {
        // Of 5 GiB only the end is read: to hash them would take minutes.
        let large = nasty.join("large");
        let file = fs::File::create(&large)?;
        std::os::unix::fs::FileExt::write_at(&file, b"end", (5 << 30) - 3)?;
        fs::write(nasty.join("large.long"), "")?;
    }
    subject.build(bed, options)?;
    let here = Command::new(&bed.busybox).args(["sh", "-c", LIST, "sh"]).arg(&nasty).output()?;
    ensure!(here.stdout.len() > 5_000, "{}", String::from_utf8_lossy(&here.stderr));
    let mut run = CommandRun::new(subject.guest, &["sh", "-c", LIST, "sh", "/nasty"]);
    run.guest.options(&["--memory", "512M"]);
    run.finish()?.is(0, here.stdout, "").map(drop)
}

/// The guest's kernel reads an image that was made with other options than the
/// defaults.
fn boots(bed: &Bed, ending: &str, options: &[&str]) -> Result<()> {
    let subject = subject(bed, ending)?;
    let text = "all work and no play\n".repeat(20_000);
    fs::write(subject.tree.join("text"), &text)?;
    subject.build(bed, options)?;
    shell(subject, "cat /text").finish()?.is(0, text, "").map(drop)
}

/// And the file system is as after umount(8).
fn rw_is_kept(bed: &Bed) -> Result<()> {
    needs(&["e2fsck"])?;
    let subject = subject(bed, "ext4")?;
    subject.build(bed, &[])?;
    let image = subject.image.clone();
    let run = shell(subject, "echo kept > /new; mkdir /dir").options(&["--rw"]);
    let guest = run.finish()?.is(0, "", "")?;
    let fsck = tool("e2fsck").arg("-fn").arg(&image).output()?;
    let said = String::from_utf8_lossy(&fsck.stdout);
    ensure!(fsck.status.success() && !said.contains("recover"), "{said}");
    CommandRun::new(guest, &["sh", "-c", "cat /new"]).finish()?.is(0, "kept\n", "").map(drop)
}

fn overlay_is_forgotten(bed: &Bed) -> Result<()> {
    for ending in ["erofs", "cpio"] {
        let subject = subject(bed, ending)?;
        subject.build(bed, &[])?;
        let before = fs::read(&subject.image)?;
        let image = subject.image.clone();
        let run = shell(subject, "echo x > /new && cat /new").options(&["--overlay"]);
        let guest = run.finish()?.is(0, "x\n", "")?;
        ensure!(fs::read(image)? == before, "{ending} has changed");
        drop(guest);
    }
    Ok(())
}

fn two_share_one(bed: &Bed) -> Result<()> {
    let first = subject(bed, "erofs")?;
    first.build(bed, &[])?;
    let mut other = bed.bare_guest()?;
    other.root_is(&first.image);
    let mut one = shell(first, "echo one is up; cat").start()?;
    one.wait_for("one is up\n")?;
    CommandRun::new(other, &["sh", "-c", "echo two"]).finish()?.is(0, "two\n", "")?;
    one.finish()?.is(0, "one is up\n", "").map(drop)
}

fn data_is_a_disk(bed: &Bed) -> Result<()> {
    let subject = subject(bed, "erofs")?;
    subject.build(bed, &[])?;
    let (rw, ro) = (subject.guest.path("rw"), subject.guest.path("ro"));
    for disk in [&rw, &ro] {
        fs::write(disk, [0; 4096])?;
    }
    let script = "echo written > /dev/vdb; echo no > /dev/vdc; cat /sys/block/vdc/ro";
    let mut run = shell(subject, script);
    run.guest.option("--data", &rw);
    run.guest.option("--data", format!("{}:ro", ro.display()));
    let guest = run.finish()?.says(0, "1\n", &["Operation not permitted"])?;
    ensure!(fs::read(rw)?.starts_with(b"written\n") && fs::read(ro)? == [0; 4096]);
    drop(guest);
    Ok(())
}

/// `--run` writes what a guest runs that is told nothing.
fn it_knows_what_to_run(bed: &Bed) -> Result<()> {
    let subject = subject(bed, "erofs")?;
    let words = ["--env", "A=b c", "--workdir", "/tmp", "--run", "--"];
    let script = ["sh", "-c", "echo $PWD $A $(cat /proc/1/comm)"];
    subject.build(bed, &[&words[..], &script].concat())?;
    subject.guest.boot()?.shows(&["/tmp b c init"])
}

/// As where the kernel mounts the image and needs no initrd: what starts /init in
/// it is another /init here, for the stock kernel cannot.
fn init_is_pid_1(bed: &Bed) -> Result<()> {
    let mut subject = subject(bed, "erofs")?;
    let init = format!("--init={}", bed.init().display());
    let script = "echo $(cat /proc/1/comm) on $(stat -f -c %T /proc /run /tmp)";
    subject.build(bed, &[&init, "--run", "--", "sh", "-c", script])?;
    subject.guest.payload("/sbin/virtinit");
    subject.guest.boot()?.shows(&["virtinit on proc tmpfs tmpfs"])
}

fn refused(bed: &Bed) -> Result<()> {
    let erofs = subject(bed, "erofs")?;
    erofs.build(bed, &[])?;
    let image = erofs.image.display().to_string();
    let run = shell(erofs, "true").options(&["--rw"]);
    let guest = run.finish()?.says(125, "", &["--rw", &image, "use --overlay"])?;
    drop(guest);
    for ending in ["tar", "tar.gz", "tar.zst", "tar.xz"] {
        let tar = subject(bed, ending)?;
        tar.build(bed, &[])?;
        shell(tar, "true").finish()?.says(125, "", &["chrootvm image build"])?;
    }
    for (contents, words) in [
        (&b"neither this nor that"[..], &["root.bin"][..]),
        (&[0; 2048], &["root.bin"]),
        (b"", &["root.bin"]),
    ] {
        let mut guest = bed.bare_guest()?;
        let file = guest.path("root.bin");
        fs::write(&file, contents)?;
        guest.root_is(&file);
        CommandRun::new(guest, &["true"]).finish()?.says(125, "", words)?;
    }
    Ok(())
}

/// A Debian in erofs, which says nothing of a kernel on the command line.
fn debian_image(bed: &Bed, guest: &Guest) -> Result<PathBuf> {
    let root = testbed::debian(&bed.workspace).context("make a Debian")?;
    let image = guest.path("debian.erofs");
    build(bed, &root, &image, &[])?;
    Ok(image)
}

fn debian_has_its_kernel(bed: &Bed) -> Result<()> {
    let mut guest = bed.command_guest_on(Path::new("/"))?;
    let image = debian_image(bed, &guest)?;
    guest.root_is(&image);
    let script =
        "cat /proc/mounts | grep ' / '; test -d /usr/lib/modules/$(uname -r) && echo its own";
    let finished = CommandRun::new(guest, &["sh", "-c", script]).finish()?;
    let stdout = String::from_utf8_lossy(finished.stdout()).into_owned();
    let is_it = stdout.starts_with("/dev/vda / erofs ro") && stdout.ends_with("\nits own\n");
    finished.check(is_it, || "expected the image's own kernel".into()).map(drop)
}

/// systemd as PID 1 on erofs and an overlay.
fn debian_systemd(bed: &Bed) -> Result<()> {
    let mut guest = bed.command_guest_on(Path::new("/"))?;
    let image = debian_image(bed, &guest)?;
    guest.root_is(&image);
    guest.options(&["--overlay"]);
    guest.payload("/lib/systemd/systemd");
    systemd_starts(guest)
}
