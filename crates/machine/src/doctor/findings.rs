//! Judgement of the facts, without I/O: what is wrong, and what repairs it.

use std::io::ErrorKind;
use std::path::Path;

use super::facts::{Daemon, Facts, Ids, Program, User};
use super::kernels;
use super::packages::Tool;
use super::report::{Finding, Status};
use crate::plan::virtiofsd::{Flavour, Guard};
use crate::process::qemu::too_old;

/// Number of subordinate ids for one user (login.defs(5), `SUB_UID_COUNT`).
const RANGE: u32 = 1 << 16;

/// All findings, in the order in which a run needs the things.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let install = |tool| facts.install_command(tool);
    let mut findings = vec![
        finding("QEMU", qemu(facts, &install(Tool::qemu_for(facts.architecture.arch)))),
        finding("virtiofsd", daemon(facts, &install(Tool::Virtiofsd))),
        finding("KVM", kvm(facts)),
    ];
    findings.extend(kernels::findings(facts));
    findings.push(finding("ids", ids(&facts.ids, &facts.user, &install(Tool::IdMap))));
    findings.push(finding("musl", musl(facts.musl.as_deref(), &install(Tool::Musl))));
    findings
}

/// A finding about `subject`.
fn finding(subject: &'static str, (status, text): (Status, String)) -> Finding {
    Finding { status, subject, text }
}

/// Judges QEMU; `install` is the command that installs it.
fn qemu(facts: &Facts, install: &str) -> (Status, String) {
    let qemu = match &facts.qemu {
        Program::Missing => return (Status::Missing, format!("not found in PATH: {install}")),
        Program::Broken(problem) => return (Status::Missing, problem.clone()),
        Program::Works(qemu) => qemu,
    };
    let name = named(&qemu.program, qemu.version.as_deref());
    if let Some(problem) =
        qemu.version.as_deref().and_then(|version| too_old(facts.architecture, version))
    {
        return (Status::Missing, format!("{name}: {problem}: {install}"));
    }
    let features = [
        (qemu.sandbox, "-sandbox", "without -sandbox (built without libseccomp)"),
        (qemu.user_network, "user network", "without user network (built without libslirp)"),
    ];
    let texts = features.map(|(has, with, without)| if has { with } else { without });
    match features.iter().all(|(has, ..)| *has) {
        true => (Status::Ok, format!("{name}, with {}", texts.join(", "))),
        false => {
            let mend = format!("the distribution's may have it: {install}");
            (Status::Note, format!("{name}, {}; {mend}", texts.join(", ")))
        }
    }
}

/// Judges virtiofsd; `install` is the command that installs it.
fn daemon(facts: &Facts, install: &str) -> (Status, String) {
    if let Some(why) = facts.architecture.no_shares() {
        let arch = facts.architecture.arch;
        let text = format!("not used: guests of {arch} have no directories of this host: {why}");
        return (Status::Note, text);
    }
    let daemon = match &facts.virtiofsd {
        Program::Missing => {
            let places = "not found in /usr/libexec, /usr/lib, /usr/lib/qemu or PATH";
            return (Status::Missing, format!("{places}: {install}"));
        }
        Program::Broken(problem) => return (Status::Missing, problem.clone()),
        Program::Works(daemon) => daemon,
    };
    let kind = match daemon.flavour {
        Flavour::C => "QEMU's C one",
        Flavour::Rust { .. } => "the Rust one",
    };
    let name = format!("{}, {kind}", named(&daemon.program, daemon.version.as_deref()));
    if daemon.flavour == Flavour::C && !facts.user.is_root {
        let instead = instead_of_c(facts, install);
        if facts.ids.forbidden.is_some() {
            return (Status::Missing, format!("{name}, needs a user namespace: {instead}"));
        }
        if !(facts.ids.without_range.is_empty() && facts.ids.without_program.is_empty()) {
            let text = format!("{name}, needs subordinate ids to drop your groups: {instead}");
            return (Status::Note, text);
        }
    }
    read_only(daemon, &name)
}

