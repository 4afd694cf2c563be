//! Which kernels can serve a guest, and what those that cannot lack.

use std::path::PathBuf;

use super::facts::Facts;
use super::findings::install;
use super::packages::Tool;
use super::{Finding, Status};

/// A directory whose kernels were looked at.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// ROOTFS, whose kernel chrootvm boots unless told otherwise.
    pub is_rootfs: bool,
    /// Why its kernels are not known.
    pub problem: Option<String>,
    /// Newest first.
    pub kernels: Vec<Installed>,
}

/// A kernel found. Paths are the host's.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Such as `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// Its image.
    pub image: Option<PathBuf>,
    /// Why the image cannot be read.
    pub unreadable: Option<String>,
    /// What the image is instead of a kernel for this machine.
    pub no_kernel: Option<String>,
    /// Its modules.
    pub modules_dir: PathBuf,
    /// How it has each of [`MODULES`], in that order, or why that is not known.
    pub modules: Result<Vec<Support>, String>,
}

/// How a kernel has a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// As a file, with all that it needs.
    Module,
    /// In its image.
    BuiltIn,
    /// Not at all, and why.
    Missing(String),
}

/// A module that guests use.
#[derive(Debug)]
pub struct Module {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    purpose: &'static str,
    need: Need,
}

#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// No guest boots without it.
    Must,
    /// Something does not work.
    May,
}

/// What guests use.
#[rustfmt::skip]
pub const MODULES: &[Module] = &[
    Module { name: "virtiofs",       purpose: "the root file system", need: Need::Must },
    Module { name: "virtio_pci",     purpose: "QEMU's devices",       need: Need::Must },
    Module { name: "virtio_console", purpose: "ports to the host",    need: Need::May },
    Module { name: "overlay",        purpose: "a writable root",      need: Need::May },
    Module { name: "virtio_net",     purpose: "the network",          need: Need::May },
];

/// Whether a kernel can be booted.
enum Verdict {
    Serves(String),
    ServesLess(String),
    Cannot(String),
}

/// One line a kernel, and one where a place has none that will do.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let note = |text| Finding { status: Status::Note, subject: SUBJECT, text };
    let problems = facts.kernels.iter().filter_map(|place| place.problem.clone()).map(note);
    let lines = facts.kernels.iter().flat_map(|place| &place.kernels).map(line);
    problems.chain(lines).chain(summary(facts)).collect()
}

/// What to do where chrootvm finds no kernel by itself.
fn summary(facts: &Facts) -> Option<Finding> {
    let serves = |kernel: &&Installed| !matches!(judge(kernel), Verdict::Cannot(_));
    let usable = facts.kernels.iter().flat_map(|place| &place.kernels).find(serves);
    let rootfs = facts.kernels.iter().find(|place| place.is_rootfs);
    // The newest that has an image is what chrootvm takes.
    let default = rootfs.and_then(|place| place.kernels.iter().find(|found| found.image.is_some()));
    let install = install(facts, Tool::Kernel);
    let (status, text) = match (rootfs, usable) {
        (Some(_), _) if default.as_ref().is_some_and(serves) => return None,
        (None, Some(_)) => return None,
        (Some(place), Some(Installed { image: Some(image), modules_dir, .. })) => {
            let (path, image, dir) = (place.path.display(), image.display(), modules_dir.display());
            let options = format!("chrootvm --kernel {image} --modules {dir}");
            (Status::Note, format!("{path} has none that boots by default: {options}"))
        }
        (Some(place), _) => {
            let path = place.path.display();
            let text =
                format!("neither {path} nor this host has one that can be booted: {install}");
            (Status::Missing, text)
        }
        (None, None) => {
            let text = "this host has none that can be booted; where ROOTFS has none either";
            (Status::Note, format!("{text}: {install}"))
        }
    };
    Some(Finding { status, subject: SUBJECT, text })
}

const SUBJECT: &str = "kernel";

fn line(kernel: &Installed) -> Finding {
    let (status, text) = match judge(kernel) {
        Verdict::Serves(text) => (Status::Ok, text),
        Verdict::ServesLess(text) => (Status::Note, text),
        Verdict::Cannot(why) => (Status::Note, format!("cannot be booted: {why}")),
    };
    let name = match &kernel.image {
        Some(image) => image.display().to_string(),
        None => kernel.version.clone(),
    };
    Finding { status, subject: SUBJECT, text: format!("{name}: {text}") }
}

