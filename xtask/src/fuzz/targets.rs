//! Targets of fuzzing: one row for each reader of foreign files.

use std::path::Path;

use anyhow::{Context, Result};

use super::input::Answer;
use super::mutate::{Seed, damaged};
use super::{
    containerfiles, contexts, documents, guest, kernels, layers, programs, recipes, registries,
    repair, steps, templates, trees,
};
use crate::random::Random;

/// A reader, or several readers of the same format.
pub(super) struct Target {
    /// Name in `--target`, and of the directory in the corpus.
    pub(super) name: &'static str,
    /// Description of the format.
    pub(super) about: &'static str,
    /// Makes the seeds.
    seeds: fn() -> Result<Vec<Vec<u8>>>,
    /// Pieces of text that have a meaning in the format.
    words: &'static [&'static str],
    /// Corrects the check sums.
    repair: fn(&mut [u8]),
    /// Reads an input; an error means that the reader broke a rule.
    pub(super) check: fn(&[u8]) -> Result<Answer>,
}

/// Words of tar: keys of pax and of GNU's sparse files.
const TAR_WORDS: &[&str] = &[
    "GNU.sparse.map=",
    "GNU.sparse.size=",
    "GNU.sparse.realsize=",
    "GNU.sparse.major=",
    "GNU.sparse.numblocks=",
    "GNU.sparse.name=",
    "SCHILY.xattr.",
    "LIBARCHIVE.xattr.",
    "path=",
    "linkpath=",
    "size=",
    "mtime=",
    "\n",
    "=",
    "30 ",
    "99999999999999999999 ",
    "../",
    "/",
    "\0",
    "77777777777",
    "ustar\0",
    "00",
];

/// Words of layers: marks, and names that layers have in common.
const LAYER_WORDS: &[&str] = &[
    ".wh.",
    ".wh..wh..opq",
    ".wh..wh.plnk",
    "stargz.index.json",
    "dir/",
    "dir",
    "link/",
    "file",
    "../",
    "..",
    "/",
    "\0",
    "path=",
    "linkpath=",
];

/// Words of binary formats: none.
const NO_WORDS: &[&str] = &[];

/// All targets. Slow ones are not neighbours, so that few of them run at a time.
#[rustfmt::skip]
pub(super) const TARGETS: &[Target] = &[
    Target { name: "command-line", about: "the kernel command line",             seeds: || Ok(guest::lines()),    words: guest::LINE_WORDS,    repair: repair::nothing, check: guest::check_line },
    Target { name: "ext4",         about: "ext4 images",                         seeds: trees::ext4,              words: NO_WORDS,             repair: repair::nothing, check: trees::check },
    Target { name: "records",      about: "/virtinit.run and /etc/virtinit/run", seeds: || Ok(guest::records()),  words: guest::RECORD_WORDS,  repair: repair::nothing, check: guest::check_records },
    Target { name: "requests",     about: "requests of steps of recipes",        seeds: || Ok(steps::requests()), words: steps::REQUEST_WORDS, repair: repair::nothing, check: steps::check_request },
    Target { name: "manifests",    about: "manifests and indexes of images",      seeds: || Ok(documents::manifests()),    words: documents::MANIFEST_WORDS,    repair: repair::nothing, check: documents::check_manifest },
    Target { name: "containerfiles", about: "Containerfiles",                     seeds: || Ok(containerfiles::seeds()),   words: containerfiles::WORDS,        repair: repair::nothing, check: containerfiles::check },
    Target { name: "erofs",        about: "EROFS images",                        seeds: trees::erofs,             words: NO_WORDS,             repair: repair::erofs,   check: trees::check },
    Target { name: "messages",     about: "control messages of a session",       seeds: || Ok(guest::messages()), words: guest::MESSAGE_WORDS, repair: repair::nothing, check: guest::check_messages },
    Target { name: "reports",      about: "reports of steps of recipes",         seeds: || Ok(steps::reports()),  words: steps::REPORT_WORDS,  repair: repair::nothing, check: steps::check_report },
    Target { name: "references",   about: "references of images",                seeds: || Ok(registries::references()),  words: registries::REFERENCE_WORDS,  repair: repair::nothing, check: registries::check_reference },
    Target { name: "squashfs",     about: "squashfs images",                     seeds: trees::squashfs,          words: NO_WORDS,             repair: repair::nothing, check: trees::check },
    Target { name: "configs",      about: "configs of images",                    seeds: || Ok(documents::configs()),      words: documents::CONFIG_WORDS,      repair: repair::nothing, check: documents::check_config },
    Target { name: "heads",        about: "starts of disks and programs",        seeds: || Ok(guest::heads()),    words: NO_WORDS,             repair: repair::nothing, check: guest::check_head },
    Target { name: "challenges",   about: "challenges of registries",            seeds: || Ok(registries::challenges()),  words: registries::CHALLENGE_WORDS,  repair: repair::nothing, check: registries::check_challenge },
    Target { name: "recipes",      about: "recipe.toml",                         seeds: || Ok(recipes::recipes()),        words: recipes::RECIPE_WORDS,        repair: repair::nothing, check: recipes::check_recipe },
    Target { name: "contexts",     about: ".dockerignore and COPY",              seeds: || Ok(contexts::seeds()), words: contexts::WORDS,      repair: repair::nothing, check: contexts::check },
    Target { name: "tar",          about: "tar, with pax and holes",             seeds: trees::tar,               words: TAR_WORDS,            repair: repair::tar,     check: trees::check },
    Target { name: "blob",         about: "compressed layers of OCI images",     seeds: layers::blobs,            words: NO_WORDS,             repair: repair::nothing, check: layers::check_blob },
    Target { name: "module",       about: "kernel modules",                      seeds: kernels::modules,         words: NO_WORDS,             repair: repair::nothing, check: kernels::check_module },
    Target { name: "credentials",  about: "auth.json and config.json",           seeds: || Ok(registries::credentials()), words: registries::CREDENTIAL_WORDS, repair: repair::nothing, check: registries::check_credentials },
    Target { name: "docker-save",  about: "manifest.json of docker save",         seeds: || Ok(documents::saved()),        words: documents::SAVED_WORDS,       repair: repair::nothing, check: |input| Ok(documents::check_saved(input)) },
    Target { name: "locks",        about: "recipe.lock",                         seeds: || Ok(recipes::locks()),          words: recipes::LOCK_WORDS,          repair: repair::nothing, check: recipes::check_lock },
    Target { name: "cpio",         about: "newc archives",                       seeds: trees::cpio,              words: NO_WORDS,             repair: repair::cpio,    check: trees::check },
    Target { name: "archives",     about: "archives of images",                   seeds: documents::archives,      words: documents::MANIFEST_WORDS,    repair: repair::tar,     check: documents::check_archive },
    Target { name: "kernel",       about: "vmlinux, bzImage, zboot and UKI",     seeds: kernels::kernels,         words: NO_WORDS,             repair: repair::nothing, check: kernels::check_kernel },
    Target { name: "registries",   about: "registries.conf",                     seeds: || Ok(registries::confs()),       words: registries::CONF_WORDS,       repair: repair::nothing, check: registries::check_conf },
    Target { name: "layers",       about: "stacks of layers of OCI images",      seeds: || Ok(layers::stacks()),  words: LAYER_WORDS,          repair: repair::tar,     check: layers::check_stack },
    Target { name: "template",     about: "templates of machines",                seeds: templates::templates,     words: NO_WORDS,             repair: templates::repair, check: templates::check },
    Target { name: "programs",     about: "programs of images, and their libraries", seeds: || Ok(programs::programs()), words: programs::WORDS,    repair: repair::nothing, check: programs::check },
    Target { name: "container",    about: "gzip, xz, zstd and lz4",              seeds: kernels::containers,      words: NO_WORDS,             repair: repair::nothing, check: kernels::check_container },
];