/// Advice for a user for whom QEMU's C virtiofsd does not work.
fn instead_of_c(facts: &Facts, install: &str) -> String {
    match facts.distribution.has_c_virtiofsd() {
        // On this distribution `install` installs QEMU's C virtiofsd. chrootvm looks for a
        // virtiofsd in PATH only after it, so the Rust one needs a link.
        true => {
            "run as root, or `cargo install virtiofsd` and link it to /usr/libexec/virtiofsd".into()
        }
        false => format!("run as root, or {install}"),
    }
}

/// Judges whether virtiofsd can export a directory read-only.
fn read_only(daemon: &Daemon, name: &str) -> (Status, String) {
    match daemon.guard {
        Guard::NotNeeded | Guard::Daemon => (Status::Ok, format!("{name}, exports read-only")),
        Guard::Mount => (Status::Ok, format!("{name}, exports read-only by a mount")),
        Guard::GuestOnly => (
            Status::Note,
            format!(
                "{name}, cannot keep a guest from writing to read-only shares: \
                 install virtiofsd 1.11 or newer, or run as root with CAP_SYS_ADMIN"
            ),
        ),
    }
}

/// Judges KVM.
fn kvm(Facts { kvm, user, architecture, .. }: &Facts) -> (Status, String) {
    let Some(problem) = &kvm.problem else { return (Status::Ok, "/dev/kvm can be used".into()) };
    if !architecture.is_of_host() {
        return (Status::Note, format!("machines run slowly: {problem}"));
    }
    let mend = match (kvm.processor.module, kvm.device) {
        // It is that of a paravirtual hypervisor such as PVM.
        (None, None) if kvm.processor.is_guest => {
            "use a host whose own virtual machines have nested virtualization".to_owned()
        }
        (None, _) if kvm.processor.is_guest => {
            "this is a virtual machine: turn on nested virtualization on its host".to_owned()
        }
        (None, _) => "turn on VT-x or AMD-V in the firmware".to_owned(),
        (Some(module), Some(ErrorKind::NotFound)) => {
            let load = user.as_root(&format!("modprobe {module}"));
            format!("{load} (in a container: let it have /dev/kvm)")
        }
        (Some(_), Some(ErrorKind::PermissionDenied)) if user.is_root => {
            "let this container have /dev/kvm".to_owned()
        }
        (Some(_), Some(ErrorKind::PermissionDenied)) => {
            let group = kvm.group.as_deref().unwrap_or("kvm");
            let join = user.as_root(&format!("usermod -aG {group} {}", user.name));
            format!("{join}, and log in again")
        }
        (Some(_), Some(ErrorKind::ResourceBusy)) => {
            "end the other hypervisor that uses the processor, such as VirtualBox".to_owned()
        }
        (Some(module), _) => format!("see `dmesg | grep kvm`; {module} drives it"),
    };
    (Status::Note, format!("machines run slowly: {problem}; {mend}"))
}

/// Judges the user's subordinate ids; `install` installs newuidmap(1).
fn ids(ids: &Ids, user: &User, install: &str) -> (Status, String) {
    if user.is_root {
        return (Status::Ok, "not needed by root".into());
    }
    if !ids.without_program.is_empty() {
        let names = ids.without_program.join(" and ");
        let text = format!("{names} not found, guests see one user: {install}");
        return (Status::Note, text);
    }
    if let Some(setting) = ids.forbidden {
        let mend = user.as_root(setting);
        let text = format!("users may not make user namespaces, to lock virtiofsd in: {mend}");
        return (Status::Note, text);
    }
    if ids.without_range.is_empty() {
        return (Status::Ok, format!("{} has subordinate ids, newuidmap and newgidmap", user.name));
    }
    let range = format!("{}-{}", ids.free, ids.free.saturating_add(RANGE - 1));
    let add = format!("usermod --add-subuids {range} --add-subgids {range} {}", user.name);
    let files = ids.without_range.join(" and ");
    let mend = user.as_root(&add);
    (Status::Note, format!("{files} have no range of {}, guests see one user: {mend}", user.name))
}

/// Judges musl; `install` is the command that installs it.
fn musl(musl: Option<&str>, install: &str) -> (Status, String) {
    match musl {
        Some(found) => (Status::Ok, format!("{found} (to build /init)")),
        None => (Status::Note, format!("not found; only needed to build /init: {install}")),
    }
}

