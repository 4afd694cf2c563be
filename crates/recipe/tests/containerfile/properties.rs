//! Any text is read or refused, and what is read is evaluated or refused.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use virtinitrd_recipe::containerfile::{Action, FromBase, parse};

use crate::{arguments, base};

/// Pieces that have a meaning.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "FROM a", "FROM a AS b", "FROM b", "ARG A", "ARG A=1", "ENV A=", "ENV A b", "RUN ", "COPY ", "ADD ", "--from=b ",
    "--mount=", "type=cache", "type=secret", "type=$A", "target=/a", "id=a", "from=b", ",", "--chmod=u+X ", "--chown=1 ",
    "--exclude=* ", "--checksum=sha256:0 ", "https://a/b ", "<<EOF", "<<-EOF", "<<'E'", "<<", "EOF\n", "E\n", "\n", "\n",
    "\\\n", "\\", "`", "#", "# escape=`\n", "\r\n", "$", "${", "}", "$A", "${A", ":-", ":+", ":?", "##", "%%", "//", "/",
    "*", "?", "'", "\"", "[", "]", "[\"a\"]", "LABEL ", "EXPOSE 1-3", "VOLUME ", "USER ", "WORKDIR ", "HEALTHCHECK ",
    "--interval=1s ", "CMD ", "ENTRYPOINT ", "SHELL [\"a\"]", "STOPSIGNAL 9", "ONBUILD ", "MAINTAINER ", "$((", "))",
    "\u{feff}", "é", " ", "\t", "=", "..", "0",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => select(PIECES).prop_map(ToOwned::to_owned),
        1 => ".{0,6}",
    ];
    let start = select(&["", "FROM a AS b\n", "ARG A=1\nFROM a\nENV B=$A\n"][..]);
    (start, vec(piece, 0..24)).prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// Reads and evaluates `text`; checks what holds for every text.
fn check(text: &str) {
    let lines = text.matches('\n').count() + 1;
    let arguments = arguments();
    let file = match parse(text) {
        Ok(file) => file,
        Err(mistake) => {
            assert!((1..=lines).contains(&mistake.position.line), "{mistake}");
            return;
        }
    };
    // What is found without a base must not panic either.
    let _ = file.check(&arguments);
    let Ok(froms) = file.froms(&arguments) else { return };
    assert_eq!(froms.len(), file.stages.len());
    for (index, from) in froms.iter().enumerate() {
        if let FromBase::Stage(base) = from.base {
            assert!(base < index, "a base is an earlier stage");
        }
        let Ok(done) = file.evaluate(index, &base(), &arguments) else { continue };
        let workdir = &done.config.workdir;
        assert!(workdir.is_empty() || workdir.starts_with('/'));
        for action in done.instructions.into_iter().map(|done| done.action) {
            match action {
                Action::Run(run) => {
                    assert!(run.words.is_empty() == run.script.is_some(), "words or a script");
                    assert!(run.workdir.starts_with('/'), "{}", run.workdir);
                }
                Action::Copy(copy) => {
                    assert!(copy.to.starts_with('/') && !copy.sources.is_empty());
                    assert!(!copy.to.split('/').any(|name| name == ".."), "{}", copy.to);
                }
                Action::Directory { path, .. } => assert!(path.starts_with('/')),
                Action::Config => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn texts_of_pieces_do_not_panic(text in text()) {
        check(&text);
    }

    #[test]
    fn any_text_does_not_panic(text in "\\PC{0,60}|[ -~\n\t\r]{0,120}") {
        check(&text);
    }

    #[test]
    fn any_word_is_expanded_or_refused(word in "[$%{}:#/*?'\"\\\\A-C+=-]{0,24}") {
        check(&format!("ARG A=ab\nFROM $A\nARG A\nARG B={word}\nENV C={word}\nUSER {word}\nCOPY <<E /\n{word}\nE\n"));
    }
}
