//! Frequency of an emulated processor's clock, so that the guest's kernel does not have to
//! measure it.
//!
//! An emulated processor has the time-stamp counter (TSC) of the host. Without a parameter,
//! the guest's kernel measures the frequency of the TSC against a timer, and then the delay
//! loop of each further processor. On a busy host the kernel repeats each measurement until
//! two results agree. The host's kernel already knows the frequency: `bogomips` in
//! `/proc/cpuinfo` is twice the TSC's frequency in MHz (kernel: `init/calibrate.c`).
//!
//! A wrong frequency makes delays in the guest's drivers too long or too short. It does not
//! change the guest's time of day, which comes from another clock.

use std::ffi::OsString;

/// TSC frequency in kHz for one `bogomips`.
const KHZ: f64 = 500.0;

/// Range of plausible TSC frequencies in kHz; others are ignored.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 500e3..=20e6;

/// Option of QEMU that makes the TSC count instructions instead of time.
const COUNTING: &str = "-icount";

/// Kernel parameters for a guest with emulated processors (kernel doc:
/// admin-guide/kernel-parameters.rst); `None` if the frequency is unknown.
///
/// `cpuinfo` is the host's `/proc/cpuinfo`. `config` is the configuration of the guest's
/// kernel; it gives the length of a tick, which `lpj=` needs. `qemu_arguments` are the
/// user's arguments for QEMU.
#[must_use]
pub fn parameters(
    cpuinfo: &str,
    config: Option<&str>,
    qemu_arguments: &[OsString],
) -> Option<String> {
    let counts = qemu_arguments.iter().any(|argument| argument == COUNTING);
    let khz = tsc_khz(cpuinfo).filter(|_| !counts)?;
    let tsc = format!("tsc_early_khz={khz}");
    Some(match config.and_then(ticks) {
        // The kernel computes it in the same way (`tsc_init()`).
        Some(hz) => format!("{tsc} lpj={}", khz * 1000 / hz),
        None => tsc,
    })
}

/// Frequency in kHz of the TSC; `None` if the frequency varies or is unknown.
fn tsc_khz(cpuinfo: &str) -> Option<u64> {
    let value = |key: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find_map(|(name, value)| (name.trim() == key).then_some(value))
    };
    value("flags")?.split_whitespace().find(|flag| *flag == "constant_tsc")?;
    let khz = value("bogomips")?.trim().parse::<f64>().ok()? * KHZ;
    // A number in this range fits into the integer.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    PLAUSIBLE.contains(&khz).then_some(khz.round() as u64)
}

/// Ticks per second of the kernel with this configuration.
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
    fn parameters_are_made_only_of_a_known_and_constant_frequency() {
        let config = Some("CONFIG_HZ_250=y\nCONFIG_HZ=250\n");
        let changed = |from, to| CPUINFO.replace(from, to);
        #[rustfmt::skip]
        let rows = [
            ("all is known",      CPUINFO.to_owned(),                 config,              Some("tsc_early_khz=2445410 lpj=9781640")),
            ("no configuration",  CPUINFO.to_owned(),                 None,                Some("tsc_early_khz=2445410")),
            ("zero ticks",        CPUINFO.to_owned(),                 Some("CONFIG_HZ=0"), Some("tsc_early_khz=2445410")),
            ("a varying TSC",     changed("constant_tsc", "nonstop"), config,              None),
            ("no number",         changed("4890.82", "unknown"),      config,              None),
            ("implausible",       changed("4890.82", "2.00"),         config,              None),
            ("not a number",      changed("4890.82", "NaN"),          config,              None),
            ("another machine",   "BogoMIPS\t: 50.00\n".to_owned(),   config,              None),
        ];
        for (name, cpuinfo, config, expected) in rows {
            assert_eq!(parameters(&cpuinfo, config, &[]).as_deref(), expected, "{name}");
        }
        let arguments = ["-icount", "shift=0"].map(OsString::from);
        assert_eq!(parameters(CPUINFO, config, &arguments), None);
    }
}
