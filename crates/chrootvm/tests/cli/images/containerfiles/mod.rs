//! Containerfiles whose instructions need no machine, and mistakes in Containerfiles.
//!
//! | Module | Content |
//! |---|---|
//! | `copies` | what COPY, ADD and WORKDIR make of a context |
//! | `configs` | what the other instructions make of a config, and layers of archives |
//! | `errors` | mistakes: places, statuses, and that nothing is written |
//! | `places` | where Containerfiles, contexts and bases are |

mod configs;
mod copies;
mod errors;
mod places;

use std::process::Command;

use crate::images::bench::Bench;

/// Exit status of a build whose Containerfile is wrong.
const WRONG: i32 = 2;
/// Exit status of a build that fails for another reason than a step or the Containerfile.
const OTHER: i32 = 125;

/// A bench with a context `ctx` and a base `base`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("base/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n");
    bench.write("base/etc/group", "root:x:0:\nstaff:x:50:\n");
    bench.write("ctx/a.txt", "a\n");
    bench.write("ctx/b.md", "b\n");
    bench.write("ctx/dir/c.txt", "c\n");
    bench.write("ctx/dir/deep/d.md", "d\n");
    bench
}

/// `image build ctx/Containerfile WORDS`, after the file was written with `text`.
fn build(bench: &Bench, text: &str, words: &[&str]) -> Command {
    bench.write("ctx/Containerfile", text);
    let base = ["--build-context", "base=base"];
    bench.command(&[&["build", "ctx/Containerfile"], &base[..], words].concat())
}

/// Builds `ctx/o.tar` or fails the test. Returns standard error.
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {message}");
    message
}

/// `MODE UID:GID NAME` of each file of an image, with what follows the name.
fn listing(bench: &Bench, image: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {}:{} {}", words[0], words[2], words[3], words[5..].join(" "))
    };
    bench.prints(&["ls", image]).lines().map(line).collect()
}
