//! The login for a repository, from all places where one may be.
//!
//! Order: containers-auth.json(5). A file that the user names replaces the others. Otherwise the
//! first file that has a login for the repository wins.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;

use super::auth_file::{AuthFile, Coverage, Entry};
use super::environment::Environment;
use super::login::Login;
use super::{helper, is_missing};

/// Most bytes of a file of credentials.
const FILE_MAX: u64 = 4 << 20;
/// Variable that names the file of credentials.
const AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// The file below a directory of the user.
const NAME: &str = "containers/auth.json";

/// Finds the login for `repository` at `host`; `None` if there is none. `auth_file` is the file
/// that the user names.
///
/// # Errors
/// A file cannot be read or makes no sense; a helper fails. The text names it.
pub fn find(
    environment: &Environment,
    auth_file: Option<&Path>,
    host: &str,
    repository: &str,
) -> Result<Option<Login>> {
    for Candidate { path, need } in candidates(environment, auth_file) {
        let at = || format!("credentials in {}", path.display());
        let Some(file) = read(&path, need).with_context(at)? else { continue };
        for entry in file.entries(host, repository) {
            let login = entry.and_then(|entry| resolve(environment, entry));
            if let Some(login) = login.with_context(at)? {
                log::debug!("{}: a login for {host}/{repository}", at());
                return Ok(Some(login));
            }
        }
    }
    Ok(None)
}

/// Whether a file has to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Must,
    May,
    /// It may be missing, or be in a directory of root that this user may not search: then it
    /// has no login of this user.
    MayBeOutOfReach,
}

