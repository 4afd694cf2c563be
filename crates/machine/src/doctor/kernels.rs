//! Judgement of kernels: which of them can boot a guest, and what the others lack.

use super::facts::{Facts, KernelFacts};
use super::guest_modules::Support;
use super::packages::Tool;
use super::report::{Finding, Status};
use crate::kernel::modules::resolve::Need;

/// Subject of all findings about kernels.
const SUBJECT: &str = "kernel";

/// Ways to boot without a kernel of ROOTFS and of the host.
const REMEDIES: &str = "; or give --kernel FILE, or --kernel-builtin after `chrootvm kernel build`";

/// Judgement of one kernel, with the text for the report.
enum Bootability {
    /// It boots, and has all modules that guests use.
    Full(String),
    /// It boots, but lacks some modules.
    Partial(String),
    /// It cannot be booted.
    Unbootable(String),
}

/// Findings: one for each kernel, the given one first, and one if a root has no kernel that boots.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let note = |text| Finding { status: Status::Note, subject: SUBJECT, text };
    let problems = facts.kernels.iter().filter_map(|place| place.problem.clone()).map(note);
    let lines = facts.kernels.iter().flat_map(|place| &place.kernels).map(line);
    let given = facts.given.as_ref().map(given);
    // A run with the given kernel needs no other one.
    let summary = if given.is_some() { None } else { summary(facts) };
    given.into_iter().chain(problems).chain(lines).chain(summary).collect()
}

/// The finding about the kernel that the user gave: no machine runs if it cannot be booted.
fn given(kernel: &KernelFacts) -> Finding {
    match judge(kernel) {
        Bootability::Unbootable(_) => Finding { status: Status::Missing, ..line(kernel) },
        Bootability::Full(_) | Bootability::Partial(_) => line(kernel),
    }
}

/// Advice if chrootvm finds no kernel by itself; `None` if it finds one.
fn summary(facts: &Facts) -> Option<Finding> {
    let serves = |kernel: &&KernelFacts| !matches!(judge(kernel), Bootability::Unbootable(_));
    let usable = facts.kernels.iter().flat_map(|place| &place.kernels).find(serves);
    let rootfs = facts.kernels.iter().find(|place| place.is_rootfs);
    // chrootvm boots the newest kernel that has an image.
    let default = rootfs.and_then(|place| place.kernels.iter().find(|found| found.image.is_some()));
    if let (Some(place), None, Ok(image)) = (rootfs, &default, &facts.host_kernel) {
        let (path, image) = (place.path.display(), image.display());
        let text = format!("{path} has none, so this host's boots: {image}");
        return Some(Finding { status: Status::Ok, subject: SUBJECT, text });
    }
    let install = match facts.architecture.is_of_host() {
        true => facts.install_command(Tool::Kernel),
        false => format!("unpack a package with a kernel for {}", facts.architecture.arch),
    };
    let (status, text) = match (rootfs, usable) {
        (Some(_), _) if default.as_ref().is_some_and(serves) => return None,
        (None, Some(_)) => return None,
        (Some(place), Some(KernelFacts { image: Some(image), modules_dir, .. })) => {
            let (path, image, dir) = (place.path.display(), image.display(), modules_dir.display());
            let options = format!("chrootvm --kernel {image} --modules {dir}");
            (Status::Note, format!("{path} has none that boots by default: {options}"))
        }
        (Some(place), _) => {
            let path = place.path.display();
            let text =
                format!("neither {path} nor this host has one that can be booted: {install}");
            (Status::Missing, text + REMEDIES)
        }
        (None, None) => {
            let text = "this host has none that can be booted; where ROOTFS has none either";
            (Status::Note, format!("{text}: {install}{REMEDIES}"))
        }
    };
    Some(Finding { status, subject: SUBJECT, text })
}

/// The finding about one kernel.
fn line(kernel: &KernelFacts) -> Finding {
    let (status, text) = match judge(kernel) {
        Bootability::Full(text) => (Status::Ok, text),
        Bootability::Partial(text) => (Status::Note, text),
        Bootability::Unbootable(why) => (Status::Note, format!("cannot be booted: {why}")),
    };
    let name = match &kernel.image {
        Some(image) => image.display().to_string(),
        None => kernel.version.clone(),
    };
    Finding { status, subject: SUBJECT, text: format!("{name}: {text}") }
}

