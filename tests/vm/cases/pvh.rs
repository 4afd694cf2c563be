//! Which of a kernel's forms is booted: the bzImage, or the vmlinux in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, compress};
use machine::kernel::vmlinux::samples::{uki, zboot};
use xtask::testbed::HostKernel;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("default",          |bed| boots(bed, &[], &[], By::Pvh, "")),
    ("never",            |bed| boots(bed, &["--pvh", "never"], &[], By::Image, "")),
    ("without_a_cache",  |bed| boots(bed, &[], &[("XDG_CACHE_HOME", "/proc/self")], By::Pvh, "")),
    ("unknown_payload",  |bed| boots_changed(bed, PAYLOAD_OFFSET, &[], "")),
    ("damaged_header",   |bed| boots_changed(bed, PAYLOAD_OFFSET + 7, &[], "as with --pvh never: the image is cut")),
    ("damage_is_quiet",  |bed| boots_changed(bed, PAYLOAD_OFFSET + 7, &["--quiet"], "")),
    ("a_vmlinux_itself", a_vmlinux_itself),
    ("a_uki",            |bed| boots_packed(bed, |image| Ok(uki(".linux", image)), &[], By::Pvh)),
    ("compressed",       |bed| boots_packed(bed, gzip, &["--pvh", "never"], By::Image)),
    ("efi_zboot",        |bed| boots_packed(bed, |image| Ok(zboot(&gzip(image)?, "gzip")), &[], By::Pvh)),
    ("no_kernel",        no_kernel),
];

/// Who entered the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Pvh,
    /// The code in the bzImage that runs first.
    Image,
}

/// Offset of `payload_offset` in a bzImage, which only those read who unpack it
/// (kernel doc: arch/x86/boot.rst). `payload_length` follows.
const PAYLOAD_OFFSET: usize = 0x248;

/// Tells how often the bzImage's header is in what the kernel was handed: where
/// it was entered by PVH that has been made up, and lacks the magic.
const COUNT: &str = "grep -c HdrS /sys/kernel/boot_params/data; true";

fn boots(
    bed: &Bed,
    options: &[&str],
    variables: &[(&str, &str)],
    by: By,
    says: &str,
) -> Result<()> {
    let mut run = bed.sh(COUNT)?.options(options);
    for (name, value) in variables {
        run = run.variable(name, value);
    }
    let count = if by == By::Pvh { "0\n" } else { "1\n" };
    let finished = run.finish()?;
    match says {
        "" => finished.is(0, count, "").map(drop),
        says => finished.says(0, count, &[says]).map(drop),
    }
}

/// A kernel of which the byte at `at` is another: it boots, by its image.
fn boots_changed(bed: &Bed, at: usize, options: &[&str], says: &str) -> Result<()> {
    let mut image = fs::read(&bed.kernel.image)?;
    *image.get_mut(at).context("no such byte")? ^= 0x40;
    let dir = tempfile::tempdir()?;
    let kernel = dir.path().join("vmlinuz");
    fs::write(&kernel, image)?;
    boots(&with(bed, kernel), options, &[], By::Image, says)
}

/// A kernel in another file, as `pack` makes it.
fn boots_packed(
    bed: &Bed,
    pack: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    options: &[&str],
    by: By,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, pack(&fs::read(&bed.kernel.image)?)?)?;
    boots(&with(bed, kernel), options, &[], by, "")
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    compress(bytes.to_vec(), Compression::Gzip)
}

/// A file that is no kernel is refused before anything runs, and the error says what it
/// is; the same holds for a file that was found in ROOTFS.
fn no_kernel(bed: &Bed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("vmlinuz");
    let whole = fs::read(&bed.kernel.image)?;
    let cut = whole.get(..whole.len() / 2).context("no half")?;
    let gzipped = gzip(b"07070100000000")?;
    let cases: &[(&[u8], &str)] = &[
        (b"", "it is empty"),
        (b"not a kernel\n", "it is text"),
        (cut, "it is a bzImage that is cut"),
        (&gzipped, "a cpio archive, as an initrd is"),
    ];
    for (bytes, what) in cases {
        fs::write(&file, bytes)?;
        for options in [&["--pvh", "never"][..], &[]] {
            let run = with(bed, file.clone()).sh("echo not reached")?.options(options);
            let name = format!("error: kernel {}", file.display());
            run.finish()?.says(125, "", &[&name, what])?;
        }
    }
    let root = dir.path().join("root");
    for name in ["boot", "lib/modules/6.1"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::write(root.join("boot/vmlinuz-6.1"), "")?;
    let run = CommandRun::new(bed.command_guest_on(&root)?, &["true"]);
    run.finish()?.says(125, "", &["/boot/vmlinuz-6.1: it is empty"]).map(drop)
}

/// The testbed, with another image of its kernel.
fn with(bed: &Bed, image: PathBuf) -> Bed {
    let kernel = HostKernel { image, modules: bed.kernel.modules.clone() };
    Bed { kernel, ..bed.clone() }
}

/// What is kept is a kernel of its own, for chrootvm as for QEMU.
fn a_vmlinux_itself(bed: &Bed) -> Result<()> {
    let image = printed(bed, &["--pvh", "never"])?;
    ensure!(image == bed.kernel.image, "{} is booted", image.display());
    let vmlinux = printed(bed, &[])?;
    ensure!(fs::read(&vmlinux)?.starts_with(b"\x7fELF"), "{} is booted", vmlinux.display());
    let bed = with(bed, vmlinux);
    boots(&bed, &[], &[], By::Pvh, "")?;
    boots(&bed, &["--pvh", "never"], &[], By::Pvh, "")
}

/// The kernel in the commands that `--dry-run` prints.
fn printed(bed: &Bed, options: &[&str]) -> Result<PathBuf> {
    let run = bed.sh("true")?.options(options).options(&["--dry-run"]);
    let output = run.command().stdin(Stdio::null()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (_, after) = text.split_once(" -kernel ").with_context(|| format!("no -kernel: {text}"))?;
    Ok(Path::new(after.split(' ').next().unwrap_or_default()).to_path_buf())
}
