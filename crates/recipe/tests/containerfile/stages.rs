//! FROM, and stages among each other.

use virtinitrd_recipe::containerfile::{
    Action, Arguments, Config, From, FromBase, Mount, Origin, parse,
};

use crate::{arguments, base};

fn froms(text: &str) -> Vec<From> {
    parse(text)
        .and_then(|file| file.froms(&arguments()))
        .unwrap_or_else(|m| panic!("{m} in\n{text}"))
}

#[test]
fn bases_are_images_stages_or_nothing() {
    let image = |name: &str| FromBase::Image(name.to_owned());
    let rows = [
        ("image", "FROM a:1", image("a:1")),
        ("image with a digest", "FROM a@sha256:0", image("a@sha256:0")),
        ("scratch", "FROM scratch", FromBase::Scratch),
        ("earlier stage", "FROM a AS b\nFROM b", FromBase::Stage(0)),
        ("earlier stage in other case", "FROM a as Bb\nfrom bB", FromBase::Stage(0)),
        ("no stage by number", "FROM a\nFROM 0", image("0")),
        ("its own name is an image", "FROM debian AS debian", image("debian")),
        ("the last stage of a name", "FROM a AS b\nFROM b AS b\nFROM b", FromBase::Stage(1)),
        ("argument", "ARG V=1\nFROM a:${V}-$GIVEN", image("a:1-")),
        ("given argument", "ARG GIVEN=x\nFROM a:$GIVEN", image("a:given")),
        ("default in FROM", "FROM ${NO:-a}", image("a")),
        ("argument that names a stage", "ARG S=b\nFROM a AS b\nFROM $S", FromBase::Stage(0)),
    ];
    for (name, text, expected) in rows {
        assert_eq!(froms(text).pop().unwrap().base, expected, "{name}");
    }
}

#[test]
fn platforms_of_bases() {
    #[rustfmt::skip]
    const ROWS: &[(&str, Option<&str>)] = &[
        ("FROM a",                                         None),
        ("FROM --platform=linux/riscv64 a",                Some("linux/riscv64")),
        ("FROM --platform=$BUILDPLATFORM a AS b",          Some("linux/amd64")),
        ("FROM --platform=$TARGETPLATFORM a",              Some("linux/arm64/v8")),
        ("ARG P=linux/s390x\nFROM --platform=${P} a",      Some("linux/s390x")),
    ];
    for (text, expected) in ROWS {
        assert_eq!(froms(text).pop().unwrap().platform.as_deref(), *expected, "{text}");
    }
}

#[test]
fn stages_have_names_and_numbers() {
    #[rustfmt::skip]
    const ROWS: &[(&str, Option<usize>)] = &[
        ("one", Some(3)), ("ONE", Some(3)), ("th-r.e_e", Some(2)), ("0", Some(0)), ("1", Some(1)), ("3", Some(3)), ("4", None),
        ("+1", None), ("", None), ("two", None), ("99999999999999999999999", None),
    ];
    let file = parse("FROM a AS one\nFROM b\nFROM c AS Th-r.e_e\nFROM d AS one").unwrap();
    for (name, expected) in ROWS {
        assert_eq!(file.stage(name), *expected, "{name}");
    }
    assert_eq!(file.stages[2].name.as_deref(), Some("th-r.e_e"));
    assert_eq!(file.notes.len(), 1, "a name that is taken is worth a note: {:?}", file.notes);
}

