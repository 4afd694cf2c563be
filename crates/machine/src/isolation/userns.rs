//! The user namespace in which the daemons of an unprivileged user run.
//!
//! Interfaces: user_namespaces(7), subuid(5), newuidmap(1).
//!
//! The user is root in it, and the ids from 1 on are those that are subordinate
//! to the user. All daemons share one. A holder makes it, for newuidmap maps the
//! ids of another process only; once a descriptor keeps it, the holder ends. Who
//! is killed meanwhile takes the holder along: it reads from us.

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

/// Name of the subcommand that [`hold`] is.
pub const SUBCOMMAND: &str = "hold-user-namespace";

/// What stops users from making namespaces, and the value that does.
const SWITCHES: &[(&str, &str)] = &[
    ("user/max_user_namespaces", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// Body of [`SUBCOMMAND`]: makes a user namespace, says so by a line on standard output,
/// and keeps the namespace until standard input ends.
///
/// # Errors
/// Those of unshare(2), and of a parent that has left.
pub fn hold() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).context("unshare(CLONE_NEWUSER)")?;
    // AppArmor lets one be made, and then forbids everything in it.
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS) in a user namespace")?;
    let mut stdout = std::io::stdout();
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).context("tell that it is made")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("wait")?;
    Ok(())
}

/// Ids of one sort, and how they are mapped.
struct Sort {
    delegations: &'static str,
    helper: &'static str,
    map: &'static str,
}

const USERS: Sort = Sort { delegations: "/etc/subuid", helper: "newuidmap", map: "uid_map" };
const GROUPS: Sort = Sort { delegations: "/etc/subgid", helper: "newgidmap", map: "gid_map" };

/// Why the ids of one sort were not mapped, but the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lack {
    /// newuidmap serves nobody whom passwd does not know.
    Name,
    /// The file has none.
    Ids(&'static str),
    /// The program is not there.
    Helper(&'static str),
    /// The program's own words.
    Refused(String),
}

/// A user namespace that lives as long as this value.
#[derive(Debug)]
pub struct UserNamespace {
    namespace: File,
    owner: String,
    lacks: Vec<Lack>,
    /// Whether a process in it may change its supplementary groups.
    pub has_groups: bool,
    /// Warnings about subordinate ids that do not fit into a map, one for each file.
    pub left_out: Vec<String>,
}

impl UserNamespace {
    /// # Errors
    /// Where users may not make one.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the holder of a user namespace")?;
        let mut line = [0];
        let told = holder.stdout.as_mut().is_some_and(|out| out.read_exact(&mut line).is_ok());
        let made = told.then(|| Self::of(holder.id()));
        // It closes the holder's standard input, and thereby ends it.
        let output = holder.wait_with_output().context("wait for a user namespace's holder")?;
        made.unwrap_or_else(|| {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!(forbidden(words.trim().trim_start_matches("error: "), &switches_that_forbid()))
        })
    }

    /// That of process `pid`, with its ids mapped.
    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/user");
        let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
        let uid = geteuid().as_raw();
        let name = User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
        let owner = Owner { uid, name };
        let users = USERS.map(pid, uid, &owner)?;
        let groups = GROUPS.map(pid, getegid().as_raw(), &owner)?;
        let has_groups = groups.lack.is_none();
        let left_out = [users.left_out, groups.left_out].into_iter().flatten().collect();
        let mut lacks: Vec<_> = [users.lack, groups.lack].into_iter().flatten().collect();
        lacks.dedup();
        Ok(Self { namespace, owner: owner.shown(), lacks, has_groups, left_out })
    }

    /// Where our children open it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }

    /// Makes this process, which has one thread only, part of it.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn enter(&self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWUSER).context("setns(CLONE_NEWUSER)")
    }

    /// What is missing for a guest to see owners and make files of others, and
    /// how to get it; `None` where nothing is.
    #[must_use]
    pub fn lack(&self) -> Option<String> {
        let first = |path| first_free(&fs::read_to_string(path).unwrap_or_default());
        let free = first(USERS.delegations).max(first(GROUPS.delegations));
        (!self.lacks.is_empty()).then(|| explain(&self.owner, &self.lacks, free))
    }
}

/// Outcome of mapping user ids or group ids.
struct Mapped {
    /// Why only the user's own id is mapped.
    lack: Option<Lack>,
    /// A warning about subordinate ids that are not mapped.
    left_out: Option<String>,
}

/// To whom ids are delegated.
struct Owner {
    uid: u32,
    name: Option<String>,
}

impl Owner {
    fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }
}

