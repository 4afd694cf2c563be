//! Memory of a machine: its size, and whether the things that a run keeps in it fit.
//!
//! Rules:
//!
//! - The default is `USUAL`, or less on a small host (`spare`).
//! - If the overlay and an unpacked root leave less than `GUEST` of it, the default grows by
//!   what is missing, as far as the host has it.
//! - A size that the user gave stays.
//! - A warning says so if overlay and root leave less than `LEAST` of the chosen size, or if
//!   the size is more than the host has.
//!
//! An overlay takes memory only for what the guest writes. An overlay of half the memory or
//! another percentage always fits, so it is no reason for more.

use anyhow::{Result, ensure};

/// Default memory in MiB.
pub const USUAL: u64 = 1024;

/// Least default memory in MiB, in which a guest can still boot.
const LEAST: u64 = 128;
/// Steps of a size that depends on the host's free memory: machines of the same size can start
/// from the same template.
const STEP: u64 = 64;

/// Memory in MiB that is left to kernel and programs beside overlay and root.
const GUEST: u64 = 512;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Bytes that a run keeps in the guest's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Greatest size of the overlay; 0 if there is none, or if it is a part of the memory.
    pub overlay: u64,
    /// Size of a root that the guest's kernel unpacks into memory, and of its archive.
    pub root: u64,
}

/// Size of a machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Size in MiB.
    pub size: u64,
    /// Warning if not everything fits.
    pub warning: Option<String>,
}

/// Chooses the memory of a machine that keeps `used` in it. `given` is the user's size in MiB,
/// `meminfo` the text of the host's /proc/meminfo. The machine has multiples of `step` MiB.
///
/// # Errors
/// `given` is no multiple of `step`.
pub fn choose(given: Option<u64>, used: MemoryUse, meminfo: &str, step: u64) -> Result<Memory> {
    let up = |size: u64| size.checked_next_multiple_of(step).unwrap_or(size);
    let spare = spare(meminfo, step.max(STEP));
    let usual = spare.unwrap_or(USUAL).clamp(up(LEAST), USUAL);
    let wanted = up(used.size().saturating_add(GUEST));
    let size = match given {
        Some(given) => given,
        None if wanted <= usual => usual,
        None => wanted.min(spare.unwrap_or(wanted)).max(usual),
    };
    ensure!(
        size.is_multiple_of(step),
        "--memory {}: such a machine has multiples of {}: give {}",
        option(size),
        option(step),
        option(up(size))
    );
    let total = field(meminfo, "MemTotal:").map(|kib| kib / 1024);
    if let Some(total) = total.filter(|total| *total < size) {
        let warning = format!(
            "the guest's memory of {} is more than the {} of this host: it fails when the guest \
             uses it",
            option(size),
            option(total)
        );
        return Ok(Memory { size, warning: Some(warning) });
    }
    let is_tight = used != MemoryUse::default() && used.size().saturating_add(LEAST) > size;
    let warning = is_tight.then(|| {
        let remedy = match given {
            Some(_) => format!("give it more: --memory {}", option(wanted)),
            None => {
                "this host has no more to spare: free memory there, or keep less in the guest's"
                    .into()
            }
        };
        let (what, memory) = (used.describe(), option(size));
        format!("{what} may take more than the guest's memory of {memory} has room for: {remedy}")
    });
    Ok(Memory { size, warning })
}

/// The value of `--memory` for `size` MiB.
#[must_use]
pub fn option(size: u64) -> String {
    match size % 1024 {
        0 => format!("{}G", size / 1024),
        _ => format!("{size}M"),
    }
}

impl MemoryUse {
    /// The size in MiB.
    fn size(self) -> u64 {
        self.overlay.div_ceil(MIB).saturating_add(self.root.div_ceil(MIB))
    }

    /// The things that are kept, with their sizes.
    fn describe(self) -> String {
        let sizes = [
            ("the overlay", self.overlay.div_ceil(MIB)),
            ("the unpacked root", self.root.div_ceil(MIB)),
        ];
        let parts = sizes.iter().filter(|(_, size)| *size != 0);
        let parts: Vec<_> =
            parts.map(|(what, size)| format!("{what} ({})", option(*size))).collect();
        parts.join(" and ")
    }
}

/// Memory in MiB that the host can spare: three quarters of the available memory, in steps of
/// `step`; `None` if `meminfo` does not tell.
fn spare(meminfo: &str, step: u64) -> Option<u64> {
    available(meminfo).map(|mib| mib * 3 / 4 / step * step)
}

