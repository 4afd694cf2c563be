//! The programs, and how each of them is started as PID 1.

/// A program that is made to be PID 1.
#[derive(Debug)]
pub(super) struct Program {
    /// Its name, which is that of its Debian package.
    pub(super) name: &'static str,
    /// Its version in Debian 12; empty: it is the `/init` of this checkout.
    pub(super) version: &'static str,
    /// Script that executes it, with `/bin/main` as its command; empty: it runs the workload of
    /// `/etc/virtinit/run`.
    pub(super) start: &'static str,
}

/// s6 as PID 1: `s6-svscan` supervises one service (s6-svscan(1), "The s6-svscan program").
const S6: &str = r"mkdir -p /run/service/main
printf '#!/bin/sh\nexec /bin/main\n' > /run/service/main/run
chmod +x /run/service/main/run
exec s6-svscan /run/service";

/// The programs, in the order of the columns. Each of them runs with its defaults.
#[rustfmt::skip]
pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "dumb-init", version: "1.2.5",    start: "exec dumb-init -- /bin/main" },
    Program { name: "tini",      version: "0.19.0",   start: "exec tini -- /bin/main" },
    Program { name: "catatonit", version: "0.1.7",    start: "exec catatonit -- /bin/main" },
    Program { name: "s6",        version: "2.11.3.2", start: S6 },
    Program { name: "/init",     version: "",         start: "" },
];

/// Name and version.
pub(super) fn title(program: &Program) -> String {
    format!("{} {}", program.name, program.version).trim_end().to_owned()
}
