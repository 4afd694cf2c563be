//! What the host knows of the clock of an emulated processor, so that the guest's
//! kernel need not measure it.
//!
//! QEMU's emulation hands the guest the host's own time-stamp counter (TSC). The
//! guest's kernel measures its frequency against a timer, and on each further
//! processor how often that can loop in a tick: on a crowded host over and over
//! again, until two measurements agree. The host's kernel has it in `/proc/cpuinfo`,
//! where `bogomips` is the TSC's frequency times two (kernel: `init/calibrate.c`).
//! A guest that is told something wrong waits too long or too short in its drivers'
//! delays; its time of day comes from another clock.

use std::ffi::OsString;

/// Kilohertz of the TSC in one `bogomips`.
const KHZ: f64 = 500.0;

/// Slowest and fastest TSC in kilohertz that is believed.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 500e3..=20e6;

/// The option of QEMU with which its TSC counts instructions.
const COUNTING: &str = "-icount";

/// Words for the kernel (kernel doc: admin-guide/kernel-parameters.rst) on emulated
/// processors, from the host's `/proc/cpuinfo`, the kernel's configuration, without
/// which nobody knows how long a tick is, and what else QEMU is told.
#[must_use]
pub fn words(cpuinfo: &str, config: Option<&str>, qemu_arguments: &[OsString]) -> Option<String> {
    let counts = qemu_arguments.iter().any(|argument| argument == COUNTING);
    let khz = tsc_khz(cpuinfo).filter(|_| !counts)?;
    let tsc = format!("tsc_early_khz={khz}");
    Some(match config.and_then(ticks) {
        // The kernel's own way from one to the other (`tsc_init`).
        Some(hz) => format!("{tsc} lpj={}", khz * 1000 / hz),
        None => tsc,
    })
}

/// The frequency of a TSC that never changes its pace.
fn tsc_khz(cpuinfo: &str) -> Option<u64> {
    let value = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find_map(|(name, value)| (name.trim() == key).then_some(value))
    };
    value("flags")?.split_whitespace().find(|flag| *flag == "constant_tsc")?;
    let khz = value("bogomips")?.trim().parse::<f64>().ok()? * KHZ;
    // Within these bounds it is a whole number that fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    PLAUSIBLE.contains(&khz).then_some(khz.round() as u64)
}

/// Ticks a second.
fn ticks(config: &str) -> Option<u64> {
    let value = config.lines().find_map(|line| line.strip_prefix("CONFIG_HZ="))?;
    value.parse().ok().filter(|hz| *hz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nflags\t\t: fpu tsc constant_tsc sse2\n\
                           bogomips\t: 4890.82\nprocessor\t: 1\nbogomips\t: 1.00\n";

    #[test]
    fn the_guest_is_told_what_the_host_knows() {
        let config = Some("CONFIG_HZ_250=y\nCONFIG_HZ=250\n");
        let changed = |from, to| CPUINFO.replace(from, to);
        #[rustfmt::skip]
        let rows = [
            ("all is known",      CPUINFO.to_owned(),                 config,              Some("tsc_early_khz=2445410 lpj=9781640")),
            ("not the tick",      CPUINFO.to_owned(),                 None,                Some("tsc_early_khz=2445410")),
            ("a tick of nothing", CPUINFO.to_owned(),                 Some("CONFIG_HZ=0"), Some("tsc_early_khz=2445410")),
            ("a varying TSC",     changed("constant_tsc", "nonstop"), config,              None),
            ("no number",         changed("4890.82", "unknown"),      config,              None),
            ("no such processor", changed("4890.82", "2.00"),         config,              None),
            ("not a number",      changed("4890.82", "NaN"),          config,              None),
            ("another machine",   "BogoMIPS\t: 50.00\n".to_owned(),   config,              None),
        ];
        for (name, cpuinfo, config, expected) in rows {
            assert_eq!(words(&cpuinfo, config, &[]).as_deref(), expected, "{name}");
        }
        let arguments = ["-icount", "shift=0"].map(OsString::from);
        assert_eq!(words(CPUINFO, config, &arguments), None);
    }
}
