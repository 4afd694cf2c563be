//! The request of a command step: what `/step` gets to know.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::tree::Tree;
use recipe::containerfile::DEFAULT_PATH;
use recipe::{Network, Program, Secret};
use step::request::{self, Access, Bind, BindAccess, EtcFiles, Request, RunDirectory, Tmpfs};

use super::super::super::write::user;
use super::super::package::front::Front;
use super::super::package::planned::{Command, Mount, Planned, SecretUse, Work};
use super::super::package::{Package, WrongRecipe};
use super::inputs_disk::SCRIPT;

/// Name server of QEMU's user network (QEMU doc: system/devices/net).
const RESOLV_CONF: &[u8] = b"nameserver 10.0.2.3\n";

/// Most bytes of a secret; all secrets of a step must fit into a request.
const SECRET_MAX: u64 = 256 << 10;

/// What all commands of a build have in common.
#[derive(Clone, Debug, Default)]
pub(in crate::image_command::recipe) struct Surroundings {
    /// Variables besides `PATH`, `HOME` and those of the steps, each as `NAME=VALUE`.
    pub(in crate::image_command::recipe) env: Vec<String>,
    /// Volumes in the order in which the machine has them.
    pub(in crate::image_command::recipe) volumes: Vec<VolumeOf>,
}

/// A directory of the host that the commands of one package see.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct VolumeOf {
    pub(in crate::image_command::recipe) package: Arc<Package>,
    /// Path on the host.
    pub(in crate::image_command::recipe) host: PathBuf,
    /// Path in the image.
    pub(in crate::image_command::recipe) path: String,
    pub(in crate::image_command::recipe) access: Access,
}

/// The volumes of all packages, in the order in which the machine has them.
pub(in crate::image_command::recipe) fn volumes(steps: &[Planned]) -> Vec<VolumeOf> {
    let mut found: Vec<VolumeOf> = Vec::new();
    for step in steps {
        let package = &step.package;
        if found.iter().any(|volume| Arc::ptr_eq(&volume.package, package)) {
            continue;
        }
        for (path, volume) in &package.recipe.build.volumes {
            found.push(VolumeOf {
                package: Arc::clone(package),
                host: package.of_host(&volume.path),
                path: path.clone(),
                access: if volume.writable { Access::ReadWrite } else { Access::ReadOnly },
            });
        }
    }
    found
}

/// The request of a command. Layers, inputs and caches are not in it yet.
///
/// # Errors
/// A secret that cannot be read.
pub(in crate::image_command::recipe) fn request(
    planned: &Planned,
    command: &Command,
    surroundings: &Surroundings,
    tree: &Tree,
) -> Result<Request> {
    let (package, step) = (&planned.package, &command.step);
    let build = &package.recipe.build;
    let home = user::home(tree, step.user.as_deref())?;
    let mut env =
        vec![[b"PATH=", DEFAULT_PATH.as_bytes()].concat(), [b"HOME=", &home[..]].concat()];
    env.extend(surroundings.env.iter().map(|pair| pair.clone().into_bytes()));
    let pair = |(name, value): (&String, &String)| format!("{name}={value}").into_bytes();
    env.extend(build.env.iter().map(pair));
    env.extend(step.env.iter().map(pair));
    env.extend(command.hidden_env.iter().map(|(name, value)| pair((name, value))));
    // The guest tells of a user that is missing.
    let owner = user::owner(tree, step.user.as_deref()).unwrap_or_default();
    let mut secrets = Vec::new();
    let mut tmpfs = Vec::new();
    for mount in &command.mounts {
        match mount {
            Mount::Secret(secret) => {
                let Some(bytes) = secret_bytes(package, secret)? else { continue };
                if let Some(name) = &secret.env {
                    env.push([name.as_bytes(), b"=", &bytes].concat());
                }
                if let Some(path) = &secret.path {
                    let (uid, gid) = secret.owner.unwrap_or(owner);
                    let path = path.clone().into_bytes();
                    secrets.push(request::Secret { path, mode: secret.mode, uid, gid, bytes });
                }
            }
            Mount::Tmpfs { path, size } => {
                tmpfs.push(Tmpfs { size: *size, path: path.clone().into_bytes() });
            }
            // The disk of inputs has these.
            Mount::Files { .. } => {}
        }
    }
    let volumes = surroundings.volumes.iter().enumerate();
    let volumes = volumes.filter(|(_, volume)| Arc::ptr_eq(&volume.package, package));
    let binds = volumes.map(|(number, volume)| Bind {
        access: match volume.access {
            Access::ReadOnly => BindAccess::ReadOnly,
            Access::ReadWrite => BindAccess::ReadWrite,
        },
        source: format!("/run/volumes/{number}").into_bytes(),
        path: volume.path.clone().into_bytes(),
    });
    Ok(Request {
        args: words(&step.program),
        env: last_of_each(env),
        user: step.user.clone().map(String::into_bytes),
        cwd: step.workdir.clone().unwrap_or_else(|| "/".into()).into_bytes(),
        hostname: build.hostname.clone().into_bytes(),
        network: match command.network {
            Network::None => request::Network::None,
            Network::User => request::Network::User { resolv_conf: RESOLV_CONF.to_vec() },
        },
        binds: binds.collect(),
        secrets,
        tmpfs,
        run: match package.front {
            Front::Recipe => RunDirectory::Fresh,
            Front::Containerfile => RunDirectory::Image,
        },
        etc: match package.front {
            Front::Recipe => EtcFiles::Image,
            Front::Containerfile => EtcFiles::Private,
        },
        ..Request::default()
    })
}

