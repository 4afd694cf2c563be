//! What a machine runs, as one line for `chrootvm ps`: the command, INIT, or the workload.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use machine::root::kinds::Root;
use machine::running::script;
use proto::settings::{self, IMAGE_FILE};

/// Program that `/init` executes if the root configures no workload.
const DEFAULT: &str = "/bin/sh";

/// Line for a root that only the guest has read so far.
const UNKNOWN: &str = "(workload of ROOTFS, or /bin/sh)";

/// The line for a machine with this `root`. `payload` is the path of INIT in the guest.
pub(super) fn line(command: &[OsString], payload: Option<&OsStr>, root: &Root) -> OsString {
    match (command.is_empty(), payload) {
        (false, _) => script::shell_line(command),
        (true, Some(init)) => init.to_owned(),
        (true, None) => workload(root),
    }
}

/// The workload that `root` configures, or the default of `/init`. A root that is an archive
/// or an image is not read for this line alone, because that may take seconds.
fn workload(root: &Root) -> OsString {
    let Some(files) = root.files_at_hand() else { return UNKNOWN.into() };
    let text = files.read(Path::new(IMAGE_FILE), settings::MAX as u64);
    let Ok(text) = text else { return DEFAULT.into() };
    // `/init` reports a workload that cannot be parsed.
    let Ok(command) = settings::Command::parse(&text) else { return IMAGE_FILE.into() };
    let words = command.args.iter().map(|word| OsStr::from_bytes(word.to_bytes()).to_owned());
    script::shell_line(&words.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_runs_its_command_its_init_or_its_workload() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for (name, command, init, file, expected) in [
            ("command", words(&["ls", "a b"]), None, None, "ls 'a b'"),
            ("INIT", words(&[]), Some("/sbin/init"), Some("arg=httpd\0"), "/sbin/init"),
            ("workload", words(&[]), None, Some("arg=httpd\0arg=-f\0"), "httpd -f"),
            ("bad workload", words(&[]), None, Some("x=y\0"), IMAGE_FILE),
            ("no workload", words(&[]), None, None, "/bin/sh"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("etc/virtinit")).unwrap();
            if let Some(text) = file {
                std::fs::write(dir.path().join("etc/virtinit/run"), text).unwrap();
            }
            let root = Root::open(dir.path()).unwrap();
            assert_eq!(line(&command, init.map(OsStr::new), &root), expected, "{name}");
        }
    }
}
