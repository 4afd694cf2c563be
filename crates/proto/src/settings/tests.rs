//! Tests of the records.

use super::health::Health;
use super::restart::RestartPolicy;
use super::*;
use crate::access::Access;
use proptest::prelude::*;

#[test]
fn every_record_is_read_as_it_was_written() {
    let size = Size { rows: 24, columns: 80 };
    let volume = |kind| Volume { kind, tag: b"v0", access: Access::ReadOnly, path: b"/a b" };
    let volumes = [VolumeKind::File, VolumeKind::Directory].map(volume);
    let schedule = Schedule { retries: 9, ..Schedule::default() };
    let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
    let text = encode(&[
        Record::Arg(b"ls"),
        Record::Arg(b""),
        Record::Arg(b"a=\"b\"\n\xff"),
        Record::Env(b"A=b=c"),
        Record::Cwd(b"/x y"),
        Record::User(b"nobody:100"),
        Record::Before(b"/bin/mkdir"),
        Record::BeforeArg(b"/a b"),
        Record::Before(b"true"),
        Record::Restart(Restart::OnFailure),
        Record::RestartMax(5),
        Record::RestartBackoff(backoff),
        Record::StopTimeout(Duration::from_micros(1_500)),
        Record::StopSignal(37),
        Record::ImageVolume(b"/var/lib/a b"),
        Record::ImageVolume(b"/data"),
        Record::HealthArg(b"other"),
        Record::NoHealth,
        Record::HealthArg(b"/bin/sh"),
        Record::HealthArg(b""),
        Record::Health(schedule),
        Record::Unhealthy(Unhealthy::PowerOff),
        Record::Terminal(size),
        Record::Hostname(b"box"),
        Record::Volume(volumes[0]),
        Record::Volume(volumes[1]),
        Record::Network,
        Record::Alone,
        Record::Workload,
        Record::Words(b"ro mount=\"a b\""),
        Record::Time(u64::MAX),
        Record::Seed(b"\xff\x01="),
    ]);
    let expected = Settings {
        hostname: Some(b"box"),
        volumes: volumes.into(),
        network: true,
        alone: true,
        workload: true,
        words: b"ro mount=\"a b\"",
        time: Some(u64::MAX),
        seed: b"\xff\x01=",
        command: Command {
            args: [c"ls", c"", c"a=\"b\"\n\xff"].into(),
            env: [c"A=b=c"].into(),
            cwd: Some(c"/x y"),
            missing_cwd: MissingCwd::Refuse,
            user: Some(b"nobody:100"),
            terminal: Some(size),
            before: [[c"/bin/mkdir", c"/a b"].into(), [c"true"].into()].into(),
            restart: RestartPolicy { when: Restart::OnFailure, max: Some(5), backoff },
            stop_signal: Some(37),
            stop_timeout: Some(Duration::from_millis(2)),
            image_volumes: [&b"/var/lib/a b"[..], b"/data"].into(),
            health: Health {
                args: [c"/bin/sh", c""].into(),
                schedule,
                unhealthy: Unhealthy::PowerOff,
            },
        },
    };
    assert_eq!(Settings::parse(&text).unwrap(), expected);
    assert_eq!(Settings::parse(b"").unwrap(), Settings::default());
}

#[test]
fn unknown_records_are_errors() {
    for text in [
        "x=1\0",
        "arg\0",
        "arg=unended",
        "terminal=1\0",
        "volume=rx a /b\0",
        "file-volume=rx a /b\0",
        "file-volume=ro a\0",
        "file-volume=\0",
        "stop-signal=0\0",
        "stop-signal=32\0",
        "stop-signal=293\0",
        "stop-signal=QUIT\0",
        "image-volume=data\0",
        "image-volume=\0",
        "health=1 1 0 1 0\0",
        "\0",
    ] {
        assert!(Settings::parse(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn the_last_working_directory_counts() {
    for (text, expected) in [
        (&b"make-cwd=/a\0"[..], (Some(c"/a"), MissingCwd::Make)),
        (b"make-cwd=/a\0cwd=/b\0", (Some(c"/b"), MissingCwd::Refuse)),
        (b"cwd=/b\0make-cwd=/a\0", (Some(c"/a"), MissingCwd::Make)),
        (b"", (None, MissingCwd::Refuse)),
    ] {
        let command = Settings::parse(text).unwrap().command;
        assert_eq!((command.cwd, command.missing_cwd), expected);
    }
    assert_eq!(encode(&[Record::MakeCwd(b"/a")]), b"make-cwd=/a\0");
}

#[test]
fn an_image_describes_its_command() {
    for (name, restart) in RESTARTS {
        let text = encode(&[Record::Arg(b"httpd"), Record::Restart(restart)]);
        assert!(text.ends_with(&[name.as_bytes(), b"\0"].concat()));
        let command = Command::parse(&text).unwrap();
        assert_eq!((&command.args[..], command.restart.when), (&[c"httpd"][..], restart));
    }
    for (name, unhealthy) in UNHEALTHY {
        let text = encode(&[Record::Arg(b"httpd"), Record::Unhealthy(unhealthy)]);
        assert!(text.ends_with(&[name.as_bytes(), b"\0"].concat()));
        assert_eq!(Command::parse(&text).unwrap().health.unhealthy, unhealthy);
    }
    for (text, why) in [
        ("", "no command: it needs arg="),
        ("env=A=1\0", "no command"),
        ("arg=a", "unknown record \"arg=a\""),
        ("arg=a\0restart=maybe\0", "unknown record \"restart=maybe"),
        ("arg=a\0restart-max=-1\0", "unknown record \"restart-max=-1"),
        ("arg=a\0restart-backoff=2 1\0", "unknown record \"restart-backoff=2 1"),
        ("arg=a\0stop-timeout=10s\0", "unknown record \"stop-timeout=10s"),
        ("arg=a\0before-arg=x\0", "unknown record \"before-arg=x"),
        ("arg=a\0health-on-failure=stop\0", "unknown record \"health-on-failure=stop"),
        ("arg=a\0hostname=x\0", "unknown record \"hostname=x"),
        ("arg=a\0terminal=1 1\0", "unknown record"),
        ("arg=a\n\0\n", "unknown record"),
    ] {
        let error = Command::parse(text.as_bytes()).unwrap_err();
        assert!(format!("{error}").contains(why), "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_argument_arrives_unchanged(
        args in prop::collection::vec(prop::collection::vec(1_u8.., 0..20), 0..20)
    ) {
        let records: Vec<_> = args.iter().map(|arg| Record::Arg(arg)).collect();
        let text = encode(&records);
        let settings = Settings::parse(&text).unwrap();
        let read: Vec<_> = settings.command.args.iter().map(|arg| arg.to_bytes()).collect();
        prop_assert_eq!(read, args);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = (Settings::parse(&bytes), Command::parse(&bytes));
    }
}
