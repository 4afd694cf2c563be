//! Target for templates: saved machines, which a later run starts from.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use files::memory::new_memory_file;
use machine::template::file::Template;
use machine::template::footer;
use machine::template::key::TemplateKey;
use machine::template::store::TemplateStore;

use super::input::{Answer, in_memory};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes of memory that are filled in at most.
const MEMORY_MAX: u64 = 1 << 20;

fn key() -> TemplateKey {
    TemplateKey::sample("fuzz")
}

/// Seeds: templates with several extents, with one, and without any.
pub(super) fn templates() -> Result<Vec<Vec<u8>>> {
    let cases: [(u64, &[u64], &[u8]); 3] =
        [(8, &[0, 2, 3, 6], b"the state"), (2, &[1], b"x"), (1, &[], b"")];
    cases.into_iter().map(|(size, pages, state)| template(size, pages, state)).collect()
}

/// The file of a template with `size` pages, of which `pages` have data.
fn template(size: u64, pages: &[u64], state: &[u8]) -> Result<Vec<u8>> {
    let home = tempfile::tempdir().context("make a directory")?;
    let store = TemplateStore::below(home.path()).context("no directory for templates")?;
    let memory = new_memory_file()?;
    memory.set_len(size * PAGE)?;
    for page in pages {
        memory.write_all_at(&[0x55; 16], page * PAGE)?;
    }
    store.keep(&key(), &memory, state)?;
    let template = store.find(&key()).context("the template is not kept")?;
    let mut bytes = vec![0; usize::try_from(template.memory().metadata()?.len())?];
    template.memory().read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Corrects the digests.
pub(super) fn repair(bytes: &mut [u8]) {
    footer::seal(bytes);
}

/// Rules for a template: one that is intact fills the memory with its first bytes.
pub(super) fn check(bytes: &[u8]) -> Result<Answer> {
    let Ok(template) = Template::open(in_memory(bytes)?, Path::new("input"), &key()) else {
        return Ok(Answer::Refused);
    };
    let size = template.memory_size();
    ensure!(size <= bytes.len() as u64, "{size} bytes of memory in {}", bytes.len());
    let is_intact = template.verify().is_ok();
    if size > MEMORY_MAX {
        return Ok(Answer::Refused);
    }
    let memory = new_memory_file()?;
    memory.set_len(size)?;
    let is_filled = template.fill(&memory).is_ok();
    ensure!(is_filled || !is_intact, "an intact template cannot be filled in");
    let mut contents = vec![0; usize::try_from(size)?];
    memory.read_exact_at(&mut contents, 0)?;
    let is_same = bytes.get(..contents.len()) == Some(&contents[..]);
    ensure!(is_same || !is_intact, "the memory differs from an intact template");
    Ok(if is_intact { Answer::Accepted } else { Answer::Refused })
}
