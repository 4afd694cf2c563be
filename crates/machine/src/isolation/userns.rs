//! The user namespace in which the daemons of an ordinary user run.
//!
//! Interfaces: user_namespaces(7), subuid(5), newuidmap(1).
//!
//! In the namespace the user is root, and the ids from 1 on are the user's subordinate ids.
//! All daemons of a machine share one namespace. A child process, the holder, creates it,
//! because newuidmap maps the ids of another process only. Once this process has a
//! descriptor of the namespace, the holder ends. If this process is killed first, the holder
//! sees end of file on its standard input and ends too.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{User, getegid, geteuid};

use super::id_map::{arguments, delegated, fields, left_out, rows};
use crate::host;

/// Name of the subcommand that runs [`hold`].
pub const SUBCOMMAND: &str = "hold-user-namespace";

/// Settings below /proc/sys that forbid user namespaces, each with the forbidding value.
const SETTINGS: &[(&str, &str)] = &[
    ("user/max_user_namespaces", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// Body of [`SUBCOMMAND`]: makes a user namespace, writes a line to standard output, and
/// keeps the namespace until standard input ends.
///
/// # Errors
/// unshare(2) failed, or the parent is gone.
pub fn hold() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).context("unshare(CLONE_NEWUSER)")?;
    // AppArmor may allow the namespace but forbid every privileged call in it, so try one.
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS) in a user namespace")?;
    let mut stdout = std::io::stdout();
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).context("report the namespace")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("wait")?;
    Ok(())
}

/// Kind of ids (users or groups) and the interfaces that map them.
struct IdKind {
    /// File with the delegated ranges.
    delegations: &'static str,
    /// Program that maps delegated ids.
    helper: &'static str,
    /// Name of the map in /proc/PID.
    map: &'static str,
}

const USERS: IdKind = IdKind { delegations: "/etc/subuid", helper: "newuidmap", map: "uid_map" };
const GROUPS: IdKind = IdKind { delegations: "/etc/subgid", helper: "newgidmap", map: "gid_map" };

/// Reason why only the user's own id was mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum UnmappedReason {
    /// The user has no name in passwd, which newuidmap requires.
    NoName,
    /// This file delegates no ids to the user.
    NoIds(&'static str),
    /// This program is missing.
    NoHelper(&'static str),
    /// The program failed with this message.
    Refused(String),
}

/// A user namespace that lives as long as this value.
#[derive(Debug)]
pub struct UserNamespace {
    namespace: File,
    owner: String,
    reasons: Vec<UnmappedReason>,
    /// Whether a process in the namespace may change its supplementary groups.
    pub has_groups: bool,
    /// Warnings about subordinate ids that do not fit into a map, at most one for each file.
    pub left_out: Vec<String>,
}

impl UserNamespace {
    /// Creates a namespace and maps all ids that are delegated to this user.
    ///
    /// # Errors
    /// This host does not allow ordinary users to make namespaces.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the holder of a user namespace")?;
        let mut line = [0];
        let is_made = holder.stdout.as_mut().is_some_and(|out| out.read_exact(&mut line).is_ok());
        let made = is_made.then(|| Self::of(holder.id()));
        // This closes the holder's standard input, so the holder ends.
        let output = holder.wait_with_output().context("wait for a user namespace's holder")?;
        made.unwrap_or_else(|| {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!(forbidden(words.trim().trim_start_matches("error: "), &forbidding_settings()))
        })
    }

    /// Opens the namespace of process `pid` and maps the ids in it.
    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/user");
        let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
        let uid = geteuid().as_raw();
        let name = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
        let owner = Owner { uid, name };
        let users = USERS.map(pid, uid, &owner)?;
        let groups = GROUPS.map(pid, getegid().as_raw(), &owner)?;
        let has_groups = groups.reason.is_none();
        let left_out = [users.left_out, groups.left_out].into_iter().flatten().collect();
        let mut reasons: Vec<_> = [users.reason, groups.reason].into_iter().flatten().collect();
        reasons.dedup();
        Ok(Self { namespace, owner: owner.shown(), reasons, has_groups, left_out })
    }

    /// Path by which a child of this process opens the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }

    /// Moves this process, which must have only one thread, into the namespace.
    ///
    /// # Errors
    /// setns(2) failed.
    pub fn enter(&self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWUSER).context("setns(CLONE_NEWUSER)")
    }

    /// Explains why the guest sees only the user's own id, and how to change that; `None` if
    /// all ids are mapped.
    #[must_use]
    pub fn missing_ids(&self) -> Option<String> {
        let first = |path| first_free(&fs::read_to_string(path).unwrap_or_default());
        let free = first(USERS.delegations).max(first(GROUPS.delegations));
        (!self.reasons.is_empty()).then(|| explain(&self.owner, &self.reasons, free))
    }
}

