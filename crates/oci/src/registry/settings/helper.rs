//! Programs that keep credentials.
//!
//! Interface: docker-credential-helpers. `docker-credential-NAME get` reads the name of a host
//! from standard input and writes `{"Username": …, "Secret": …}`. If it fails, its standard
//! output says why. A helper has a limited time, and its output a limited length. What it starts ends with
//! it: nothing that stays behind with its output makes anybody wait.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Deserialize;

use super::auth_file::login;
use super::environment::Environment;
use super::login::Login;
use crate::shown::told;

/// Longest time of a helper. It may have to ask a person to unlock a key ring.
pub const TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a helper's output.
const OUTPUT_MAX: u64 = 64 << 10;
/// Part of the message of a helper that does not know the host
/// (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found";
/// Time between two looks whether a helper has ended.
const POLL: Duration = Duration::from_millis(5);
/// Longest time after the end of a helper until all of its output is there.
const AFTER_END: Duration = Duration::from_millis(100);

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
    let child = child.with_context(|| format!("start {}", path.display()))?;
    let mut running = Running { child, is_waited_for: false };
    if let Some(mut input) = running.child.stdin.take() {
        // A helper that does not read its input says why in its output.
        if let Err(error) = input.write_all(format!("{server}\n").as_bytes()) {
            log::debug!("{}: {error}", path.display());
        }
    }
    let output = running.child.stdout.take().context("no output")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(OUTPUT_MAX + 1).read_to_end(&mut bytes);
        // Nobody listens any more after the time is over.
        let _ = sender.send(read.map(|_| bytes));
    });
    let bytes = running.output(&receiver, end)?;
    let bytes = bytes.with_context(|| format!("no answer within {time_max:?}"))??;
    ensure!(bytes.len() as u64 <= OUTPUT_MAX, "more than {OUTPUT_MAX} bytes of output");
    let status = running.status(end)?.with_context(|| format!("no end within {time_max:?}"))?;
    if !status.success() {
        return match String::from_utf8_lossy(&bytes) {
            text if text.contains(NOT_FOUND) => Ok(None),
            text => bail!("{status}: {}", told(&text)),
        };
    }
    // The text of the parser may show a part of the secret.
    let answer = serde_json::from_slice::<Answer>(&bytes).ok().context("its output is not JSON")?;
    let is_empty = answer.username.is_empty() && answer.secret.is_empty();
    Ok((!is_empty).then(|| login(answer.username, answer.secret)))
}

/// A helper that runs. It and what it started are ended on every way out.
struct Running {
    child: Child,
    is_waited_for: bool,
}

impl Running {
    /// The output, which `receiver` gets when it is complete; `None` if it does not come in time.
    fn output(
        &mut self,
        receiver: &Receiver<std::io::Result<Vec<u8>>>,
        end: Instant,
    ) -> Result<Option<std::io::Result<Vec<u8>>>> {
        const NOT_READ: &str = "its output was not read";
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(RecvTimeoutError::Disconnected) => bail!(NOT_READ),
                Err(RecvTimeoutError::Timeout) if self.has_ended()? => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        // A program that it started may have the output, too.
        if let Ok(bytes) = receiver.recv_timeout(AFTER_END) {
            return Ok(Some(bytes));
        }
        self.kill();
        receiver.recv_timeout(AFTER_END).map(Some).context(NOT_READ)
    }

    /// Waits for the end; `None` if it does not come in time.
    fn status(&mut self, end: Instant) -> Result<Option<ExitStatus>> {
        while !self.has_ended()? {
            if Instant::now() >= end {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
        Ok(Some(self.wait()?))
    }

    /// Whether the helper itself has ended. Its process stays, so that its number keeps standing
    /// for its group.
    fn has_ended(&self) -> Result<bool> {
        let Some(id) = self.id() else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(id), options).context("wait for it")?.is_some())
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(id) = self.id() {
            // It may have ended at this moment, which is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }

    /// Ends the group, and then gives back the process, without which the number may soon be that
    /// of another group.
    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.kill();
        self.is_waited_for = true;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_waited_for {
            return;
        }
        if let Err(error) = self.wait() {
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
    fn what_a_helper_leaves_behind_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let number = dir.path().join("number");
        let text = format!(
            r#"sleep 1000 & echo $! >'{}'; echo '{{"Username":"u","Secret":"p"}}'"#,
            number.display()
        );
        let start = Instant::now();
        let found = get(&script(dir.path(), "leaves", &text), "h", LONG).unwrap();
        assert!(found.is_some());
        assert!(start.elapsed() < LONG / 2);
        // The group was killed before the helper was given back; init takes what is left of it.
        let id = std::fs::read_to_string(number).unwrap().trim().to_owned();
        let is_there = || {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            state.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
        };
        while is_there() {
            assert!(start.elapsed() < LONG, "the program of the helper still runs");
            thread::sleep(POLL);
        }
        // A helper that closes its output before its end is waited for, and so is what it started.
        let text = r#"echo '{"Username":"u","Secret":"p"}'; exec >&-; sleep 1000 & sleep 0.1"#;
        assert!(get(&script(dir.path(), "closes", text), "h", LONG).unwrap().is_some());
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
