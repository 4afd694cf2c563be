//! Mistakes that are found without any base.

use virtinitrd_recipe::containerfile::parse;

use crate::arguments;

#[test]
fn what_does_not_depend_on_the_base_is_checked() {
    #[rustfmt::skip]
    let rows = [
        ("stages need each other", "FROM a AS b\nCOPY --from=b c /",                      Err((2, "needs \"b\""))),
        ("base without a value",   "FROM $A",                                            Err((1, "is empty"))),
        ("on scratch",             "FROM scratch\nENV A=9x\nSTOPSIGNAL $A",              Err((3, "is no signal"))),
        ("needed value",           "FROM scratch\nUSER ${A?}",                           Err((2, "must not be unset"))),
        ("on a stage on scratch",  "FROM scratch AS b\nENV A=x\nFROM b\nEXPOSE $A",      Err((4, "EXPOSE \"x\" is wrong"))),
        ("value of a base",        "FROM a\nUSER ${A?}\nEXPOSE $A\nSTOPSIGNAL $A",       Ok(())),
        ("stage on an image",      "FROM a AS b\nFROM b\nUSER ${A?}",                    Ok(())),
        ("port",                   "FROM a\nENV A=$B\nEXPOSE x",                         Err((3, "EXPOSE \"x\" is wrong"))),
        ("signal",                 "FROM a\nSTOPSIGNAL x",                               Err((2, "is no signal"))),
        ("address",                "FROM a\nADD https://b/c /",                          Err((2, "add --checksum"))),
        ("address in a variable",  "FROM a\nADD https://b/$C /",                         Ok(())),
        ("from of COPY",           "FROM a\nCOPY --from=$B $C d",                        Ok(())),
        ("from alone",             "FROM a\nCOPY --from=$B c d",                         Err((2, "has no variables"))),
        ("here-document",          "FROM a\nCOPY <<E /x\n${A?}\nE",                      Ok(())),
        ("key of a mount",         "FROM a\nRUN --mount=type=tmpfs,target=/b,id=c d $E", Err((2, "has no id"))),
        ("value of a mount",       "FROM a\nRUN --mount=type=cache,target=/b,uid=$C d",  Ok(())),
        ("relative mount point",   "FROM a\nRUN --mount=target=. b",                     Ok(())),
        ("mount point above",      "FROM a\nRUN --mount=target=.. b",                    Ok(())),
        ("mount point proc",       "FROM a\nRUN --mount=target=../proc b",               Ok(())),
        ("mount point /proc",      "FROM a\nRUN --mount=target=/proc b",                 Err((2, "mounted in /proc"))),
        ("all is well",            "FROM a\nARG A\nENV B=$A C=1\nRUN b\nCMD c",          Ok(())),
        ("a second stage",         "FROM a\nFROM c\nVOLUME '",                          Err((3, "a single quote is missing"))),
    ];
    for (name, text, expected) in rows {
        match (parse(text).expect(name).check(&arguments()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(mistake), Err((line, part))) => {
                assert!(mistake.message.contains(part), "{name}: {mistake}");
                assert_eq!(mistake.position.line, line, "{name}: {mistake}");
            }
            (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
        }
    }
}
