//! Containerfiles that are refused: the line, and what the message says.

use crate::evaluate;

/// Row: name, text, line of the mistake, part of its message.
type Row = (&'static str, &'static str, usize, &'static str);

fn check(rows: &[Row]) {
    for (name, text, line, part) in rows {
        let mistake = evaluate(text).expect_err(name);
        assert!(mistake.message.contains(part), "{name}: {mistake}");
        assert_eq!(mistake.position.line, *line, "{name}: {mistake}");
    }
}

#[test]
fn texts_and_lines() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("nothing",                   "",                                          1, "no instruction: begin with FROM"),
        ("comments only",             "# a\n\n",                                   1, "no instruction"),
        ("no stage",                  "ARG A=1",                                   1, "no stage: add FROM"),
        ("before FROM",               "\nRUN a\nFROM b",                           2, "RUN stands before the first FROM"),
        ("unknown instruction",       "FROM a\nDOWNLOAD b",                        2, "unknown instruction \"DOWNLOAD\": there are ADD, ARG"),
        ("misspelt instruction",      "FROM a\n\nRNU b",                           3, "unknown instruction \"RNU\": did you mean RUN?"),
        ("two escapes",               "# escape=`\n# escape=`\nFROM a",            2, "escape is given twice"),
        ("unknown escape",            "# escape=^\nFROM a",                        1, "give \\ or `"),
        ("document without an end",   "FROM a\nRUN <<EOF\nx\n EOF",                2, "the line \"EOF\" is missing"),
        ("second document, too",      "FROM a\nRUN cat <<A <<B\nA\n",              2, "the line \"B\" is missing"),
        ("document without a name",   "FROM a\nCOPY << EOF /x\nEOF",               2, "write <<EOF without a blank"),
        ("document as the target",    "FROM a\nCOPY x <<EOF\nEOF",                 2, "a here-document cannot be the target"),
        ("NUL",                       "FROM a\n\n# \0",                            3, "a character is NUL"),
        ("NUL in JSON",               "FROM a\nRUN [\"\\u0000\"]",                 2, "has \\u0000"),
        ("ONBUILD",                   "FROM a\nONBUILD RUN b",                     2, "ONBUILD is not supported"),
    ];
    check(ROWS);
    let long = format!("FROM a\n#{}", "x".repeat(1 << 20));
    assert!(evaluate(&long).unwrap_err().message.contains("at most 1048576 are read"));
    let many = "USER a\n".repeat(1001);
    let mistake = evaluate(&format!("FROM a\n{many}")).unwrap_err();
    assert!(mistake.message.contains("more than 1000 instructions"), "{mistake}");
    assert_eq!(mistake.position.line, 1001);
}

#[test]
fn flags() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("misspelt",               "FROM a\nCOPY --form=b c d",              2, "unknown flag \"--form\": did you mean --from?"),
        ("unknown",                "FROM a\nCOPY --everything b c",          2, "COPY has --from, --chown, --chmod, --exclude and --link"),
        ("no flags at all",        "FROM a\nENV --b=c",                      2, "ENV has no flags"),
        ("given twice",            "FROM a\nCOPY --chown=b --chown=c d e",   2, "COPY --chown is given twice"),
        ("no value",               "FROM a\nCOPY --from b c",                2, "COPY --from has no value"),
        ("wrong truth",            "FROM a\nCOPY --link=maybe b c",          2, "give true or false"),
        ("quote without an end",   "FROM a\nCOPY --chown='b c d",            2, "a quote in a flag does not end"),
        ("parents",                "FROM a\nCOPY --parents b c",             2, "COPY --parents is not supported"),
        ("git directory",          "FROM a\nADD --keep-git-dir b c",         2, "ADD --keep-git-dir is not supported"),
        ("security",               "FROM a\nRUN --security=insecure b",      2, "RUN --security is not supported"),
        ("device",                 "FROM a\nRUN --device=b c",               2, "RUN --device is not supported"),
        ("host's network",         "FROM a\nRUN --network=host b",           2, "RUN --network=host is not supported"),
        ("unknown network",        "FROM a\nRUN --network=b c",              2, "give default or none"),
        ("FROM of ADD",            "FROM a\nADD --from=b c d",               2, "unknown flag \"--from\""),
        ("checksum of COPY",       "FROM a\nCOPY --checksum=b c d",          2, "unknown flag \"--checksum\""),
    ];
    check(ROWS);
}

