//! `[container]` of buildfs → `[from]` and `[build]`.

use std::time::Duration;

use crate::convert::paths;
use crate::convert::source::Table;
use crate::model::{Base, HostVolume, Mistake, Network, Recipe};

/// Keys without counterpart.
const WITHOUT: &[(&str, &str)] = &[
    ("engine", "there is no engine: steps run in a machine of their own"),
    ("rootful", "there is no engine: steps are root in a machine of their own"),
    ("wait_timeout_s", "there is no container that has to stop"),
    ("connection_uri", "there is no engine to connect to"),
    ("oci_runtime", "there is no engine and no runtime"),
    ("cap_add", "steps have all capabilities in a machine of their own"),
    (
        "cap_drop",
        "steps have all capabilities in a machine of their own; `user` of a step drops them",
    ),
];

/// Converts the table into the base and the settings of `recipe`.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(mut table: Table<'_>, recipe: &mut Recipe) -> Result<(), Mistake> {
    let mut image = table.require("image")?.table()?;
    let (name, tag) = (image.require("name")?.text()?, image.require("tag")?.text()?);
    recipe.from.base = Base::Oci(format!("{name}:{tag}"));
    image.finish();
    let build = &mut recipe.build;
    // Containers have a network.
    build.network = Network::User;
    build.env = table.take_variables("env")?;
    if let Some(hostname) = table.take_text("hostname")? {
        hostname.clone_into(&mut build.hostname);
    }
    if let Some(timeout) = table.take("timeout") {
        // 0 is the engine's word for no limit.
        match timeout.number(0..=u32::MAX)? {
            0 => timeout.note("every step has a limit: 1h unless build.timeout says another one"),
            seconds => {
                build.timeout = Duration::from_secs(seconds.into());
                timeout.note("build.timeout is the limit of each step, not of all together");
            }
        }
    }
    for (host, value) in table.take_table("volumes")?.map(Table::pairs).unwrap_or_default() {
        // The engine also takes options after the path.
        let (guest, options) = value.text()?.split_once(':').unwrap_or((value.text()?, ""));
        let guest = paths::guest_text(guest).map_err(|message| value.mistake(message))?;
        let writable = options.split(',').any(|option| option == "rw");
        if !writable {
            value.note("read-only unless you write writable = true");
        }
        let volume = HostVolume { path: host.into(), writable };
        if build.volumes.insert(guest, volume).is_some() {
            return Err(value.mistake("is the path of another volume, too"));
        }
    }
    table.note_all(WITHOUT);
    table.finish();
    Ok(())
}
