//! manifest.toml of fledge → `name`, `[run]`, `[machine]` and manifest.json.

use crate::convert::source::{Document, Table, Value};
use crate::model::{Machine, Mistake, Network, Recipe, Run};

/// The version of the manifest that fledge reads.
const SCHEMA: &str = "v1";

/// JSON file that fledge writes beside an image.
const FILE: &str = "manifest.json";

/// Label for the version of an image (OCI image-spec, annotations.md).
const VERSION: &str = "org.opencontainers.image.version";

/// Longest name of a recipe, in bytes.
const NAME_MAX: usize = 63;

/// Highest port of TCP and UDP (RFC 9293, RFC 768).
const PORT_MAX: u32 = 65535;

/// Protocols of ports, by the same names in both.
const PROTOCOLS: &[&str] = &["tcp", "udp"];

/// Networks of fledge, ours, and what is different.
#[rustfmt::skip]
const NETWORKS: &[(&str, Network, &str)] = &[
    ("bridged", Network::User, "network = \"user\" is behind the host; it needs no bridge and no root"),
    ("dhcp",    Network::User, "network = \"user\" is behind the host; it needs no bridge and no root"),
    ("vsock",   Network::None, "chrootvm's own ports take the place of vsock"),
];

/// Keys without counterpart.
const WITHOUT: &[(&str, &str)] = &[
    ("runtime", "there are no kinds of plugins: /init runs every workload"),
    ("actions", "there is no agent that answers HTTP; `chrootvm exec` runs commands"),
    ("cloud_init", "nothing reads it; put files and steps into the recipe"),
];

/// Converts the manifest into `recipe`.
///
/// # Errors
/// The text is no TOML, or a value has the wrong form.
pub(super) fn convert(document: &Document<'_>, recipe: &mut Recipe) -> Result<(), Mistake> {
    let parsed = document.parse()?;
    let mut root = Table::root(document, &parsed);
    if let Some(schema) = root.take("schema_version")
        && schema.text()? != SCHEMA
    {
        return Err(schema.mistake("must be \"v1\""));
    }
    recipe.manifest = Some(FILE.into());
    if let Some(value) = root.take("name") {
        recipe.name = name(&value)?;
    }
    let mut run = Run::default();
    if let Some(version) = root.take_text("version")?.filter(|version| !version.is_empty()) {
        run.labels.insert(VERSION.to_owned(), version.to_owned());
    }
    if let Some(mut workload) = root.take_table("workload")? {
        run.command = workload.take("entrypoint").map_or(Ok(Vec::new()), |value| words(&value))?;
        run.args = workload.take_texts("args")?;
        workload.finish();
    }
    run.env = root.take_variables("env")?;
    let mut machine = Machine::default();
    if let Some(mut resources) = root.take_table("resources")? {
        let number = |value: Value<'_>| value.number(1..=u32::MAX);
        machine.cpus = resources.take("cpu_cores").map(number).transpose()?;
        let memory = resources.take("memory_mb").map(number).transpose()?;
        machine.memory = memory.map(|mib| u64::from(mib) << 20);
        resources.finish();
    }
    if let Some(network) = root.take_table("network")? {
        convert_network(network, &mut run, &mut machine)?;
    }
    if let Some(mut devices) = root.take_table("devices")? {
        let why = "no device of the host is handed to the machine; --qemu-arg can do it";
        devices.note_all(&[("pci_passthrough", why)]);
        devices.finish();
    }
    root.note_all(WITHOUT);
    root.finish();
    recipe.run = run;
    recipe.machine = (machine != Machine::default()).then_some(machine);
    Ok(())
}

fn convert_network(
    mut table: Table<'_>,
    run: &mut Run,
    machine: &mut Machine,
) -> Result<(), Mistake> {
    if let Some(mode) = table.take("mode").filter(|mode| mode.text() != Ok("")) {
        let name = mode.text()?;
        let Some((_, network, why)) = NETWORKS.iter().find(|(known, ..)| *known == name) else {
            return Err(mode.mistake("must be \"bridged\", \"vsock\" or \"dhcp\""));
        };
        machine.network = Some(*network);
        mode.note(why);
    }
    for item in &table.take_list("expose")? {
        let mut entry = item.table()?;
        let port = entry.require("port")?.number(1..=PORT_MAX)?;
        let protocol = entry.take("protocol").filter(|protocol| protocol.text() != Ok(""));
        let protocol = protocol.as_ref().map_or(Ok("tcp"), Value::text)?;
        if !PROTOCOLS.contains(&protocol) {
            return Err(item.mistake("must have \"tcp\" or \"udp\" as its protocol"));
        }
        run.expose.push(format!("{port}/{protocol}"));
        if let Some(host) = entry.take("host_port") {
            // 0 is the same as no port.
            let host = host.number(0..=PORT_MAX)?;
            let ending = if protocol == "udp" { "/udp" } else { "" };
            machine.publish.extend((host != 0).then(|| format!("{host}:{port}{ending}")));
        }
        entry.finish();
    }
    table.finish();
    Ok(())
}

/// A program, or a list of a program and its arguments, which manifest.json has; an empty text
/// is no program.
fn words(value: &Value<'_>) -> Result<Vec<String>, Mistake> {
    let items = value.list().unwrap_or_else(|_| vec![value.clone()]);
    let words: Vec<_> = items.iter().map(Value::text).collect::<Result<_, _>>()?;
    Ok(if words == [""] { Vec::new() } else { words.into_iter().map(str::to_owned).collect() })
}

/// The name as a recipe takes it.
fn name(value: &Value<'_>) -> Result<Option<String>, Mistake> {
    let text = value.text()?;
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let lower = text.to_ascii_lowercase().replace(|c: char| !is_fine(c), "-");
    let name: String = lower.trim_start_matches(['.', '_', '-']).chars().take(NAME_MAX).collect();
    if name != text {
        value.note(&format!("a name has a-z, 0-9, dots, _ and - only: \"{name}\""));
    }
    Ok((!name.is_empty()).then_some(name))
}
