//! Initrds that `pack` writes, as other programs read them: cpio(1) and the kernel.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::harness::programs::{filter, stdout_of};
use crate::harness::trial::needs;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("cpio_lists_the_members", cpio_lists_the_members),
    ("equal_input_gives_equal_bytes", equal_input_gives_equal_bytes),
    ("kernel_unpacks_gzip",    |bed| kernel_unpacks(bed, "gzip")),
    ("kernel_unpacks_zstd",    |bed| kernel_unpacks(bed, "zstd")),
    ("kernel_unpacks_xz",      |bed| kernel_unpacks(bed, "xz")),
    ("kernel_unpacks_lz4",     |bed| kernel_unpacks(bed, "lz4")),
    ("bad_input_writes_nothing", bad_input_writes_nothing),
    ("init_is_small_and_static", init_is_small_and_static),
];

/// The program, without a date from the environment.
fn xtask(bed: &Bed) -> Command {
    let mut command = bed.xtask();
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// The initrd that `pack` writes.
fn pack(bed: &Bed, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = xtask(bed);
    command.arg("pack").arg("--init").arg(bed.init());
    command.arg("--modules-dir").arg(&bed.kernel.modules).args(arguments).args(["-o", "-"]);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// cpio(1) and `ls` print the same names, modes, link counts, owners and sizes.
fn cpio_lists_the_members(bed: &Bed) -> Result<()> {
    needs(&["cpio"])?;
    let archive = pack(bed, &["--module", "virtio-console"])?;
    let theirs = filter(Command::new("cpio").args(["-tvn", "--quiet"]), archive.clone())?;
    let ours = filter(xtask(bed).args(["ls", "-"]), archive)?;
    // cpio prints: mode links uid gid size month day year name; `ls` prints no date.
    let theirs: Vec<String> = theirs
        .lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split_whitespace().collect();
            fields.drain(5..8);
            fields.join(" ")
        })
        .collect();
    let ours: Vec<String> =
        ours.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    ensure!(ours == theirs, "ls: {ours:#?}\ncpio: {theirs:#?}");
    ensure!(ours.iter().any(|line| line.ends_with("-virtio_console.ko")), "{ours:#?}");
    Ok(())
}

fn equal_input_gives_equal_bytes(bed: &Bed) -> Result<()> {
    needs(&["cpio"])?;
    for compression in ["none", "gzip", "zstd", "xz", "lz4"] {
        let once = pack(bed, &["--compress", compression])?;
        ensure!(once == pack(bed, &["--compress", compression])?, "{compression}");
    }
    let dated = xtask(bed)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .args(["pack", "-o", "-", "--init"])
        .arg(bed.init())
        .output()?;
    let text = filter(Command::new("cpio").args(["-tv", "--quiet"]), dated.stdout)?;
    ensure!(text.contains("Nov 14  2023"), "{text}");
    Ok(())
}

fn kernel_unpacks(bed: &Bed, compression: &str) -> Result<()> {
    let mut machine = bed.machine("echo unpacked")?;
    machine.initrd(&pack(bed, &["--compress", compression])?)?;
    machine.boot()?.shows(&["unpacked"])
}

fn bad_input_writes_nothing(bed: &Bed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("initrd");
    let modules = dir.path().join("modules");
    std::fs::create_dir_all(modules.join("kernel"))?;
    let init = bed.init();
    let real = &bed.kernel.modules;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    for (name, module, init, modules, expected) in [
        ("unknown module", "nonsense", &init, real, "unknown module \"nonsense\""),
        ("no modules directory", "fuse", &init, &modules, "not a modules directory"),
        ("no such directory", "fuse", &init, &dir.path().join("gone"), "no such directory"),
        ("no init", "fuse", &dir.path().join("gone"), real, "read the /init binary"),
    ] {
        let command = bed.workspace.join("scripts/mkvirtinitrd");
        let result = Command::new(command)
            .args([&format!("--module={module}"), &path(init), &path(modules), &path(&output)])
            .output()?;
        let stderr = String::from_utf8_lossy(&result.stderr);
        ensure!(result.status.code() == Some(1), "{name}: {}", result.status);
        ensure!(stderr.starts_with("error: ") && stderr.contains(expected), "{name}: {stderr}");
        ensure!(std::fs::read_dir(dir.path())?.count() == 1, "{name}: something was written");
    }
    Ok(())
}

/// Largest size of `/init` in bytes, a little more than its size now.
const INIT_MAX: u64 = 112_000;

/// `/init` is small, and file(1) says that it is static.
fn init_is_small_and_static(bed: &Bed) -> Result<()> {
    needs(&["file"])?;
    let text = stdout_of(Command::new("file").arg("-b").arg(bed.init()))?;
    ensure!(text.contains("statically linked") && !text.contains("interpreter"), "{text}");
    let size = bed.init().metadata()?.len();
    ensure!(size <= INIT_MAX, "/init has {size} bytes");
    Ok(())
}
