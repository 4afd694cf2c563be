//! Options of `chrootvm image build` that only Containerfiles have.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use machine::host::absolute;
use recipe::values::parse_duration;
use recipe::{Build, Network, Recipe, Secret};

use crate::line::sizes::parse_size;

/// Bytes of a MiB.
const MEBIBYTE: u64 = 1 << 20;

/// How a Containerfile is built
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Containerfiles")]
pub(in crate::image_command) struct ContainerfileOptions {
    /// Containerfile; SOURCE is then the context, the directory with the files for COPY and ADD
    ///
    /// FILE may be -, which is standard input. Without this option, a SOURCE that is a file called
    /// Containerfile, Containerfile.* or *.Containerfile (or so with Dockerfile) is built, and its
    /// directory is the context. FILE.containerignore, FILE.dockerignore, and .containerignore or
    /// .dockerignore in the context list what to leave out; the first that exists counts.
    #[arg(short, long, hide_short_help = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Value of an ARG; without VALUE, that of the variable NAME here; repeatable
    #[arg(long, hide_short_help = true, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Directory or image that FROM and --from call NAME; repeatable
    ///
    /// SOURCE is oci-archive:FILE, oci-layout:DIR or docker-archive:FILE, the path of such an
    /// image, of an image file or of a directory, or oci:REF for another name in a registry.
    #[arg(long, hide_short_help = true, value_name = "NAME=SOURCE", value_parser = parse_named)]
    build_context: Vec<(String, OsString)>,
    /// Bytes for RUN --mount=type=secret, from a file or a variable; repeatable
    ///
    /// Without src and env, it is the variable ID if that is set, else the file ID. A file has at
    /// most 256 KiB. A secret is in no layer and no key.
    #[arg(long, hide_short_help = true, value_name = "id=ID[,src=FILE|,env=NAME]", value_parser = parse_secret)]
    secret: Vec<(String, Secret)>,
    /// Stage to build, a name or a number [default: the last one]
    #[arg(long, hide_short_help = true, value_name = "STAGE")]
    target: Option<String>,
    /// Name of the image in an OCI archive (-o FILE.oci.tar)
    #[arg(short, long, hide_short_help = true, value_name = "NAME[:TAG]")]
    tag: Option<String>,
    /// One layer for all instructions in an OCI archive
    #[arg(long, hide_short_help = true)]
    squash: bool,
    /// Network of RUN: default or none [default: default]
    ///
    /// With default, it reaches what the host reaches, unless RUN says --network=none. With none,
    /// no RUN has a network.
    #[arg(long, hide_short_help = true, value_name = "NETWORK", value_parser = parse_network)]
    network: Option<Network>,
    /// Memory of each machine in which RUN runs [default: as for chrootvm]
    ///
    /// Each stage that runs something has a machine. Compilers may need 4G.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Number of its processors [default: as for chrootvm]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    cpus: Option<u32>,
    /// Most bytes that all RUN of a stage may write [default: 16G]
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = parse_size)]
    disk: Option<u64>,
    /// Time limit of each RUN [default: 1h]
    #[arg(long, hide_short_help = true, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Parses `NAME=SOURCE`.
fn parse_named(text: &str) -> Result<(String, OsString), String> {
    let pair = text.split_once('=').filter(|(name, source)| !name.is_empty() && !source.is_empty());
    let (name, source) = pair.ok_or("NAME=SOURCE")?;
    Ok((name.to_owned(), source.into()))
}

/// Parses `id=ID[,src=FILE|,env=NAME]`. Without a source, it is the variable ID, or else the file
/// ID, as for docker.
fn parse_secret(text: &str) -> Result<(String, Secret), String> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            Some(("type", "file" | "env")) => {}
            _ => return Err(format!("{part}: write id=ID,src=FILE or id=ID,env=NAME")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("write id=ID,src=FILE or id=ID,env=NAME")?;
    let secret = match (file, variable) {
        (Some(_), Some(_)) => return Err("give src or env, not both".into()),
        (Some(file), None) => Secret::File(file.into()),
        (None, Some(variable)) => Secret::Env(variable.to_owned()),
        (None, None) if std::env::var_os(id).is_some() => Secret::Env(id.to_owned()),
        (None, None) => Secret::File(id.into()),
    };
    Ok((id.to_owned(), secret))
}

/// Parses a value of `--network`.
fn parse_network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "default" => Ok(Network::User),
        _ => Err("default or none".into()),
    }
}

