//! The JSON file that describes what a recipe has made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::output;
use image::format::Format;
use image::tree::Tree;
use oci::name::platform::Platform;
use serde_json::{Value, json};

use super::super::kept::key::{Key, hex};
use super::super::kept::store::Store;
use super::super::package::Package;
use super::super::package::inputs::file_digest;
use super::super::results::outputs::{Contents, Planned};

/// Version of the form of the file.
const VERSION: u32 = 1;

/// Directories with one directory of modules for each kernel.
const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];

/// Where the manifest `file` of a package is written: beside the outputs, whose place `-o` may
/// give.
pub(in crate::image_command::recipe) fn place(
    package: &Package,
    file: &Path,
    output: Option<&Path>,
) -> PathBuf {
    let Some(output) = output else { return package.of_host(file) };
    let dir = if output.is_dir() { output.to_path_buf() } else { output::directory(output) };
    dir.join(file.file_name().unwrap_or_default())
}

/// Writes the manifest to `path`.
///
/// # Errors
/// An output cannot be read; the file cannot be written.
pub(in crate::image_command::recipe) fn write(
    path: &Path,
    contents: &Contents<'_>,
    base: Option<&Key>,
    kernels: &[String],
    outputs: &[Planned],
    store: &Store,
) -> Result<()> {
    let recipe = &contents.package.recipe;
    let outputs = outputs.iter().map(|output| {
        let file = &output.path;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let format = output.format.0.name();
        if output.format.0 == Format::Dir {
            return Ok(json!({ "file": name, "format": format, "size": null, "sha256": null }));
        }
        let size = file.metadata().with_context(|| format!("look at {}", file.display()))?.len();
        let digest = file_digest(file, store).with_context(|| format!("read {}", file.display()))?;
        let digest = hex(&digest);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Ok(json!({ "file": name, "format": output.format.0.name(), "size": size, "sha256": digest }))
    });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let process = &contents.process;
    let command = [&process.entrypoint[..], &process.cmd[..]].concat();
    let machine = recipe.machine.clone().unwrap_or_default();
    let value = json!({
        "version": VERSION,
        "name": recipe.name,
        "platform": recipe.from.platform.clone().unwrap_or_else(|| Platform::host().to_string()),
        "recipe": format!("sha256:{}", contents.package.digest),
        "base": base.map(ToString::to_string),
        "time": contents.time,
        "outputs": outputs,
        "kernels": kernels,
        "resources": {
            "cpus": machine.cpus,
            "memory": machine.memory,
            "network": machine.network.map(network),
            "publish": machine.publish,
        },
        "workload": {
            "command": command,
            "env": process.env,
            "user": process.user,
            "workdir": process.working_dir,
            "stop-signal": process.stop_signal,
            "volumes": process.volumes,
            "expose": process.exposed_ports,
            "labels": process.labels,
        },
    });
    output::write(path, format!("{value:#}\n").as_bytes())
}

fn network(network: recipe::Network) -> Value {
    match network {
        recipe::Network::None => "none".into(),
        recipe::Network::User => "user".into(),
    }
}

/// Releases of the kernels whose modules the tree has.
pub(in crate::image_command::recipe) fn kernels(tree: &Tree) -> Vec<String> {
    let found = MODULES.iter().find_map(|path| tree.find(path.as_bytes()));
    let names = found.and_then(|id| tree.children(id)).into_iter().flatten();
    names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}
