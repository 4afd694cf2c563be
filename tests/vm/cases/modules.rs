//! Stripped modules, as the tools that read modules and the kernel see them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::root_dir::RootDir;
use machine::kernel::modules::dir::ModulesDir;
use machine::kernel::modules::strip::{SIGNED, strip};

use crate::Case;
use crate::harness::Bed;
use crate::trial::needs;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("tools_read_them",         tools_read_them),
    ("auto_strips",             |bed| LOADED.check(bed, &[], TAINTED)),
    ("auto_keeps_signatures",   |bed| LOADED.check(bed, &["--append", "module.sig_enforce=1"], "0")),
    ("never_strips",            |bed| LOADED.check(bed, &["--strip", "never"], "0")),
    ("always_is_as_said",       always_is_as_said),
    ("types_for_bpf_stay",      |bed| TYPED.check(bed, &[], TAINTED)),
];

/// `/proc/sys/kernel/tainted` once a module without signature was loaded
/// (kernel doc: admin-guide/tainted-kernels.rst).
const TAINTED: &str = "8192";

/// Modules whose signature or types matter each in their own way.
const SAMPLE: &[&str] = &["virtio_ring", "fuse", "virtiofs", "virtio_net", "nf_conntrack"];

/// Modules that a run asks for, beside the usual ones, and which it must have.
struct Row {
    options: &'static [&'static str],
    modules: &'static [&'static str],
}

const LOADED: Row = Row {
    options: &["--overlay"],
    modules: &["virtio_pci", "virtiofs", "virtio_console", "overlay"],
};

/// Without BTF the kernel says of it `missing module BTF, cannot register kfuncs`.
const TYPED: Row = Row { options: &["--module", "nf_conntrack"], modules: &["nf_conntrack"] };

/// What the kernel says when it does not like a module, and nothing else does.
const COMPLAINTS: &str = "BTF|Invalid|Unknown symbol|relocation|WARNING|BUG|Oops|kfunc";

impl Row {
    /// All are loaded, without complaint, and `tainted` is what it should be.
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
            _ => Err(finished.failure(&format!("not all loaded, a complaint, or not {tainted}"))),
        }
    }
}

/// A kernel that asks for signatures gets what it was told to get, and says so.
fn always_is_as_said(bed: &Bed) -> Result<()> {
    let options = ["--strip", "always", "--append", "module.sig_enforce=1"];
    let finished = bed.sh("echo up")?.options(&options).finish()?;
    finished.says(125, "", &["EKEYREJECTED"]).map(drop)
}

/// readelf(1) has nothing to say against them, and modinfo(8) says of them what it
/// said before, but for the signature.
fn tools_read_them(bed: &Bed) -> Result<()> {
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
            ensure!(run("readelf", &["-SWrs", "--notes"], &path)?.contains(".modinfo"), "{name}");
            let text = run("modinfo", &["-0"], &path)?;
            let strings = text.split('\0').map(str::to_owned);
            let is_same =
                |field: &String| !field.starts_with("sig") && !field.starts_with("filename");
            fields.push(strings.filter(is_same).collect::<BTreeSet<_>>());
        }
        ensure!(fields[0] == fields[1] && fields[0].len() > 3, "{name}: {fields:?}");
    }
    Ok(())
}

/// What `program` prints; it must not complain.
fn run(program: &str, arguments: &[&str], file: &PathBuf) -> Result<String> {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaint.is_empty(), "{program}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