#[test]
fn forms_of_instructions() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("FROM alone",               "FROM",                                     1, "FROM has no image"),
        ("FROM with a comment",      "FROM a # b",                               1, "FROM has too many words"),
        ("AS without a name",        "FROM a AS",                                1, "FROM has too many words"),
        ("stage with a digit",       "FROM a AS 1b",                             1, "\"1b\" cannot name a stage"),
        ("stage with a slash",       "FROM a AS b/c",                            1, "cannot name a stage"),
        ("FROM without a value",     "ARG A\nFROM $A",                           2, "the image \"$A\" is empty"),
        ("platform without a value", "FROM --platform=$A a",                     1, "the platform \"$A\" is empty"),
        ("RUN alone",                "FROM a\nRUN",                              2, "RUN has no argument: write RUN COMMAND"),
        ("RUN without words",        "FROM a\nRUN []",                           2, "RUN has no words"),
        ("a number as a word",       "FROM a\nRUN [\"a\", 1]",                   2, "all words are strings"),
        ("words in words",           "FROM a\nCMD [[\"a\"]]",                    2, "all words are strings"),
        ("CMD alone",                "FROM a\nCMD",                              2, "CMD has no argument"),
        ("ENV without a value",      "FROM a\nENV B",                            2, "ENV \"B\" has no value"),
        ("ENV, the second",          "FROM a\nENV B=1 C",                        2, "\"C\" has no ="),
        ("ENV without a name",       "FROM a\nENV =1",                           2, "a name is empty"),
        ("ENV with a lost name",     "FROM a\nENV $B=1",                         2, "is no name"),
        ("ARG without a name",       "FROM a\nARG =1",                           2, "a name is empty"),
        ("SHELL in shell form",      "FROM a\nSHELL bash -c",                    2, "SHELL has the JSON form only"),
        ("SHELL without words",      "FROM a\nSHELL []",                         2, "SHELL has no words"),
        ("VOLUME without a path",    "FROM a\nVOLUME [\"\"]",                    2, "VOLUME: a path is empty"),
        ("VOLUME without a value",   "FROM a\nVOLUME $B",                        2, "the path \"$B\" is empty"),
        ("port too large",           "FROM a\nEXPOSE 65536",                     2, "EXPOSE \"65536\" is wrong"),
        ("port with a sign",         "FROM a\nEXPOSE +1",                        2, "EXPOSE \"+1\" is wrong"),
        ("range backwards",          "FROM a\nEXPOSE 2-1",                       2, "EXPOSE \"2-1\" is wrong"),
        ("unknown protocol",         "FROM a\nEXPOSE 1/icmp",                    2, "is wrong"),
        ("port of the host",         "FROM a\nEXPOSE 80:8080",                   2, "names a port of the host"),
        ("no signal",                "FROM a\nSTOPSIGNAL SIGNONE",               2, "is no signal"),
        ("signal 65",                "FROM a\nSTOPSIGNAL 65",                    2, "is no signal"),
        ("unknown check",            "FROM a\nHEALTHCHECK curl x",               2, "write CMD COMMAND or NONE"),
        ("check without command",    "FROM a\nHEALTHCHECK CMD",                  2, "HEALTHCHECK CMD has no command"),
        ("no check with words",      "FROM a\nHEALTHCHECK NONE x",               2, "HEALTHCHECK NONE has arguments"),
        ("time without a unit",      "FROM a\nHEALTHCHECK --timeout=3 CMD x",    2, "give a time such as 30s"),
        ("time too short",           "FROM a\nHEALTHCHECK --timeout=1us CMD x",  2, "is below 1ms"),
        ("retries",                  "FROM a\nHEALTHCHECK --retries=-1 CMD x",   2, "give a whole number"),
    ];
    check(ROWS);
}

