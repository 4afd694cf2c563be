//! The root file system of an OCI image: an EROFS image in the cache, built once.
//!
//! It is named by the digest of the image's config, which names the contents of all layers, and
//! by everything else that its bytes depend on. A start reads the documents of the image and no
//! layer. A layout or an archive that was removed since can still be started.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::notes::Notes;
use image::format::Format;
use image::progress::Progress;
use image::source::tar::layer::DirectoryLinks;
use image::tree::root::ImageRoot;
use image::write::disk::{self, DiskOptions};
use machine::host::absolute;
use machine::plan::architecture::{self, ARCHITECTURES, Architecture};
use oci::cache::{Held, Kind};
use oci::document::config::Config;
use oci::image::{Image, OpenOptions, Pull};
use oci::name::digest::Digest;
use oci::name::location::{Location, Selector};
use oci::name::platform::Platform;

use super::facts::Facts;
use crate::logger::warn_all;
use crate::pull::progress::LayerProgress;
use crate::pull::{PullArguments, explain_size};

/// Version of the images' bytes: after a change, all are built again.
const VERSION: u32 = 1;

/// Media type under which the cache remembers the config of an image that was started.
const STARTED: &str = "application/vnd.oci.image.config.v1+json";

/// The root file system of an image, which stays in the cache as long as this value lives.
#[derive(Debug)]
pub(super) struct BuiltImage {
    /// The image's name.
    pub(super) name: String,
    /// Digest of its config.
    pub(super) digest: Digest,
    /// Its config.
    pub(super) config: Config,
    /// Facts about the root file system.
    pub(super) facts: Facts,
    held: Held,
}

impl BuiltImage {
    /// Opens the image at `location`, and builds its root file system if the cache lacks it.
    ///
    /// # Errors
    /// No such image; an image for another platform; a layer that cannot be fetched or is
    /// damaged; a root file system that cannot be written.
    pub(super) fn open(location: &Location, pull: &PullArguments) -> Result<Self> {
        Self::open_or_build(location, pull).map_err(explain_size)
    }

    fn open_or_build(location: &Location, pull: &PullArguments) -> Result<Self> {
        let options = pull.open_options()?;
        if let Some(kept) = kept(location, &options)? {
            return Ok(kept);
        }
        let image = oci::image::open(location, &options)?;
        architecture_of(&image.config.platform).with_context(|| format!("image {}", image.name))?;
        let key = key(&image.config_digest, options.links);
        remember(location, &image, &options)?;
        if let Some(held) = options.cache.find_image(&key)? {
            match Self::of(image.name.clone(), image.config_digest.clone(), held) {
                Ok(built) => return Ok(built),
                Err(error) => log::warn!("{error:#}; it is built again"),
            }
            options.cache.prune(|object| object.kind == Kind::Image && object.name == key)?;
        }
        let held = options.cache.image(&key, &image.name, |file| write(&image, location, file))?;
        Self::of(image.name, image.config_digest, held)
    }

    fn of(name: String, digest: Digest, held: Held) -> Result<Self> {
        let read = || {
            let facts = Facts::read(held.file())?;
            Ok((Config::parse(facts.config.as_bytes())?, facts))
        };
        let read: Result<_> = read();
        let (config, facts) = read.with_context(|| format!("image {name} in the cache"))?;
        Ok(Self { name, digest, config, facts, held })
    }

    /// The architecture of machines that run it.
    ///
    /// # Errors
    /// There are no machines for it.
    pub(super) fn architecture(&self) -> Result<&'static Architecture> {
        architecture_of(&self.config.platform)
    }

    /// The path of the root file system, as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        match self.kept_path() {
            Some(path) => path.to_path_buf(),
            None => format!("/proc/self/fd/{}", self.held.file().as_raw_fd()).into(),
        }
    }

    /// The path of the root file system in the cache; `None` if nothing is kept.
    pub(super) fn kept_path(&self) -> Option<&Path> {
        self.held.path()
    }
}

/// The key in the cache of the image with this config.
fn key(config: &Digest, links: DirectoryLinks) -> String {
    let (algorithm, digits) = config.parts();
    let links = match links {
        DirectoryLinks::Keep => "-keep",
        DirectoryLinks::Replace => "",
    };
    format!("erofs-lz4-{VERSION}-{algorithm}-{digits}{links}")
}

/// Writes the root file system of `image` to the empty `file`.
fn write(image: &Image, location: &Location, file: &std::fs::File) -> Result<()> {
    let mut notes = Notes::default();
    let is_remote = matches!(location, Location::Registry(_));
    let tree = image.tree(&mut notes, &LayerProgress::new(is_remote))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = DiskOptions { threads: u32::try_from(threads)?, ..DiskOptions::default() };
    let progress = Progress::bar(&tree, image.name.clone());
    disk::write(&tree, Format::Erofs, &options, file, &mut notes, &progress)?;
    drop(progress);
    let config = String::from_utf8(image.config_bytes.clone()).context("read the config")?;
    Facts::of(config, &ImageRoot::new(image.name.clone().into(), tree)).append(file)?;
    warn_all(notes.lines());
    Ok(())
}

