//! The plan of a run: a pure function of arguments and findings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use machine::kernel::initrd::{Initrd, InitrdParts};
use machine::kernel::pack::ModuleSelection;
use machine::plan::architecture::Clock;
use machine::plan::guest::clock;
use machine::plan::guest::cmdline::{self, CommandLine};
use machine::plan::guest::name_server::NameServerDecision;
use machine::plan::machine_plan::{Accelerator, MachinePlan, MachineStart, RunMode};
use machine::plan::memory::MemoryUse;
use machine::plan::shares::MountPoint;
use machine::plan::virtiofsd::Virtiofsd;
use machine::root::kinds::Root;
use proto::settings::{Record, Size};

use super::additions::Additions;
use super::arguments::RunArguments;
use super::findings::{Findings, Host, InitrdFile};
use super::warm::{self, Warmth};
use crate::command::Variables;
use crate::line::sizes::OverlaySize;

/// Makes the plan and chooses the initrd for the guest with this `root`; the last value is a
/// warning. `variables` are those of the host's environment.
pub(super) fn plan(
    arguments: &RunArguments,
    root: &Root,
    findings: &Findings,
    variables: Variables<'_>,
) -> Result<(MachinePlan, Initrd, Option<String>)> {
    let (options, host) = (&arguments.machine, &findings.host);
    let architecture = host.architecture.constants;
    let additions = additions(arguments, root, findings, variables)?;
    let words = command_line(arguments, findings, &additions);
    let whole = words.build()?;
    let modules = findings.kernel.modules_path();
    let warmth = warm::decide(arguments, root, modules.as_deref(), architecture)?;
    let (command_line, start) = match warmth {
        Warmth::Cold => (whole.clone(), MachineStart::Boot),
        Warmth::Warm => {
            let (line, words) = words.build_for_orders()?;
            (line, MachineStart::Orders { words })
        }
    };
    let virtiofsd = virtiofsd(arguments, findings, &whole)?;
    let selection = ModuleSelection {
        modules: additions.modules,
        strip: options.strip.decide(findings.kernel.config.as_deref(), command_line.as_bytes()),
        transports: vec![architecture.transport],
        no_virtiofs: findings.attachments.shares.is_empty(),
    };
    let initrd = match &findings.initrd {
        InitrdFile::Given(file) => Initrd::File(file.clone()),
        InitrdFile::Init(init) => Initrd::Packed(InitrdParts {
            init: init.clone(),
            modules: findings.kernel.modules.clone(),
            selection,
            archive: root.archive().map(Into::into),
        }),
    };
    let overlay = arguments.directories.overlay().map_or(0, OverlaySize::bytes);
    let used = MemoryUse { overlay, root: findings.root_memory };
    let memory = options.memory(used, &host.meminfo, architecture.memory_step)?;
    let plan = MachinePlan {
        architecture,
        firmware: host.firmware.clone().filter(|_| options.machine.is_none()),
        machine_type: options.machine.clone(),
        qemu: host.qemu.clone(),
        cpu: options.cpu.clone(),
        accelerator: host.accelerator,
        memory: memory.size,
        cpus: options.cpus(host.processors, architecture.cpus_max),
        virtiofsd,
        command_line,
        mode: mode(arguments, host),
        records: additions.records,
        start,
        network: options.network()?,
        disks: findings.attachments.disks.clone(),
        shares: findings.attachments.shares.clone(),
        qemu_arguments: additions.qemu_arguments,
    };
    Ok((plan, initrd, memory.warning))
}

/// Sums up what all groups of options add. The user's own modules and arguments of QEMU
/// come last.
fn additions(
    arguments: &RunArguments,
    root: &Root,
    findings: &Findings,
    variables: Variables<'_>,
) -> Result<Additions> {
    let options = &arguments.machine;
    let of_command = of_command(arguments, findings.host.terminal, variables)?;
    let of_machine = options.additions(arguments.default_hostname())?;
    let of_user = Additions {
        modules: options.extra_modules.clone(),
        qemu_arguments: options.qemu_arguments.clone(),
        ..Additions::default()
    };
    Ok(of_command
        .and(of_machine)
        .and(findings.attachments.additions())
        .and(of_root(arguments, root, findings)?)
        .and(of_user))
}

fn of_command(
    arguments: &RunArguments,
    terminal: Option<Size>,
    variables: Variables<'_>,
) -> Result<Additions> {
    let RunArguments { command, command_options, supervised, workload, .. } = arguments;
    if !arguments.is_hosted() {
        let size = terminal.map(|size| Record::Terminal(size).to_bytes());
        return Ok(Additions { records: Vec::from_iter(size), ..Additions::default() });
    }
    let mut records = command_options.records(command, terminal, variables)?;
    records.extend(supervised.iter().flat_map(|known| workload.records(known.schedule)));
    Ok(Additions {
        records,
        // It comes first, because `/init` reports through it.
        modules: vec!["virtio_console".into()],
        ..Additions::default()
    })
}