/// Path and version of a program, for the report.
fn named(program: &Path, version: Option<&str>) -> String {
    format!("{}, version {}", program.display(), version.unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{daemon, healthy, processor, working_ids, working_qemu};
    use crate::doctor::facts::{Kvm, Processor, Qemu};
    use crate::doctor::packages::Distribution;

    fn me() -> User {
        User { is_root: false, name: "me".into() }
    }

    fn debian(release: u32) -> Distribution {
        Distribution::parse(&format!("ID=debian\nVERSION_ID=\"{release}\"\n"))
    }

    fn broken_kvm(device: ErrorKind, module: Option<&'static str>) -> Kvm {
        let problem = Some("no".to_owned());
        Kvm { problem, device: Some(device), group: None, processor: processor(module) }
    }

    /// Checks the finding about `subject`.
    fn check(name: &str, facts: &Facts, subject: &str, status: Status, text: &str) {
        let findings = findings(facts);
        let line = findings.iter().find(|finding| finding.subject == subject).unwrap();
        assert_eq!(line.status, status, "{name}: {}", line.text);
        assert!(line.text.contains(text), "{name}: {}", line.text);
    }

    #[test]
    fn qemu_is_required_and_its_features_are_optional() {
        let old = |version: &str| Qemu { version: Some(version.into()), ..working_qemu() };
        let unknown = Qemu { version: None, ..working_qemu() };
        let bare = Qemu { sandbox: false, user_network: false, ..working_qemu() };
        #[rustfmt::skip]
        let cases = [
            ("fine", Program::Works(working_qemu()), Status::Ok, "/usr/bin/q, version 7.2.22, with -sandbox, user network"),
            ("missing", Program::Missing, Status::Missing, "not found in PATH: dnf install qemu-system-x86-core"),
            ("broken", Program::Broken("exit status: 127".into()), Status::Missing, "127"),
            ("old", Program::Works(old("4.2.1")), Status::Missing, "5.2 or newer"),
            ("without hpet=off", Program::Works(old("5.1.0")), Status::Missing, "version 5.1.0: QEMU 5.2 or newer is needed"),
            ("oldest", Program::Works(old("5.2.0")), Status::Ok, "version 5.2.0"),
            ("unknown", Program::Works(unknown), Status::Ok, "version unknown"),
            ("bare", Program::Works(bare), Status::Note, "without -sandbox (built without libseccomp), without user"),
        ];
        for (name, qemu, status, text) in cases {
            check(name, &Facts { qemu, ..healthy() }, "QEMU", status, text);
        }
    }

    #[test]
    fn virtiofsd_must_suit_the_user() {
        let rust = Flavour::Rust { readonly: false };
        #[rustfmt::skip]
        let cases = [
            ("new", healthy().virtiofsd, debian(13), Status::Ok, "version 1.11.1, the Rust one, exports read-only"),
            ("missing", Program::Missing, debian(13), Status::Missing, "PATH: sudo apt-get install virtiofsd"),
            ("missing, 12", Program::Missing, debian(12), Status::Missing, "sudo apt-get install qemu-system-common"),
            ("unknown", Program::Broken("no known virtiofsd".into()), debian(13), Status::Missing, "no known"),
            ("C", daemon(Flavour::C, Guard::Mount), debian(12), Status::Ok, "exports read-only by a mount"),
            ("old", daemon(rust, Guard::GuestOnly), debian(13), Status::Note, "1.11 or newer"),
        ];
        for (name, virtiofsd, distribution, status, text) in cases {
            let facts = Facts { virtiofsd, distribution, user: me(), ..healthy() };
            check(name, &facts, "virtiofsd", status, text);
        }
        let without_ranges = Ids { without_range: vec!["/etc/subgid"], ..working_ids() };
        let forbidden = Ids { forbidden: Some("sysctl x=1"), ..working_ids() };
        #[rustfmt::skip]
        let cases = [
            ("ranges", &without_ranges, debian(13), Status::Note, "run as root, or sudo apt-get install virtiofsd"),
            ("forbidden", &forbidden, debian(12), Status::Missing, "cargo install virtiofsd"),
        ];
        for (name, ids, distribution, status, text) in cases {
            let (virtiofsd, ids) = (daemon(Flavour::C, Guard::Mount), ids.clone());
            let facts = Facts { virtiofsd, ids, distribution, user: me(), ..healthy() };
            check(name, &facts, "virtiofsd", status, text);
        }
        let virtiofsd = daemon(Flavour::C, Guard::Mount);
        check("root", &Facts { virtiofsd, ..healthy() }, "virtiofsd", Status::Ok, "by a mount");
    }

    #[test]
    fn kvm_is_optional_and_each_problem_has_its_advice() {
        let root = || User { is_root: true, name: "root".into() };
        let intel = Some("kvm_intel");
        #[rustfmt::skip]
        let cases = [
            ("fine", healthy().kvm, me(), Status::Ok, "can be used"),
            ("nested", broken_kvm(ErrorKind::NotFound, None), me(), Status::Note, "nested virtualization"),
            ("module", broken_kvm(ErrorKind::NotFound, intel), me(), Status::Note, "sudo modprobe kvm_intel"),
            ("group", broken_kvm(ErrorKind::PermissionDenied, intel), me(), Status::Note, "sudo usermod -aG kvm me"),
            ("container", broken_kvm(ErrorKind::PermissionDenied, intel), root(), Status::Note, "let this container"),
            ("busy", broken_kvm(ErrorKind::ResourceBusy, intel), root(), Status::Note, "VirtualBox"),
            ("odd", broken_kvm(ErrorKind::Other, intel), root(), Status::Note, "dmesg"),
            ("paravirtual", Kvm { device: None, ..broken_kvm(ErrorKind::Other, None) }, me(), Status::Note, "use a host whose"),
            ("other group", Kvm { group: Some("virt".into()), ..broken_kvm(ErrorKind::PermissionDenied, intel) }, me(), Status::Note, "usermod -aG virt me"),
        ];
        for (name, kvm, user, status, text) in cases {
            check(name, &Facts { user, kvm, ..healthy() }, "KVM", status, text);
        }
        let metal = Processor { module: None, is_guest: false };
        let kvm = Kvm { processor: metal, ..broken_kvm(ErrorKind::NotFound, None) };
        check("firmware", &Facts { kvm, ..healthy() }, "KVM", Status::Note, "firmware");
    }

    #[test]
    fn users_need_ids_and_root_does_not() {
        let without_programs = Ids { without_program: vec!["newuidmap"], ..working_ids() };
        let without_ranges = Ids { without_range: vec!["/etc/subuid"], ..working_ids() };
        let forbidden = Ids { forbidden: Some("sysctl x=1"), ..working_ids() };
        check(
            "root",
            &Facts { ids: without_programs.clone(), ..healthy() },
            "ids",
            Status::Ok,
            "not needed",
        );
        #[rustfmt::skip]
        let cases = [
            ("fine", working_ids(), Status::Ok, "me has subordinate ids"),
            ("programs", without_programs, Status::Note, "newuidmap not found, guests see one user: sudo dnf install shadow-utils"),
            ("ranges", without_ranges, Status::Note, "--add-subuids 165536-231071 --add-subgids 165536-231071 me"),
            ("forbidden", forbidden, Status::Note, "sudo sysctl x=1"),
        ];
        for (name, ids, status, text) in cases {
            check(name, &Facts { ids, user: me(), ..healthy() }, "ids", status, text);
        }
    }

    #[test]
    fn musl_is_only_for_building() {
        let facts = Facts { musl: None, ..healthy() };
        check("missing", &facts, "musl", Status::Note, "dnf install musl-gcc");
    }

    #[test]
    fn advice_in_words_gets_no_sudo() {
        let distribution = Distribution::parse("ID=suse\n");
        let facts = Facts { distribution, qemu: Program::Missing, user: me(), ..healthy() };
        check("suse", &facts, "QEMU", Status::Missing, "PATH: install the package qemu-kvm or");
    }
}
