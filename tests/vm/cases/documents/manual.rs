//! The EXAMPLES of the manual pages, and what a terminal shows when they run.

use std::fs;

use anyhow::{Context, Result, ensure};
use virtinitrd_vm_tests::console::{Step, manual_examples};

use crate::documents::prepared;
use crate::harness::Bed;

/// Path of the installed `/init` in the examples.
const INSTALLED_INIT: &str = "/usr/lib/osbuild/initrd/initrd";

/// The examples of each page in their order, and what the terminal shows. They use the
/// directories that README makes.
#[rustfmt::skip]
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    ("man/chrootvm-image.1", &[
        ("chrootvm image build ./debian -o debian.erofs", "debian.erofs: erofs, 8609 files, …"),
        ("chrootvm image diff ./debian debian.erofs", ""),
        ("chrootvm image build debian.erofs -o debian.tar.zst", "debian.tar.zst: tar, zstd, 8609 files, …"),
        ("chrootvm image build debian.tar.zst -o debian.ext4 --slack 50", "debian.ext4: ext4, 8609 files, …"),
        ("chrootvm image cat debian.tar.zst etc/debian_version", "12.…"),
    ]),
    ("man/chrootvm.1", &[
        ("chrootvm ./debian uname -sr", "Linux 6.1.0-50-cloud-amd64"),
        ("chrootvm image build ./debian -o debian.erofs", "debian.erofs: erofs, 8609 files, …"),
        ("chrootvm --overlay debian.erofs -- sh", "# touch /srv/x\n# ls /srv\nx\n# exit"),
        ("chrootvm --overlay -v ./project:/src/project:ro ./debian -- ls /src/project", "test.sh"),
        ("chrootvm -v ./project:/mnt -w /mnt ./debian -- sh test.sh", "tested on 6.1.0-50-cloud-amd64"),
        ("chrootvm -d --name box ./debian -- sleep 1h", "box"),
        ("chrootvm exec box hostname", "box"),
        ("chrootvm stop box", ""),
        ("chrootvm ./debian bash", "…\nroot@(none):/# busybox poweroff -f\n[    3.2] reboot: Power down"),
    ]),
    ("man/mkvirtinitrd.1", &[
        ("mkvirtinitrd --module loop /usr/lib/osbuild/initrd/initrd ./debian/usr/lib/modules/* initrd.img", ""),
    ]),
];

/// Each example runs, and shows what its row says.
pub(super) fn examples_run(bed: &Bed) -> Result<()> {
    let mut checkout = prepared(bed)?;
    for (page, rows) in EXAMPLES {
        let text = fs::read_to_string(bed.workspace.join(page)).context(*page)?;
        let commands: Vec<_> = rows.iter().map(|(command, _)| *command).collect();
        ensure!(manual_examples(&text) == commands, "{page} has other examples than this test");
        for (command, shown) in *rows {
            // The programs of this test are built, but not installed.
            let command = command.replace(INSTALLED_INIT, "target/guest/init");
            checkout.run(&Step::new(&command, shown)).context(*page)?;
        }
    }
    Ok(())
}
