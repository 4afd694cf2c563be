//! The request of a command step: what `/step` gets to know.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use image::tree::Tree;
use recipe::{Network, Program, Secret};
use step::request::{self, Access, Bind, Request};

use super::super::super::write::user;
use super::super::package::Package;
use super::super::package::plan::{Command, Planned};
use super::inputs_disk::SCRIPT;

/// Where programs are, if the base does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Name server of QEMU's user network (QEMU doc: system/devices/net).
const RESOLV_CONF: &[u8] = b"nameserver 10.0.2.3\n";

/// Most bytes of a secret; all secrets of a step must fit into a request.
const SECRET_MAX: u64 = 256 << 10;

/// What all commands of a build have in common.
#[derive(Clone, Debug, Default)]
pub(in crate::image_command::recipe) struct Surroundings {
    /// Variables of the base, each as `NAME=VALUE`.
    pub(in crate::image_command::recipe) env: Vec<String>,
    /// Value of `SOURCE_DATE_EPOCH`.
    pub(in crate::image_command::recipe) time: i64,
    /// Volumes in the order in which the machine has them.
    pub(in crate::image_command::recipe) volumes: Vec<VolumeOf>,
}

/// A directory of the host that the commands of one package see.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct VolumeOf {
    pub(in crate::image_command::recipe) package: Rc<Package>,
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
        if found.iter().any(|volume| Rc::ptr_eq(&volume.package, package)) {
            continue;
        }
        for (path, volume) in &package.recipe.build.volumes {
            found.push(VolumeOf {
                package: Rc::clone(package),
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
    let mut env = vec![
        PATH.as_bytes().to_vec(),
        [b"HOME=", &home[..]].concat(),
        b"LANG=C.UTF-8".to_vec(),
        b"TZ=UTC".to_vec(),
        format!("SOURCE_DATE_EPOCH={}", surroundings.time).into_bytes(),
    ];
    env.extend(surroundings.env.iter().map(|pair| pair.clone().into_bytes()));
    let pair = |(name, value): (&String, &String)| format!("{name}={value}").into_bytes();
    env.extend(build.env.iter().map(pair));
    env.extend(step.env.iter().map(pair));
    let volumes = surroundings.volumes.iter().enumerate();
    let volumes = volumes.filter(|(_, volume)| Rc::ptr_eq(&volume.package, package));
    let binds = volumes.map(|(number, volume)| Bind {
        access: volume.access,
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
        secrets: step.secrets.iter().map(|name| secret(package, name)).collect::<Result<_>>()?,
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

/// Reads a secret.
fn secret(package: &Package, name: &str) -> Result<request::Secret> {
    let source = package.recipe.build.secrets.get(name);
    let source = source.with_context(|| format!("secret {name}: [build] does not have it"))?;
    let bytes = match source {
        Secret::Env(variable) => {
            let value = std::env::var_os(variable);
            let value = value
                .with_context(|| format!("secret {name}: the variable {variable} is not set"))?;
            std::os::unix::ffi::OsStringExt::into_vec(value)
        }
        Secret::File(path) => {
            let path = package.of_host(path);
            let reading = || format!("secret {name}: read {}", path.display());
            let size = fs::metadata(&path).with_context(reading)?.len();
            anyhow::ensure!(
                size <= SECRET_MAX,
                "{}: it has more than {SECRET_MAX} bytes",
                reading()
            );
            fs::read(&path).with_context(reading)?
        }
    };
    Ok(request::Secret { name: name.to_owned(), bytes })
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