impl Target {
    /// Finds the row called `name`.
    ///
    /// # Errors
    /// No row has this name.
    pub(super) fn named(name: &str) -> Result<&'static Self> {
        let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let found = TARGETS.iter().find(|target| target.name == name);
        found.with_context(|| format!("no target \"{name}\"; there are {}", names()))
    }

    /// All seeds: those that are made, and the files of this target in `corpus`.
    ///
    /// # Errors
    /// The corpus cannot be read.
    pub(super) fn seeds(&self, corpus: &Path) -> Result<Vec<Seed>> {
        let made = (self.seeds)().with_context(|| format!("make inputs for {}", self.name))?;
        let found = corpus_of(corpus, self.name)?.into_iter().map(|(_, bytes)| bytes);
        Ok(made.into_iter().chain(found).map(Seed::new).collect())
    }

    /// Makes input number `seed`.
    pub(super) fn input(&self, seeds: &[Seed], seed: u64) -> Vec<u8> {
        let mut random = Random::new(seed);
        let mut bytes = damaged(seeds, self.words, &mut random);
        // One in eight inputs keeps its wrong sums.
        if random.below(8) != 0 {
            (self.repair)(&mut bytes);
        }
        bytes
    }
}

/// Names and contents of the files in the corpus of target `name`.
pub(super) fn corpus_of(corpus: &Path, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let dir = corpus.join(name);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in dir.read_dir().with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        files.push((path.display().to_string(), bytes));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_used() {
        for parameter in proto::parameters::PARAMETERS {
            assert!(guest::LINE_WORDS.contains(parameter), "{parameter}");
        }
    }

    fn corpus() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
    }

    /// Each input that is made here makes sense, and no input of the corpus breaks a
    /// rule.
    #[test]
    fn what_makes_sense_is_accepted_and_the_corpus_survived() {
        for target in TARGETS {
            for (number, bytes) in (target.seeds)().unwrap().iter().enumerate() {
                let answer = (target.check)(bytes)
                    .unwrap_or_else(|error| panic!("{} {number}: {error:#}", target.name));
                assert_eq!(answer, Answer::Accepted, "{} {number}", target.name);
            }
            for (name, bytes) in corpus_of(&corpus(), target.name).unwrap() {
                (target.check)(&bytes).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            }
        }
    }

    /// A directory of the corpus that no row reads would never be read.
    #[test]
    fn the_corpus_has_no_other_directories() {
        for entry in corpus().read_dir().unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(Target::named(&name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_short_run_finds_nothing() {
        for target in TARGETS {
            let seeds = target.seeds(&corpus()).unwrap();
            for seed in 0..60 {
                let input = target.input(&seeds, seed);
                assert_eq!(input, target.input(&seeds, seed));
                (target.check)(&input).unwrap_or_else(|error| {
                    panic!("cargo xtask fuzz --target {} --seed {seed}: {error:#}", target.name)
                });
            }
        }
    }
}
