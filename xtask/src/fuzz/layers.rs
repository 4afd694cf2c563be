//! Targets for layers of OCI images: stacks of tar archives, and compressed blobs.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, compress};
use files::notes::Notes;
use image::source::tar::Budget;
use image::source::tar::layer::{self, DirectoryLinks, LayerOptions};
use image::tree::{Meta, Tree};
use image::ustar::BLOCK;
use oci::document::manifest::Descriptor;
use oci::layer::{BlobCopy, Unpacked, fault::LayerFault, room::Room};
use oci::name::digest::Digest;

use super::input::{Answer, in_memory};
use super::{seeds, trees};

/// Most layers of an input.
const LAYERS_MAX: usize = 3;
/// Largest size of an unpacked blob, in bytes.
const UNPACKED_MAX: u64 = 8 << 20;

/// Seeds of stacks: archives one after another, of which each is a layer.
pub(super) fn stacks() -> Vec<Vec<u8>> {
    let [lower, upper, top] = seeds::layers();
    let on_other = |tar: Vec<u8>| [&tar[..], &lower, &upper].concat();
    // The larger sample has files with blocks of zeros, at which it would be cut.
    let others = seeds::sparse_tars().into_iter().chain([seeds::other_tar()]).map(on_other);
    let stacks = [[&lower[..], &upper, &top].concat(), [&lower[..], &top].concat()];
    others.chain(stacks).collect()
}

/// Cuts an input into layers, behind the blocks of zeros that end each.
fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut layers, mut rest) = (Vec::new(), bytes);
    while layers.len() + 1 < LAYERS_MAX {
        let mut blocks = rest.chunks_exact(BLOCK).zip(rest.chunks_exact(BLOCK).skip(1));
        let is_end = |(a, b): (&[u8], &[u8])| a.iter().chain(b).all(|&byte| byte == 0);
        let Some(end) = blocks.position(is_end) else { break };
        let (layer, behind) = rest.split_at((end + 2) * BLOCK);
        layers.push(layer);
        rest = behind;
    }
    layers.push(rest);
    layers
}

/// Applies the layers of an input. The tree must obey the rules of all trees, and each of its
/// nodes must have as many names as it says.
pub(super) fn check_stack(bytes: &[u8]) -> Result<Answer> {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let links = match bytes.len() % 2 {
        0 => DirectoryLinks::Replace,
        _ => DirectoryLinks::Keep,
    };
    let options = LayerOptions { time: 7, links };
    let mut budget = Budget::IMAGE;
    for bytes in split(bytes) {
        let layer = Arc::new(in_memory(bytes)?);
        let notes = &mut Notes::default();
        if layer::apply(&layer, &mut tree, &options, &mut budget, notes).is_err() {
            return Ok(Answer::Refused);
        }
    }
    let mut names = vec![0; tree.len()];
    tree.walk(&mut |_, id| {
        names[usize::try_from(id.number())?] += 1;
        Ok(())
    })?;
    tree.walk(&mut |path, id| {
        let (said, found) = (tree.node(id).names, names[usize::try_from(id.number())?]);
        let path = path.escape_ascii();
        ensure!(said == found, "{path} has {found} names, but says {said}");
        Ok(())
    })?;
    trees::check_tree(&tree, bytes)
}

/// Seeds of blobs: each container alone, in several parts, padded, and no container.
pub(super) fn blobs() -> Result<Vec<Vec<u8>>> {
    let [lower, upper, _] = seeds::layers();
    let mut all = vec![lower.clone()];
    for compression in [Compression::Gzip, Compression::Zstd] {
        let parts = [&lower, &upper].map(|layer| compress(layer.clone(), compression));
        let [one, two] = parts;
        let (one, two) = (one?, two?);
        let skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";
        let between: &[u8] = if compression == Compression::Zstd { skippable } else { &[0; 5] };
        all.extend([[&one[..], between, &two].concat(), [&one[..], &[0; 100]].concat(), one]);
    }
    Ok(all)
}

/// Unpacks a blob. If it can be unpacked, it can be unpacked again with the digest that was
/// found, with the same size; the copy is the blob.
pub(super) fn check_blob(bytes: &[u8]) -> Result<Answer> {
    let found = match unpack(bytes, &Digest::of(b"")) {
        Ok(_) => Digest::of(b""),
        Err(error) => match error.downcast_ref() {
            Some(LayerFault::DiffId { found, .. }) => found.clone(),
            Some(other) => return Err(anyhow::anyhow!("{other}")),
            None => return Ok(Answer::Refused),
        },
    };
    let Unpacked { size, .. } = unpack(bytes, &found).context("unpacked again")?;
    ensure!(size <= UNPACKED_MAX, "{size} bytes are more than the limit");
    Ok(Answer::Accepted)
}

fn unpack(bytes: &[u8], diff_id: &Digest) -> Result<Unpacked> {
    let text = format!(r#"{{"digest": "{}", "size": {}}}"#, Digest::of(bytes), bytes.len());
    let blob: Descriptor = serde_json::from_str(&text)?;
    let (out, file) = (in_memory(b"")?, in_memory(b"")?);
    let copy = BlobCopy { file: &file, already: 0 };
    let unpacked = oci::layer::unpack(
        Box::new(bytes),
        &blob,
        diff_id,
        Some(copy),
        &out,
        &Room::new(UNPACKED_MAX),
        &|_| (),
    )?;
    ensure!(file.metadata()?.len() == bytes.len() as u64, "the copy has another size");
    ensure!(out.metadata()?.len() == unpacked.size, "the output has another size");
    Ok(unpacked)
}
