//! All rules, one a row.

use proto::settings::health::UNHEALTHY as ACTIONS;
use proto::settings::restart::RESTARTS;

use crate::model::{Network, Normalisation};

use super::Pattern::{Any, Names, Regex};
use super::{Rule, names, numbers, paths};

/// Rows of a table with names, without what they mean.
fn names_of<T>(rows: &[(&'static str, T)]) -> Vec<&'static str> {
    rows.iter().map(|(name, _)| *name).collect()
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident: $check:expr, $example:expr, $pattern:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: Rule =
            Rule { check: $check, example: $example, pattern: $pattern };)*

        /// Every rule.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, Rule)] = &[$((stringify!($name), $name)),*];
    };
}

#[rustfmt::skip]
rules! {
    /// Any text.
    ANY: |_| Ok(()), "text", Any;
    /// Text of a program.
    SCRIPT: names::script, "apt-get update", Regex(r"\S");
    /// Text without control characters, not empty.
    LINE: names::line, "text", Regex("^.+$");
    /// Name of a recipe.
    NAME: names::recipe, "app", Regex("^[a-z0-9][a-z0-9._-]{0,62}$");
    /// Name of a secret, and of its file.
    SECRET: names::secret, "npm", Regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$");
    /// Name of a variable.
    VARIABLE: names::variable, "NAME", Regex(r"^[^=\s]+$");
    /// Name of a host.
    HOST: names::host, "build", Regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");
    /// User and group.
    OWNER: names::owner, "root:root", Regex(r"^[^:/\s]+(:[^:/\s]+)?$");
    /// Name of a program that busybox contains.
    APPLET: names::applet, "sh", Regex(r"^[^/\s]+$");
    /// Signal.
    SIGNAL: names::signal, "QUIT", Regex("^[A-Za-z0-9+-]+$");
    /// Platform of an OCI image.
    PLATFORM: names::platform, "linux/amd64", Regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$");
    /// Network.
    NETWORK: |text| names::one_of(text, &names_of(Network::ALL)), "user", Names(|| names_of(Network::ALL));
    /// Normalisation.
    NORMALISATION: |text| names::one_of(text, &names_of(Normalisation::ALL)), "logs", Names(|| names_of(Normalisation::ALL));
    /// Restart policy.
    RESTART: |text| names::one_of(text, &names_of(&RESTARTS)), "on-failure", Names(|| names_of(&RESTARTS));
    /// What happens to an unhealthy workload.
    UNHEALTHY: |text| names::one_of(text, &names_of(&ACTIONS)), "restart", Names(|| names_of(&ACTIONS));

    /// Path of the image.
    GUEST_PATH: paths::guest, "/usr/bin/tool", Regex("^/");
    /// Path or pattern of the package.
    PACKAGE_PATH: paths::package, "files/tool", Regex("^[^/]");
    /// Path of the host.
    HOST_PATH: paths::host, "files/tool", Regex("^.");
    /// Pattern of names to remove or, after `!`, to keep.
    REMOVAL: paths::removal, "/usr/share/doc/**", Regex("^!?/");

    /// Size.
    SIZE: numbers::size, "64M", Regex(r"^[0-9]+(\.[0-9]+)?([kKmMgGtT]?([iI]?[bB]|[iI])?)$");
    /// Size of memory.
    MEMORY: numbers::memory, "512M", Regex(r"^[0-9]+(\.[0-9]+)?([kKmMgGtT]?([iI]?[bB]|[iI])?)$");
    /// Percentage.
    PERCENT: numbers::percent, "10%", Regex("^[0-9]+%?$");
    /// Duration.
    DURATION: numbers::duration, "90s", Regex("^[0-9]+(ms|s|m|h|d)?$");
    /// First and longest pause.
    BACKOFF: numbers::backoff, "100ms..1m", Regex(r"^[0-9]+(ms|s|m|h|d)?\.\.[0-9]+(ms|s|m|h|d)?$");
    /// Mode of files.
    MODE: numbers::mode, "0644", Regex("^(auto|[0-7]{3,5})$");
    /// SHA-256.
    SHA256: numbers::sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Regex("^[0-9A-Fa-f]{64}$");
    /// SHA-256 with the name of the method.
    SHA256_DIGEST: numbers::sha256_digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Regex("^sha256:[0-9A-Fa-f]{64}$");
    /// Digest of an OCI image.
    DIGEST: numbers::digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Regex("^(sha256:[0-9A-Fa-f]{64}|sha512:[0-9A-Fa-f]{128})$");
    /// Address of a download.
    URL: names::url, "https://example.org/tool", Regex("^https?://[^/]");
    /// Port of the guest.
    PORT: numbers::port, "8080/tcp", Regex("^[0-9]+(/(tcp|udp))?$");
    /// Published port.
    PUBLISH: numbers::publish, "8080:80", Regex("^[0-9.:]+(/(tcp|udp))?$");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_keeps_its_rule() {
        for (name, rule) in ALL {
            assert_eq!(rule.check(rule.example()), Ok(()), "{name}");
            assert!(rule.check("a\0").is_err(), "{name}");
        }
    }

    #[test]
    fn rules_refuse_other_texts() {
        let long = "a".repeat(65);
        for (rule, good, bad) in [
            (ANY, &["", "a\nb"][..], &[][..]),
            (SCRIPT, &["x", "\n x\n"], &["", " \n\t"]),
            (LINE, &["a b", "é"], &["", "a\nb", "\u{7f}"]),
            (NAME, &["a", "9._-", &long[2..]], &["", "A", "-a", "a b", &long[1..]]),
            (SECRET, &["npm", "A.b_c-1"], &["", ".a", "a/b", "..", &long]),
            (VARIABLE, &["A", "a.b", "É"], &["", "A=B", "A B", "A\n"]),
            (HOST, &["localhost", "a.b", &long[1..]], &["", "-a", "a_b ", &long]),
            (OWNER, &["0", "0:0", "app", "a:b"], &["", ":", "a:", ":a", "a:b:c", "a b", "a/b"]),
            (APPLET, &["sh", "["], &["", ".", "..", "a/b", "a b"]),
            (SIGNAL, &["TERM", "SIGQUIT", "3", "RTMIN+3"], &["", "0", "SIGNONE", "99"]),
            (PLATFORM, &["arm64", "linux/arm/v7"], &["", "/", "linux/", "a/b/c/d", "a b"]),
            (NETWORK, &["none", "user"], &["", "None", "host"]),
            (NORMALISATION, &["python", "machine-id"], &["", "log"]),
            (RESTART, &["no", "always"], &["", "never"]),
            (GUEST_PATH, &["/", "/a/b/", "/a..b"], &["", "a", "./a", "/a/../b", "/..", "~/a"]),
            (PACKAGE_PATH, &["a", ".", "a/../b", "*.so"], &["", "/a", "..", "a/../..", "./../a"]),
            (HOST_PATH, &["/a", "../a", "a"], &[""]),
            (REMOVAL, &["/a/**", "!/a"], &["", "!", "a", "!a", "!!/a", "/a/../b"]),
            (SIZE, &["1", "1.5G", "64k"], &["", "x", "-1", "1.5"]),
            (MEMORY, &["512", "2G"], &["", "1M", "1B"]),
            (PERCENT, &["10", "10%"], &["", "%", "-1%", "1.5%"]),
            (DURATION, &["1", "5m"], &["", "0", "1w"]),
            (BACKOFF, &["1..1", "1ms..2h"], &["", "1", "2..1", "..1", "1..", "0..1", "1..2..3"]),
            (
                MODE,
                &["auto", "644", "0644", "4755", "04755"],
                &["", "8", "7", "10000", "0x1ff", "+644"],
            ),
            (SHA256, &[&"aB".repeat(32)], &["", "xyz", &long, &"g".repeat(64)]),
            (SHA256_DIGEST, &[], &["", &"a".repeat(64), "sha256:", "sha256:ab"]),
            (DIGEST, &[&format!("sha512:{}", "a".repeat(128))], &["", "sha512:ab", "md5:ab"]),
            (
                URL,
                &["http://a", "https://a:1/b?c"],
                &["", "a", "file:///a", "ftp://a", "http://", "http:///a", "http://a b"],
            ),
            (PORT, &["80", "80/tcp", "65535/udp"], &["", "0", "65536", "80/sctp", "a", "+80"]),
            (
                PUBLISH,
                &["80:80", "1.2.3.4:80:80/udp"],
                &["", "80", "0:1", "a:80", "1.2.3:80:80", "80:80/x", "+1:1"],
            ),
        ] {
            for text in good {
                assert_eq!(rule.check(text), Ok(()), "{text} {rule:?}");
            }
            for text in bad {
                assert!(rule.check(text).is_err(), "{text:?} {rule:?}");
            }
        }
    }
}