/// The architecture of machines that run images for `platform`.
///
/// # Errors
/// There are no such machines.
fn architecture_of(platform: &Platform) -> Result<&'static Architecture> {
    let host = Platform::host();
    let runs = |row: &&Architecture| runs(row.platform, &platform.architecture);
    let found = ARCHITECTURES.iter().find(runs).filter(|_| host.os == platform.os);
    found.with_context(|| {
        let names = architecture::names();
        format!("it is for {platform}, and there are machines for Linux on {names} only: give --platform {host}")
    })
}

/// Whether processors of the architecture `machine` run programs of the architecture `other`.
fn runs(machine: &str, other: &str) -> bool {
    /// Architectures, and others that they include.
    const INCLUDED: &[(&str, &str)] = &[("amd64", "386"), ("arm64", "arm")];
    machine == other || INCLUDED.contains(&(machine, other))
}

/// The name under which the cache remembers what a local image was when it was started; `None`
/// for a registry, whose references the cache knows anyway.
fn started_name(location: &Location, options: &OpenOptions) -> Result<Option<String>> {
    let (path, selector) = match location {
        Location::Registry(_) => return Ok(None),
        Location::Layout(path, selector) | Location::OciArchive(path, selector) => (
            path,
            match selector {
                Selector::Only => String::new(),
                Selector::Tag(tag) => format!(":{tag}"),
                Selector::Digest(digest) => format!("@{digest}"),
            },
        ),
        Location::DockerArchive(path, name) => {
            (path, name.as_ref().map(|name| format!(":{name}")).unwrap_or_default())
        }
    };
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    Ok(Some(format!("{}{selector} {platform}", absolute(path)?.display())))
}

/// Remembers what the image at `location` is now.
fn remember(location: &Location, image: &Image, options: &OpenOptions) -> Result<()> {
    let Some(name) = started_name(location, options)? else { return Ok(()) };
    match options.cache.seen(&name) {
        Some(seen) if seen.digest == image.config_digest => Ok(()),
        _ => options.cache.remember(&name, &image.config_digest, STARTED),
    }
}

/// The image that was at `location` when it was started last, if nothing is there any more.
fn kept(location: &Location, options: &OpenOptions) -> Result<Option<BuiltImage>> {
    let path = match location {
        Location::Registry(_) => return Ok(None),
        Location::Layout(path, _)
        | Location::OciArchive(path, _)
        | Location::DockerArchive(path, _) => path,
    };
    if options.pull == Pull::Always || path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let Some(name) = started_name(location, options)? else { return Ok(None) };
    let Some(seen) = options.cache.seen(&name) else { return Ok(None) };
    let Some(held) = options.cache.find_image(&key(&seen.digest, options.links))? else {
        return Ok(None);
    };
    let shown = path.display();
    log::info!("{shown} does not exist any more; its image in the cache is started");
    BuiltImage::of(shown.to_string(), seen.digest, held).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_another_processor_is_refused() {
        for (host, other, expected) in [
            ("amd64", "amd64", true),
            ("amd64", "386", true),
            ("arm64", "arm", true),
            ("amd64", "arm64", false),
            ("386", "amd64", false),
        ] {
            assert_eq!(runs(host, other), expected, "{host} {other}");
        }
        let host = Platform::host();
        for (platform, arch) in [("linux/amd64", "x86_64"), ("linux/arm64/v8", "aarch64")] {
            assert_eq!(architecture_of(&platform.parse().unwrap()).unwrap().arch, arch);
        }
        for platform in ["linux/mips", "windows/amd64"] {
            let error = architecture_of(&platform.parse().unwrap()).unwrap_err().to_string();
            let expected = format!("it is for {platform}, and there are machines for Linux on");
            assert!(error.starts_with(&expected), "{error}");
            assert!(error.ends_with(&format!("give --platform {host}")), "{error}");
        }
    }

    #[test]
    fn keys_differ_where_bytes_do() {
        let digests = [Digest::of(b"a"), Digest::of(b"b")];
        let links = [DirectoryLinks::Replace, DirectoryLinks::Keep];
        let keys = digests.iter().flat_map(|digest| links.map(|links| key(digest, links)));
        let keys: std::collections::BTreeSet<_> = keys.collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
    }

    #[test]
    fn a_local_image_is_remembered_by_its_path_selector_and_platform() {
        let named = |location: &str, platform: Option<&str>| {
            let location = Location::parse(location.as_ref()).unwrap().unwrap();
            let platform = platform.map(|text| text.parse().unwrap());
            started_name(&location, &OpenOptions { platform, ..OpenOptions::default() }).unwrap()
        };
        let host = Platform::host();
        assert_eq!(named("oci:debian", None), None);
        for (location, platform, expected) in [
            ("oci-layout:/a", None, format!("/a {host}")),
            ("oci-layout:/a:x", Some("riscv64"), "/a:x linux/riscv64".into()),
            ("oci-archive:/a.tar:x", None, format!("/a.tar:x {host}")),
            ("docker-archive:/a.tar:n:1", None, format!("/a.tar:n:1 {host}")),
        ] {
            assert_eq!(named(location, platform), Some(expected), "{location}");
        }
        assert_eq!(named("oci-layout:x", None), named("oci-layout:./x", None));
    }
}
