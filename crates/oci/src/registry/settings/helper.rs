//! Programs that keep credentials.
//!
//! Interface: docker-credential-helpers. `docker-credential-NAME get` reads the name of a host
//! from standard input and writes `{"Username": …, "Secret": …}`. If it fails, its standard
//! output says why. A helper has a limited time, and its output a limited length.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::auth_file::login;
use super::environment::Environment;
use super::login::Login;

/// Longest time of a helper. It may have to ask a person to unlock a key ring.
pub const TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a helper's output.
const OUTPUT_MAX: u64 = 64 << 10;
/// Most characters of a helper's message that are shown.
const SHOWN_MAX: usize = 200;
/// Part of the message of a helper that does not know the host
/// (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found";
/// Time between two looks whether a helper that has closed its output has ended.
const POLL: Duration = Duration::from_millis(5);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Finds the program of the helper `name`; `None` if there is none in `PATH`.
///
/// # Errors
/// The name is not one of a program.
pub fn find(environment: &Environment, name: &str) -> Result<Option<PathBuf>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_plain);
    ensure!(is_name, "\"{}\" is not the name of a credential helper", name.escape_debug());
    let paths = environment.value("PATH").unwrap_or_default();
    let program = program_name(name);
    // A relative directory would make the program depend on where one stands.
    let dirs = std::env::split_paths(&paths).filter(|dir| dir.is_absolute());
    Ok(dirs.map(|dir| dir.join(&program)).find(|path| path.is_file()))
}

/// The file name of the helper `name`.
#[must_use]
pub fn program_name(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// Asks the helper at `path` for the login at `server`; `None` if it knows none.
///
/// # Errors
/// The helper fails, or takes more than `time_max`. The text names it.
pub fn get(path: &Path, server: &str, time_max: Duration) -> Result<Option<Login>> {
    let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
    ask(path, server, time_max).with_context(|| format!("credential helper {name}"))
}

fn ask(path: &Path, server: &str, time_max: Duration) -> Result<Option<Login>> {
    let end = Instant::now() + time_max;
    let child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // What the helper starts ends with it.
        .process_group(0)
        .spawn();
    let mut running = Running(child.with_context(|| format!("start {}", path.display()))?);
    if let Some(mut input) = running.0.stdin.take() {
        // A helper that does not read its input says why in its output.
        if let Err(error) = input.write_all(format!("{server}\n").as_bytes()) {
            log::debug!("{}: {error}", path.display());
        }
    }
    let output = running.0.stdout.take().context("no output")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(OUTPUT_MAX + 1).read_to_end(&mut bytes);
        // Nobody listens any more after the time is over.
        let _ = sender.send(read.map(|_| bytes));
    });
    let bytes = match receiver.recv_timeout(time_max) {
        Ok(bytes) => bytes.context("read its output")?,
        Err(RecvTimeoutError::Timeout) => bail!("no answer within {time_max:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("its output was not read"),
    };
    ensure!(bytes.len() as u64 <= OUTPUT_MAX, "more than {OUTPUT_MAX} bytes of output");
    let status = running.wait(end).with_context(|| format!("no end within {time_max:?}"))?;
    if !status.success() {
        return match String::from_utf8_lossy(&bytes) {
            text if text.contains(NOT_FOUND) => Ok(None),
            text => bail!("{status}: {}", shown(&text)),
        };
    }
    // The text of the parser may show a part of the secret.
    let answer = serde_json::from_slice::<Answer>(&bytes).ok().context("its output is not JSON")?;
    let is_empty = answer.username.is_empty() && answer.secret.is_empty();
    Ok((!is_empty).then(|| login(answer.username, answer.secret)))
}

fn shown(text: &str) -> String {
    let text = files::tell::printable(text.trim().as_bytes()).replace(['\n', '\t'], " ");
    text.chars().take(SHOWN_MAX).collect()
}

/// A helper that runs. It is ended on every way out.
struct Running(Child);

impl Running {
    /// Waits for the end; `None` if it does not come in time.
    fn wait(&mut self, end: Instant) -> Option<ExitStatus> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => thread::sleep(POLL),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended at this moment, which is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
        if let Err(error) = self.0.wait() {
            log::debug!("wait for a credential helper: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::login::UserPassword;
    use super::*;

    /// Makes a helper that is a script of sh. Another process writes it: as long as a child of
    /// some other test has our descriptors, a file that we write cannot be executed (ETXTBSY).
    fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(program_name(name));
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        let status = Command::new("sh").arg("-c").arg(write).arg(&path).arg(text).status();
        assert!(status.unwrap().success());
        path
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn helpers_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let get = |text: &str| get(&script(dir.path(), "test", text), "r.example", LONG);
        let echo = r#"test "$1" = get || exit 9; read host
            printf '{"ServerURL":"x","Username":"u","Secret":"of %s"}' "$host""#;
        let expected = UserPassword { user: "u".into(), password: "of r.example".into() };
        assert_eq!(get(echo).unwrap(), Some(Login::Password(expected)));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(get(token).unwrap(), Some(Login::IdentityToken("t".into())));
        for nothing in [
            "echo credentials not found in native keychain; exit 1",
            r#"echo '{"Username":"","Secret":""}'"#,
        ] {
            assert_eq!(get(nothing).unwrap(), None, "{nothing}");
        }
    }

    #[test]
    fn helpers_that_fail_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for (text, word) in [
            ("echo 'the key ring is locked'; exit 1", "the key ring is locked"),
            ("kill -9 $$", "signal"),
            ("echo secret-but-not-json", "not JSON"),
            ("head -c 100000 /dev/zero", "bytes of output"),
        ] {
            let error = get(&script(dir.path(), "bad", text), "h", LONG).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("docker-credential-bad") && error.contains(word), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_helper_has_limited_time() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["sleep 1000", "exec >/dev/null; sleep 1000"] {
            let path = script(dir.path(), "slow", text);
            let error = get(&path, "h", Duration::from_millis(100)).unwrap_err();
            assert!(format!("{error:#}").contains("within"), "{text}: {error:#}");
        }
    }

    #[test]
    fn helpers_are_found_in_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "x.y", "true");
        let value = dir.path().as_os_str().to_owned();
        let variables = move |name: &str| (name == "PATH").then(|| value.clone());
        let environment = Environment::new(variables, Path::new("/"));
        assert_eq!(find(&environment, "x.y").unwrap(), Some(path));
        assert_eq!(find(&environment, "missing").unwrap(), None);
        for name in ["", "../x", "a/b", "a b", "é"] {
            assert!(find(&environment, name).is_err(), "{name}");
        }
    }
}
