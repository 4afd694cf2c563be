//! The form of a kernel that QEMU boots: the bzImage, or the vmlinux in it (PVH).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, compress};
use machine::kernel::vmlinux::samples::{uki, zboot};

use crate::harness::command_run::CommandRun;
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case, new_directory};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("default",          |bed| boots(bed, &[], &[], EntryPoint::Pvh, "")),
    ("never",            |bed| boots(bed, &["--pvh", "never"], &[], EntryPoint::BzImage, "")),
    ("unknown_payload",  |bed| boots_changed(bed, PAYLOAD_OFFSET, &[], "")),
    ("uki",              |bed| boots_packed(bed, |image| Ok(uki(".linux", image)), &[], EntryPoint::Pvh)),
    ("efi_zboot",        |bed| boots_packed(bed, |image| Ok(zboot(&gzip(image)?, "gzip")), &[], EntryPoint::Pvh)),
    ("other_files_are_refused", other_files_are_refused),
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[Case] = &[
    ("without_a_cache",  |bed| boots(bed, &[], &[("XDG_CACHE_HOME", "/proc/self")], EntryPoint::Pvh, "")),
    ("damaged_header",   |bed| boots_changed(bed, PAYLOAD_OFFSET + 7, &[], "as with --pvh never: the image is cut")),
    ("damage_is_quiet",  |bed| boots_changed(bed, PAYLOAD_OFFSET + 7, &["--quiet"], "")),
    ("vmlinux_boots",    vmlinux_boots),
    ("compressed",       |bed| boots_packed(bed, gzip, &["--pvh", "never"], EntryPoint::BzImage)),
];

/// The code that starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryPoint {
    /// The PVH entry of the vmlinux.
    Pvh,
    /// The setup code of the bzImage.
    BzImage,
}

/// Offset of `payload_offset` in a bzImage, and before `payload_length` (kernel doc:
/// arch/x86/boot.rst). Only programs that unpack the bzImage read them.
const PAYLOAD_OFFSET: usize = 0x248;

/// Shell command that counts the magic of a bzImage in the kernel's boot parameters. With PVH
/// the kernel makes these parameters up, without the magic.
const COUNT: &str = "grep -c HdrS /sys/kernel/boot_params/data; true";

/// The kernel boots by this entry, and standard error contains `says`.
fn boots(
    bed: &Bed,
    options: &[&str],
    variables: &[(&str, &str)],
    entry: EntryPoint,
    says: &str,
) -> Result<()> {
    let mut run = bed.sh(COUNT)?.options(options);
    for (name, value) in variables {
        run = run.variable(name, value);
    }
    let count = if entry == EntryPoint::Pvh { "0\n" } else { "1\n" };
    let finished = run.finish()?;
    match says {
        "" => finished.is(0, count, "").map(drop),
        says => finished.says(0, count, &[says]).map(drop),
    }
}

/// A kernel with a changed byte at `at` boots by its bzImage.
fn boots_changed(bed: &Bed, at: usize, options: &[&str], says: &str) -> Result<()> {
    let mut image = fs::read(&bed.kernel.image)?;
    *image.get_mut(at).context("no such byte")? ^= 0x40;
    let dir = new_directory()?;
    let kernel = dir.path().join("vmlinuz");
    fs::write(&kernel, image)?;
    boots(&bed.with_kernel_image(kernel), options, &[], EntryPoint::BzImage, says)
}

/// A kernel in the file that `pack` makes of it boots by this entry.
fn boots_packed(
    bed: &Bed,
    pack: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    options: &[&str],
    entry: EntryPoint,
) -> Result<()> {
    let dir = new_directory()?;
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, pack(&fs::read(&bed.kernel.image)?)?)?;
    boots(&bed.with_kernel_image(kernel), options, &[], entry, "")
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    compress(bytes.to_vec(), Compression::Gzip)
}

/// `chrootvm` refuses a file that is not a kernel before anything runs, and the error says what
/// the file is. The same holds for a file that `chrootvm` finds in ROOTFS.
fn other_files_are_refused(bed: &Bed) -> Result<()> {
    let dir = new_directory()?;
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
            let run = bed.with_kernel_image(file.clone()).sh("echo not reached")?.options(options);
            let name = format!("error: kernel {}", file.display());
            run.finish()?.says(125, "", &[&name, what])?;
        }
    }
    let root = dir.path().join("root");
    for name in ["boot", "lib/modules/6.1"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::write(root.join("boot/vmlinuz-6.1"), "")?;
    let run = CommandRun::new(bed.machine_on(&root)?, &["true"]);
    run.finish()?.says(125, "", &["/boot/vmlinuz-6.1: it is empty"]).map(drop)
}

/// The vmlinux in the cache of `chrootvm` is a kernel that `--kernel` accepts.
fn vmlinux_boots(bed: &Bed) -> Result<()> {
    let image = printed_kernel(bed, &["--pvh", "never"])?;
    ensure!(image == bed.kernel.image, "{} is booted", image.display());
    let vmlinux = printed_kernel(bed, &[])?;
    ensure!(fs::read(&vmlinux)?.starts_with(b"\x7fELF"), "{} is booted", vmlinux.display());
    let bed = bed.with_kernel_image(vmlinux);
    boots(&bed, &[], &[], EntryPoint::Pvh, "")?;
    boots(&bed, &["--pvh", "never"], &[], EntryPoint::Pvh, "")
}

/// The kernel in the commands that `--dry-run` prints.
fn printed_kernel(bed: &Bed, options: &[&str]) -> Result<PathBuf> {
    let run = bed.sh("true")?.options(options).options(&["--dry-run"]);
    let text = stdout_of(run.command().stdin(Stdio::null()))?;
    let (_, after) = text.split_once(" -kernel ").with_context(|| format!("no -kernel: {text}"))?;
    Ok(Path::new(after.split(' ').next().unwrap_or_default()).to_path_buf())
}
