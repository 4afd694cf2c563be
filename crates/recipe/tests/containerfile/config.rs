//! Instructions that change the config.

use std::time::Duration;

use virtinitrd_recipe::containerfile::{Action, Config, Health, HealthTest};

use crate::on_base;

/// Config behind `instructions`.
fn config(instructions: &str) -> Config {
    on_base(instructions).config
}

#[test]
fn commands_and_entrypoints() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &[&str], &[&str])] = &[
        // name, instructions, entrypoint, cmd
        ("the base stays",                    "USER a",                                 &[],                     &["base-command"]),
        ("words",                             "CMD [\"a\", \"b c\"]",                   &[],                     &["a", "b c"]),
        ("shell form",                        "CMD a \"b c\"",                          &[],                     &["/bin/sh", "-c", "a \"b c\""]),
        ("the last CMD counts",               "CMD a\nCMD [\"b\"]",                     &[],                     &["b"]),
        ("no words",                          "CMD []",                                 &[],                     &[]),
        ("ENTRYPOINT drops the base's CMD",   "ENTRYPOINT [\"e\"]",                     &["e"],                  &[]),
        ("ENTRYPOINT keeps this stage's CMD", "CMD [\"c\"]\nENTRYPOINT [\"e\"]",        &["e"],                  &["c"]),
        ("CMD behind ENTRYPOINT",             "ENTRYPOINT [\"e\"]\nCMD [\"c\"]",        &["e"],                  &["c"]),
        ("ENTRYPOINT in shell form",          "ENTRYPOINT exec e",                      &["/bin/sh", "-c", "exec e"], &[]),
        ("ENTRYPOINT without words",          "ENTRYPOINT []",                          &[],                     &[]),
        ("SHELL before CMD",                  "SHELL [\"bash\", \"-c\"]\nCMD a",        &[],                     &["bash", "-c", "a"]),
    ];
    for (name, text, entrypoint, cmd) in ROWS {
        let found = config(text);
        assert_eq!(found.entrypoint, *entrypoint, "{name}");
        assert_eq!(found.cmd, *cmd, "{name}");
    }
}

#[test]
fn ports_are_numbers_with_a_protocol() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &[&str])] = &[
        ("number",          "EXPOSE 80",                       &["80/tcp"]),
        ("protocol",        "EXPOSE 53/UDP 9/sctp",            &["53/udp", "9/sctp"]),
        ("range",           "EXPOSE 8000-8002/udp",            &["8000/udp", "8001/udp", "8002/udp"]),
        ("again",           "EXPOSE 80 81\nEXPOSE 80/tcp 82",  &["80/tcp", "81/tcp", "82/tcp"]),
        ("several at once", "ENV P=\"1 2\"\nEXPOSE $P",        &["1/tcp", "2/tcp"]),
    ];
    for (name, text, expected) in ROWS {
        assert_eq!(config(text).ports, *expected, "{name}");
    }
}

#[test]
fn directories_are_made_and_entered() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &str)] = &[
        ("absolute",           "WORKDIR /a//b/",             "/a/b"),
        ("relative",           "WORKDIR /a\nWORKDIR b",      "/a/b"),
        ("relative at first",  "WORKDIR b",                  "/b"),
        ("upwards",            "WORKDIR /a/b\nWORKDIR ../c", "/a/c"),
        ("above the root",     "WORKDIR ../../c",            "/c"),
        ("with blanks",        "WORKDIR /a b",               "/a b"),
    ];
    for (name, text, expected) in ROWS {
        let found = on_base(&format!("USER me\n{text}"));
        assert_eq!(found.config.workdir, *expected, "{name}");
        let last = found.instructions.last().map(|done| &done.action);
        let expected = Action::Directory { path: (*expected).to_owned(), user: "me".to_owned() };
        assert_eq!(last, Some(&expected), "{name}");
    }
    let root = on_base("WORKDIR /a/..");
    assert_eq!(root.instructions[0].action, Action::Config, "the root is always there");
}

#[test]
fn volumes_labels_and_others() {
    assert_eq!(config("VOLUME /a /b\nVOLUME [\"/b\", \"/c d\"]").volumes, ["/a", "/b", "/c d"]);
    let labels = config("LABEL a=1 \"b c\"=\"2 3\"\nLABEL a=4\nLABEL d e f").labels;
    let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(labels, [("a", "4"), ("b c", "2 3"), ("d", "e f")]);
    assert_eq!(config("MAINTAINER A B <a@b>").author.as_deref(), Some("A B <a@b>"));
    assert_eq!(config("SHELL [\"a\", \"b\"]").shell, ["a", "b"]);
    for signal in ["SIGKILL", "term", "9", "RTMIN+3", "SIGRTMAX-1"] {
        let found = config(&format!("STOPSIGNAL {signal}")).stop_signal;
        assert_eq!(found.as_deref(), Some(signal));
    }
    let env = config("ENV PATH=/x:$PATH A=1\nENV A=2").env;
    assert_eq!(env[0], ("PATH".to_owned(), "/x:/bin".to_owned()), "the order of the base stays");
    assert_eq!(env[4], ("A".to_owned(), "2".to_owned()), "a name occurs once");
}

#[test]
fn health_checks_have_times() {
    let seconds = |number| Some(Duration::from_secs(number));
    let none = Health {
        test: HealthTest::None,
        interval: None,
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: None,
    };
    let shell = |text: &str| Health { test: HealthTest::Shell(text.to_owned()), ..none.clone() };
    let rows = [
        ("none", "HEALTHCHECK none", none.clone()),
        ("shell form", "HEALTHCHECK CMD curl -f x || exit 1", shell("curl -f x || exit 1")),
        (
            "words",
            "HEALTHCHECK cmd [\"a\", \"b\"]",
            Health { test: HealthTest::Words(vec!["a".into(), "b".into()]), ..none.clone() },
        ),
        (
            "all options",
            "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1h --start-interval=500ms \
             --retries=4 \\\n CMD x",
            Health {
                interval: seconds(90),
                timeout: seconds(3),
                start_period: seconds(3600),
                start_interval: Some(Duration::from_millis(500)),
                retries: Some(4),
                ..shell("x")
            },
        ),
        ("zero is the default", "HEALTHCHECK --interval=0s --retries=0 CMD x", shell("x")),
    ];
    for (name, text, expected) in rows {
        assert_eq!(config(text).health, Some(expected), "{name}");
    }
}
