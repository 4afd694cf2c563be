//! Several files of one build, and machines that boot them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use virtinitrd_vm_tests::tool;

use super::site::{Site, run};
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("outputs_of_one_build_boot", outputs_of_one_build_boot),
];

const OUTPUTS: &str = "manifest = \"m.json\"
name = \"several\"
[run]
command = [\"/bin/sh\", \"-c\", \"echo the workload: $(cat /made) $WORD $(id -u) $PWD\"]
env = { WORD = \"word\" }
user = \"app\"
workdir = \"/srv\"
[machine]
cpus = 2
memory = \"512M\"
[[output]]
file = \"o.erofs\"
[[output]]
file = \"o.cpio.gz\"
[[output]]
file = \"o.ext4\"
label = \"ROOT\"
[[output]]
file = \"o.tar\"
init = false
[[output]]
file = \"part.tar\"
init = false
include = [\"/etc\", \"/made\"]
exclude = [\"/etc/group\"]
[[output]]
file = \"less.tar.zst\"
init = false
exclude = [\"/bin/w*\"]
";

/// Names of an image, without the metadata.
fn names(site: &Site, image: &str) -> Result<BTreeSet<String>> {
    let listing = site.image(&["ls", image])?;
    let name = |line: &str| line.split_whitespace().nth(5).map(str::to_owned);
    Ok(listing.lines().filter_map(name).collect())
}

fn outputs_of_one_build_boot(bed: &Bed) -> Result<()> {
    needs(&["e2fsck", "fsck.erofs"])?;
    let site = Site::new(bed)?;
    let text = format!("{OUTPUTS}{}", run("mkdir /srv; echo made > /made; echo x > /etc/x"));
    let built = site.build(&text, &[])?.is(0, &[])?;
    ensure!(built.ran() == [1], "{built}");
    for image in ["o.erofs", "o.cpio.gz", "o.ext4", "o.tar", "part.tar", "less.tar.zst"] {
        ensure!(site.text(image, "/made")? == "made\n", "{image}");
    }
    stdout_of(tool("fsck.erofs").arg(site.own("o.erofs")))?;
    stdout_of(tool("e2fsck").arg("-fn").arg(site.own("o.ext4")))?;
    let (whole, plain) = (names(&site, "o.erofs")?, names(&site, "o.tar")?);
    let added: Vec<_> = whole.difference(&plain).map(String::as_str).collect();
    ensure!(added == ["sbin", "sbin/virtinit"] && plain.is_subset(&whole), "added: {added:?}");
    ensure!(names(&site, "o.cpio.gz")?.contains("init"), "the archive has no /init");
    let part: Vec<_> = names(&site, "part.tar")?
        .into_iter()
        .filter(|name| !name.starts_with("etc/virtinit"))
        .collect();
    ensure!(part == [".", "etc", "etc/passwd", "etc/x", "made"], "{part:?}");
    let less = names(&site, "less.tar.zst")?;
    ensure!(
        !less.contains("bin/wget") && !less.contains("bin/wc") && less.contains("bin/sh"),
        "{less:?}"
    );
    check_manifest(&site)?;

    let line = "the workload: made word 1000 /srv";
    // As an archive that the kernel unpacks, in which it finds /init.
    let mut machine = bed.bare_machine()?;
    machine.initrd(&fs::read(site.own("o.cpio.gz"))?)?;
    machine.append("root=initramfs virtinit.fail=poweroff");
    machine.boot()?.ends_with(0, &[line, "reboot: Power down"])?;
    for image in ["o.erofs", "o.ext4"] {
        let mut machine = bed.bare_machine()?;
        machine.root_is(&site.own(image));
        machine.boot()?.ends_with(0, &[line]).with_context(|| image.to_owned())?;
    }

    // A kept output is the same file, and the manifest is written again.
    fs::remove_file(site.own("m.json"))?;
    let before = fs::read(site.own("o.ext4"))?;
    fs::remove_file(site.own("o.ext4"))?;
    let built = site
        .build(&text, &[])?
        .is(0, &["o.ext4: ext4 (kept)", "less.tar.zst: tar, zstd (kept)"])?;
    ensure!(built.ran().is_empty() && fs::read(site.own("o.ext4"))? == before, "{built}");
    check_manifest(&site)
}

/// The manifest has the size and the SHA-256 of each output.
fn check_manifest(site: &Site) -> Result<()> {
    let manifest = fs::read_to_string(site.own("m.json")).context("read the manifest")?;
    for image in ["o.erofs", "o.cpio.gz", "o.ext4", "o.tar", "part.tar", "less.tar.zst"] {
        let path = site.own(image);
        let printed = stdout_of(Command::new("sha256sum").arg(&path))?;
        let sum = printed.split_whitespace().next().context("no checksum")?;
        let length = path.metadata()?.len();
        let (_, entry) =
            manifest.split_once(&format!("\"file\": \"{image}\"")).context("no entry")?;
        let entry = entry.split('}').next().unwrap_or_default();
        for part in [format!("\"sha256\": \"{sum}\""), format!("\"size\": {length}")] {
            ensure!(entry.contains(&part), "{image}: no {part} in {entry}");
        }
    }
    for part in ["\"name\": \"several\"", "\"memory\": 536870912", "\"user\": \"app\""] {
        ensure!(manifest.contains(part), "no {part} in {manifest}");
    }
    Ok(())
}
