//! Words that name an OCI image, or something else; words of other programs for images, and what
//! to type in their place.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail};
use oci::local;
use oci::name::location::Location;
use oci::name::reference::Reference;

/// How the words of a location begin here.
const OURS: [&str; 5] = ["oci:", "docker://", "oci-layout:", "oci-archive:", "docker-archive:"];

/// How words for images begin in other programs, and the line that helps.
#[rustfmt::skip]
const THEIRS: &[(&str, &str)] = &[
    ("docker:",             "an image in a registry is oci:REF or docker://REF"),
    ("registry:",           "an image in a registry is oci:REF or docker://REF"),
    ("https://",            "an image in a registry is oci:HOST/NAME[:TAG]"),
    ("http://",             "an image in a registry is oci:HOST/NAME[:TAG]"),
    ("oci-dir:",            "an image layout is oci-layout:DIR[:TAG]"),
    ("dir:",                "an image layout is oci-layout:DIR[:TAG], and a root file system is a path"),
    ("oci-tar:",            "the archive of an image layout is oci-archive:FILE[:TAG]"),
    ("tarball:",            "the archive of `docker save` is docker-archive:FILE[:REF]"),
    ("docker-daemon:",      "`docker save -o FILE IMAGE` writes an archive; give the path of FILE"),
    ("containers-storage:", "`podman save -o FILE IMAGE` writes an archive; give the path of FILE"),
];

/// The OCI image that `word` names, either by how it begins or by the contents of that path;
/// `None` if it is the path of something else. At most `max_size` bytes of it are unpacked.
///
/// # Errors
/// Those of [`parse`]; a path that cannot be read.
pub fn locate(word: &OsStr, max_size: u64) -> Result<Option<Location>> {
    match parse(word)? {
        Some(location) => Ok(Some(location)),
        None => local::recognise(Path::new(word), max_size),
    }
}

/// The OCI image that `word` names by how it begins; `None` if it is a path.
///
/// # Errors
/// A name that is none; a path that does not exist and looks like an image; the name of a
/// directory that skopeo would take (`oci:DIR`).
pub fn parse(word: &OsStr) -> Result<Option<Location>> {
    if let Some(hint) = hint_of_skopeo(word) {
        bail!("{}: {hint}", word.display());
    }
    if let Some(address) = address(word) {
        bail!("{}: an image in a registry is oci:{address}", word.display());
    }
    if let Some(location) = Location::parse(word)? {
        return Ok(Some(location));
    }
    let path = Path::new(word);
    if path.symlink_metadata().is_err()
        && let Some(hint) = hint(word)
    {
        bail!("{} does not exist: {hint}", path.display());
    }
    Ok(None)
}

/// `HOST/NAME` of a word that names a registry as an address of the web.
fn address(word: &OsStr) -> Option<&str> {
    let rest = word.to_str()?.strip_prefix("oci:")?;
    let schemes = ["https://", "http://", "//"];
    schemes.iter().find_map(|scheme| rest.strip_prefix(scheme)).filter(|rest| !rest.is_empty())
}

/// The line that helps whoever typed `oci:DIR[:TAG]` for a layout, as for skopeo(1).
fn hint_of_skopeo(word: &OsStr) -> Option<String> {
    let rest = word.as_bytes().strip_prefix(b"oci:")?;
    let before_tag = rest.iter().rposition(|&byte| byte == b':').map(|at| &rest[..at]);
    let is_layout = |dir: &&[u8]| local::is_layout(Path::new(OsStr::from_bytes(dir)));
    [Some(rest), before_tag].into_iter().flatten().find(is_layout)?;
    let rest = OsStr::from_bytes(rest).display().to_string();
    let is_name = rest.parse::<Reference>().is_ok();
    let of_registry = if is_name {
        format!(", and an image in a registry docker://{rest}")
    } else {
        String::new()
    };
    Some(format!("a layout is oci-layout:{rest}{of_registry}"))
}

/// The line that helps whoever typed `word` as the name of a file that does not exist; `None` if
/// it does not look like an image.
#[must_use]
pub fn hint(word: &OsStr) -> Option<String> {
    /// Most wrong letters in a mistyped beginning.
    const WRONG_MAX: usize = 2;
    let word = word.to_str()?;
    let rest = word.strip_prefix("docker:").filter(|rest| rest.parse::<Reference>().is_ok());
    if let Some(rest) = rest {
        return Some(format!("an image in a registry is oci:{rest} or docker://{rest}"));
    }
    if let Some((_, hint)) = THEIRS.iter().find(|(start, _)| word.starts_with(start)) {
        return Some((*hint).to_owned());
    }
    if let Some((start, _)) = word.split_once(':') {
        let lower = start.to_ascii_lowercase();
        let distance =
            |ours: &&str| strsim::damerau_levenshtein(ours.trim_end_matches(['/', ':']), &lower);
        let near = OURS.iter().min_by_key(|ours| distance(ours));
        let near = near.filter(|near| start.len() > WRONG_MAX && distance(near) <= WRONG_MAX);
        if let Some(near) = near {
            return Some(format!("did you mean {near}…?"));
        }
    }
    // The path of a layout or an archive has no tag of its own.
    if let Some((path, _)) = word.rsplit_once([':', '@'])
        && Path::new(path).exists()
    {
        let kind = if Path::new(path).is_dir() { "oci-layout" } else { "oci-archive" };
        return Some(format!("did you mean {kind}:{word}?"));
    }
    // A name with a dot alone is more likely that of a file.
    let is_likely = word.contains(':') || !word.contains(['.', '/']);
    let is_name = is_likely && !word.starts_with(['/', '.']) && word.parse::<Reference>().is_ok();
    is_name.then(|| format!("an image in a registry is oci:{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_web_are_no_names() {
        for scheme in ["https://", "http://", "//"] {
            let error = parse(OsStr::new(&format!("oci:{scheme}host/x"))).unwrap_err().to_string();
            assert!(error.ends_with(": an image in a registry is oci:host/x"), "{error}");
        }
    }

    #[test]
    fn words_of_other_programs_have_hints() {
        for (word, expected) in [
            ("docker:r/bb:gz", Some("an image in a registry is oci:r/bb:gz or docker://r/bb:gz")),
            ("docker:R", Some("an image in a registry is oci:REF or docker://REF")),
            ("OCI:r/bb", Some("did you mean oci:…?")),
            ("oci-dir:x", Some("an image layout is oci-layout:DIR[:TAG]")),
            ("oci-archve:x.tar", Some("did you mean oci-archive:…?")),
            ("oic:debian", Some("did you mean oci:…?")),
            ("dokcer-archive:x", Some("did you mean docker-archive:…?")),
            ("debian:12", Some("an image in a registry is oci:debian:12")),
            ("debian", Some("an image in a registry is oci:debian")),
            ("./debian:12", None),
            ("sub/debian", None),
            ("debian.erofs", None),
            ("/x/y:z", None),
            ("a b:c", None),
        ] {
            assert_eq!(hint(OsStr::new(word)).as_deref(), expected, "{word}");
        }
    }
}