fn judge(kernel: &Installed) -> Verdict {
    let Some(image) = &kernel.image else {
        return Verdict::Cannot(format!(
            "{} has its modules, but there is no image (boot/vmlinuz-{})",
            kernel.modules_dir.display(),
            kernel.version
        ));
    };
    if let Some(error) = &kernel.unreadable {
        return Verdict::Cannot(format!("{error}; run as root, or chmod a+r {}", image.display()));
    }
    if let Some(what) = &kernel.no_kernel {
        return Verdict::Cannot(what.clone());
    }
    let supports = match &kernel.modules {
        Ok(supports) => supports,
        Err(error) => return Verdict::Cannot(error.clone()),
    };
    let rows: Vec<_> = MODULES.iter().zip(supports).collect();
    if let Some((module, reason)) = rows.iter().find_map(|(module, support)| match support {
        Support::Missing(reason) if module.need == Need::Must => Some((module, reason)),
        _ => None,
    }) {
        return Verdict::Cannot(format!("no {} for {}: {reason}", module.name, module.purpose));
    }
    let names = |wanted: &Support| {
        let chosen = rows.iter().filter(|(_, support)| *support == wanted);
        chosen.map(|(module, _)| module.name).collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    for (label, names) in
        [("modules", names(&Support::Module)), ("built in", names(&Support::BuiltIn))]
    {
        if !names.is_empty() {
            parts.push(format!("{label} {names}"));
        }
    }
    let lacks = rows.iter().filter(|(_, support)| matches!(support, Support::Missing(_)));
    let lacks: Vec<_> =
        lacks.map(|(module, _)| format!("{} ({})", module.name, module.purpose)).collect();
    let has = parts.join("; ");
    match lacks.is_empty() {
        true => Verdict::Serves(has),
        false => Verdict::ServesLess(format!("lacks {}; {has}", lacks.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::findings::tests::healthy;

    /// A kernel that lacks what is named.
    fn kernel(lacks: &[&str]) -> Installed {
        let support = |module: &Module| match lacks.contains(&module.name) {
            true => Support::Missing("unknown module".into()),
            false if module.name == "overlay" => Support::BuiltIn,
            false => Support::Module,
        };
        Installed {
            version: "6.1".into(),
            image: Some("/boot/vmlinuz-6.1".into()),
            unreadable: None,
            no_kernel: None,
            modules_dir: "/lib/modules/6.1".into(),
            modules: Ok(MODULES.iter().map(support).collect()),
        }
    }

    #[test]
    fn each_kernel_says_what_it_lacks() {
        let unreadable = Installed { unreadable: Some("EACCES".into()), ..kernel(&[]) };
        let empty = Installed { no_kernel: Some("it is empty".into()), ..kernel(&[]) };
        let without_image = Installed { image: None, ..kernel(&[]) };
        let unknown = Installed { modules: Err("no such directory".into()), ..kernel(&[]) };
        #[rustfmt::skip]
        let cases = [
            ("all", kernel(&[]), Status::Ok, "modules virtiofs, virtio_pci, virtio_console, virtio_net; built in overlay"),
            ("console", kernel(&["virtio_console"]), Status::Note, "lacks virtio_console (ports to the host); modules virtiofs"),
            ("virtiofs", kernel(&["virtiofs"]), Status::Note, "cannot be booted: no virtiofs for the root file system: unknown"),
            ("unreadable", unreadable, Status::Note, "cannot be booted: EACCES; run as root, or chmod a+r /boot/vmlinuz-6.1"),
            ("no kernel", empty, Status::Note, "/boot/vmlinuz-6.1: cannot be booted: it is empty"),
            ("image", without_image, Status::Note, "no image (boot/vmlinuz-6.1)"),
            ("modules", unknown, Status::Note, "cannot be booted: no such directory"),
        ];
        for (name, kernel, status, text) in cases {
            let line = line(&kernel);
            assert_eq!(line.status, status, "{name}");
            assert!(line.text.contains(text), "{name}: {}", line.text);
        }
    }

    #[test]
    fn a_rootfs_without_a_kernel_is_helped() {
        let place = |is_rootfs, kernels: Vec<Installed>| Place {
            path: if is_rootfs { "/srv/root".into() } else { "/".into() },
            is_rootfs,
            problem: None,
            kernels,
        };
        let (good, bad) = (kernel(&[]), kernel(&["virtio_pci"]));
        let older = Installed { image: Some("/old".into()), ..good.clone() };
        #[rustfmt::skip]
        let cases = [
            ("host's", vec![place(false, vec![good.clone()])], None),
            ("none", vec![place(false, vec![])], Some((Status::Note, "install kernel"))),
            ("its own", vec![place(false, vec![]), place(true, vec![good.clone()])], None),
            ("the host's for it", vec![place(false, vec![good.clone()]), place(true, vec![])],
             Some((Status::Note, "chrootvm --kernel /boot/vmlinuz-6.1 --modules /lib/modules/6.1"))),
            ("an older one", vec![place(true, vec![bad.clone(), older])], Some((Status::Note, "--kernel /old"))),
            ("nowhere", vec![place(false, vec![]), place(true, vec![bad])],
             Some((Status::Missing, "neither /srv/root nor this host"))),
        ];
        for (name, kernels, expected) in cases {
            let found = summary(&Facts { kernels, ..healthy() });
            assert_eq!(found.as_ref().map(|found| found.status), expected.map(|it| it.0), "{name}");
            if let (Some(found), Some((_, text))) = (found, expected) {
                assert!(found.text.contains(text), "{name}: {}", found.text);
            }
        }
    }
}
