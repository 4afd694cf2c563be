//! The Containerfiles of `tests/containerfiles`, and the options with which each is built.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// A directory of `tests/containerfiles`: a Containerfile and its context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixture {
    /// Name of the directory.
    pub(super) name: &'static str,
    /// Build arguments, as `NAME=VALUE`.
    pub(super) arguments: &'static [&'static str],
    /// Secrets of its `RUN --mount=type=secret`.
    pub(super) secrets: &'static [Secret],
    /// Stage that becomes the image; `None` stands for the last stage.
    pub(super) target: Option<&'static str>,
}

/// A secret of a build.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret {
    /// Name in the Containerfile.
    pub(super) id: &'static str,
    /// Where the builder reads it.
    pub(super) from: SecretFrom,
}

/// Where a builder reads a secret.
#[derive(Clone, Copy, Debug)]
pub(super) enum SecretFrom {
    /// This file of the context.
    File(&'static str),
    /// This environment variable of the builder, which has this value.
    Variable(&'static str, &'static str),
}

#[rustfmt::skip]
const FIXTURES: &[Fixture] = &[
    Fixture { name: "c",          arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "go",         arguments: &["VERSION=1.2.3"],           secrets: &[],      target: None },
    Fixture { name: "rust",       arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "web",        arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "systemd",    arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "python",     arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "busybox",    arguments: &["GREETING=Good morning"],   secrets: &[],      target: None },
    Fixture { name: "distroless", arguments: &[],                          secrets: &[],      target: None },
    Fixture { name: "secrets",    arguments: &[],                          secrets: &SECRETS, target: None },
    Fixture { name: "matrix",     arguments: &["LEVEL=3", "FLAGS=--fast"], secrets: &[],      target: Some("release") },
];

const SECRETS: [Secret; 2] = [
    Secret { id: "token", from: SecretFrom::File("token.txt") },
    Secret { id: "password", from: SecretFrom::Variable("TEST_PASSWORD", "correct horse") },
];

/// The fixtures with these names, in the order of the names; all of them if there is no name.
///
/// # Errors
/// A name that no fixture has.
pub(super) fn select(names: &[String]) -> Result<Vec<Fixture>> {
    if names.is_empty() {
        return Ok(FIXTURES.to_vec());
    }
    let find = |name: &String| match FIXTURES.iter().find(|fixture| fixture.name == name) {
        Some(fixture) => Ok(*fixture),
        None => {
            let known: Vec<_> = FIXTURES.iter().map(|fixture| fixture.name).collect();
            bail!("no Containerfile is called {name}; there are {}", known.join(", "))
        }
    };
    names.iter().map(find).collect()
}

impl Fixture {
    /// The context, in the source tree `workspace`.
    pub(super) fn context(&self, workspace: &Path) -> PathBuf {
        workspace.join("tests/containerfiles").join(self.name)
    }

    /// The options that chrootvm and buildah have in common, with the secrets' files in
    /// `context`.
    pub(super) fn options(&self, context: &Path) -> Vec<String> {
        let mut options = Vec::new();
        for argument in self.arguments {
            options.extend(["--build-arg".into(), (*argument).into()]);
        }
        for secret in self.secrets {
            let from = match secret.from {
                SecretFrom::File(file) => format!("src={}", context.join(file).display()),
                SecretFrom::Variable(name, _) => format!("env={name}"),
            };
            options.extend(["--secret".into(), format!("id={},{from}", secret.id)]);
        }
        options.extend(self.target.iter().flat_map(|stage| ["--target".into(), (*stage).into()]));
        options
    }

    /// The environment variables that the secrets need, each with its value.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.secrets.iter().filter_map(|secret| match secret.from {
            SecretFrom::Variable(name, value) => Some((name, value)),
            SecretFrom::File(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn each_directory_is_a_fixture() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let directories = fs::read_dir(workspace.join("tests/containerfiles")).unwrap();
        let names = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let expected: BTreeSet<_> =
            FIXTURES.iter().map(|fixture| fixture.name.to_owned()).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), expected);
        for fixture in FIXTURES {
            let text = fs::read_to_string(fixture.context(workspace).join("Containerfile"));
            assert!(text.unwrap().starts_with('#'), "{}: no comment", fixture.name);
        }
    }

    #[test]
    fn fixtures_are_selected_by_name() {
        let select = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = select(&names).map_err(|error| error.to_string());
            found.map(|found| found.iter().map(|fixture| fixture.name).collect::<Vec<_>>())
        };
        assert_eq!(select(&["web", "c"]), Ok(vec!["web", "c"]));
        assert_eq!(select(&[]).unwrap().len(), FIXTURES.len());
        assert!(select(&["c", "cobol"]).unwrap_err().contains("cobol; there are c, go"));
    }

    #[test]
    fn options_name_arguments_secrets_and_target() {
        let fixture =
            Fixture { name: "x", arguments: &["A=1 2"], secrets: &SECRETS, target: Some("last") };
        let expected = [
            "--build-arg",
            "A=1 2",
            "--secret",
            "id=token,src=/c/token.txt",
            "--secret",
            "id=password,env=TEST_PASSWORD",
            "--target",
            "last",
        ];
        assert_eq!(fixture.options(Path::new("/c")), expected);
        assert_eq!(fixture.variables().collect::<Vec<_>>(), [("TEST_PASSWORD", "correct horse")]);
    }
}