/// Memory in MiB that new programs can have without swapping (proc_meminfo(5), `MemAvailable`);
/// `None` if `meminfo`, the text of /proc/meminfo, does not tell.
#[must_use]
pub fn available(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemAvailable:").map(|kib| kib / 1024)
}

/// The value in KiB of the line of `meminfo` that starts with `name`.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn meminfo(mib: u64) -> String {
        format!("MemTotal: {} kB\nMemAvailable:  {0} kB\n", mib * 1024)
    }

    fn overlay(overlay: u64) -> MemoryUse {
        MemoryUse { overlay, ..MemoryUse::default() }
    }

    #[test]
    fn a_small_host_gives_three_quarters_of_its_memory() {
        for (host, size) in [(8192, 1024), (976, 704), (990, 704), (1, 128)] {
            assert_eq!(choose(None, MemoryUse::default(), &meminfo(host), 1).unwrap().size, size);
        }
        assert_eq!(choose(None, MemoryUse::default(), "", 1).unwrap().size, 1024);
    }

    #[test]
    fn memory_follows_what_is_kept_in_it() {
        let both = MemoryUse { root: GIB, ..overlay(GIB) };
        #[rustfmt::skip]
        let rows = [
            ("nothing",                 None,       MemoryUse::default(), 8192, 1024, ""),
            ("half of it",              None,       overlay(GIB / 2), 8192, 1024, ""),
            ("more than half of it",    None,       overlay(2 * GIB), 8192, 2560, ""),
            ("a root and an overlay",   None,       both,             8192, 2560, ""),
            ("more than the host has",  None,       overlay(8 * GIB), 8192, 6144, "the overlay (8G) may take more than the guest's memory of 6G has room for: this host has no more"),
            ("a small host",            None,       overlay(GIB),     1024, 768,  "the overlay (1G) may take more"),
            ("a small host, no overlay", None,      MemoryUse::default(), 512, 384, ""),
            ("almost all of the host",  None,       overlay(6000 << 20), 8192, 6144, ""),
            ("given",                   Some(1024), overlay(GIB / 2), 8192, 1024, ""),
            ("given, all of it",        Some(1024), overlay(GIB),     8192, 1024, "the overlay (1G) may take more than the guest's memory of 1G has room for: give it more: --memory 1536M"),
            ("given, all but a little", Some(1152), overlay(GIB),     8192, 1152, ""),
            ("more than the host",      Some(9216), MemoryUse::default(), 8192, 9216, "the guest's memory of 9G is more than the 8G of this host"),
            ("given, too small",        Some(1024), overlay(2 * GIB), 8192, 1024, "the overlay (2G) may take more than the guest's memory of 1G has room for: give it more: --memory 2560M"),
            ("given, a large root",     Some(256),  MemoryUse { root: GIB, ..overlay(0) }, 8192, 256, "the unpacked root (1G) may take more than the guest's memory of 256M has room for: give it more: --memory 1536M"),
            ("given, both",             Some(1500), both,             8192, 1500, "the overlay (1G) and the unpacked root (1G) may take"),
            ("an absurd size",          None,       overlay(u64::MAX), 8192, 6144, "the overlay ("),
        ];
        for (name, given, used, host, size, words) in rows {
            let memory = choose(given, used, &meminfo(host), 1).unwrap();
            assert_eq!(memory.size, size, "{name}");
            let warning = memory.warning.unwrap_or_default();
            assert_eq!(warning.is_empty(), words.is_empty(), "{name}: {warning}");
            assert!(warning.starts_with(words), "{name}: {warning}");
        }
    }

    #[test]
    fn a_machine_of_power_has_multiples_of_256_mib() {
        for (given, used, host, expected) in [
            (None, overlay(0), 8192, Ok(1024)),
            (None, overlay(700 << 20), 8192, Ok(1280)),
            (None, overlay(8 * GIB), 5000, Ok(3584)),
            (None, overlay(0), 976, Ok(512)),
            (None, overlay(0), 100, Ok(256)),
            (None, overlay(u64::MAX), 8192, Ok(6144)),
            (Some(768), overlay(0), 8192, Ok(768)),
            (
                Some(700),
                overlay(0),
                8192,
                Err("--memory 700M: such a machine has multiples of 256M: give 768M"),
            ),
        ] {
            let found = choose(given, used, &meminfo(host), 256);
            let found = found.map(|memory| memory.size).map_err(|error| error.to_string());
            assert_eq!(
                found.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| *text)
            );
        }
    }
}
