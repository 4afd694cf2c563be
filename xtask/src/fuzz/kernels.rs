//! Targets that the host reads: kernels, modules, and the containers around them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use archive::compress::{self, Compression, compress, decompress};
use archive::newc;
use machine::kernel::modules::file::{self, MODULE_MAX, modinfo};
use machine::kernel::modules::strip::{SIGNED, Strip};
use machine::kernel::vmlinux::{elf, form, lzop, pvh, samples, wrapper};

use super::input::{Answer, in_memory};

/// Containers of modules, kernels and archives.
const COMPRESSIONS: [Compression; 4] =
    [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4];

/// Largest size of an unpacked container, in bytes.
const UNPACKED_MAX: u64 = 32 << 20;

/// Section names and contents of a module.
const SECTIONS: &[(&str, u32, u64, &[u8])] = &[
    ("", 0, 0, b""),
    (".text", 1, 2, b"code of a function that does nothing much"),
    (".rela.text", 4, 0, &[9; 48]),
    (
        ".modinfo",
        1,
        2,
        b"license=GPL\0depends=virtio,fuse\0softdep=pre: a b post: c\0vermagic=6.1\0",
    ),
    (".debug_info", 1, 0, b"debugging information"),
    ("__mcount_loc", 1, 2, &[0; 16]),
    (".rela__mcount_loc", 4, 0, &[0; 48]),
    (".bss", 8, 2, b""),
    (".shstrtab", 3, 0, b""),
];

/// A 64-bit relocatable object of [`SECTIONS`] (elf(5)).
fn module() -> Vec<u8> {
    const HEADER: usize = 64;
    let mut file = vec![0; HEADER];
    let (mut names, mut headers) = (Vec::new(), Vec::new());
    for (at, (name, kind, flags, data)) in (0_u32..).zip(SECTIONS) {
        let name_at = names.len() as u64;
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let data = if *name == ".shstrtab" { &names[..] } else { data };
        // Relocations are those of the section before them.
        let info = if *kind == 4 { u64::from(at - 1) } else { 0 };
        let entry = if *kind == 4 { 24_u64 } else { 0 };
        headers.push(name_at | u64::from(*kind) << 32);
        headers.extend([*flags, 0, file.len() as u64, data.len() as u64, info << 32, 8, entry]);
        file.extend_from_slice(data);
        file.resize(file.len().next_multiple_of(8), 0);
    }
    let table = file.len() as u64;
    file.extend(headers.iter().flat_map(|number| number.to_le_bytes()));
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..24].copy_from_slice(&[1, 0, 62, 0, 1, 0, 0, 0]);
    file[40..48].copy_from_slice(&table.to_le_bytes());
    let count = SECTIONS.len().to_le_bytes()[0];
    file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, count, 0, count - 1, 0]);
    file
}

/// The first bytes of a program with an interpreter.
pub(super) fn program() -> Vec<u8> {
    let mut file = samples::vmlinux(Some(0x100_0010));
    // The first program header becomes PT_INTERP, with a path behind the headers.
    file[64] = 3;
    file[72..80].copy_from_slice(&0x1e0_u64.to_le_bytes());
    file[96..104].copy_from_slice(&16_u64.to_le_bytes());
    file[0x1e0..0x1f0].copy_from_slice(b"/lib64/ld-linux\0");
    file.truncate(0x210);
    file
}

/// Seeds of modules: plain, signed, and in containers.
pub(super) fn modules() -> Result<Vec<Vec<u8>>> {
    let module = module();
    let signed = [&module[..], &[0; 12], SIGNED].concat();
    let packed = COMPRESSIONS.map(|compression| compress(module.clone(), compression));
    let packed: Vec<_> = packed.into_iter().collect::<Result<_>>()?;
    // Modules without a container occur twice, so that they are damaged more often.
    Ok([vec![module.clone(), signed.clone(), module, signed], packed].concat())
}