/// Words of a program.
fn words(program: &Program) -> Vec<Vec<u8>> {
    let bytes = |word: &String| word.clone().into_bytes();
    match program {
        Program::Shell(text) => {
            ["/bin/sh", "-eu", "-c", text].map(|word| word.as_bytes().to_vec()).into()
        }
        Program::Words(words) => words.iter().map(bytes).collect(),
        Program::Script(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            vec![format!("{SCRIPT}/{name}").into_bytes()]
        }
    }
}

/// The variables; of several with one name, the last one.
fn last_of_each(env: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let name = |pair: &[u8]| pair.split(|&byte| byte == b'=').next().map(<[u8]>::to_vec);
    let mut found: Vec<Vec<u8>> = Vec::new();
    for pair in env {
        match found.iter().position(|known| name(known) == name(&pair)) {
            Some(at) => found[at] = pair,
            None => found.push(pair),
        }
    }
    found
}

/// Fails if the package lacks a secret that a step requires.
///
/// # Errors
/// [`WrongRecipe`], with the place of the step.
pub(in crate::image_command::recipe) fn check_secrets(step: &Planned) -> Result<()> {
    let Work::Command(command) = &step.work else { return Ok(()) };
    for mount in &command.mounts {
        let Mount::Secret(SecretUse { id, is_required: true, .. }) = mount else { continue };
        let is_given = step.package.recipe.build.secrets.contains_key(id);
        let hint = step.package.front.hints().secret;
        ensure!(is_given, WrongRecipe(format!("{}: secret {id}: {hint}", step.place)));
    }
    Ok(())
}

/// The bytes of a secret; `None` for one that is missing and not required.
fn secret_bytes(package: &Package, secret: &SecretUse) -> Result<Option<Vec<u8>>> {
    let name = &secret.id;
    let bytes = match package.recipe.build.secrets.get(name) {
        None if !secret.is_required => return Ok(None),
        None => bail!(WrongRecipe(format!("secret {name}: {}", package.front.hints().secret))),
        Some(Secret::Env(variable)) => {
            let value = std::env::var_os(variable);
            let value = value
                .with_context(|| format!("secret {name}: the variable {variable} is not set"))?;
            std::os::unix::ffi::OsStringExt::into_vec(value)
        }
        Some(Secret::File(path)) => {
            let path = package.of_host(path);
            let reading = || format!("secret {name}: read {}", path.display());
            let mut bytes = Vec::new();
            let file = File::open(&path).with_context(reading)?;
            file.take(SECRET_MAX + 1).read_to_end(&mut bytes).with_context(reading)?;
            let fits = bytes.len() as u64 <= SECRET_MAX;
            ensure!(fits, "{}: it has more than {SECRET_MAX} bytes", reading());
            bytes
        }
    };
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name_wins() {
        let env = ["A=1", "B=2", "A=3", "AB=4"].map(|pair| pair.as_bytes().to_vec());
        assert_eq!(last_of_each(env.into()), [&b"A=3"[..], b"B=2", b"AB=4"]);
    }

    #[test]
    fn programs_become_words() {
        let shown = |program| {
            let words = words(&program).into_iter();
            words.map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(shown(Program::Shell("a\nb".into())), ["/bin/sh", "-eu", "-c", "a\nb"]);
        assert_eq!(shown(Program::Words(vec!["x".into(), String::new()])), ["x", ""]);
        assert_eq!(shown(Program::Script("dir/setup.sh".into())), ["/run/script/setup.sh"]);
    }
}
