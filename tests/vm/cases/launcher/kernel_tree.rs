//! `--kernel DIR`: a kernel boots from the tree in which it was built.
//!
//! The tree is made of the testbed's kernel: its image, its configuration, and its modules at
//! the places of their sources, as `make` leaves them. depmod(8) has not seen them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use files::root_dir::RootDir;
use machine::kernel::modules::dir::ModulesDir;
use machine::kernel::modules::index::parse_order;
use machine::kernel::modules::resolve::{ModuleRequest, load_order};
use xtask::testbed::{HostKernel, make_root};

use crate::harness::command_run::CommandRun;
use crate::harness::{Bed, Case, new_directory};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("modules_come_from_the_tree", modules_come_from_the_tree),
];

/// Modules that a machine with `--overlay` and `--module dummy` loads.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "virtiofs", "overlay", "dummy"];

/// A machine has the image and the modules of the tree, and nothing else; a module that was not
/// built is named before the boot.
fn modules_come_from_the_tree(bed: &Bed) -> Result<()> {
    let dir = new_directory()?;
    let (tree, root) = (dir.path().join("linux"), dir.path().join("root"));
    let last = make_tree(&bed.kernel, &tree)?;
    make_root(&root, &bed.busybox, &[])?;
    let run = |script: &str| -> Result<_> {
        let run = CommandRun::new(bed.machine_on(&root)?, &["sh", "-c", script]);
        let tree = tree.to_str().context("a path that is not UTF-8")?;
        run.options(&["--kernel", tree, "--overlay", "--module", "dummy"]).finish()
    };
    let script = MODULES.iter().map(|name| format!("grep -o '^{name} ' /proc/modules; "));
    let version = bed.kernel.modules.file_name().context("no version")?.to_string_lossy();
    let expected = MODULES.join(" \n");
    let script: String = script.chain(["uname -r".to_owned()]).collect();
    run(&script)?.is(0, format!("{expected} \n{version}\n"), "")?;
    fs::remove_file(&last).with_context(|| format!("remove {}", last.display()))?;
    run("echo not reached")?.says(125, "", &["module dummy: ", "run `make modules` there"])?;
    Ok(())
}

/// Makes a tree of `kernel`; returns the path of its module dummy.
fn make_tree(kernel: &HostKernel, tree: &Path) -> Result<PathBuf> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let write = |name: &Path, bytes: &[u8]| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    };
    let root = RootDir::open(Path::new("/"))?;
    let installed = ModulesDir::open(&root, &kernel.modules)?;
    let version = kernel.modules.file_name().context("no version")?.to_string_lossy();
    let config = read(&kernel.image.with_file_name(format!("config-{version}")))?;
    write(Path::new(".config"), config.as_bytes())?;
    write(Path::new("Makefile"), b"")?;
    write(Path::new("arch/x86/boot/bzImage"), &fs::read(&kernel.image)?)?;
    let builtin = read(&kernel.modules.join("modules.builtin"))?;
    write(Path::new("modules.builtin"), builtin.as_bytes())?;
    let order = read(&kernel.modules.join("modules.order"))?;
    let order: Vec<_> =
        order.lines().map(|line| line.strip_prefix("kernel/").unwrap_or(line)).collect();
    let order = order.join("\n");
    write(Path::new("modules.order"), order.as_bytes())?;
    let paths = parse_order(&order);
    let requests: Vec<_> = MODULES.iter().map(|name| ModuleRequest::must(name)).collect();
    for name in load_order(&installed, &requests)? {
        let path = paths.get(&name).with_context(|| format!("modules.order lacks {name}"))?;
        write(path, &installed.read(&name)?)?;
    }
    let dummy = tree.join(paths.get("dummy").context("modules.order lacks dummy")?);
    ensure!(dummy.is_file(), "{} is missing", dummy.display());
    Ok(dummy)
}
