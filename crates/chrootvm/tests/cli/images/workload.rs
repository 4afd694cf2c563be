//! `image build --init` and `--run` of an OCI image: its config becomes the run file.

use std::process::Output;

use serde_json::{Value, json};

use crate::images::bench::Bench;
use crate::images::layout;

/// A bench with an image of this config.
fn bench(config: &Value) -> Bench {
    let bench = Bench::new();
    layout::image(&bench.path("img"), json!({"config": config}));
    bench
}

fn build(bench: &Bench, options: &[&str]) -> Output {
    bench.run(&[&["build", "img", "-o", "x.erofs"][..], options].concat())
}

/// The records of the run file of the image that `options` make; `None` if it has none.
fn records(bench: &Bench, options: &[&str]) -> Option<Vec<String>> {
    let output = build(bench, options);
    assert!(output.status.success(), "{options:?}: {output:?}");
    let output = bench.run(&["cat", "x.erofs", "/etc/virtinit/run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.split_terminator('\0').map(str::to_owned).collect();
    output.status.success().then_some(records)
}

fn config() -> Value {
    json!({
        "Entrypoint": ["/bin/app", "*"],
        "Cmd": ["a b", "", "\"c'\n"],
        "Env": ["PATH=/bin", "A=1", "A=2"],
        "User": "1001:100",
        "WorkingDir": "/srv/new",
        "StopSignal": "QUIT",
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "x | y"], "Retries": 5}
    })
}

#[test]
fn the_config_becomes_the_run_file() {
    let bench = bench(&config());
    let expected = [
        "arg=/bin/app",
        "arg=*",
        "arg=a b",
        "arg=",
        "arg=\"c'\n",
        "env=PATH=/bin",
        "env=A=2",
        "make-cwd=/srv/new",
        "user=1001:100",
        "stop-signal=3",
        "image-volume=/data",
        "health-arg=/bin/sh",
        "health-arg=-c",
        "health-arg=x | y",
        "health=30000 30000 0 5000 5",
    ];
    assert_eq!(records(&bench, &["--run"]).unwrap(), expected);
    // Directories that the command needs are made: the root is read-only.
    let listing = bench.prints(&["ls", "x.erofs"]);
    assert!(listing.contains(" srv/new") && listing.contains(" data"), "{listing}");
    // The image runs what `inspect` says.
    let facts = bench.prints(&["inspect", "x.erofs"]);
    for part in [
        "runs         \"/bin/app\" \"*\"",
        "in \"/srv/new\"",
        "as \"1001:100\"",
        "by signal 3",
        "writing to \"/data\"",
        "checked by \"/bin/sh\" \"-c\" \"x | y\"",
    ] {
        assert!(facts.contains(part), "{facts}");
    }
}

#[test]
fn the_user_wins_over_the_config() {
    let bench = bench(&config());
    let options =
        ["--run", "-e", "A=3", "--env", "B=", "-w", "/tmp", "-u", "0:0", "--restart=always"];
    let found = records(&bench, &[&options[..], &["--", "x", "y"]].concat()).unwrap();
    let expected = [
        "arg=/bin/app",
        "arg=*",
        "arg=x",
        "arg=y",
        "env=PATH=/bin",
        "env=A=3",
        "env=B=",
        "cwd=/tmp",
        "user=0:0",
        "restart=always",
    ];
    assert_eq!(found[..expected.len()], expected);
    let found = records(&bench, &["--run", "--entrypoint", "/bin/tool", "--", "z"]).unwrap();
    assert_eq!(found[..3], ["arg=/bin/tool", "arg=z", "env=PATH=/bin"]);
}

#[test]
fn without_the_options_the_tree_is_exactly_the_image() {
    let bench = bench(&config());
    assert_eq!(records(&bench, &[]), None);
    assert_eq!(bench.prints(&["diff", "img", "x.erofs"]), "");
}

#[test]
fn a_system_or_no_command_is_no_workload() {
    for (config, expected) in [
        (json!({"Cmd": ["/sbin/init"]}), "the image boots /sbin/init"),
        (json!({"Entrypoint": ["/usr/lib/systemd/systemd"]}), "the image boots /usr/lib/systemd/"),
    ] {
        let bench = bench(&config);
        let output = build(&bench, &["--run"]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && message.contains(expected), "{message}");
        assert_eq!(bench.prints(&["diff", "img", "x.erofs"]), "");
        assert!(records(&bench, &["--run", "--", "sh"]).is_some());
    }
    let bench = bench(&json!({}));
    let message = String::from_utf8(build(&bench, &["--run"]).stderr).unwrap();
    assert!(message.contains("the image names no command"), "{message}");
}

#[test]
fn options_of_a_workload_without_one_are_errors() {
    let bench = bench(&config());
    bench.write("root/file", "x");
    for (arguments, expected) in [
        (&["img", "--env", "A=1"][..], "--env is for a workload: give --init or --run, too"),
        (&["img", "--", "sh"], "sh is for a workload"),
        (&["root", "--user", "ada"], "--user is for a workload: give --run, too"),
        (&["root", "--run"], "--run: SOURCE names no command"),
        (&["root", "--run", "--entrypoint", "x"], "--entrypoint is for OCI images"),
    ] {
        let (source, options) = arguments.split_first().unwrap();
        let message = bench.fails(&[&["build", source, "-o", "y.erofs"][..], options].concat());
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    for (user, expected) in [
        (
            "nobody-here",
            "User of the image: nobody-here: no such user in /etc/passwd of the root; --user",
        ),
        ("4294967295", "User of the image: 4294967295: no such user"),
        ("0:staff-here", "User of the image: 0:staff-here: no such group"),
    ] {
        let other = Bench::new();
        layout::image(&other.path("img"), json!({"config": {"Cmd": ["a"], "User": user}}));
        let build = ["build", "img", "-o", "x.erofs", "--run"];
        let message = other.fails(&build);
        assert!(message.contains(expected), "{message}");
        let message = other.fails(&[&build[..], &["--user", "4294967296"]].concat());
        assert!(message.contains("--user 4294967296: no such user"), "{message}");
        other.messages(&[&build[..], &["--user", "1000:"]].concat());
    }
    let bad = Bench::new();
    layout::image(&bad.path("img"), json!({"config": {"Cmd": ["a\u{0}network=user"]}}));
    let message = bad.fails(&["build", "img", "-o", "x.erofs", "--run"]);
    assert!(message.contains("has NUL"), "{message}");
}