fn judge(kernel: &KernelFacts) -> Bootability {
    let Some(image) = &kernel.image else {
        return Bootability::Unbootable(format!(
            "{} has its modules, but there is no image (boot/vmlinuz-{})",
            kernel.modules_dir.display(),
            kernel.version
        ));
    };
    if let Some(error) = &kernel.unreadable {
        return Bootability::Unbootable(format!(
            "{error}; run as root, or chmod a+r {}",
            image.display()
        ));
    }
    if let Some(what) = &kernel.no_kernel {
        return Bootability::Unbootable(what.clone());
    }
    let rows = match &kernel.modules {
        Ok(rows) => rows,
        Err(error) => return Bootability::Unbootable(error.clone()),
    };
    if let Some((module, reason)) = rows.iter().find_map(|(module, support)| match support {
        Support::Missing(reason) if module.need == Need::Must => Some((module, reason)),
        _ => None,
    }) {
        return Bootability::Unbootable(format!(
            "no {} for {}: {reason}",
            module.name, module.purpose
        ));
    }
    let names = |wanted: &Support| {
        let chosen = rows.iter().filter(|(_, support)| support == wanted);
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
    if let Some(problem) = &kernel.mismatch {
        return Bootability::Partial(format!("it may refuse its modules: {problem}"));
    }
    match lacks.is_empty() {
        true => Bootability::Full(has),
        false => Bootability::Partial(format!("lacks {}; {has}", lacks.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::RootKernels;
    use crate::doctor::facts::tests::healthy;
    use crate::doctor::guest_modules::{self, GuestModule};
    use crate::plan::architecture;

    /// A kernel that lacks these modules.
    fn kernel(lacks: &[&str]) -> KernelFacts {
        let support = |module: &'static GuestModule| {
            let support = match lacks.contains(&module.name) {
                true => Support::Missing("unknown module".into()),
                false if module.name == "overlay" => Support::BuiltIn,
                false => Support::Module,
            };
            (module, support)
        };
        KernelFacts {
            version: "6.1".into(),
            image: Some("/boot/vmlinuz-6.1".into()),
            unreadable: None,
            no_kernel: None,
            modules_dir: "/lib/modules/6.1".into(),
            mismatch: None,
            modules: Ok(guest_modules::of(architecture::named("x86_64").unwrap())
                .map(support)
                .collect()),
        }
    }

    #[test]
    fn a_finding_names_what_the_kernel_lacks() {
        let unreadable = KernelFacts { unreadable: Some("EACCES".into()), ..kernel(&[]) };
        let empty = KernelFacts { no_kernel: Some("it is empty".into()), ..kernel(&[]) };
        let without_image = KernelFacts { image: None, ..kernel(&[]) };
        let unknown = KernelFacts { modules: Err("no such directory".into()), ..kernel(&[]) };
        let other = KernelFacts { mismatch: Some("6.1, but 6.2".into()), ..kernel(&[]) };
        #[rustfmt::skip]
        let cases = [
            ("modules of another version", other, Status::Note, "it may refuse its modules: 6.1, but 6.2"),
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
    fn the_given_kernel_comes_first_and_has_to_boot() {
        let host = RootKernels {
            path: "/".into(),
            is_rootfs: true,
            problem: None,
            kernels: vec![kernel(&["virtiofs"])],
        };
        for (name, lacks, status) in [
            ("whole", &[][..], Status::Ok),
            ("without network", &["virtio_net"], Status::Note),
            ("without virtiofs", &["virtiofs"], Status::Missing),
        ] {
            let given = KernelFacts { image: Some("/given".into()), ..kernel(lacks) };
            let facts = Facts { given: Some(given), kernels: vec![host.clone()], ..healthy() };
            let found = findings(&facts);
            assert_eq!((found.len(), found[0].status), (2, status), "{name}: {found:?}");
            assert!(found[0].text.starts_with("/given: "), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_rootfs_without_a_kernel_gets_advice() {
        let place = |is_rootfs, kernels: Vec<KernelFacts>| RootKernels {
            path: if is_rootfs { "/srv/root".into() } else { "/".into() },
            is_rootfs,
            problem: None,
            kernels,
        };
        let (good, bad) = (kernel(&[]), kernel(&["virtio_pci"]));
        let older = KernelFacts { image: Some("/old".into()), ..good.clone() };
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
        let host_kernel = Ok("/boot/vmlinuz-6.1".into());
        let facts = Facts { kernels: vec![place(true, vec![])], host_kernel, ..healthy() };
        let found = summary(&facts).unwrap();
        let text = "/srv/root has none, so this host's boots: /boot/vmlinuz-6.1";
        assert_eq!((found.status, &*found.text), (Status::Ok, text));
    }
}
