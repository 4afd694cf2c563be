//! Variables: substitutions, quotes, and which value is in scope.

use crate::{on_base, variable};

/// Row: name, value as written, value of the variable.
type Row = (&'static str, &'static str, &'static str);

#[test]
fn values_are_expanded() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("plain",                           "X=a",                           "a"),
        ("quotes are removed",              "X=\"a b\"'c d'",                "a bc d"),
        ("escaped blank",                   "X=a\\ b",                       "a b"),
        ("escape in double quotes stays",   "X=\"a\\tb\"",                   "a\\tb"),
        ("escape in single quotes stays",   "X='a\\tb'",                     "a\\tb"),
        ("escape elsewhere goes",           "X=a\\tb",                       "atb"),
        ("escaped quote",                   "X=it\\'s",                      "it's"),
        ("escaped double quote",            "X=\"a\\\"b\"",                  "a\"b"),
        ("empty quotes",                    "X=\"\"",                        ""),
        ("name",                            "X=$BASE/x",                     "base/x"),
        ("name in braces",                  "X=${BASE}x",                    "basex"),
        ("missing",                         "X=a${NO}b$NO.",                 "ab."),
        ("in double quotes",                "X=\"$BASE'$BASE'\"",            "base'base'"),
        ("in single quotes",                "X='$BASE'",                     "$BASE"),
        ("escaped dollar",                  "X=\\$BASE\\${BASE}",            "$BASE${BASE}"),
        ("escaped dollar in quotes",        "X=\"\\$BASE\"",                 "$BASE"),
        ("dollar alone",                    "X=a$.$",                        "a$.$"),
        ("positional",                      "X=a$1b$12c$@d",                 "abcd"),
        ("default of a missing one",        "X=${NO:-\"a b\"}",              "a b"),
        ("default of an empty one",         "X=${NULL:-a}",                  "a"),
        ("default of a set one",            "X=${BASE:-a}",                  "base"),
        ("default without colon",           "X=${NULL-a}${NO-b}",            "b"),
        ("default with a variable",         "X=${NO:-$BASE}/${NO:-${NO:-c}}", "base/c"),
        ("alternative of a set one",        "X=${BASE:+a}",                  "a"),
        ("alternative of a missing one",    "X=a${NO:+b}",                   "a"),
        ("alternative of an empty one",     "X=a${NULL:+b}${NULL+c}",        "ac"),
        ("needed and set",                  "X=${BASE:?no}",                 "base"),
        ("needed, and empty is enough",     "X=a${NULL?no}",                 "a"),
        ("shortest start",                  "X=${PWD#*/}",                   "home"),
        ("longest start",                   "X=a${PWD##*}",                  "a"),
        ("shortest end",                    "X=${PWD%o*}",                   "/h"),
        ("longest end",                     "X=${PWD%%/*}x",                 "x"),
        ("one replaced",                    "X=${BASE/[a]/x}${BASE/a/x}",    "basebxse"),
        ("all replaced",                    "X=${PWD//[/]/}${PWD//?/-}",     "/home-----"),
        ("escaped slash in a pattern",      "X=${PWD/\\//_}",                "_home"),
        ("escape in a replacement",         "X=${BASE/b/\\}}",               "\\}ase"),
        ("replaced by a variable",          "X=${PWD//h/$BASE}",             "/baseome"),
        ("brace behind a quote",            "X=${NO:-'}'}",                  "}"),
        ("other letters",                   "X=한국어$BASE",                 "한국어base"),
        ("name in a variable",              "${NO:-X}=a",                    "a"),
        ("two pairs",                       "Y=1 X=\"2 3\"",                 "2 3"),
        ("values before the instruction",   "BASE=new X=$BASE",              "base"),
        ("equals sign in a value",          "X=a=b",                         "a=b"),
        ("old form",                        "X a  b=c",                      "a  b=c"),
        ("old form with quotes",            "X \"a\" $BASE",                 "a base"),
    ];
    for (name, text, expected) in ROWS {
        assert_eq!(variable(&format!("ENV {text}"), "X").as_deref(), Some(*expected), "{name}");
    }
}

