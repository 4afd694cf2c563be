//! Machines of another architecture than the host's: which one `chrootvm` takes, its kernels, and
//! what it says where something does not fit.
//!
//! The bed is one of aarch64; `main` also runs tests of other groups in it.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::{Compression, compress};
use machine::kernel::vmlinux::samples::zboot;

use crate::harness::command_run::CommandRun;
use crate::harness::make::image::build;
use crate::harness::make::initrd;
use crate::harness::{Bed, Case, new_directory};

/// Architecture of the tests here.
pub(crate) const ARCH: &str = "aarch64";

/// Tests of other groups that also run in such machines: PID 1 with the words of osbuild, status
/// and streams, a root on a disk, and faults.
#[rustfmt::skip]
pub(crate) const ALSO: &[&str] = &[
    "contract::default_boot", "contract::osbuild_boots", "roots::uuid",
    "fault::root_tag_missing", "fault::payload_missing", "fault::policy_panic",
];

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("the_root_tells_the_architecture", the_root_tells_the_architecture),
    ("an_image_starts_warm",            an_image_starts_warm),
    ("packed_kernels_boot",             packed_kernels_boot),
    ("a_kernel_for_the_host_is_refused", a_kernel_for_the_host_is_refused),
    ("a_missing_part_has_its_remedy",   a_missing_part_has_its_remedy),
    ("modules_fit_their_init",          modules_fit_their_init),
    ("init_is_small",                   init_is_small),
];

/// Most bytes of `/init`. It has 111,108, and `bench/budget.toml` allows as many for x86_64.
const INIT_MOST: u64 = 114_000;

/// Signs that SIGSEGV has killed a program of the guest.
const CRASHES: [&str; 3] = ["Segmentation fault", "exit status 139", "exitcode=0x0000000b"];

/// Whether a test has failed with `error` because a program of the guest has crashed. With QEMU 7.2
/// that happens to one of some hundred programs on an emulated cortex-a72; the cause is not known.
pub(crate) fn is_crash(error: &str) -> bool {
    CRASHES.iter().any(|sign| error.contains(sign))
}

/// Without an option, the programs in the root decide. Streams and status arrive.
fn the_root_tells_the_architecture(bed: &Bed) -> Result<()> {
    let run = bed.sh("uname -m; cat; echo error >&2; exit 3")?.input(b"input\n");
    run.finish()?.is(3, format!("{ARCH}\ninput\n"), "error\n").map(drop)
}

/// An image of such a root is read for its architecture, too. The second run of a machine starts
/// from the saved one.
fn an_image_starts_warm(bed: &Bed) -> Result<()> {
    let dir = new_directory()?;
    let image = dir.path().join("root.erofs");
    let root = bed.busybox_machine()?;
    build(bed, &root.root(), &image, &[])?;
    for _ in 0..2 {
        let mut machine = bed.machine_on(&image)?.with_kernel(&bed.kernel);
        machine.options(&["--arch", ARCH, "--warm", "always"]);
        let cache = dir.path().join("cache");
        let run = CommandRun::new(machine, &["busybox", "uname", "-m"])
            .variable("XDG_CACHE_HOME", &cache);
        run.finish()?.is(0, format!("{ARCH}\n"), "")?;
    }
    let kept = fs::read_dir(dir.path().join("cache/virtinitrd/warm")).context("nothing is kept")?;
    ensure!(kept.count() > 0, "no machine was saved");
    Ok(())
}

/// A kernel that QEMU does not load is unpacked first: one of Debian, and one of newer
/// distributions.
fn packed_kernels_boot(bed: &Bed) -> Result<()> {
    let image = fs::read(&bed.kernel.image)?;
    let gzip = compress(image.clone(), Compression::Gzip)?;
    let zstd = zboot(&compress(image, Compression::Zstd)?, "zstd22");
    let dir = new_directory()?;
    for (name, bytes) in [("Image.gz", gzip), ("vmlinuz.efi", zstd)] {
        let kernel = dir.path().join(name);
        fs::write(&kernel, bytes)?;
        let run = bed.with_kernel_image(kernel).sh("uname -m")?.options(&["--warm", "never"]);
        run.finish()?.is(0, format!("{ARCH}\n"), "")?;
    }
    Ok(())
}

/// The error names both architectures.
fn a_kernel_for_the_host_is_refused(bed: &Bed) -> Result<()> {
    let host = Bed::new()?;
    let run = bed.with_kernel_image(host.kernel.image.clone()).sh("true")?;
    let says = format!(
        "error: kernel {} is for {}, but the machine is for {ARCH}, as /bin/sh in ",
        host.kernel.image.display(),
        host.architecture.arch
    );
    run.finish()?.says(125, "", &[&says])?;
    let run = bed.sh("true")?.options(&["--accel", "kvm"]);
    run.finish()?.says(125, "", &["--accel kvm: this host is ", "KVM runs no code of aarch64"])?;
    Ok(())
}

/// Neither QEMU nor `/init` for the architecture is part of every host.
fn a_missing_part_has_its_remedy(bed: &Bed) -> Result<()> {
    let built = bed.workspace.join("target/release/chrootvm");
    let mut run = bed.sh("true")?.variable("PATH", "/nowhere");
    run.machine.program(built.clone());
    run.finish()?.says(
        125,
        "",
        &["qemu-system-aarch64, the QEMU for aarch64, not found in PATH"],
    )?;
    let dir = new_directory()?;
    let program = dir.path().join("bin/chrootvm");
    fs::create_dir(dir.path().join("bin"))?;
    fs::copy(built, &program)?;
    let mut run = bed.sh("true")?;
    run.machine.program(program);
    let says = ["/init for aarch64 is missing", "cargo xtask build --target aarch64"];
    run.finish()?.says(125, "", &says).map(drop)
}

/// An initrd never has `/init` and modules of two architectures.
fn modules_fit_their_init(bed: &Bed) -> Result<()> {
    let mixed = Bed { kernel: bed.kernel.clone(), ..Bed::new()? };
    let Err(error) = initrd::default(&mixed) else { bail!("it was packed") };
    let error = error.to_string();
    ensure!(error.contains("give /init and modules of one architecture"), "{error}");
    initrd::default(bed).map(drop)
}

/// A change that makes `/init` larger must be worth it.
fn init_is_small(bed: &Bed) -> Result<()> {
    let size = bed.init().metadata()?.len();
    ensure!(size <= INIT_MOST, "/init for {ARCH} has {size} bytes; the most is {INIT_MOST}");
    Ok(())
}