/// Rules for a module: if it can be stripped, the result is a module.
pub(super) fn check_module(bytes: &[u8]) -> Result<Answer> {
    let Ok(module) = file::unpack(bytes.to_vec()) else { return Ok(Answer::Refused) };
    ensure!(module.len() as u64 <= MODULE_MAX, "a module of {} bytes", module.len());
    // The kernel refuses an object without sections, too.
    let has_sections = modinfo(&module).is_ok();
    for strip in [Strip::Unsigned, Strip::All] {
        let Ok(stripped) = strip.apply(module.clone()) else { continue };
        // A stripped module may have more padding between its sections.
        let most = module.len() + 64 * 1024;
        ensure!(stripped.len() <= 2 * most, "{} bytes of {}", stripped.len(), module.len());
        // `.modinfo` may be a section that a kernel does not load.
        let _ = modinfo(&stripped);
        let again = file::unpack(stripped).map(drop);
        ensure!(again.is_ok() || !has_sections, "a stripped module is none: {again:?}");
    }
    Ok(Answer::Accepted)
}

/// Seeds of kernels: a vmlinux, bzImages, a compressed one, EFI zboot images and UKIs.
pub(super) fn kernels() -> Result<Vec<Vec<u8>>> {
    let kernel = samples::vmlinux(Some(0x100_0010));
    let size = u32::try_from(kernel.len())?.to_le_bytes();
    let mut kernels = vec![kernel.clone()];
    for compression in COMPRESSIONS {
        let packed = compress(kernel.clone(), compression)?;
        let end = if compression == Compression::Gzip { &[][..] } else { &size };
        kernels.push(samples::bzimage(&[&packed[..], end].concat()));
    }
    let packed = compress(kernel.clone(), Compression::Gzip)?;
    kernels.extend([
        samples::zboot(&packed, "gzip"),
        samples::uki(".linux", &kernels[1]),
        samples::uki(".linux", &samples::zboot(&packed, "gzip")),
        packed,
    ]);
    Ok(kernels)
}

/// Rules for a kernel: cutting it down a second time changes nothing. The second time may
/// fail, if the first one cut zeros at the kernel's entry.
pub(super) fn check_kernel(bytes: &[u8]) -> Result<Answer> {
    let _ = lzop::unpack(bytes, 1 << 20); // every answer is allowed
    let bare = elf::cut_down(bytes).ok().flatten();
    let packed = pvh::unpack(bytes).ok().flatten();
    let form = form::of_bytes(bytes).ok();
    let found = form.map(|form| wrapper::find(&in_memory(bytes)?, form, None));
    if let Some(kernel) = bare.or(packed)
        && let Ok(again) = elf::cut_down(&kernel)
    {
        ensure!(again.as_ref() == Some(&kernel), "a kernel that was cut down is cut down again");
    }
    Ok(match found {
        Some(Ok(_)) => Answer::Accepted,
        Some(Err(_)) | None => Answer::Refused,
    })
}

/// Seeds of containers: single ones, and one behind an archive.
pub(super) fn containers() -> Result<Vec<Vec<u8>>> {
    let mut archive = archive::Archive::default();
    archive.add_file("usr/lib/modules/a.ko", 0o644, module());
    archive.add_file("init", 0o755, b"#!/bin/sh\n".to_vec());
    let mut cpio = Vec::new();
    archive.write(&mut cpio, 0)?;
    let mut all = vec![cpio.clone()];
    for compression in COMPRESSIONS {
        let packed = compress(cpio.clone(), compression)?;
        all.push([&cpio[..], &[0; 8], &packed].concat());
        all.push(packed);
    }
    Ok(all)
}

/// Rules for containers: all readers end within their limits, and agree.
pub(super) fn check_container(bytes: &[u8]) -> Result<Answer> {
    /// Number of bytes by which a format is recognised.
    const HEAD: usize = 4096;
    let whole = decompress(bytes, UNPACKED_MAX).ok().flatten();
    let head = compress::head(&mut { bytes }, HEAD).ok().flatten();
    if let Some((contents, rest)) = &whole {
        ensure!(contents.len() as u64 <= UNPACKED_MAX, "{} bytes of output", contents.len());
        ensure!(rest.len() < bytes.len(), "a container of no bytes");
        let start = &contents[..contents.len().min(HEAD)];
        ensure!(head.is_some_and(|(_, head)| head == start), "head and whole differ");
    }
    let entries = newc::entries(&Arc::new(in_memory(bytes)?));
    match (whole, entries) {
        (None, Err(_)) => Ok(Answer::Refused),
        _ => Ok(Answer::Accepted),
    }
}
