//! `[source]` of fledge → `[from]` and `[busybox]`.

use super::Strategy;
use crate::convert::source::{Table, Value};
use crate::model::{Base, Busybox, BusyboxSource, Mistake, Recipe};

/// The busybox that fledge takes if no other one is given, and its SHA-256.
const BUSYBOX: (&str, &str) = (
    "https://busybox.net/downloads/binaries/1.35.0-x86_64-linux-musl/busybox",
    "6e123e7f3202a8c1e9b1f94d8941580a25135382b99e8d3e34fb858bba311348",
);

/// Archive that stands for the result of a Dockerfile.
const ARCHIVE: &str = "base.oci.tar";

/// Keys that mean something only beside `dockerfile`.
const OF_DOCKERFILE: &[&str] = &["context", "target", "build_args"];

/// Converts the table into base and busybox of `recipe`.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(
    table: Option<Table<'_>>,
    strategy: Strategy,
    recipe: &mut Recipe,
) -> Result<(), Mistake> {
    let Some(mut table) = table else {
        recipe.busybox = (strategy == Strategy::Initramfs).then(default_busybox);
        return Ok(());
    };
    recipe.from.base = base(&mut table)?;
    let url = table.take("busybox_url");
    let sha256 = table.take("busybox_sha256");
    match strategy {
        Strategy::Initramfs => recipe.busybox = busybox(url.as_ref(), sha256.as_ref())?,
        Strategy::Disk => {
            for value in [url, sha256].into_iter().flatten() {
                value.note("fledge has busybox in an initramfs only; [busybox] adds it anywhere");
            }
        }
    }
    table.finish();
    Ok(())
}

fn base(table: &mut Table<'_>) -> Result<Base, Mistake> {
    let image = table.take("image").filter(|image| image.text() != Ok(""));
    let Some(dockerfile) = table.take("dockerfile").filter(|file| file.text() != Ok("")) else {
        for value in OF_DOCKERFILE.iter().filter_map(|name| table.take(name)) {
            value.note("means nothing without dockerfile");
        }
        let image = image.map(|image| image.text().map(str::to_owned)).transpose()?;
        return Ok(image.map_or(Base::Empty, Base::Oci));
    };
    if image.is_some() {
        return Err(dockerfile.mistake("must not be there beside source.image"));
    }
    let mut words = vec![format!("-f {}", quoted(dockerfile.text()?))];
    if let Some(target) = table.take_text("target")?.filter(|target| !target.is_empty()) {
        words.push(format!("--target {}", quoted(target)));
    }
    let arguments = table.take_table("build_args")?.map(Table::pairs).unwrap_or_default();
    for (name, value) in arguments {
        words.push(format!("--build-arg {}", quoted(&format!("{name}={}", value.text()?))));
    }
    let context = match table.take_text("context")?.filter(|context| !context.is_empty()) {
        Some(context) => context,
        None => dockerfile.text()?.rsplit_once('/').map_or(".", |(directory, _)| directory),
    };
    words.push(quoted(context));
    dockerfile.note(&format!(
        "a recipe reads no Dockerfile; make {ARCHIVE}: docker buildx build -o \
         type=oci,dest={ARCHIVE} {}",
        words.join(" ")
    ));
    Ok(Base::OciArchive(ARCHIVE.to_owned()))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:+,@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn busybox(
    url: Option<&Value<'_>>,
    sha256: Option<&Value<'_>>,
) -> Result<Option<Busybox>, Mistake> {
    let Some(url) = url.filter(|url| url.text() != Ok("")) else {
        if let Some(sha256) = sha256.filter(|sha256| sha256.text() != Ok(BUSYBOX.1)) {
            sha256.note("means nothing without busybox_url; fledge's own busybox is taken");
        }
        return Ok(Some(default_busybox()));
    };
    let address = web(url)?;
    let sum = match sha256.filter(|sha256| sha256.text() != Ok("")) {
        Some(sha256) => checksum(sha256)?,
        None if address == BUSYBOX.0 => BUSYBOX.1.to_owned(),
        None => {
            url.note(
                "left out, for it has no busybox_sha256: write [busybox] with url and sha256, \
                 which `sha256sum` tells",
            );
            return Ok(None);
        }
    };
    Ok(Some(busybox_at(address, &sum)))
}

fn default_busybox() -> Busybox {
    busybox_at(BUSYBOX.0, BUSYBOX.1)
}

fn busybox_at(url: &str, sha256: &str) -> Busybox {
    let source = BusyboxSource::Url { url: url.to_owned(), sha256: sha256.to_owned() };
    Busybox { source, to: Busybox::TO.to_owned(), applets: None }
}

/// An address that a recipe takes.
///
/// # Errors
/// The value is no text, or another address.
pub(super) fn web<'d>(value: &Value<'d>) -> Result<&'d str, Mistake> {
    let text = value.text()?;
    match text.starts_with("https://") || text.starts_with("http://") {
        true => Ok(text),
        false => Err(value.mistake("must begin with http:// or https://")),
    }
}

/// A SHA-256, which may begin with its name.
///
/// # Errors
/// The value is no text, or another sum.
pub(super) fn checksum(value: &Value<'_>) -> Result<String, Mistake> {
    /// Digits of a SHA-256 (FIPS 180-4).
    const DIGITS: usize = 64;
    let text = value.text()?;
    let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    match digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(digits),
        false => Err(value.mistake("must be the 64 hexadecimal digits of a SHA-256")),
    }
}
