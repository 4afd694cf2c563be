//! `[agent]` of fledge → a put step, or nothing: our /init does what the agent does.

use super::{Strategy, source};
use crate::convert::paths::{self, Absolute};
use crate::convert::source::{Document, Value};
use crate::convert::step;
use crate::model::{Action, Contents, Init, Mistake, Mode, PutStep, Recipe, Scope, Step};

/// Where fledge puts the agent.
const PATH: &str = "/bin/kestrel";

/// Why nothing needs the agent.
const SUPERVISED: &str = "/init starts the workload of [run], checks it and stops it";

/// Keys of the strategies.
const KEYS: &[&str] = &["version", "path", "url", "checksum"];

/// Converts the table.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(
    agent: Option<Value<'_>>,
    document: &Document<'_>,
    strategy: Strategy,
    recipe: &Recipe,
) -> Result<Option<Step>, Mistake> {
    let Some(agent) = agent else {
        if strategy == Strategy::Initramfs && recipe.init == Some(Init::Builtin) {
            document.note(&format!("agent: fledge adds its newest agent here; {SUPERVISED}"));
        }
        return Ok(None);
    };
    let mut table = agent.table()?;
    let from = table.require("source_strategy")?;
    let contents = match from.text()? {
        "release" => {
            agent.note(&format!("no agent is put into the image: {SUPERVISED}"));
            None
        }
        "local" => {
            let path = table.require("path")?;
            let file = paths::package(&path, path.text()?, Absolute::Host)?;
            Some(Contents::Files(file))
        }
        "http" => {
            let url = table.require("url")?;
            let address = source::web(&url)?.to_owned();
            let sum = table.take("checksum").filter(|sum| sum.text() != Ok(""));
            match sum.as_ref().map(source::checksum).transpose()? {
                Some(sha256) => Some(Contents::Url { url: address, sha256 }),
                None => {
                    url.note(&format!("left out, for it has no checksum: {SUPERVISED}"));
                    None
                }
            }
        }
        _ => return Err(from.mistake("must be \"release\", \"local\" or \"http\"")),
    };
    // The keys of the other strategies mean nothing to fledge.
    for value in KEYS.iter().filter_map(|key| table.take(key)) {
        if from.text()? != "release" {
            value.note("means nothing with this source_strategy");
        }
    }
    table.finish();
    let Some(contents) = contents else { return Ok(None) };
    agent.note(&format!("the agent is in the image, but nothing starts it: {SUPERVISED}"));
    let put = PutStep {
        contents,
        to: PATH.to_owned(),
        owner: None,
        mode: Mode::Fixed(0o755),
        scope: Scope::Image,
    };
    Ok(Some(step(agent.position(), Action::Put(put))))
}