impl ContainerfileOptions {
    /// The first option that is given, for a message.
    pub(in crate::image_command) fn first_given(&self) -> Option<&'static str> {
        let rows = [
            (self.file.is_some(), "--file"),
            (!self.build_arg.is_empty(), "--build-arg"),
            (!self.build_context.is_empty(), "--build-context"),
            (!self.secret.is_empty(), "--secret"),
            (self.target.is_some(), "--target"),
            (self.tag.is_some(), "--tag"),
            (self.squash, "--squash"),
            (self.network.is_some(), "--network"),
            (self.memory.is_some(), "--memory"),
            (self.cpus.is_some(), "--cpus"),
            (self.disk.is_some(), "--disk"),
            (self.timeout.is_some(), "--timeout"),
        ];
        rows.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// The Containerfile of `--file`.
    pub(in crate::image_command) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Name of the image in an archive.
    pub(in crate::image_command) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether all instructions become one layer.
    pub(in crate::image_command) fn is_squashed(&self) -> bool {
        self.squash
    }

    /// Name or number of the stage to build.
    pub(super) fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Directories and images by their names in the Containerfile.
    pub(super) fn contexts(&self) -> &[(String, OsString)] {
        &self.build_context
    }

    /// Values of ARG.
    ///
    /// # Errors
    /// A variable that is not UTF-8.
    pub(super) fn arguments(&self) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for text in &self.build_arg {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                // A variable that is not set leaves the default of the ARG.
                None => match std::env::var_os(text) {
                    Some(value) => match value.into_string() {
                        Ok(value) => (text.as_str(), value),
                        Err(_) => bail!("--build-arg {text}: the variable is not UTF-8"),
                    },
                    None => continue,
                },
            };
            if name.is_empty() {
                bail!("--build-arg {text}: write NAME=VALUE");
            }
            found.insert(name.to_owned(), value);
        }
        Ok(found)
    }

    /// The settings of the build, in the form of a recipe.
    ///
    /// # Errors
    /// The current directory cannot be found.
    pub(super) fn settings(&self) -> Result<Recipe> {
        let mut secrets = BTreeMap::new();
        for (id, secret) in &self.secret {
            let secret = match secret {
                Secret::File(path) => {
                    let path = absolute(path)?;
                    path.metadata()
                        .with_context(|| format!("--secret {id}: {}", path.display()))?;
                    Secret::File(path)
                }
                Secret::Env(name) => Secret::Env(name.clone()),
            };
            secrets.insert(id.clone(), secret);
        }
        let build = Build {
            network: self.network.unwrap_or(Network::User),
            timeout: self.timeout.unwrap_or(Build::TIMEOUT),
            memory: self.memory.map(|bytes| bytes.div_ceil(MEBIBYTE).saturating_mul(MEBIBYTE)),
            cpus: self.cpus,
            disk: self.disk.unwrap_or(Build::DISK),
            secrets,
            normalise: Vec::new(),
            ..Build::default()
        };
        Ok(Recipe { build, ..Recipe::default() })
    }
}

/// Whether a file of this name is a Containerfile: `Containerfile`, `Containerfile.NAME`,
/// `NAME.Containerfile`, or so with `Dockerfile`, in any case of the letters.
pub(in crate::image_command) fn is_name_of_containerfile(path: &Path) -> bool {
    const NAMES: [&[u8]; 2] = [b"containerfile", b"dockerfile"];
    let name = path.file_name().unwrap_or_default().as_bytes().to_ascii_lowercase();
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'.').collect();
    let is_known = |part: Option<&&[u8]>| part.is_some_and(|part| NAMES.contains(part));
    let is_of_ignore = parts.last().is_some_and(|part| part.ends_with(b"ignore"));
    !is_of_ignore && (is_known(parts.first()) || is_known(parts.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerfiles_have_known_names() {
        for name in [
            "Containerfile",
            "Dockerfile",
            "a/Containerfile",
            "Dockerfile.prod",
            "web.Dockerfile",
            "dockerfile",
            "a.b.containerfile",
        ] {
            assert!(is_name_of_containerfile(Path::new(name)), "{name}");
        }
        for name in [
            "Makefile",
            "Dockerfile.dockerignore",
            "Containerfile.containerignore",
            "Dockerfiles",
            "docker",
            "x.tar",
            ".dockerignore",
            "",
        ] {
            assert!(!is_name_of_containerfile(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn secrets_name_a_file_or_a_variable() {
        let file = |path: &str| Secret::File(path.into());
        for (text, expected) in [
            ("id=a,src=b", Ok(("a", file("b")))),
            ("source=b/c,id=a", Ok(("a", file("b/c")))),
            ("id=a,env=B", Ok(("a", Secret::Env("B".into())))),
            ("id=no-such-variable", Ok(("no-such-variable", file("no-such-variable")))),
            ("id=PATH", Ok(("PATH", Secret::Env("PATH".into())))),
            ("type=file,id=a,src=b", Ok(("a", file("b")))),
            ("a", Err("write id=ID")),
            ("id=,src=b", Err("write id=ID")),
            ("src=b", Err("write id=ID")),
            ("id=a,src=b,env=C", Err("not both")),
            ("id=a,file=b", Err("file=b: write")),
        ] {
            match (parse_secret(text), expected) {
                (Ok((id, secret)), Ok(expected)) => assert_eq!((&*id, secret), expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