impl Sort {
    /// Maps all that may be, or `own` alone: then says why.
    fn map(&self, pid: u32, own: u32, owner: &Owner) -> Result<Mapped> {
        let lack = match self.map_all(pid, own, owner) {
            Ok(left_out) => return Ok(Mapped { lack: None, left_out }),
            Err(lack) => lack,
        };
        let write = |name: &str, text: &str| {
            let path = Path::new("/proc").join(pid.to_string()).join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        if self.map == GROUPS.map {
            // Else a process could drop a group by which it is denied a file.
            write("setgroups", "deny")?;
        }
        write(self.map, &format!("0 {own} 1"))?;
        Ok(Mapped { lack: Some(lack), left_out: None })
    }

    /// Maps all delegated ids; returns a warning if some do not fit into a map.
    fn map_all(&self, pid: u32, own: u32, owner: &Owner) -> Result<Option<String>, Lack> {
        let Some(name) = &owner.name else { return Err(Lack::Name) };
        let text = fs::read_to_string(self.delegations).unwrap_or_default();
        let delegated = delegated(&text, name, owner.uid);
        if delegated.is_empty() {
            return Err(Lack::Ids(self.delegations));
        }
        let helper = host::find_program(self.helper.as_ref()).ok_or(Lack::Helper(self.helper))?;
        let rows = rows(own, &delegated);
        let left_out = left_out(own, &delegated, &rows);
        let output = Command::new(helper).arg(pid.to_string()).args(arguments(&rows)).output();
        let output = output.map_err(|error| Lack::Refused(format!("{}: {error}", self.helper)))?;
        match output.status.success() {
            true => Ok(left_out.map(|words| format!("{}: {words}", self.delegations))),
            false => Err(Lack::Refused(
                String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            )),
        }
    }
}

/// The first id that is nobody's, from where useradd(8) begins.
fn first_free(text: &str) -> u32 {
    /// SUB_UID_MIN of login.defs(5)
    const FIRST: u32 = 100_000;
    let ends = text.lines().filter_map(fields).map(|(_, first, count)| first + count);
    ends.fold(FIRST, u32::max)
}

/// What is missing, and how to mend it.
fn explain(owner: &str, lacks: &[Lack], free: u32) -> String {
    let join = |words: Vec<&str>| words.join(" and ");
    let of = |pick: fn(&Lack) -> Option<&str>| lacks.iter().filter_map(pick).collect::<Vec<_>>();
    let files = of(|lack| if let Lack::Ids(file) = lack { Some(file) } else { None });
    let helpers = of(|lack| if let Lack::Helper(helper) = lack { Some(helper) } else { None });
    let mut reasons = Vec::new();
    if lacks.contains(&Lack::Name) {
        reasons.push(format!("uid {owner} has no name in passwd, which newuidmap asks for"));
    }
    if !files.is_empty() {
        let last = free.saturating_add(65_535);
        let option =
            |file| if file == USERS.delegations { "--add-subuids" } else { "--add-subgids" };
        let options: Vec<_> =
            files.iter().map(|file| format!("{} {free}-{last}", option(*file))).collect();
        let (files, options) = (join(files), options.join(" "));
        reasons.push(format!(
            "no ids for {owner} in {files}; as root, run `usermod {options} {owner}`"
        ));
    }
    if !helpers.is_empty() {
        reasons.push(format!(
            "{} not found in PATH; install the package uidmap (Fedora: shadow-utils, Arch: shadow, \
             Alpine: shadow-subids)",
            join(helpers)
        ));
    }
    reasons.extend(lacks.iter().filter_map(|lack| match lack {
        Lack::Refused(words) => Some(words.clone()),
        _ => None,
    }));
    reasons.join("; ")
}

/// The `SWITCHES` that are set so.
fn switches_that_forbid() -> Vec<String> {
    let is_set = |(name, value): &&(&str, &str)| {
        let found = fs::read_to_string(Path::new("/proc/sys").join(name));
        found.is_ok_and(|text| text.trim() == *value)
    };
    let shown = |(name, value): &(&str, &str)| format!("{}={value}", name.replace('/', "."));
    SWITCHES.iter().filter(is_set).map(shown).collect()
}

fn forbidden(words: &str, switches: &[String]) -> String {
    let why = match switches {
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
    fn what_is_missing_is_said_once_with_its_remedy() {
        use Lack::{Helper, Ids, Name, Refused};
        let mend = "--add-subuids 100000-165535 --add-subgids 100000-165535 ann`";
        for (lacks, expected) in [
            (vec![Name], "uid ann has no name in passwd"),
            (vec![Ids("/etc/subuid"), Ids("/etc/subgid")], "in /etc/subuid and /etc/subgid; "),
            (vec![Ids("/etc/subuid"), Ids("/etc/subgid")], mend),
            (vec![Ids("/etc/subgid")], "`usermod --add-subgids 100000-165535 ann`"),
            (vec![Helper("newuidmap"), Helper("newgidmap")], "newuidmap and newgidmap not found"),
            (vec![Ids("/etc/subuid"), Helper("newgidmap")], "; newgidmap not found"),
            (vec![Refused("newuidmap: no".into())], "newuidmap: no"),
        ] {
            let text = explain("ann", &lacks, 100_000);
            assert_eq!(text.matches(expected).count(), 1, "{text}");
        }
    }

    #[test]
    fn who_forbids_is_named() {
        let by_sysctl = forbidden("EPERM", &["user.max_user_namespaces=0".into()]);
        assert!(
            by_sysctl.ends_with("(EPERM): sysctl has user.max_user_namespaces=0"),
            "{by_sysctl}"
        );
        assert!(forbidden("EPERM", &[]).contains("seccomp"));
    }
}