#[test]
fn variables() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("single quote",             "FROM a\nENV B='c",                         2, "a single quote is missing"),
        ("double quote",             "FROM a\nENV B=\"c\\\"",                    2, "a double quote is missing"),
        ("brace",                    "FROM a\nENV B=${C",                        2, "} is missing"),
        ("brace of a default",       "FROM a\nENV B=${C:-${D}",                  2, "} is missing"),
        ("no name",                  "FROM a\nENV B=${}",                        2, "has no name"),
        ("brace in a brace",         "FROM a\nENV B=${{C}",                      2, "has no name"),
        ("unknown modifier",         "FROM a\nENV B=${C:=d}",                    2, "\":=\" in a substitution is not known"),
        ("modifier without colon",   "FROM a\nENV B=${C^}",                      2, "\"^\" in a substitution is not known"),
        ("needed and missing",       "FROM a\nUSER ${B?}",                       2, "\"B\" must not be unset"),
        ("needed and empty",         "FROM a\nARG EMPTY\nUSER ${EMPTY:?say who}", 3, "\"EMPTY\": \"say who\""),
        ("needed by FROM",           "ARG B\nFROM ${B:?give-B}",                 2, "give-B"),
        ("pattern",                  "FROM a\nENV B=${C#\\d}",                   2, "escapes an ordinary character"),
        ("pattern without an end",   "FROM a\nENV B=${C/d}",                     2, "/ is missing"),
        ("default of ARG",           "FROM a\nARG B='c",                         2, "ARG \"B\""),
        ("default before FROM",      "ARG B=${C?}\nFROM a",                      1, "must not be unset"),
        ("in a here-document",       "FROM a\nCOPY <<E /x\n${}\nE",              2, "a delimiter in quotes keeps the text"),
        ("path with a blank",        "FROM a\nCOPY \"b c\" /x",                  2, "a path with blanks is written"),
    ];
    check(ROWS);
}

#[test]
fn copies_and_mounts() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("no target",                "FROM a\nCOPY b",                                    2, "COPY has no target"),
        ("no target in JSON",        "FROM a\nADD [\"b\"]",                               2, "ADD has no target"),
        ("variable in --from",       "FROM a\nCOPY --from=$B c d",                        2, "has no variables: add a stage FROM"),
        ("number of no stage",       "FROM a\nCOPY --from=2 c d",                         2, "stages have the numbers 0 to 0"),
        ("its own stage",            "FROM a AS b\nCOPY --from=b c d",                    2, "needs \"b\""),
        ("scratch",                  "FROM a\nCOPY --from=scratch b c",                   2, "the empty tree has no files"),
        ("mode",                     "FROM a\nCOPY --chmod=rwx b c",                      2, "give an octal mode such as 0755"),
        ("COPY of an address",       "FROM a\nCOPY https://b/c /",                        2, "COPY downloads nothing: write ADD"),
        ("address without checksum", "FROM a\nADD https://b/c /",                         2, "add --checksum=sha256:DIGITS"),
        ("checksum of other kind",   "FROM a\nADD --checksum=sha1:00 https://b/c /",      2, "give sha256: and 64 hexadecimal digits"),
        ("checksum of a file",       "FROM a\nADD --checksum=sha256:00 b /",              2, "--checksum belongs to one address"),
        ("git over https",           "FROM a\nADD https://b/c.git#main /",                2, "git repositories are not supported"),
        ("git over ssh",             "FROM a\nADD git@b:c/d /",                           2, "git repositories are not supported"),
        ("key of no mount",          "FROM a\nRUN --mount=tpye=bind b",                   2, "unknown key \"tpye\": did you mean type?"),
        ("unknown key",              "FROM a\nRUN --mount=type=bind,relabel=shared b",    2, "unknown key \"relabel\""),
        ("unknown type",             "FROM a\nRUN --mount=type=disk,target=/b c",         2, "there are bind, cache, tmpfs and secret"),
        ("unknown type by variable", "FROM a\nARG T=ssh\nRUN --mount=type=$T c",          3, "type=ssh is not supported"),
        ("ssh",                      "FROM a\nRUN --mount=type=ssh b",                    2, "type=ssh is not supported"),
        ("no target of a mount",     "FROM a\nRUN --mount=type=cache b",                  2, "has no target: add target=PATH"),
        ("root as a mount point",    "FROM a\nRUN --mount=target=/b/.. c",                2, "/ cannot be a mount point"),
        ("mount in /proc",           "FROM a\nRUN --mount=type=tmpfs,target=/b/../proc c", 2, "nothing can be mounted in /proc"),
        ("mount in /sys",            "FROM a\nRUN --mount=target=/sys/fs c",              2, "nothing can be mounted in /sys"),
        ("secret as the root",       "FROM a\nRUN --mount=type=secret,id=b,target=/ c",   2, "/ cannot be a mount point"),
        ("secret in /proc",          "FROM a\nRUN --mount=type=secret,id=b,dst=/proc/c d", 2, "nothing can be mounted in /proc"),
        ("two secrets in one place", "FROM a\nRUN --mount=type=secret,id=b --mount=type=secret,id=c,dst=run/secrets/b d", 2, "two secrets have the path \"/run/secrets/b\""),
        ("largest number of a group", "FROM a\nRUN --mount=type=cache,target=/b,gid=4294967295 d", 2, "give a number from 0"),
        ("key of another type",      "FROM a\nRUN --mount=type=tmpfs,target=/b,id=c d",   2, "a mount of type tmpfs has no id"),
        ("key without a value",      "FROM a\nRUN --mount=target b",                      2, "target has no value"),
        ("variable in from",         "FROM a\nRUN --mount=from=$B,target=/c d",           2, "from has no variables"),
        ("secret without an id",     "FROM a\nRUN --mount=type=secret b",                 2, "add id=NAME"),
        ("secret with two ids",      "FROM a\nRUN --mount=type=secret,id=b,src=c d",      2, "both id and source"),
        ("sharing",                  "FROM a\nRUN --mount=type=cache,target=/b,sharing=c d", 2, "shared, private and locked"),
        ("mode of a mount",          "FROM a\nRUN --mount=type=cache,target=/b,mode=9 d", 2, "give an octal mode"),
        ("user of a mount",          "FROM a\nRUN --mount=type=cache,target=/b,uid=c d",  2, "uid=\"c\" is wrong: give a number"),
        ("size",                     "FROM a\nRUN --mount=type=tmpfs,target=/b,size=c d", 2, "size: give a size such as"),
        ("truth",                    "FROM a\nRUN --mount=target=/b,ro=c d",              2, "give true or false"),
    ];
    check(ROWS);
}

