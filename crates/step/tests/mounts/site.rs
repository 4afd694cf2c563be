//! The setting of a step without a machine.
//!
//! In the namespaces of the program, `/run` is a fresh tmpfs, the scratch disk another one, and
//! the disks are directories. `/proc` has only what the program itself uses, because a container cannot
//! set the score of a process that is never killed; the `/proc` of a step is a real one. The
//! programs of the steps come from this host, as binds of the request.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::pty::openpty;
use tempfile::TempDir;
use virtinitrd_step::report::{Outcome, Report};
use virtinitrd_step::request::{Bind, BindAccess, Lower, Request};

/// Makes the namespaces, and fails if something is missing for a step.
const PROBE: &str = "mount -t tmpfs probe /run && mount -t sysfs probe /sys && \
                     mount -t proc probe /proc && echo 0 > /proc/self/oom_score_adj && \
                     mkdir /run/l /run/u /run/w && \
                     mount -t overlay probe -o lowerdir=/run/l,upperdir=/run/u,workdir=/run/w /mnt";

/// Mounts the disks, runs the requests and a shell on the terminal that is standard input, and lists
/// the scratch disk. The words are the program,
/// and the directory with the disks and the requests.
const SETTING: &str = r#"
program=$1 disks=$2
mount -t tmpfs run /run
mkdir -p /run/step/scratch
mount -t tmpfs scratch /run/step/scratch
for disk in "$disks"/vd*; do
    mkdir /run/step/disk-${disk##*/}
    mount --bind -o ro "$disk" /run/step/disk-${disk##*/}
done
mount -t tmpfs proc /proc
mkdir /proc/self
ln -s "$program" /proc/self/exe
for request in "$disks"/request-*; do
    "$program" run < "$request" > "$request.report"
done
if test -e "$disks/shell"; then
    setsid --ctty --wait "$program" shell sh -euc "$(cat "$disks/shell")" > "$disks/said"
fi
cd /run/step/scratch
find . -mindepth 1 -exec stat -c '%F %a %u:%g %n' {} + | LC_ALL=C sort > "$disks/found"
"#;

/// Directories with the programs of a host, and their libraries.
const PROGRAMS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Disks, and what steps leave on the scratch disk.
pub(crate) struct Site {
    dir: TempDir,
    requests: Vec<Request>,
}

/// What a run has left.
pub(crate) struct Left {
    pub(crate) reports: Vec<Report>,
    /// Standard error of all steps.
    said: String,
    /// Lines `TYPE MODE UID:GID ./PATH` of stat(1) for all that is on the scratch disk.
    found: String,
}

impl Site {
    /// A site with the image `/dev/vdc`, and `/dev/vdd` for binds; `None` if this host cannot
    /// run steps.
    pub(crate) fn new() -> Option<Self> {
        let mut probe = unshare();
        probe.args(["--pid", "--fork", "--net", "--ipc", "--uts", "sh", "-ec", PROBE]);
        let probed = probe.output();
        if !probed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: steps need root and mounts: {probed:?}");
            return None;
        }
        let site = Self { dir: TempDir::new().unwrap(), requests: Vec::new() };
        site.make("vdc/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        site.make("vdc/root/.profile", "");
        site.make("vdd/file", "disk\n");
        site.make("vdd/dir/sub/file", "disk\n");
        for name in PROGRAMS {
            match fs::read_link(Path::new("/").join(name)) {
                Ok(target) => symlink(target, site.path("vdc").join(name)).unwrap(),
                Err(_) => fs::create_dir_all(site.path("vdc").join(name)).unwrap(),
            }
        }
        // Whatever the mask of this process is.
        for dir in ["vdc", "vdc/root"] {
            fs::set_permissions(site.path(dir), PermissionsExt::from_mode(0o755)).unwrap();
        }
        Some(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn make(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds a step that runs `script`, with the mounts and the working directory of `request`.
    pub(crate) fn step(&mut self, script: &str, request: Request) {
        let mut lowers = vec![Lower::Disk("/dev/vdc".to_owned())];
        lowers.extend(self.requests.iter().map(|before| Lower::Step(before.number)));
        let is_bound = |name: &&&str| {
            let path = Path::new("/").join(name);
            path.is_dir() && !path.is_symlink()
        };
        let programs = PROGRAMS.iter().filter(is_bound).map(|name| {
            let path = format!("/{name}");
            bind(BindAccess::ReadOnly, &path, &path)
        });
        let number = u32::try_from(self.requests.len() + 1).unwrap();
        self.requests.push(Request {
            number,
            lowers,
            disks: vec!["/dev/vdd".to_owned()],
            args: ["sh", "-euc", script].map(|word| word.as_bytes().to_vec()).into(),
            binds: programs.chain(request.binds).collect(),
            ..request
        });
    }

    /// Runs the steps, and then `script` as the shell of the last one, on a terminal. Returns what
    /// the script writes to standard output.
    pub(crate) fn run_shell(&self, script: &str) -> String {
        self.make("shell", script);
        let terminal = openpty(None, None).unwrap();
        self.run_with(Stdio::from(terminal.slave));
        fs::read_to_string(self.path("said")).unwrap()
    }

    pub(crate) fn run(&self) -> Left {
        self.run_with(Stdio::null())
    }

    fn run_with(&self, stdin: Stdio) -> Left {
        for request in &self.requests {
            let file = self.path(&format!("request-{}", request.number));
            fs::write(file, request.to_bytes().unwrap()).unwrap();
        }
        let mut command = unshare();
        command.args(["sh", "-euc", SETTING, "sh", env!("CARGO_BIN_EXE_virtinitrd-step")]);
        let output = command.arg(self.dir.path()).stdin(stdin).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let report = |request: &Request| {
            let file = self.path(&format!("request-{}.report", request.number));
            Report::parse(&fs::read(file).unwrap()).unwrap()
        };
        let found = fs::read_to_string(self.path("found")).unwrap();
        Left { reports: self.requests.iter().map(report).collect(), said, found }
    }
}

impl Left {
    /// Asserts that all steps have ended well, and left exactly these lines below the directory
    /// `dir` of the scratch disk, without `./`.
    pub(crate) fn is(&self, dir: &str, expected: &[&str]) {
        for report in &self.reports {
            assert_eq!(report.outcome, Outcome::Exit(0), "{}", self.said);
        }
        let dir = format!(" ./{dir}/");
        let lines = self.found.lines().filter_map(|line| {
            line.split_once(&dir).map(|(attributes, path)| format!("{attributes} {path}"))
        });
        assert_eq!(lines.collect::<Vec<_>>(), expected, "{dir}\n{}", self.found);
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).stdin(Stdio::null());
    command
}

/// A bind of the machine.
pub(crate) fn bind(access: BindAccess, source: &str, path: &str) -> Bind {
    Bind { access, source: source.into(), path: path.into() }
}