/// Adds what mounting the root takes, and the overlay over its /etc.
fn of_root(arguments: &RunArguments, root: &Root, findings: &Findings) -> Result<Additions> {
    let overlay = arguments.directories.overlay().map(|size| size.to_string());
    let overlay = overlay.as_deref();
    let append = arguments.machine.appended();
    let mut words =
        root.parameters(arguments.directories.root_access(), overlay, append.as_bytes())?;
    let mut modules = Vec::new();
    if findings.name_server == NameServerDecision::Overlay {
        words.push("virtinit.etc=overlay".into());
        modules.push("overlay".to_owned());
    }
    let needed = findings.needed_modules.iter().copied();
    modules.extend(root.modules(overlay).into_iter().chain(needed).map(str::to_owned));
    Ok(Additions { words, modules, ..Additions::default() })
}

fn command_line<'a>(
    arguments: &'a RunArguments,
    findings: &'a Findings,
    additions: &'a Additions,
) -> CommandLine<'a> {
    let Findings { host, kernel, .. } = findings;
    let options = &arguments.machine;
    let architecture = host.architecture.constants;
    let clock = match (host.accelerator, architecture.clock) {
        (Accelerator::Tcg, Clock::Measured) => {
            clock::parameters(&host.cpuinfo, kernel.config.as_deref(), &options.qemu_arguments)
        }
        (Accelerator::Kvm, _) | (_, Clock::Known) => None,
    };
    CommandLine {
        architecture,
        clock,
        init: findings.payload.as_deref(),
        root: &additions.words,
        shares: &findings.attachments.shares,
        debug: arguments.diagnostics.details.debug,
        append: &options.append,
    }
}

/// Sets up the daemon for the shares, if there are any; `command_line` is the guest's.
fn virtiofsd(
    arguments: &RunArguments,
    findings: &Findings,
    command_line: &OsStr,
) -> Result<Option<Virtiofsd>> {
    let Some(found) = findings.virtiofsd.clone() else { return Ok(None) };
    let is_lower = cmdline::has_layers(command_line.as_bytes());
    let daemon = found.with_cache(arguments.directories.cache)?.with_root_as_lower(is_lower);
    let root =
        findings.attachments.shares.iter().find(|share| share.mount_point == MountPoint::Root);
    if let (Some(root), Some(owner)) = (root, findings.root_owner) {
        daemon.check_root(root, owner)?;
    }
    Ok(Some(daemon))
}