/// Outcome of mapping user ids or group ids.
struct Mapped {
    /// Reason why only the user's own id is mapped; `None` if the delegated ids are mapped.
    reason: Option<UnmappedReason>,
    /// A warning about subordinate ids that do not fit into the map.
    left_out: Option<String>,
}

/// The user to whom ids are delegated.
struct Owner {
    uid: u32,
    name: Option<String>,
}

impl Owner {
    fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }
}

impl IdKind {
    /// Maps all delegated ids, or, if that is impossible, `own` alone.
    fn map(&self, pid: u32, own: u32, owner: &Owner) -> Result<Mapped> {
        let reason = match self.map_all(pid, own, owner) {
            Ok(left_out) => return Ok(Mapped { reason: None, left_out }),
            Err(reason) => reason,
        };
        let write = |name: &str, text: &str| {
            let path = Path::new("/proc").join(pid.to_string()).join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        if self.map == GROUPS.map {
            // The kernel requires this: otherwise a process could drop a group that denies
            // it access to a file.
            write("setgroups", "deny")?;
        }
        write(self.map, &format!("0 {own} 1"))?;
        Ok(Mapped { reason: Some(reason), left_out: None })
    }

    /// Maps all delegated ids; returns a warning if some do not fit into a map.
    fn map_all(&self, pid: u32, own: u32, owner: &Owner) -> Result<Option<String>, UnmappedReason> {
        let Some(name) = &owner.name else { return Err(UnmappedReason::NoName) };
        let text = fs::read_to_string(self.delegations).unwrap_or_default();
        let delegated = delegated(&text, name, owner.uid);
        if delegated.is_empty() {
            return Err(UnmappedReason::NoIds(self.delegations));
        }
        let helper = host::find_program(self.helper.as_ref())
            .ok_or(UnmappedReason::NoHelper(self.helper))?;
        let rows = rows(own, &delegated);
        let left_out = left_out(own, &delegated, &rows);
        let output = Command::new(helper).arg(pid.to_string()).args(arguments(&rows)).output();
        let output =
            output.map_err(|error| UnmappedReason::Refused(format!("{}: {error}", self.helper)))?;
        match output.status.success() {
            true => Ok(left_out.map(|words| format!("{}: {words}", self.delegations))),
            false => Err(UnmappedReason::Refused(
                String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            )),
        }
    }
}

/// First id that `text`, a subuid(5) file, delegates to no user; useradd(8) would begin there.
fn first_free(text: &str) -> u32 {
    /// Lowest subordinate id (`SUB_UID_MIN` of login.defs(5)).
    const FIRST: u32 = 100_000;
    let ends = text.lines().filter_map(fields).map(|(_, first, count)| first + count);
    ends.fold(FIRST, u32::max)
}

/// Text of the `reasons` and their remedies; `free` is the first id that can be delegated.
fn explain(owner: &str, reasons: &[UnmappedReason], free: u32) -> String {
    use UnmappedReason::{NoHelper, NoIds, NoName, Refused};
    let join = |words: Vec<&str>| words.join(" and ");
    let of = |pick: fn(&UnmappedReason) -> Option<&str>| {
        reasons.iter().filter_map(pick).collect::<Vec<_>>()
    };
    let files = of(|reason| if let NoIds(file) = reason { Some(file) } else { None });
    let helpers = of(|reason| if let NoHelper(helper) = reason { Some(helper) } else { None });
    let mut texts = Vec::new();
    if reasons.contains(&NoName) {
        texts.push(format!("uid {owner} has no name in passwd, which newuidmap asks for"));
    }
    if !files.is_empty() {
        let last = free.saturating_add(65_535);
        let option =
            |file| if file == USERS.delegations { "--add-subuids" } else { "--add-subgids" };
        let options: Vec<_> =
            files.iter().map(|file| format!("{} {free}-{last}", option(*file))).collect();
        let (files, options) = (join(files), options.join(" "));
        texts.push(format!(
            "no ids for {owner} in {files}; as root, run `usermod {options} {owner}`"
        ));
    }
    if !helpers.is_empty() {
        texts.push(format!(
            "{} not found in PATH; install the package uidmap (Fedora: shadow-utils, Arch: shadow, \
             Alpine: shadow-uidmap)",
            join(helpers)
        ));
    }
    texts.extend(reasons.iter().filter_map(|reason| match reason {
        Refused(message) => Some(message.clone()),
        _ => None,
    }));
    texts.join("; ")
}

/// The `SETTINGS` that forbid namespaces on this host, as sysctl(8) writes them.
fn forbidding_settings() -> Vec<String> {
    let is_set = |(name, value): &&(&str, &str)| {
        let found = fs::read_to_string(Path::new("/proc/sys").join(name));
        found.is_ok_and(|text| text.trim() == *value)
    };
    let shown = |(name, value): &(&str, &str)| format!("{}={value}", name.replace('/', "."));
    SETTINGS.iter().filter(is_set).map(shown).collect()
}

/// Error of a user who may not make namespaces; `words` is the kernel's reason.
fn forbidden(words: &str, settings: &[String]) -> String {
    let why = match settings {
        [] => "a container's seccomp filter, or a security module, forbids it".into(),
        set => format!("sysctl has {}", set.join(" and ")),
    };
    format!("this user may not make user namespaces ({words}): {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_ids_are_free() {
        for (text, expected) in
            [("", 100_000), ("low:5:10\n", 100_000), ("a:100000:65536\nb:165536:65536\n", 231_072)]
        {
            assert_eq!(first_free(text), expected, "{text}");
        }
    }

    #[test]
    fn each_reason_is_told_once_with_its_remedy() {
        use UnmappedReason::{NoHelper, NoIds, NoName, Refused};
        let mend = "--add-subuids 100000-165535 --add-subgids 100000-165535 ann`";
        for (reasons, expected) in [
            (vec![NoName], "uid ann has no name in passwd"),
            (vec![NoIds("/etc/subuid"), NoIds("/etc/subgid")], "in /etc/subuid and /etc/subgid; "),
            (vec![NoIds("/etc/subuid"), NoIds("/etc/subgid")], mend),
            (vec![NoIds("/etc/subgid")], "`usermod --add-subgids 100000-165535 ann`"),
            (
                vec![NoHelper("newuidmap"), NoHelper("newgidmap")],
                "newuidmap and newgidmap not found",
            ),
            (vec![NoIds("/etc/subuid"), NoHelper("newgidmap")], "; newgidmap not found"),
            (vec![Refused("newuidmap: no".into())], "newuidmap: no"),
        ] {
            let text = explain("ann", &reasons, 100_000);
            assert_eq!(text.matches(expected).count(), 1, "{text}");
        }
    }

    #[test]
    fn the_setting_that_forbids_namespaces_is_named() {
        let by_sysctl = forbidden("EPERM", &["user.max_user_namespaces=0".into()]);
        assert!(
            by_sysctl.ends_with("(EPERM): sysctl has user.max_user_namespaces=0"),
            "{by_sysctl}"
        );
        assert!(forbidden("EPERM", &[]).contains("seccomp"));
    }
}