#[test]
fn files_come_from_stages() {
    let origin = |text: &str| {
        let file = parse(text).unwrap();
        file.froms(&arguments()).unwrap();
        let last = file.stages.iter().position(|stage| !stage.instructions.is_empty()).unwrap();
        let done = file.evaluate(last, &base(), &arguments()).unwrap();
        match done.instructions.into_iter().next_back().unwrap().action {
            Action::Copy(copy) => copy.origin,
            Action::Run(run) => match run.mounts.into_iter().next().unwrap() {
                Mount::Bind { origin, .. } => origin,
                Mount::Cache { from, .. } => from.unwrap(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    let rows = [
        ("name", "FROM a AS b\nFROM c\nCOPY --from=B x /x", Origin::Stage(0)),
        ("number", "FROM a\nFROM c\nCOPY --from=0 x /x", Origin::Stage(0)),
        ("later stage", "FROM a\nCOPY --from=b x /x\nFROM c AS b", Origin::Stage(1)),
        ("image", "FROM a\nCOPY --from=img x /x", Origin::Image("img".to_owned())),
        ("bind", "FROM a AS b\nFROM c\nRUN --mount=from=b,target=/x y", Origin::Stage(0)),
        (
            "cache",
            "FROM a AS b\nFROM c\nRUN --mount=type=cache,from=b,target=/x y",
            Origin::Stage(0),
        ),
    ];
    for (name, text, expected) in rows {
        assert_eq!(origin(text), expected, "{name}");
    }
}

#[test]
fn a_stage_inherits_config_and_arguments_of_its_base() {
    let file = parse(
        "FROM a AS one\nARG A=1 B=2\nENV C=$A\nCMD [\"one\"]\nSHELL [\"s\"]\n\
         FROM one\nENV X=$A$C\nRUN x\nENTRYPOINT [\"e\"]\nFROM a\nENV X=-$A\n",
    )
    .unwrap();
    let one = file.evaluate(0, &base(), &arguments()).unwrap();
    let two = file.evaluate(1, &one.config, &arguments()).unwrap();
    assert!(two.config.env.contains(&("X".to_owned(), "11".to_owned())), "{:?}", two.config);
    assert_eq!(two.config.cmd, [""; 0], "the CMD of another stage is the base's");
    let Action::Run(run) = &two.instructions[1].action else { panic!("{two:?}") };
    assert_eq!(run.words, ["s", "x"]);
    assert!(run.env.contains(&("B".to_owned(), "2".to_owned())), "{:?}", run.env);
    let three = file.evaluate(2, &base(), &arguments()).unwrap();
    assert!(three.config.env.contains(&("X".to_owned(), "-".to_owned())), "{:?}", three.config);
}

#[test]
fn scratch_has_a_search_path() {
    let file = parse("FROM scratch\nRUN x").unwrap();
    let found = file.evaluate(0, &Config::scratch(), &Arguments::default()).unwrap();
    assert!(found.config.env[0].1.ends_with("/sbin:/bin"), "{:?}", found.config);
    let bare = file.evaluate(0, &Config::default(), &Arguments::default()).unwrap();
    let Action::Run(run) = &bare.instructions[0].action else { panic!("{bare:?}") };
    assert_eq!(run.env[0].0, "PATH", "a command always has a search path");
    assert_eq!(bare.config.env, [], "the image does not get one");
}

#[test]
fn undeclared_arguments_are_found() {
    let mut arguments = arguments();
    for name in ["A", "B", "C", "HTTP_PROXY", "no_proxy", "TARGETARCH", "BUILDKIT_INLINE_CACHE"] {
        arguments.given.insert(name.to_owned(), "1".to_owned());
    }
    let file = parse("ARG A\nFROM a\nARG B=1 EMPTY").unwrap();
    assert_eq!(file.undeclared(&arguments), ["C", "GIVEN"]);
}

#[test]
fn remarks_are_few() {
    let file = parse(
        "# syntax=docker/dockerfile:1\nFROM a AS b\nMAINTAINER me\nRUN a \\\n\n b\nFROM c AS b\nCMD ['a']\n",
    )
    .unwrap();
    let notes: Vec<_> =
        file.notes.iter().map(|note| (note.position.line, note.message.clone())).collect();
    let lines: Vec<_> = notes.iter().map(|note| note.0).collect();
    assert_eq!(lines, [1, 3, 5, 7, 8], "{notes:?}");
    assert_eq!(parse("FROM a AS b\nRUN x \\\n# c\n y").unwrap().notes, []);
}
