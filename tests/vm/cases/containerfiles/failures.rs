//! RUN that fails, each in its way: the message names the instruction and its place, the exit
//! status tells the kinds apart, no output appears, and the next build takes the layers before.

use anyhow::{Context, Result, ensure};

use super::site::{build, kept, ran, without_machines, write};
use crate::harness::{Bed, Case};
use crate::recipes::site::Site;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("failed_instructions_are_named",  failed_instructions_are_named),
    ("mistakes_are_found_before_a_machine_starts", mistakes_are_found_before_a_machine_starts),
];

/// A way to fail.
struct Failure {
    /// The instructions; the last one fails.
    text: &'static str,
    /// Words of the command line.
    words: &'static [&'static str],
    status: i32,
    says: &'static [&'static str],
}

#[rustfmt::skip]
const FAILURES: &[Failure] = &[
    Failure { text: "RUN echo out; exit 3", words: &[], status: 1, says: &["RUN echo out; exit 3", "\nout\n", "failed: exit status 3"] },
    Failure { text: "RUN kill -9 $$", words: &[], status: 1, says: &["killed by SIGKILL"] },
    Failure { text: "RUN [\"no-such\", \"x\"]", words: &[], status: 1, says: &["no such program in PATH="] },
    Failure { text: "RUN [\"/bin/no-such\"]", words: &[], status: 1, says: &["execute /bin/no-such: ENOENT"] },
    Failure { text: "USER nobody-here\nRUN true", words: &[], status: 1, says: &["nobody-here"] },
    Failure { text: "RUN true | false", words: &["--quiet"], status: 1, says: &["failed: exit status 1"] },
    Failure { text: "RUN echo c > /proc/sysrq-trigger", words: &[], status: 4, says: &["the machine of the build has ended", "sysrq triggered crash"] },
    Failure { text: "RUN dd if=/dev/zero of=/big bs=1M count=100", words: &["--disk", "64M"], status: 3, says: &["the disk of the build is full (--disk sets its size)"] },
    Failure { text: "RUN a=x; while :; do a=$a$a$a; done", words: &["--memory", "256M"], status: 3, says: &["the memory was full (--memory sets its size)"] },
    Failure { text: "RUN sleep 3600", words: &["--timeout", "2s"], status: 124, says: &["it has not ended after 2 s (--timeout sets the limit)"] },
];

fn failed_instructions_are_named(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let head = "FROM base\nRUN echo one > /one\n";
    for (number, Failure { text, words, status, says }) in FAILURES.iter().enumerate() {
        let built =
            build(&site, &format!("{head}{text}\n"), &[words, &["-o", "o.tar"][..]].concat())?;
        let last = 1 + text.lines().count();
        let place = format!("error: Containerfile:{}:1: step {last}/{last} (", last + 1);
        let built = built.is(*status, says)?.is(*status, &[&place])?;
        // The first build runs the first instruction; all others have it.
        let is_quiet = words.contains(&"--quiet");
        let expected = [(number == 0).then(|| "step 1".to_owned()), Some(format!("step {last}"))];
        let expected: Vec<_> = expected.into_iter().flatten().filter(|_| !is_quiet).collect();
        ensure!(ran(&built) == expected, "{text}: {built}");
        ensure!(!site.own("o.tar").exists(), "{text}: there is an output");
        ensure!(site.kept("output")?.is_empty() && site.kept("layer")?.len() == 1, "{text}");
    }
    let text = format!("{head}RUN cat /one > /two; test ! -e /big\n");
    let built = build(&site, &text, &["-o", "o.tar"])?.is(0, &[])?;
    ensure!(ran(&built) == ["step 2"] && kept(&built) == ["step 1"], "{built}");
    ensure!(site.text("o.tar", "/two")? == "one\n");
    Ok(())
}

/// Files, and what is said about them. All have an instruction that would run.
#[rustfmt::skip]
const MISTAKES: &[(&str, i32, &str)] = &[
    ("FROM base\nRUN true\nCOPY no-such /",               2,   "Containerfile:3:1: find no-such: no-such does not exist"),
    ("FROM base\nRUN true\nCOPY left-out /",              2,   "an ignore file may leave it out"),
    ("FROM base\nRUN true\nCOPPY a b",                    2,   "Containerfile:3:1: "),
    ("FROM base\nRUN --mount=type=ssh true",              2,   "type=ssh is not supported"),
    ("FROM base AS a\nRUN true\nCOPY --from=b /x /\nFROM a AS b\nRUN true", 2, "stage \"a\" needs \"b\" needs \"a\""),
    ("FROM base AS a\nRUN true\nFROM a\nCOPY --from=9 /x /", 2, "Containerfile:4:1: "),
    ("FROM base\nRUN --mount=type=secret,id=none,required true", 2, "Containerfile:2:1: secret none: give it as --secret id=NAME,src=FILE"),
    ("FROM $NOTHING\nRUN true",                           2,   "Containerfile:1:1: FROM: "),
];

fn mistakes_are_found_before_a_machine_starts(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    site.write("left-out", "x")?;
    site.write(".dockerignore", "left-out\n")?;
    for (text, status, says) in MISTAKES {
        write(&site, text)?;
        let built = site.run(&mut without_machines(&site, &["-o", "o.tar"]))?;
        built.is(*status, &[says])?.lacks("/no/such/kernel").with_context(|| (*text).to_owned())?;
        ensure!(!site.own("o.tar").exists(), "{text}: there is an output");
    }
    // The check that no machine starts does find one.
    write(&site, "FROM base\nRUN true\n")?;
    site.run(&mut without_machines(&site, &["-o", "o.tar"]))?.is(125, &["/no/such/kernel"])?;
    Ok(())
}