impl Need {
    /// Whether a file counts as missing if it cannot be opened because of `error`.
    fn is_satisfied(self, error: ErrorKind) -> bool {
        let is_missing = is_missing(error);
        match self {
            Self::Must => false,
            Self::May => is_missing,
            Self::MayBeOutOfReach => is_missing || error == ErrorKind::PermissionDenied,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    need: Need,
}

/// The files, the first to be asked first.
fn candidates(environment: &Environment, auth_file: Option<&Path>) -> Vec<Candidate> {
    let named = auth_file.map(Path::to_path_buf).or_else(|| environment.path(AUTH_FILE));
    if let Some(path) = named {
        return vec![Candidate { path, need: Need::Must }];
    }
    let of_session = match environment.path("XDG_RUNTIME_DIR") {
        Some(dir) => Candidate { path: dir.join(NAME), need: Need::May },
        None => {
            let name = format!("run/containers/{}/auth.json", geteuid().as_raw());
            Candidate { path: environment.in_system(&name), need: Need::MayBeOutOfReach }
        }
    };
    let docker = environment.path("DOCKER_CONFIG").or_else(|| environment.in_home(".docker"));
    let docker = docker.map(|dir| dir.join("config.json"));
    let of_home = [environment.in_config(NAME), docker].into_iter().flatten();
    let of_home = of_home.map(|path| Candidate { path, need: Need::May });
    [of_session].into_iter().chain(of_home).collect()
}

fn read(path: &Path, need: Need) -> Result<Option<AuthFile>> {
    let file = match File::open(path) {
        Err(error) if need.is_satisfied(error.kind()) => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= FILE_MAX, "more than {FILE_MAX} bytes");
    // An empty file is how podman logout leaves it on some hosts.
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    AuthFile::parse(&bytes).map(Some)
}

fn resolve(environment: &Environment, entry: Entry) -> Result<Option<Login>> {
    let (name, server, coverage) = match entry {
        Entry::Login(login) => return Ok(Some(login)),
        Entry::Helper { name, server, coverage } => (name, server, coverage),
    };
    let program = helper::program_name(&name);
    match (helper::find(environment, &name)?, coverage) {
        (Some(path), _) => helper::get(&path, &server, helper::TIME_MAX),
        (None, Coverage::Host) => {
            anyhow::bail!("the credential helper {program} for {server} is missing in PATH")
        }
        // The store of another machine, as in a home directory that several share, knows
        // nothing; most images can be read without it.
        (None, Coverage::All) => {
            log::warn!("the credential helper {program} (credsStore) is missing in PATH");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::super::login::UserPassword;
    use super::*;

    /// An environment whose directories are all in `dir`, with further variables.
    fn environment(dir: &Path, more: &[(&'static str, PathBuf)]) -> Environment {
        let mut variables = vec![("HOME", dir.join("home")), ("XDG_RUNTIME_DIR", dir.join("run"))];
        variables.retain(|row| more.iter().all(|other| other.0 != row.0));
        variables.extend(more.iter().cloned());
        let find = move |name: &str| {
            let row = variables.iter().find(|row| row.0 == name);
            row.map(|row| OsString::from(&row.1))
        };
        Environment::new(find, dir)
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn user(login: Option<Login>) -> Option<String> {
        match login? {
            Login::Password(UserPassword { user, .. }) => Some(user),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_in_a_directory_of_root_is_missing() {
        for (error, satisfied) in [
            (ErrorKind::NotFound, [false, true, true]),
            (ErrorKind::NotADirectory, [false, true, true]),
            (ErrorKind::PermissionDenied, [false, false, true]),
            (ErrorKind::InvalidData, [false, false, false]),
        ] {
            let needs = [Need::Must, Need::May, Need::MayBeOutOfReach];
            assert_eq!(needs.map(|need| need.is_satisfied(error)), satisfied, "{error}");
        }
    }

    #[test]
    fn files_are_asked_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let environment = environment(dir.path(), &[]);
        let find = |host: &str| user(find(&environment, None, host, "a/b").unwrap());
        assert_eq!(find("h"), None);
        for (path, name) in [
            ("home/.docker/config.json", "docker"),
            ("home/.config/containers/auth.json", "config"),
            ("run/containers/auth.json", "session"),
        ] {
            let stored = format!(r#"{{"username": "{name}", "password": "p"}}"#);
            write(&at(path), &format!(r#"{{"auths": {{"h": {stored}, "{name}": {stored}}}}}"#));
            assert_eq!(find("h").as_deref(), Some(name));
            assert_eq!(find(name).as_deref(), Some(name));
        }
        assert_eq!(find("docker").as_deref(), Some("docker"), "a file without it is passed over");
        write(&at("run/containers/auth.json"), "\n");
        assert_eq!(find("h").as_deref(), Some("config"), "an empty file");
    }

    #[test]
    fn variables_move_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for (variable, value, file) in [
            ("DOCKER_CONFIG", "d", "d/config.json"),
            ("XDG_CONFIG_HOME", "c", "c/containers/auth.json"),
            ("XDG_RUNTIME_DIR", "r", "r/containers/auth.json"),
            ("REGISTRY_AUTH_FILE", "f.json", "f.json"),
        ] {
            let stored = format!(r#"{{"username": "{variable}", "password": "p"}}"#);
            write(&at(file), &format!(r#"{{"auths": {{"h": {stored}}}}}"#));
            let environment = environment(dir.path(), &[(variable, at(value))]);
            let found = user(find(&environment, None, "h", "a").unwrap());
            assert_eq!(found.as_deref(), Some(variable));
        }
    }

    #[test]
    fn a_file_that_was_named_must_exist_and_replaces_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let environment = environment(dir.path(), &[]);
        let other = r#"{"auths": {"h": {"username": "u", "password": "p"}}}"#;
        write(&dir.path().join("home/.docker/config.json"), other);
        let named = dir.path().join("mine.json");
        let error = find(&environment, Some(&named), "h", "a").unwrap_err();
        assert!(format!("{error:#}").contains("mine.json"), "{error:#}");
        write(&named, "{}");
        assert_eq!(find(&environment, Some(&named), "h", "a").unwrap(), None);
    }

    #[test]
    fn a_missing_helper_is_named_and_that_for_all_hosts_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let environment = environment(dir.path(), &[("PATH", dir.path().join("bin"))]);
        let file = dir.path().join("home/.docker/config.json");
        write(&file, r#"{"credHelpers": {"h": "gone"}}"#);
        let error = format!("{:#}", find(&environment, None, "h", "a").unwrap_err());
        assert!(
            error.contains("docker-credential-gone") && error.contains("config.json"),
            "{error}"
        );
        write(&file, r#"{"credsStore": "desktop", "auths": {"h": {"auth": "dTpw"}}}"#);
        assert_eq!(user(find(&environment, None, "h", "a").unwrap()).as_deref(), Some("u"));
        write(&file, r#"{"credsStore": "../bin/sh"}"#);
        assert!(find(&environment, None, "h", "a").is_err());
    }
}
