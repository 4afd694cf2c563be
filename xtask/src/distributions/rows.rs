//! The distributions, and what is done in each of them.

/// A distribution of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// Root that stands for it.
    pub(super) source: Source,
}

/// Root that stands for a distribution.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A root of this suite of Debian, made by debootstrap.
    Debian(&'static str),
    /// An empty root with a program of this name in place of its package manager.
    StandIn(&'static str),
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { name: "Debian 12",  source: Source::Debian("bookworm") },
    Row { name: "Debian 13",  source: Source::Debian("trixie") },
    Row { name: "Debian sid", source: Source::Debian("sid") },
    Row { name: "Fedora",     source: Source::StandIn("dnf") },
    Row { name: "Arch",       source: Source::StandIn("pacman") },
    Row { name: "Alpine",     source: Source::StandIn("apk") },
];

/// Something that a newcomer does.
#[derive(Debug)]
pub(super) struct Check {
    /// Heading of its column.
    pub(super) name: &'static str,
    /// Command that runs the script; empty for none.
    pub(super) wrapper: &'static str,
    /// The commands, in shell.
    pub(super) script: &'static str,
    /// Its part for a package manager that installs nothing.
    pub(super) stand_in: StandIn,
}

/// The part of a check that a package manager can take that installs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandIn {
    /// Nothing: it needs the packages.
    NeedsPackages,
    /// Asking for the packages of this stage of `scripts/setup`.
    Stage(&'static str),
}

/// The boot of the demo; the answer of its machine is looked for.
const DEMO: &str = "make demo >/tmp/answer
grep -x '  demo: the guest is done' /tmp/answer";

/// In the order in which they are run, one after the other in the same root.
#[rustfmt::skip]
pub(super) const CHECKS: &[Check] = &[
    Check { name: "`make demo`",             wrapper: "",              script: DEMO, stand_in: StandIn::NeedsPackages },
    Check { name: "again without a network", wrapper: "unshare --net", script: DEMO, stand_in: StandIn::NeedsPackages },
    Check { name: "`scripts/setup test`",    wrapper: "",              script: "scripts/setup test\nscripts/setup --check test", stand_in: StandIn::Stage("test") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_line_for_each_row() {
        let document = include_str!("../../../docs/contributing.md");
        let heads: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        assert!(document.contains(&format!("\n| Distribution | {} |\n", heads.join(" | "))));
        for row in ROWS {
            assert!(document.contains(&format!("\n| {} | ", row.name)), "{}", row.name);
        }
    }
}
