//! The places at which an image is looked for, in their order: mirrors, then the registry
//! itself. A pure function of the reference and of `registries.conf`.
//!
//! Semantics: containers-registries.conf(5), "NAMESPACED `[[registry]]` SETTINGS" and "Remapping
//! and mirroring registries".

use anyhow::{Context, Result, bail, ensure};

use super::options::Insecure;
use super::registries_conf::{Access, MirrorCoverage, RegistriesConf, RegistryEntry};
use crate::name::reference::Reference;

/// A place at which an image may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Host, with the port if there is one.
    pub host: String,
    /// Name of the repository there.
    pub repository: String,
    /// Whether the place may be insecure.
    pub insecure: Insecure,
}

/// The places of an image, the first to be asked first. The last is the registry itself.
///
/// # Errors
/// The settings block the registry, or lead to a name that is none.
pub fn places(reference: &Reference, conf: &RegistriesConf) -> Result<Vec<Place>> {
    let name = format!("{}/{}", reference.host, reference.repository);
    let matches = conf.entries.iter().filter_map(|entry| Some((matched(entry, &name)?, entry)));
    // The longest prefix wins; of a wildcard, the part that it stands for does not count.
    let Some((end, entry)) = matches.max_by_key(|(_, entry)| entry.prefix.len()) else {
        return Ok(vec![place(&name, Insecure::Refuse)?]);
    };
    if entry.access == Access::Blocked {
        bail!("registries.conf blocks the images of {}", entry.prefix);
    }
    let rest = &name[end..];
    let fits = |coverage| match coverage {
        MirrorCoverage::All => true,
        MirrorCoverage::Digests => reference.digest.is_some(),
        MirrorCoverage::Tags => reference.digest.is_none(),
    };
    let mirrors = entry.mirrors.iter().filter(|mirror| fits(mirror.coverage));
    let mirrors = mirrors.map(|mirror| (format!("{}{rest}", mirror.location), mirror.insecure));
    let own = match &entry.location {
        // A wildcard without another location leaves names as they are.
        Some(location) if !location.starts_with("*.") => format!("{location}{rest}"),
        _ => name.clone(),
    };
    mirrors.chain([(own, entry.insecure)]).map(|(name, insecure)| place(&name, insecure)).collect()
}

/// The end of the part of `name` that the prefix of an entry stands for; `None` if it does not
/// fit.
fn matched(entry: &RegistryEntry, name: &str) -> Option<usize> {
    let Some(domain) = entry.prefix.strip_prefix('*') else {
        let rest = name.strip_prefix(entry.prefix.as_str())?;
        return (rest.is_empty() || rest.starts_with('/')).then_some(entry.prefix.len());
    };
    let (domain, path) = domain.split_at(domain.find('/').unwrap_or(domain.len()));
    let (host, repository) = name.split_at(name.find('/')?);
    let is_below = host.strip_suffix(domain).is_some_and(|rest| !rest.is_empty());
    let after = repository.strip_prefix(path)?;
    let is_whole = after.is_empty() || after.starts_with('/');
    (domain.starts_with('.') && is_below && is_whole).then_some(host.len() + path.len())
}

/// The place of a name, which has to be one.
fn place(name: &str, insecure: Insecure) -> Result<Place> {
    let at = || format!("registries.conf leads to \"{}\"", name.escape_debug());
    let (host, _) = name.split_once('/').with_context(at)?;
    let found: Reference = name.parse().with_context(at)?;
    // Otherwise the first part was no host, but a part of a name of Docker Hub.
    ensure!(found.host == host, "{}, which has no host", at());
    Ok(Place { host: found.host, repository: found.repository, insecure })
}

#[cfg(test)]
mod tests {
    use super::super::registries_conf::parse;
    use super::*;

    const CONF: &str = r#"
        [[registry]]
        prefix = "docker.io"
        [[registry.mirror]]
        location = "near.example:5000"
        insecure = true
        [[registry.mirror]]
        location = "far.example/hub"
        pull-from-mirror = "digest-only"

        [[registry]]
        prefix = "docker.io/acme"
        location = "acme.example/images"

        [[registry]]
        prefix = "*.lab.example"
        insecure = true

        [[registry]]
        prefix = "*.deep.lab.example/a"
        location = "flat.example/b"

        [[registry]]
        prefix = "bad.example"
        blocked = true

        [[registry]]
        prefix = "odd.example"
        location = "no-host"
    "#;

    fn of(text: &str) -> Result<Vec<String>> {
        let conf = RegistriesConf { entries: parse(CONF).unwrap() };
        let places = places(&text.parse().unwrap(), &conf)?;
        let shown =
            |place: Place| format!("{} {} {:?}", place.host, place.repository, place.insecure);
        Ok(places.into_iter().map(shown).collect())
    }

    #[test]
    fn places_follow_from_the_longest_prefix() {
        let digest = crate::name::digest::Digest::of(b"");
        for (text, expected) in [
            (
                "debian".to_owned(),
                &["near.example:5000 library/debian Permit", "docker.io library/debian Refuse"][..],
            ),
            (
                format!("debian@{digest}"),
                &[
                    "near.example:5000 library/debian Permit",
                    "far.example hub/library/debian Refuse",
                    "docker.io library/debian Refuse",
                ],
            ),
            ("acme/app:1".to_owned(), &["acme.example images/app Refuse"]),
            (
                "acme2/app".to_owned(),
                &["near.example:5000 acme2/app Permit", "docker.io acme2/app Refuse"],
            ),
            ("r.lab.example/a".to_owned(), &["r.lab.example a Permit"]),
            ("lab.example/a".to_owned(), &["lab.example a Refuse"]),
            ("x.deep.lab.example/a/c".to_owned(), &["flat.example b/c Refuse"]),
            ("x.deep.lab.example/ab".to_owned(), &["x.deep.lab.example ab Permit"]),
            ("r.lab.example:5000/a".to_owned(), &["r.lab.example:5000 a Refuse"]),
            ("other.example/a".to_owned(), &["other.example a Refuse"]),
        ] {
            assert_eq!(of(&text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn blocked_and_odd_places_are_errors() {
        for (text, word) in [("bad.example/a", "blocks"), ("odd.example/a", "no host")] {
            let error = of(text).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }
}
