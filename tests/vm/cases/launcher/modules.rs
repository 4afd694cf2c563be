//! Stripped modules, as the kernel and the tools that read modules see them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::root_dir::RootDir;
use machine::kernel::modules::dir::ModulesDir;
use machine::kernel::modules::strip::{SIGNED, strip};

use crate::harness::trial::needs;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("tools_read_stripped_modules",  tools_read_stripped_modules),
    ("auto_removes_signatures",      |bed| USUAL.check(bed, &[], TAINTED)),
    ("auto_keeps_needed_signatures", |bed| USUAL.check(bed, &["--append", "module.sig_enforce=1"], "0")),
    ("never_keeps_signatures",       |bed| USUAL.check(bed, &["--strip", "never"], "0")),
    ("always_removes_needed_signatures", always_removes_needed_signatures),
    ("auto_keeps_bpf_types",         |bed| WITH_BPF_TYPES.check(bed, &[], TAINTED)),
];

/// Text of `/proc/sys/kernel/tainted` once a module without a signature is loaded:
/// TAINT_UNSIGNED_MODULE (kernel doc: admin-guide/tainted-kernels.rst).
const TAINTED: &str = "8192";

/// Modules that differ in their sections, such as those for BPF types.
const SAMPLE: &[&str] = &["virtio_ring", "fuse", "virtiofs", "virtio_net", "nf_conntrack"];

/// Options that ask for modules, and modules that must then be loaded.
struct LoadedModules {
    options: &'static [&'static str],
    modules: &'static [&'static str],
}

/// The modules of a usual run.
const USUAL: LoadedModules = LoadedModules {
    options: &["--overlay"],
    modules: &["virtio_pci", "virtiofs", "virtio_console", "overlay"],
};

/// A module with BPF types (BTF). Without them the kernel says `missing module BTF, cannot
/// register kfuncs`.
const WITH_BPF_TYPES: LoadedModules =
    LoadedModules { options: &["--module", "nf_conntrack"], modules: &["nf_conntrack"] };

/// Pattern of the kernel's messages about a bad module. No other message matches it.
const COMPLAINTS: &str = "BTF|Invalid|Unknown symbol|relocation|WARNING|BUG|Oops|kfunc";

impl LoadedModules {
    /// All modules are loaded, the kernel does not complain, and its taint is `tainted`.
    fn check(&self, bed: &Bed, options: &[&str], tainted: &str) -> Result<()> {
        let script = format!(
            "cut -d' ' -f1 /proc/modules; dmesg | grep -E '{COMPLAINTS}' >&2
             cat /proc/sys/kernel/tainted"
        );
        let finished = bed.sh(&script)?.options(self.options).options(options).finish()?;
        let text = String::from_utf8_lossy(finished.stdout()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        let missing = self.modules.iter().find(|module| !lines.contains(*module));
        match (missing, finished.stderr().is_empty(), lines.last()) {
            (None, true, Some(value)) if *value == tainted => Ok(()),
            _ => Err(finished.failure(&format!(
                "a module is missing, a complaint, or the taint is not {tainted}"
            ))),
        }
    }
}

/// `--strip always` removes signatures even if the kernel asks for them, and the boot fails.
fn always_removes_needed_signatures(bed: &Bed) -> Result<()> {
    let options = ["--strip", "always", "--append", "module.sig_enforce=1"];
    let finished = bed.sh("echo up")?.options(&options).finish()?;
    finished.says(125, "", &["EKEYREJECTED"]).map(drop)
}

/// readelf(1) accepts stripped modules, and modinfo(8) prints the same fields as before
/// except the signature.
fn tools_read_stripped_modules(bed: &Bed) -> Result<()> {
    needs(&["readelf", "modinfo"])?;
    let root = RootDir::open(Path::new("/"))?;
    let modules = ModulesDir::open(&root, &bed.kernel.modules)?;
    let dir = tempfile::tempdir()?;
    for name in SAMPLE {
        let before = modules.read(name)?;
        let after = strip(&before)?;
        ensure!(before.ends_with(SIGNED) && !after.ends_with(SIGNED), "{name}");
        let paths = [(dir.path().join("before.ko"), before), (dir.path().join("after.ko"), after)];
        let mut fields = Vec::new();
        for (path, bytes) in paths {
            std::fs::write(&path, bytes)?;
            ensure!(
                output_of("readelf", &["-SWrs", "--notes"], &path)?.contains(".modinfo"),
                "{name}"
            );
            let text = output_of("modinfo", &["-0"], &path)?;
            let strings = text.split('\0').map(str::to_owned);
            let is_same =
                |field: &String| !field.starts_with("sig") && !field.starts_with("filename");
            fields.push(strings.filter(is_same).collect::<BTreeSet<_>>());
        }
        ensure!(fields[0] == fields[1] && fields[0].len() > 3, "{name}: {fields:?}");
    }
    Ok(())
}

/// Runs a tool that must print no message, and returns its output.
fn output_of(program: &str, arguments: &[&str], file: &PathBuf) -> Result<String> {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaint.is_empty(), "{program}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
