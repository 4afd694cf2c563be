//! Images that `image build` makes, and the list of a tree to compare them with.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::harness::Bed;
use crate::harness::programs::stdout_of;

/// Shell script that lists the tree `$1` with everything but its extended attributes, which
/// busybox cannot read. It lists no contents of a file NAME if there is a file `NAME.long`.
pub(crate) const LIST: &str = r#"cd "$1"; find . | sort | while read -r name; do
    stat -c '%n %a %u %g %Y %F %t %T' "$name"
    if test -h "$name"; then readlink "$name"
    elif test -f "$name"; then stat -c '%h %s' "$name"; test -e "$name.long" || md5sum < "$name"; fi
done"#;

/// Lists a tree of the host by [`LIST`].
pub(crate) fn list(bed: &Bed, tree: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new(&bed.busybox);
    Ok(command.args(["sh", "-c", LIST, "sh"]).arg(tree).output()?.stdout)
}

/// Runs `image build` on a source.
pub(crate) fn build(bed: &Bed, source: &Path, image: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new(bed.chrootvm());
    command.args(["image", "build"]).arg(source).arg("-o").arg(image).args(options);
    stdout_of(&mut command).map(drop)
}
