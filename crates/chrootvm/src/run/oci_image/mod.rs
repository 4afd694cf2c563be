//! ROOTFS is an OCI image: `chrootvm oci:REF`, a layout or an archive.
//!
//! | Module | Content |
//! |---|---|
//! | `built` | the root file system of the image, built once and kept in the cache |
//! | `facts` | what a start must know about that root file system |
//! | `process` | what the machine runs, by the image's config and the user's words |
//! | `ports` | the ports of `--publish-all` |
//!
//! The config of the image sets what the user leaves open; then the run goes on as with any
//! other ROOTFS, with an overlay in memory.

mod built;
mod facts;
mod ports;
mod process;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::source::ReadOptions;
use machine::running::published_ports;
use oci::local;
use oci::name::location::Location;
use proto::settings::restart::Restart;

use self::built::BuiltImage;
use self::process::{DEFAULT, Start};
use super::arguments::RunArguments;
use super::known_image::KnownImage;
use super::report::ImageFacts;
use super::workload::Configured;
use crate::command::ImageCommand;
use crate::image_config::ImageSettings;
use crate::line::locations;

/// The word for standard input.
const STDIN: &str = "-";

/// An OCI image as ROOTFS.
#[derive(Debug)]
pub(super) struct ImageRoot(BuiltImage);

/// The image that `rootfs` names; `None` if it is any other ROOTFS.
///
/// # Errors
/// A word that begins as the location of an image does, and is none.
pub(super) fn location(rootfs: &Path) -> Result<Option<Location>> {
    let location = locations::parse(rootfs.as_os_str())?;
    let file = match &location {
        Some(Location::OciArchive(path, _) | Location::DockerArchive(path, _)) => path.as_path(),
        Some(Location::Layout(..) | Location::Registry(_)) => return Ok(location),
        None => rootfs,
    };
    ensure!(
        file != Path::new(STDIN),
        "{}: standard input belongs to the machine; save the archive in a file",
        rootfs.display()
    );
    if location.is_some() {
        return Ok(location);
    }
    // A missing or unreadable path is reported later, as that of any ROOTFS.
    let max_size = ReadOptions::default().max_size;
    Ok(local::recognise(rootfs, max_size).unwrap_or_default())
}

impl ImageRoot {
    /// Opens the image at `location`, fetches and builds what the cache lacks, and lets its
    /// config set what `arguments` leave open.
    ///
    /// # Errors
    /// The image cannot be opened or built; its config or the arguments do not fit.
    pub(super) fn open(location: &Location, arguments: &mut RunArguments) -> Result<Self> {
        let pull = &arguments.pull;
        ensure!(
            !pull.reads_stdin(),
            "--creds: give USER:PASSWORD or --authfile, because standard input belongs to the \
             machine"
        );
        ensure!(
            !arguments.directories.is_writable(),
            "--rw: an image stays as it is; leave out --rw, because the guest may write to memory"
        );
        // If an image is for several platforms, the one for the machine is taken.
        let platform = match (pull.platform(), arguments.machine.arch) {
            (None, Some(architecture)) => Some(architecture.platform.parse()?),
            (given, _) => given.cloned(),
        };
        let image = BuiltImage::open(location, &pull.clone().with_platform(platform))?;
        let context = || format!("image {}", image.name);
        apply(&image, arguments).with_context(context)?;
        ensure!(
            !arguments.dry_run || image.kept_path().is_some(),
            "--dry-run: no command can name the image, because nothing is kept: set XDG_CACHE_HOME"
        );
        Ok(Self(image))
    }

    /// The image's name.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// The image in a report.
    pub(super) fn facts(&self) -> ImageFacts {
        ImageFacts { name: self.0.name.clone(), digest: self.0.digest.to_string() }
    }

    /// The file with the root file system.
    pub(super) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// A comment for the commands of `--dry-run`.
    pub(super) fn comment(&self) -> String {
        format!(
            "the root is image {}; these commands work as long as the cache has it \
             (`chrootvm cache ls`)",
            self.name()
        )
    }
}

