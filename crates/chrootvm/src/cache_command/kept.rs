//! Finds and removes what is kept: the cache of OCI images ([`oci::cache`]), unpacked kernels
//! ([`machine::kernel::vmlinux::cache`]), small kernels ([`machine::kernel::small::cache`]),
//! templates ([`machine::template::store`]) and answers ([`machine::process::answers`]).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use files::kept::{KeptFile, KeptFiles};
use files::tell;
use machine::host;
use machine::kernel::small::cache::SmallKernels;
use machine::kernel::vmlinux::cache::VmlinuxCache;
use machine::process::answers::Answers;
use machine::template::store::TemplateStore;
use oci::cache::Cache;
use oci::cache::contents::Object;

use super::entry::{Entry, Kind, Rule};
use crate::image_command::kept_steps;
use crate::pull;

/// Everything that is kept for this user.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    images: Cache,
    /// `None` if the directory of the cache cannot be used.
    unpacked: Option<VmlinuxCache>,
    kernels: SmallKernels,
    /// `None` if the directory of templates cannot be used.
    templates: Option<TemplateStore>,
    /// `None` if the directory of answers cannot be used.
    answers: Option<Answers>,
    /// `None` if the directory of steps cannot be used.
    steps: Option<KeptFiles>,
}

/// Entries and bytes that a removal took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Number of entries that were removed.
    pub(super) count: usize,
    /// Bytes that they took on the disk.
    pub(super) bytes: u64,
    /// Number of entries that would have been removed if nothing used them.
    pub(super) in_use: usize,
}

impl Kept {
    /// Opens the caches of this user.
    ///
    /// # Errors
    /// There is no cache directory, or it belongs to another user.
    pub(super) fn of_user() -> Result<Self> {
        let home = host::user_cache().context("no cache directory: set HOME or XDG_CACHE_HOME")?;
        Ok(Self {
            dir: home.join("virtinitrd"),
            images: pull::cache()?,
            unpacked: VmlinuxCache::below(&home),
            kernels: SmallKernels::of_user()?,
            templates: TemplateStore::below(&home),
            answers: Answers::below(&home),
            steps: kept_steps(&home),
        })
    }

    /// The directory with all caches.
    pub(super) fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// All entries; those that were not used for the longest time come first.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        let mut entries: Vec<_> = self.images.list()?.iter().map(of_image).collect();
        for (kind, files) in [
            (Kind::Unpacked, self.unpacked.as_ref().map(VmlinuxCache::list)),
            (Kind::Template, self.templates.as_ref().map(TemplateStore::list)),
            (Kind::Answer, self.answers.as_ref().map(Answers::list)),
            (Kind::Step, self.steps.as_ref().map(KeptFiles::list)),
        ] {
            for KeptFile { name, size, used, is_complete } in files.into_iter().flatten() {
                let entry = entry(kind, name, size, used);
                entries.push(Entry { complete: is_complete, ..entry });
            }
        }
        for kernel in self.kernels.list()? {
            let name = kernel.key.to_string_lossy().into_owned();
            let entry = entry(Kind::Kernel, name, kernel.size, kernel.used);
            entries.push(Entry { in_use: kernel.is_current, ..entry });
        }
        entries.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        Ok(entries)
    }

    /// Removes what `rule` chooses.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub(super) fn prune(&self, rule: &Rule) -> Result<Removed> {
        let entries = self.list()?;
        let chosen = rule.chosen(&entries);
        let is_chosen =
            |kind, name: &str| chosen.iter().any(|entry| entry.kind == kind && entry.name == name);
        let images = self.images.prune(|object| is_chosen(kind_of(object), &object.name))?;
        let mut removed = Removed {
            count: usize::try_from(images.count)?,
            bytes: images.bytes,
            in_use: usize::try_from(images.in_use)?,
        };
        for entry in &chosen {
            let name = &entry.name;
            let done = match entry.kind {
                Kind::Image | Kind::Layer | Kind::Blob => continue,
                Kind::Unpacked => self.unpacked.as_ref().map(|cache| cache.remove(name)),
                Kind::Kernel => Some(self.kernels.remove(name)),
                Kind::Template => self.templates.as_ref().map(|store| store.remove_named(name)),
                Kind::Answer => self.answers.as_ref().map(|answers| answers.remove(name)),
                Kind::Step => self.steps.as_ref().map(|steps| steps.remove(name)),
            };
            done.transpose()?;
            removed.count += 1;
            removed.bytes += entry.size;
        }
        let stays = |entry: &&Entry| entry.in_use && is_wanted(*rule, entry);
        removed.in_use += entries.iter().filter(stays).count();
        Ok(removed)
    }

    /// Reads what is kept of OCI images, and removes what is damaged.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub(super) fn verify(&self) -> Result<ExitCode> {
        let (mut intact, mut damaged, mut told) = (0, 0, Ok(()));
        self.images.verify(&mut |object, is_intact| match is_intact {
            true => intact += 1,
            false => {
                damaged += 1;
                let (kind, name) = (kind_of(object).name(), tell::show(object.name.as_bytes()));
                if told.is_ok() {
                    told = tell::result(format_args!("damaged, and removed: {kind} {name}\n"));
                }
            }
        })?;
        told?;
        tell::result(format_args!("{intact} intact, {damaged} damaged\n"))?;
        Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether `rule` would remove an entry that was not in use.
fn is_wanted(rule: Rule, entry: &Entry) -> bool {
    match rule {
        Rule::All => true,
        Rule::Before(time) => entry.used < time,
        Rule::To(_) => false,
    }
}

fn kind_of(object: &Object) -> Kind {
    match object.kind {
        oci::cache::Kind::Image => Kind::Image,
        oci::cache::Kind::Layer => Kind::Layer,
        oci::cache::Kind::Blob => Kind::Blob,
    }
}

fn of_image(object: &Object) -> Entry {
    Entry {
        label: object.label.clone(),
        in_use: object.is_in_use(),
        complete: object.is_complete,
        ..entry(kind_of(object), object.name.clone(), object.size, object.used)
    }
}

fn entry(kind: Kind, name: String, size: u64, used: std::time::SystemTime) -> Entry {
    Entry { kind, name, label: String::new(), size, used, in_use: false, complete: true }
}
