//! What is tested in a fresh system: a table of shell scripts.
//!
//! Each step is run by `sh -euc` as root in the mount namespace of `system`, in this order. `ROOT`
//! is the fresh system with the dependencies of the package, `BARE` one without them, `PACKAGE` the
//! package,
//! `KERNEL_PACKAGE` that of the small kernel; /tmp of both is a tmpfs. `list_files` prints what `ROOT` has. A step passes if its script
//! does.

use std::path::Path;

use super::build::Kind;

/// A step of the test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// What it shows.
    pub(super) name: &'static str,
    deb: &'static str,
    rpm: &'static str,
}

impl Step {
    /// The script for a kind of package.
    pub(super) fn script(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Deb => self.deb,
            Kind::Rpm => self.rpm,
        }
    }

    const fn both(name: &'static str, script: &'static str) -> Self {
        Self { name, deb: script, rpm: script }
    }
}

/// Steps of the package with the programs.
const STEPS: &[Step] = &[
    Step {
        name: "without QEMU, it is refused",
        deb: "cp \"$PACKAGE\" \"$BARE/tmp/package.deb\"
              if words=$(chroot \"$BARE\" dpkg --install /tmp/package.deb 2>&1); then exit 1; fi
              echo \"$words\"
              echo \"$words\" | grep -q 'virtinitrd depends on qemu-system-x86'",
        rpm: "if words=$(rpm --root \"$BARE\" --install \"$PACKAGE\" 2>&1); then exit 1; fi
              echo \"$words\"
              echo \"$words\" | grep -q 'qemu-system-x86-core or qemu-kvm-core'
              echo \"$words\" | grep -q '^[[:space:]]*virtiofsd is needed'",
    },
    // The system is a Debian: it has what the rpm needs, but no rpm package that says so.
    Step {
        name: "it is installed",
        deb: "cp \"$PACKAGE\" \"$ROOT/tmp/package.deb\"
              chroot \"$ROOT\" dpkg --install /tmp/package.deb
              chroot \"$ROOT\" dpkg --audit virtinitrd
              chroot \"$ROOT\" dpkg --verify virtinitrd",
        rpm: "rpm --root \"$ROOT\" --install --nodeps \"$PACKAGE\"
              rpm --root \"$ROOT\" --verify --nodeps virtinitrd",
    },
    Step::both(
        "documents, SBOM and licences are there",
        "for file in sbom.cdx.json third-party-licences; do
             ls \"$ROOT/usr/share/doc/virtinitrd/$file\"* >/dev/null
         done",
    ),
    Step::both(
        "manual pages are found and shown",
        "for page in chrootvm chrootvm-image mkvirtinitrd recipe.toml virtinitrd; do
             chroot \"$ROOT\" man -w \"$page\"
             chroot \"$ROOT\" man -P cat \"$page\" | grep -q '^NAME'
         done",
    ),
    Step::both(
        "bash completes; zsh and fish have files",
        "for program in chrootvm mkvirtinitrd; do
             chroot \"$ROOT\" bash -euc '. /usr/share/bash-completion/completions/$0
                                         complete -p $0' \"$program\"
             grep -q \"^#compdef $program\" \"$ROOT/usr/share/zsh/site-functions/_$program\"
             grep -q \"complete -c $program\" \"$ROOT/usr/share/fish/vendor_completions.d/$program.fish\"
         done",
    ),
    Step::both("chrootvm --doctor is content", "chroot \"$ROOT\" chrootvm --doctor"),
    Step::both(
        "a machine with a busybox runs a command",
        "mkdir -p \"$ROOT/tmp/machine/bin\"
         cp \"$ROOT/bin/busybox\" \"$ROOT/tmp/machine/bin/busybox\"
         chroot \"$ROOT\" chrootvm --quiet /tmp/machine -- /bin/busybox echo 'ran in the machine' \
             | grep -x 'ran in the machine'",
    ),
    Step::both(
        "mkvirtinitrd packs the installed /init",
        "chroot \"$ROOT\" sh -euc \
             'mkvirtinitrd /usr/lib/osbuild/initrd/initrd /usr/lib/modules/* /tmp/initrd'
         test -s \"$ROOT/tmp/initrd\"",
    ),
];

/// Steps with the package of the small kernel.
const KERNEL_STEPS: &[Step] = &[
    Step {
        name: "the kernel's package is installed",
        deb: "cp \"$KERNEL_PACKAGE\" \"$ROOT/tmp/kernel.deb\"
              chroot \"$ROOT\" dpkg --install /tmp/kernel.deb
              chroot \"$ROOT\" dpkg --verify virtinitrd-kernel",
        rpm: "rpm --root \"$ROOT\" --install --nodeps \"$KERNEL_PACKAGE\"
              rpm --root \"$ROOT\" --verify --nodeps virtinitrd-kernel",
    },
    Step::both(
        "chrootvm --kernel-builtin boots it",
        "chroot \"$ROOT\" chrootvm kernel ls | grep '^\\* .*/usr/lib/virtinitrd/kernel/vmlinux$'
         chroot \"$ROOT\" chrootvm --kernel-builtin --quiet /tmp/machine -- /bin/busybox uname -r \
             | grep -e '-virtinitrd$'",
    ),
    Step {
        name: "removed, it is no longer found",
        deb: "chroot \"$ROOT\" dpkg --purge virtinitrd-kernel
              test ! -e \"$ROOT/usr/lib/virtinitrd/kernel\"",
        rpm: "rpm --root \"$ROOT\" --erase virtinitrd-kernel
              test ! -e \"$ROOT/usr/lib/virtinitrd/kernel\"",
    },
];

/// The last step.
const LAST: Step = Step {
    name: "removed, it leaves no file",
    deb: "chroot \"$ROOT\" dpkg --purge virtinitrd
          list_files >\"$SITE/after\"
          diff \"$SITE/before\" \"$SITE/after\"",
    rpm: "rpm --root \"$ROOT\" --erase virtinitrd
          list_files >\"$SITE/after\"
          diff \"$SITE/before\" \"$SITE/after\"",
};

/// All steps in their order, those with the package of the small kernel if there is one.
pub(super) fn steps(kernel: Option<&Path>) -> Vec<&'static Step> {
    let more = if kernel.is_some() { KERNEL_STEPS } else { &[] };
    STEPS.iter().chain(more).chain([&LAST]).collect()
}