fn mode(arguments: &RunArguments, host: &Host) -> RunMode {
    match arguments.is_hosted() {
        true => RunMode::Command { terminal: host.terminal.is_some() },
        false => RunMode::Console { monitor: host.terminal.is_some() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::SingleWord;
    use super::super::arguments::tests::arguments;
    use super::super::findings::{ChosenArchitecture, GuestKernel};
    use super::*;
    use machine::kernel::bootable::KernelImage;
    use machine::kernel::located::Located;

    /// The plan for `words` on a host without KVM, whose ROOTFS is an empty directory.
    fn planned(words: &[&str]) -> Result<(MachinePlan, Initrd, Option<String>)> {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().to_str().unwrap();
        let words: Vec<_> =
            words.iter().map(|&word| if word == "ROOTFS" { rootfs } else { word }).collect();
        let arguments = arguments(&words, SingleWord::Init)?;
        let root = Root::open(dir.path()).unwrap();
        let host = Host {
            architecture: ChosenArchitecture::choose(&arguments, Some(&root), None).unwrap(),
            qemu: "/usr/bin/qemu".into(),
            firmware: Some("/usr/share/firmware".into()),
            accelerator: Accelerator::Tcg,
            cpuinfo: String::new(),
            meminfo: "MemAvailable: 8388608 kB\n".into(),
            processors: 3,
            terminal: None,
        };
        let image = Located { root: root.files().unwrap(), path: "/vmlinuz".into() };
        let image = KernelImage::new(image);
        let findings = Findings {
            host,
            kernel: GuestKernel { image, modules: None, config: None },
            initrd: InitrdFile::Init("/init".into()),
            name_server: NameServerDecision::Overlay,
            needed_modules: Vec::new(),
            payload: arguments.payload.clone(),
            attachments: arguments.directories.attachments(&root)?,
            virtiofsd: None,
            root_owner: None,
            root_memory: 0,
        };
        plan(&arguments, &root, &findings, &|_| None)
    }

    fn modules(initrd: Initrd) -> Vec<String> {
        match initrd {
            Initrd::Packed(contents) => contents.selection.modules,
            Initrd::File(_) => Vec::new(),
        }
    }

    #[test]
    fn options_become_a_plan() {
        let words = [
            "-m",
            "2G",
            "-c",
            "2",
            "--net",
            "user",
            "--cpu",
            "x",
            "--qemu-arg=-x",
            "--module",
            "y",
            "--append",
            "a=b",
            "--debug",
            "--volume",
            "/:/host:ro",
            "ROOTFS",
            "--",
            "ls",
            "-l",
        ];
        let (plan, initrd, warning) = planned(&words).unwrap();
        assert_eq!(warning, None);
        assert_eq!((plan.memory, plan.cpus, plan.cpu.as_deref()), (2048, 2, Some("x")));
        assert_eq!(plan.mode, RunMode::Command { terminal: false });
        assert_eq!(plan.qemu_arguments, ["-x"]);
        let tags: Vec<_> = plan.shares.iter().map(|share| share.tag.as_str()).collect();
        assert_eq!(tags, ["rootfs", "volume0"]);
        let line = plan.command_line.to_str().unwrap();
        for part in [" virtinit.etc=overlay ", " virtinit.debug ", " a=b "] {
            assert!(format!("{line} ").contains(part), "{part} in {line}");
        }
        let records: Vec<_> =
            plan.records.iter().map(|record| String::from_utf8_lossy(record)).collect();
        let expected =
            ["arg=ls", "arg=-l", "hostname=localhost", "network=user", "volume=ro volume0 /host"];
        assert_eq!(records, expected);
        assert_eq!(modules(initrd), ["virtio_console", "virtio_net", "overlay", "y"]);
    }

    /// Other runs start from the same machine, so its line and its initrd have nothing of this one.
    #[test]
    fn a_machine_that_waits_for_orders_has_nothing_of_a_run() {
        let command = ["--", "true"];
        let warm = |words: &[&str]| {
            let words = [&["--warm=always"], words, &["ROOTFS"], &command[..]].concat();
            planned(&words).unwrap().0
        };
        let usual = warm(&[]);
        let line = usual.command_line.to_str().unwrap().to_owned();
        assert!(line.split(' ').any(|word| word == "virtinit.orders"), "{line}");
        for (words, expected) in [
            (&[][..], "virtinit.etc=overlay"),
            (&["--rw"], "rw virtinit.etc=overlay"),
            (&["--overlay=1g"], "virtinit.overlay=1073741824 virtinit.etc=overlay"),
            (&["--mount", "t", "/", "--mount-ro", "u v", "/"], "mount-ro=\"u v\""),
        ] {
            let plan = warm(words);
            assert_eq!(plan.command_line, *line, "{words:?}");
            let MachineStart::Orders { words: found } = &plan.start else { panic!("{words:?}") };
            let found = found.to_str().unwrap();
            assert!(found.contains(expected), "{words:?}: {found}");
            let cold = [&["--warm=never"], words, &["ROOTFS"], &command[..]].concat();
            let (cold, ..) = planned(&cold).unwrap();
            assert_eq!((&cold.start, &cold.records), (&MachineStart::Boot, &plan.records));
            assert!(cold.command_line.to_str().unwrap().contains(found), "{words:?}: {found}");
        }
        let plan = warm(&["--append", "ro x=y"]);
        assert_eq!(plan.command_line.to_str().unwrap(), format!("{line} ro x=y"));
    }

    #[test]
    fn a_console_has_defaults_of_the_host() {
        let (plan, initrd, _) = planned(&["ROOTFS", "/sbin/init"]).unwrap();
        assert_eq!((plan.cpus, plan.memory), (3, 1024));
        assert_eq!(plan.mode, RunMode::Console { monitor: false });
        assert!(plan.firmware.is_some() && plan.records.is_empty());
        assert!(plan.command_line.to_str().unwrap().contains("init=/sbin/init"));
        assert_eq!(modules(initrd), ["overlay"]);
        // Firmware of the usual machine type is not for another one.
        let (plan, ..) = planned(&["--machine", "q35", "ROOTFS"]).unwrap();
        assert_eq!((plan.machine_type.as_deref(), plan.firmware), (Some("q35"), None));
    }

    #[test]
    fn memory_follows_the_overlay() {
        for (words, size, warning) in [
            (&["--overlay"][..], 1024, None),
            (&["--overlay=2G"], 2560, None),
            (&["--overlay=2G", "-m", "3G"], 3072, None),
            (&["--overlay=2G", "-m", "1G"], 1024, Some("the overlay (2G) may take more")),
            (&["--overlay=7G"], 6144, Some("the overlay (7G) may take more")),
        ] {
            let (plan, _, found) = planned(&[words, &["ROOTFS"]].concat()).unwrap();
            assert_eq!(plan.memory, size, "{words:?}");
            assert_eq!(found.is_some(), warning.is_some(), "{words:?}: {found:?}");
            let is_it = found.unwrap_or_default().starts_with(warning.unwrap_or_default());
            assert!(is_it, "{words:?}");
        }
    }
}
