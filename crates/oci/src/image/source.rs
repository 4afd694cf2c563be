//! Where an image is, and what of it comes from the cache.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};

use super::{OpenOptions, Pull};
use crate::cache::Cache;
use crate::document::manifest::{DOCUMENT_MAX, Descriptor, Media};
use crate::local;
use crate::name::digest::Digest;
use crate::name::location::Location;
use crate::name::reference::Reference;
use crate::origin::{Origin, RawDocument};
use crate::registry::{self, Registry, RegistryOptions};
use crate::shown::shown;

/// The place of an image, with the cache before it.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    pub(super) cache: Arc<Cache>,
    pull: Pull,
}

#[derive(Debug)]
enum Place {
    Local(Arc<dyn Origin>),
    /// A registry, which is opened when it is needed for the first time.
    Registry {
        reference: Reference,
        options: Box<RegistryOptions>,
        opened: OnceLock<Arc<dyn Origin>>,
    },
}

/// A document whose digest is right.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
    pub(super) digest: Digest,
}

impl Source {
    /// The source at `location`. Reads the index of a layout, but asks no registry.
    pub(super) fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let max_size = options.max_size;
        let place = match location {
            Location::Registry(reference) => Place::Registry {
                reference: reference.clone(),
                options: Box::new(options.registry.clone()),
                opened: OnceLock::new(),
            },
            Location::Layout(dir, selector) => Place::Local(
                local::layout(dir, selector)
                    .with_context(|| format!("image layout {}", dir.display()))?,
            ),
            Location::OciArchive(file, selector) => Place::Local(
                local::oci_archive(file, selector, max_size)
                    .with_context(|| format!("image archive {}", file.display()))?,
            ),
            Location::DockerArchive(file, name) => Place::Local(
                local::docker_archive(file, name.as_deref(), max_size)
                    .with_context(|| format!("image archive {}", file.display()))?,
            ),
        };
        Ok(Self { place, cache: Arc::clone(&options.cache), pull: options.pull })
    }

    /// A source that is remote, but has `origin` in place of a registry.
    #[cfg(test)]
    pub(super) fn remote(origin: Arc<dyn Origin>, reference: &str, options: &OpenOptions) -> Self {
        let place = Place::Registry {
            reference: reference.parse().unwrap(),
            options: Box::new(options.registry.clone()),
            opened: OnceLock::from(origin),
        };
        Self { place, cache: Arc::clone(&options.cache), pull: options.pull }
    }

    /// What the user calls the image.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Local(origin) => origin.name(),
            Place::Registry { reference, .. } => reference.to_string(),
        }
    }

    /// Whether blobs are worth keeping.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.place, Place::Registry { .. })
    }

    /// The origin, if the pull policy allows to ask it.
    pub(super) fn origin(&self) -> Result<&dyn Origin> {
        let (reference, options, opened) = match &self.place {
            Place::Local(origin) => return Ok(&**origin),
            Place::Registry { reference, options, opened } => (reference, options, opened),
        };
        ensure!(
            self.pull != Pull::Never,
            "it is not in the cache, and --pull=never forbids to fetch it"
        );
        if let Some(registry) = opened.get() {
            return Ok(&**registry);
        }
        let registry = Arc::new(Registry::open(reference, options)?);
        Ok(&**opened.get_or_init(|| registry))
    }

    /// The document to which the name of the image leads.
    pub(super) fn top(&self) -> Result<Verified> {
        match &self.place {
            Place::Local(origin) => {
                let RawDocument { bytes, media_type } = origin.top()?;
                ensure!(bytes.len() as u64 <= DOCUMENT_MAX, TOO_LARGE);
                let digest = Digest::of(&bytes);
                Ok(Verified { bytes, media_type, digest })
            }
            Place::Registry { reference, .. } => self.top_of_registry(reference),
        }
    }

    fn top_of_registry(&self, reference: &Reference) -> Result<Verified> {
        let name = reference.to_string();
        let kept = self.kept(&name)?;
        // What a digest names never changes.
        if let (Some(kept), true) = (&kept, reference.digest.is_some()) {
            return Ok(kept.clone());
        }
        match (self.pull, kept) {
            (Pull::Missing | Pull::Never, Some(kept)) => Ok(kept),
            (Pull::Newer, Some(kept)) => match self.newer(reference, &name, &kept) {
                // A refusal is an answer: the image may be gone, or not for this user any more.
                Err(error) if registry::is_outage(&error) => {
                    log::warn!("the image in the cache serves: {error:#}");
                    Ok(kept)
                }
                result => result,
            },
            _ => self.fetch_top(reference, &name),
        }
    }

    /// The document that the registry has, if it is another one than `kept`; or else `kept`.
    fn newer(&self, reference: &Reference, name: &str, kept: &Verified) -> Result<Verified> {
        match self.origin()?.top_digest()? {
            Some(digest) if digest == kept.digest => Ok(kept.clone()),
            _ => self.fetch_top(reference, name),
        }
    }

    /// The document that the cache has for a reference.
    fn kept(&self, name: &str) -> Result<Option<Verified>> {
        let Some(seen) = self.cache.seen(name) else { return Ok(None) };
        let bytes = self.cache.document(&seen.digest)?;
        let verified = |bytes| Verified { bytes, media_type: seen.media_type, digest: seen.digest };
        Ok(bytes.map(verified))
    }

    fn fetch_top(&self, reference: &Reference, name: &str) -> Result<Verified> {
        let RawDocument { bytes, media_type } = self.origin()?.top()?;
        ensure!(bytes.len() as u64 <= DOCUMENT_MAX, TOO_LARGE);
        let digest = match &reference.digest {
            Some(digest) => {
                digest.check(&bytes)?;
                digest.clone()
            }
            None => Digest::of(&bytes),
        };
        self.cache.keep_document(&digest, &bytes)?;
        self.cache.remember(name, &digest, &media_type)?;
        Ok(Verified { bytes, media_type, digest })
    }

    /// The document that `descriptor` names.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Verified> {
        let document = self.unverified(descriptor);
        document.with_context(|| format!("document {}", descriptor.digest))
    }

    fn unverified(&self, descriptor: &Descriptor) -> Result<Verified> {
        let Descriptor { digest, size, .. } = descriptor;
        ensure!(*size <= DOCUMENT_MAX, "{size} bytes: {TOO_LARGE}");
        let verified = |bytes, media_type| Verified { bytes, media_type, digest: digest.clone() };
        if let Some(bytes) = descriptor.embedded()? {
            descriptor.check(&bytes)?;
            return Ok(verified(bytes, descriptor.media_type.clone()));
        }
        if self.is_remote()
            && let Some(bytes) = self.cache.document(digest)?
        {
            descriptor.check(&bytes)?;
            return Ok(verified(bytes, descriptor.media_type.clone()));
        }
        let RawDocument { bytes, media_type } = self.origin()?.document(descriptor)?;
        descriptor.check(&bytes)?;
        if self.is_remote() {
            self.cache.keep_document(digest, &bytes)?;
        }
        Ok(verified(bytes, one_media_type(&descriptor.media_type, &media_type)?))
    }
}

/// Error of a document that is larger than registries accept.
const TOO_LARGE: &str = "a document of an image has at most 4 MiB";

/// Of the media types by which a descriptor and a server call a document, the one that says
/// something.
fn one_media_type(named: &str, served: &str) -> Result<String> {
    match (Media::of(named), Media::of(served)) {
        (Some(a), Some(b)) if a != b => {
            bail!("it is called {}, but served as {}", shown(named), shown(served))
        }
        (None, Some(_)) => Ok(served.to_owned()),
        _ => Ok(named.to_owned()),
    }
}