#[test]
fn the_scope_decides_which_value_counts() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("default of an argument",            "ARG A=1\nENV X=$A",                         "1"),
        ("given argument",                    "ARG GIVEN=1\nENV X=$GIVEN",                 "given"),
        ("given and empty argument",          "ARG EMPTY=1\nENV X=a$EMPTY",                "a"),
        ("given, but not declared",           "ENV X=a$GIVEN",                             "a"),
        ("declared later",                    "ENV X=a$GIVEN\nARG GIVEN",                  "a"),
        ("declared without a value",          "ARG A\nENV X=${A-unset}",                   "unset"),
        ("a second default",                  "ARG A=1\nARG A=2\nENV X=$A",                "2"),
        ("a second ARG without default",      "ARG A=1\nARG A\nENV X=$A",                  "1"),
        ("an argument in a default",          "ARG A=1\nARG B=$A-2\nENV X=$B",             "1-2"),
        ("an argument of the same line",      "ARG A=1 B=$A-2\nENV X=$B",                  "1-2"),
        ("the environment hides arguments",   "ENV A=env\nARG A=arg\nENV X=$A",            "env"),
        ("a later environment, too",          "ARG A=arg\nENV A=env\nENV X=$A",            "env"),
        ("an argument in its own variable",   "ARG A=arg\nENV A=${A:-no}\nENV X=$A",       "arg"),
        ("a quoted default",                  "ARG A=\"1 2\"\nENV X=$A",                   "1 2"),
        ("proxies need ARG for a variable",   "ENV X=a$https_proxy",                       "a"),
        ("platform of the target",            "ARG TARGETPLATFORM\nENV X=$TARGETPLATFORM", "linux/arm64/v8"),
        ("parts of the target",               "ARG TARGETOS TARGETARCH TARGETVARIANT\nENV X=$TARGETOS-$TARGETARCH-$TARGETVARIANT", "linux-arm64-v8"),
        ("platform that builds",              "ARG BUILDPLATFORM BUILDVARIANT\nENV X=$BUILDPLATFORM-$BUILDVARIANT", "linux/amd64-"),
        ("platforms need ARG",                "ENV X=a$TARGETARCH",                        "a"),
        ("a platform with another default",   "ARG TARGETARCH=x\nENV X=$TARGETARCH",       "x"),
    ];
    for (name, text, expected) in ROWS {
        assert_eq!(variable(text, "X").as_deref(), Some(*expected), "{name}");
    }
}

#[test]
fn arguments_before_from_are_for_from() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("not in a stage",        "ENV X=a$A",                "a"),
        ("declared again",        "ARG A\nENV X=$A",          "1"),
        ("with another default",  "ARG A=3\nENV X=$A",        "3"),
        ("made of others",        "ARG B\nENV X=$B",          "1given"),
    ];
    let env = |text: &str| {
        let found = crate::evaluate(text).unwrap().config.env;
        found.into_iter().find(|(name, _)| name == "X").unwrap().1
    };
    let start = "ARG A=1 GIVEN=2\nARG B=$A$GIVEN\nFROM base\n";
    for (name, text, expected) in ROWS {
        assert_eq!(env(&format!("{start}{text}\n")), *expected, "{name}");
    }
}

#[test]
fn instructions_expand_variables_or_not() {
    let found = on_base(
        "ARG A=a\nUSER $A:$A\nWORKDIR /$A\nVOLUME $A [x] /\"$A\"\nEXPOSE 1$NO 2\nSTOPSIGNAL ${A:+9}\n\
         LABEL $A=\"$A b\" c='$A'\nCMD $A\nENTRYPOINT [\"$A\"]\nHEALTHCHECK CMD $A\n",
    );
    let config = found.config;
    assert_eq!(config.user, "a:a");
    assert_eq!(config.workdir, "/a");
    assert_eq!(config.volumes, ["a", "[x]", "/a"]);
    assert_eq!(config.stop_signal.as_deref(), Some("9"));
    assert_eq!(config.labels["a"], "a b");
    assert_eq!(config.labels["c"], "$A");
    assert_eq!(config.cmd, ["/bin/sh", "-c", "$A"]);
    assert_eq!(config.entrypoint, ["$A"]);
}
