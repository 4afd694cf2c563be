//! A registry of images on this host's loopback, for tests and benchmarks: docker-registry(1),
//! to which skopeo(1) copies images.
//!
//! Settings: "Configuring a registry" of the CNCF distribution project. The kernel chooses the
//! port, so that several registries can run at once.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use files::output;

/// Longest time from the start of the program until it listens.
const START_TIME: Duration = Duration::from_secs(60);
/// Words of the program's log before the address on which it listens.
const LISTENING: &str = "listening on ";

/// Settings of a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistrySettings<'a> {
    /// Files of the certificate and its key; without them, the registry speaks http.
    pub tls: Option<(&'a Path, &'a Path)>,
    /// File of users and passwords (htpasswd(1), bcrypt); without it, anybody can read and write.
    pub htpasswd: Option<&'a Path>,
}

/// A registry that runs as long as this value exists.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    authority: String,
}

impl Registry {
    /// Starts a registry that keeps its images and its settings in the directory `dir`.
    ///
    /// # Errors
    /// docker-registry is missing, or does not listen within a minute.
    pub fn start(dir: &Path, settings: &RegistrySettings<'_>) -> Result<Self> {
        let config = dir.join("config.yml");
        output::write(&config, text(dir, settings).as_bytes())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::piped()).spawn();
        let child = child.context("start docker-registry; scripts/setup test installs it")?;
        let mut registry = Self { child, authority: String::new() };
        let log = registry.child.stderr.take().context("no log of docker-registry")?;
        registry.authority = address(&lines_of(log))?;
        Ok(registry)
    }

    /// Address and port, such as `127.0.0.1:36007`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Copies the image `source`, in skopeo's notation, to the repository and tag `name`;
    /// `options` are further options of `skopeo copy`.
    ///
    /// # Errors
    /// skopeo is missing or fails.
    pub fn push(&self, source: &str, name: &str, options: &[&str]) -> Result<()> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        skopeo.args(options).arg(source).arg(format!("docker://{}/{name}", self.authority));
        let output = skopeo.output().context("run skopeo; scripts/setup test installs it")?;
        let messages = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{skopeo:?}: {}: {messages}", output.status);
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of the registry's file of settings (YAML).
fn text(dir: &Path, settings: &RegistrySettings<'_>) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let tls = settings.tls.map_or_else(String::new, |(certificate, key)| {
        format!("  tls: {{certificate: {}, key: {}}}\n", quoted(certificate), quoted(key))
    });
    let auth = settings.htpasswd.map_or_else(String::new, |file| {
        format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", quoted(file))
    });
    let store = quoted(&dir.join("store"));
    format!(
        "version: 0.1\n\
         log: {{level: info}}\n\
         storage: {{filesystem: {{rootdirectory: {store}}}}}\n\
         http:\n  addr: \"127.0.0.1:0\"\n  secret: test\n{tls}{auth}"
    )
}

/// Passes the lines of a log on. The log is read to its end, so that the program never waits for
/// a reader.
fn lines_of(log: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = sender.send(line); // nobody listens once the address is known
        }
    });
    receiver
}

/// Waits for the line of the log that names the address.
fn address(log: &Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + START_TIME;
    let mut lines = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = log.recv_timeout(left);
        let line = line.with_context(|| format!("docker-registry does not listen: {lines:#?}"))?;
        if let Some((_, rest)) = line.split_once(LISTENING) {
            let is_end = |c: char| !(c.is_ascii_digit() || ".:".contains(c));
            return Ok(rest.split(is_end).next().unwrap_or(rest).to_owned());
        }
        lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_files_and_no_port() {
        let plain = text("/a b".as_ref(), &RegistrySettings::default());
        assert!(plain.contains(r#"rootdirectory: "/a b/store""#) && plain.contains(":0\""));
        assert!(!plain.contains("tls") && !plain.contains("auth"), "{plain}");
        let (certificate, key) = ("/c".as_ref(), "/k".as_ref());
        let settings =
            RegistrySettings { tls: Some((certificate, key)), htpasswd: Some("/h".as_ref()) };
        let closed = text("/d".as_ref(), &settings);
        assert!(closed.contains(r#"tls: {certificate: "/c", key: "/k"}"#), "{closed}");
        assert!(closed.contains(r#"path: "/h""#), "{closed}");
    }

    #[test]
    fn the_address_is_found_in_the_log() {
        let (sender, receiver) = channel();
        sender.send("level=info msg=\"redis not configured\"".to_owned()).unwrap();
        sender.send("msg=\"listening on 127.0.0.1:4021\" go.version=x".to_owned()).unwrap();
        assert_eq!(address(&receiver).unwrap(), "127.0.0.1:4021");
        drop(sender);
        assert!(address(&receiver).unwrap_err().to_string().contains("does not listen"));
    }
}
