//! Initrds, most of them wrong on purpose.

use std::path::Path;

use anyhow::{Context, Result};
use archive::Archive;
use files::root_dir::RootDir;
use machine::kernel::modules::dir::ModulesDir;
use machine::kernel::modules::resolve::{ModuleRequest, load_order};
use machine::kernel::pack;

use crate::harness::Bed;

/// File name and contents of each module, in load order.
type Modules = Vec<(String, Vec<u8>)>;

/// The initrd that `chrootvm` packs by default.
pub(crate) fn default(bed: &Bed) -> Result<Vec<u8>> {
    let root = RootDir::open(Path::new("/"))?;
    let init = pack::read_init(&bed.init())?;
    let choice = pack::ModuleSelection::default();
    pack::initrd(init, Some((&root, &bed.kernel.modules)), &choice, &mut Vec::new())
}

/// The modules that `chrootvm` packs by default.
fn default_modules(bed: &Bed) -> Result<Modules> {
    modules(bed, &["virtio_pci", "virtio_mmio", "virtiofs"])
}

/// The named modules, and the modules that they need.
fn modules(bed: &Bed, names: &[&str]) -> Result<Modules> {
    let root = RootDir::open(Path::new("/"))?;
    let dir = ModulesDir::open(&root, &bed.kernel.modules)?;
    let requests: Vec<_> = names.iter().map(|name| ModuleRequest::must(name)).collect();
    let order = load_order(&dir, &requests)?;
    let packed = |(number, name): (usize, &String)| {
        Ok((format!("{:03}-{name}.ko", number + 1), dir.read(name)?))
    };
    order.iter().enumerate().map(packed).collect()
}

/// An initrd of `/init` and these modules.
fn with_files(bed: &Bed, modules: Modules) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add_file("init", 0o755, std::fs::read(bed.init())?);
    for (name, contents) in modules {
        archive.add_file(&format!("usr/lib/modules/{name}"), 0o644, contents);
    }
    let mut bytes = Vec::new();
    archive.write(&mut bytes, 0)?;
    Ok(bytes)
}

/// The default modules and one more.
pub(crate) fn with_module(bed: &Bed, name: &str) -> Result<Vec<u8>> {
    with_modules(bed, &[name])
}

/// The default modules and more of them.
pub(crate) fn with_modules(bed: &Bed, names: &[&str]) -> Result<Vec<u8>> {
    let wanted = [&["virtio_pci", "virtio_mmio", "virtiofs"], names].concat();
    with_files(bed, modules(bed, &wanted)?)
}

/// A whole system beside `/init`: busybox as two files, and a payload.
pub(crate) fn with_system(bed: &Bed, payload: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (name, path) in [
        ("init", bed.init().as_path()),
        ("bin/busybox", &bed.busybox),
        ("bin/sh", &bed.busybox),
        ("bin/test-init", payload),
    ] {
        archive.add_file(name, 0o755, std::fs::read(path)?);
    }
    let mut bytes = Vec::new();
    archive.write(&mut bytes, 0)?;
    Ok(bytes)
}

/// `/init` alone.
pub(crate) fn without_modules(bed: &Bed) -> Result<Vec<u8>> {
    with_files(bed, Vec::new())
}

/// The default modules without one of them.
pub(crate) fn without(bed: &Bed, name: &str) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    modules.retain(|(file, _)| !file.ends_with(&format!("-{name}.ko")));
    with_files(bed, modules)
}

/// The default modules, and behind them 100 files that the kernel refuses. That keeps
/// `/init` busy for a while.
pub(crate) fn with_many_bad_modules(bed: &Bed) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    modules.extend((0..100).map(|number| (format!("9{number:02}-junk.ko"), vec![0x55; 1 << 20])));
    with_files(bed, modules)
}

/// The default modules, and a copy of one that is loaded first, too early.
pub(crate) fn moved_to_front(bed: &Bed, name: &str) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    let module = find(&mut modules, name)?.clone();
    modules.push((format!("000-{name}.ko"), module));
    with_files(bed, modules)
}

/// The default modules, each of them twice.
pub(crate) fn twice(bed: &Bed) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    let again: Modules =
        modules.iter().map(|(file, module)| (format!("9{file}"), module.clone())).collect();
    modules.extend(again);
    with_files(bed, modules)
}

/// The default modules, and a file before them.
pub(crate) fn with(bed: &Bed, name: &str, contents: Vec<u8>) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    modules.push((format!("000-{name}"), contents));
    with_files(bed, modules)
}

/// The default modules, one of them changed.
pub(crate) fn changed(bed: &Bed, name: &str, change: fn(&mut Vec<u8>)) -> Result<Vec<u8>> {
    let mut modules = default_modules(bed)?;
    change(find(&mut modules, name)?);
    with_files(bed, modules)
}

/// `count` more modules of the kernel, and the modules that they need.
pub(crate) fn with_more(bed: &Bed, count: usize) -> Result<Vec<u8>> {
    let order = std::fs::read_to_string(bed.kernel.modules.join("modules.order"))?;
    // Modules of file systems and network protocols load without a device.
    let names: Vec<_> = order
        .lines()
        .filter(|line| line.starts_with("kernel/fs/") || line.starts_with("kernel/net/"))
        .filter_map(machine::kernel::modules::name::name_of)
        .take(count)
        .collect();
    let mut wanted = vec!["virtio_pci", "virtiofs"];
    wanted.extend(names.iter().map(String::as_str));
    with_files(bed, modules(bed, &wanted)?)
}

fn find<'a>(modules: &'a mut Modules, name: &str) -> Result<&'a mut Vec<u8>> {
    let file = format!("-{name}.ko");
    let found = modules.iter_mut().find(|(candidate, _)| candidate.ends_with(&file));
    Ok(&mut found.with_context(|| format!("no {name}"))?.1)
}

/// Changes the kernel version in a module, and removes its signature, for the kernel would
/// refuse a damaged signature first.
pub(crate) fn change_version(module: &mut Vec<u8>) {
    // `struct module_signature` and its magic (kernel: include/linux/module_signature.h).
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    const KEY: &[u8] = b"vermagic=";
    if let Some(rest) = module.strip_suffix(MAGIC) {
        let length = rest.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize);
        module.truncate(rest.len() - 12 - length.unwrap_or_default());
    }
    // With CONFIG_MODVERSIONS the kernel compares only the words behind the version.
    let at = module.windows(KEY.len()).position(|part| part == KEY);
    let space = at.and_then(|at| Some(at + module[at..].iter().position(|byte| *byte == b' ')?));
    if let Some(space) = space {
        module[space + 1] = b'X';
    }
}