/// Sets in `arguments` what the user leaves open.
fn apply(image: &BuiltImage, arguments: &mut RunArguments) -> Result<()> {
    let process = &image.config.process;
    let mut notes = Vec::new();
    let settings = ImageSettings::of(process, &mut notes)?;
    for note in notes {
        log::warn!("left out of the config of image {}: {note}", image.name);
    }
    // An image says how its own command is supervised, and not another one.
    let is_own = arguments.command.is_empty() && arguments.entrypoint.is_none();
    let configured = Configured { restart: Restart::No, schedule: settings.schedule };
    arguments.image = Some(KnownImage {
        name: image.name.clone(),
        architecture: image.architecture()?,
        has_kernel: image.facts.has_kernel,
        configured: is_own.then_some(configured),
    });
    let words = std::mem::take(&mut arguments.command);
    match process::start(process, arguments.entrypoint.as_deref(), &words) {
        Start::Init(init) => {
            ensure!(
                image.facts.systems.iter().any(|found| init == **found),
                "its command {} is missing in it; give a command: chrootvm IMAGE -- COMMAND",
                init.display()
            );
            arguments.payload = Some(init);
        }
        Start::Command(line) => arguments.command = line,
        Start::Shell => {
            log::info!("image {} names no command; running {DEFAULT}", image.name);
            arguments.command = vec![DEFAULT.into()];
        }
    }
    arguments.command_options.of_image = ImageCommand {
        env: process.env.clone(),
        workdir: settings.cwd.unwrap_or_default(),
        user: process.user.clone(),
        stop_signal: settings.stop_signal,
        volumes: settings.volumes,
        health_args: if is_own { settings.health_args } else { Vec::new() },
        schedule: settings.schedule,
    };
    arguments.directories.write_to_memory();
    if arguments.machine.publish_all {
        let (wanted, others) = ports::wanted(&process.exposed_ports, &arguments.machine.publish);
        for port in others {
            log::warn!("--publish-all: port {port} cannot be forwarded");
        }
        if wanted.is_empty() {
            log::info!("--publish-all: image {} names no further port", image.name);
        }
        let found = published_ports::free(&wanted).context("--publish-all")?;
        for publish in &found {
            let (port, protocol) = (publish.guest, publish.protocol);
            log::info!("{}:{} is port {port}/{protocol}", publish.address, publish.host);
        }
        arguments.machine.publish.extend(found);
    }
    Ok(())
}

/// Refuses options that only an image has a meaning for.
///
/// # Errors
/// One of them is given.
pub(super) fn refuse_options(arguments: &RunArguments) -> Result<()> {
    let options = [
        (
            arguments.entrypoint.is_some(),
            "--entrypoint",
            "the command follows ROOTFS: chrootvm ROOTFS -- COMMAND",
        ),
        (
            arguments.machine.publish_all,
            "--publish-all",
            "give --publish HOST:GUEST, once for each port",
        ),
    ];
    let given = options.into_iter().find(|(is_given, ..)| *is_given);
    if let Some((_, option, hint)) = given {
        bail!("{option} is for OCI images, such as oci:NAME, and ROOTFS is none; {hint}");
    }
    if let Some(option) = arguments.pull.given().next() {
        bail!("{option} is for OCI images, such as oci:NAME, and ROOTFS is none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_and_contents_of_images_are_images() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        std::fs::create_dir_all(&layout).unwrap();
        assert_eq!(location(dir.path()).unwrap(), None);
        assert_eq!(location(Path::new("/nonexistent")).unwrap(), None);
        assert_eq!(location(&layout).unwrap(), None);
        for (name, text) in
            [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", "{}")]
        {
            std::fs::write(layout.join(name), text).unwrap();
        }
        assert!(matches!(location(&layout).unwrap(), Some(Location::Layout(..))));
        assert!(matches!(location(Path::new("oci:x")).unwrap(), Some(Location::Registry(_))));
        for bad in ["oci:X", "oci-archive:-", "docker-archive:-", "-"] {
            assert!(location(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