#[test]
fn stages_do_not_need_themselves() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("two stages",    "FROM a AS b\nCOPY --from=c x /\nFROM a AS c\nCOPY --from=b x /",          2, "stage \"b\" needs \"c\" needs \"b\""),
        ("by its base",   "FROM a AS b\nRUN --mount=from=c,target=/x y\nFROM b AS c",                2, "stage \"b\" needs \"c\" needs \"b\""),
        ("behind others", "FROM a AS b\nCOPY --from=c x /\nFROM a AS c\nCOPY --from=2 x /\nFROM c",  4, "stage \"c\" needs 2 needs \"c\""),
    ];
    check(ROWS);
}

#[test]
fn hostile_texts_stop() {
    let doubles: String = (0..60).map(|_| "ENV A=$A$A\n").collect();
    let words = "$A".repeat(60_000);
    let braces = format!("{}{}", "${A:-".repeat(100_000), "}".repeat(100_000));
    let value = "x".repeat(50_000);
    let stars = "*x".repeat(1000);
    let ports = "EXPOSE 0-65535\n".repeat(200);
    let labels = |count: usize| -> String {
        (0..count).map(|number| format!("LABEL l{number}=$A$A\n")).collect::<Vec<_>>().concat()
    };
    let small = (0..3000).map(|number| format!(" l{number}=")).collect::<Vec<_>>().concat();
    let stages = |count: usize| "FROM b\n".repeat(count);
    let rows = [
        ("labels", format!("FROM a\nENV A={value}\n{}", labels(500)), "take more than 1 MiB"),
        (
            "labels of a base",
            format!("FROM a AS b\nENV A={value}\n{0}FROM b\n{0}{0}{1}", labels(8), stages(38)),
            "more than 1638 KiB",
        ),
        (
            "many labels of a base",
            format!("FROM a AS b\nLABEL{small}\n{}", stages(199)),
            "more than 327 KiB",
        ),
        ("stages", format!("FROM a AS b\n{}", stages(200)), "more than 200 stages"),
        (
            "long command",
            format!("FROM a\nENV A={value}\n{}CMD {value}", labels(10)),
            "more than 1 MiB",
        ),
        ("values that double", format!("FROM a\nENV A=x\n{doubles}"), "take more than 128 KiB"),
        ("long words", format!("FROM a\nENV A={value}\nCOPY {words} /x"), "more than 65536 KiB"),
        ("long word", format!("FROM a\nENV A={value}\nUSER $A$A$A"), "longer than 128 KiB"),
        (
            "deep directory",
            format!("FROM a\nENV A={}\nWORKDIR $A\nWORKDIR $A", "x".repeat(3000)),
            "longer than 4096 bytes",
        ),
        ("deep braces", format!("FROM a\nUSER {braces}"), "are inside each other"),
        ("slow patterns", format!("FROM a\nENV A={value}\nUSER ${{A##{stars}y}}"), "take too long"),
        ("many ports", format!("FROM a\n{ports}"), "more than 65536 KiB"),
    ];
    for (name, text, part) in rows {
        let mistake = evaluate(&text).expect_err(name);
        assert!(mistake.message.contains(part), "{name}: {mistake}");
    }
}
