//! RUN: lines, forms and here-documents.

use virtinitrd_recipe::Network;

use crate::{on_base, run};

/// Words of a command in shell form, without the shell.
fn shell_text(instructions: &str) -> String {
    let words = run(instructions).words;
    match &*words {
        [sh, c, text] if sh == "/bin/sh" && c == "-c" => text.clone(),
        _ => panic!("{words:?} is no shell form"),
    }
}

#[test]
fn lines_become_the_text_of_the_shell() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &str)] = &[
        ("one line",                         "RUN echo a",                                     "echo a"),
        ("keyword in any case",              "rUn echo a",                                     "echo a"),
        ("blanks around it",                 "  \tRUN   echo  a  ",                            "echo  a"),
        ("continued",                        "RUN echo \\\n  a",                               "echo   a"),
        ("blanks behind the escape",         "RUN echo \\ \t\n a",                             "echo  a"),
        ("two escapes do not continue",      "RUN echo \\\\\nUSER a",                          "echo \\\\"),
        ("comment inside",                   "RUN echo \\\n# no\n  # no\na",                   "echo a"),
        ("comment that looks continued",     "RUN echo \\\n# no \\\na",                        "echo a"),
        ("empty line inside",                "RUN echo \\\n\n  \na",                           "echo a"),
        ("continued to the end",             "RUN echo a \\",                                  "echo a"),
        ("carriage returns",                 "RUN echo \\\r\n a\r\nUSER b\r",                  "echo  a"),
        ("a # is no comment in a line",      "RUN echo a # b",                                 "echo a # b"),
        ("variables stay for the shell",     "RUN echo $BASE '${x}' \"\\$y\"",                 "echo $BASE '${x}' \"\\$y\""),
        ("brackets that are a command",      "RUN [ -f x ] && y",                              "[ -f x ] && y"),
        ("single quotes are no JSON",        "RUN ['a']",                                      "['a']"),
        ("test in brackets",                 "RUN [[ a == b ]]",                               "[[ a == b ]]"),
        ("document alone",                   "RUN <<EOF\necho a\n  echo b\nEOF",               "echo a\n  echo b\n"),
        ("document with a flag",             "RUN --network=none <<EOF\na\nEOF",               "a\n"),
        ("document in quotes",               "RUN <<'E O'\n$a\nE O",                           "$a\n"),
        ("document without tabs",            "RUN <<-EOF\n\ta\n\t\tb\n\tEOF",                  "a\nb\n"),
        ("document with tabs inside",        "RUN <<EOF\n\ta\nEOF",                            "\ta\n"),
        ("comments of a document stay",      "RUN <<EOF\n# a\n\n\\\nEOF",                      "# a\n\n\\\n"),
        ("document of a program",            "RUN python3 <<EOF\nprint(1)\nEOF",               "python3 <<EOF\nprint(1)\nEOF"),
        ("document behind a blank",          "RUN cat << EOF\na\nEOF",                         "cat << EOF\na\nEOF"),
        ("two documents",                    "RUN cat <<A >/x && cat <<B >/y\n1\nA\n2\nB",     "cat <<A >/x && cat <<B >/y\n1\nA\n2\nB"),
        ("document of another file",         "RUN cat 3<<EOF <&3\na\nEOF",                     "cat 3<<EOF <&3\na\nEOF"),
        ("document in parentheses",          "RUN (cat <<EOF)\na\nEOF",                        "(cat <<EOF)\na\nEOF"),
        ("document before a semicolon",      "RUN cat <<EOF; b\na\nEOF",                       "cat <<EOF; b\na\nEOF"),
        ("here-string",                      "RUN cat <<<EOF",                                 "cat <<<EOF"),
        ("shift in arithmetic",              "RUN echo $((1<<2)) $(( (1) <<X))",               "echo $((1<<2)) $(( (1) <<X))"),
        ("shift in an arithmetic command",   "RUN (( x << 2 )) && a",                          "(( x << 2 )) && a"),
        ("document behind arithmetic",       "RUN echo $((1<<2)); cat <<E\na\nE",              "echo $((1<<2)); cat <<E\na\nE"),
        ("no document in double quotes",     "RUN echo \" <<EOF \\\" <<E\"",                   "echo \" <<EOF \\\" <<E\""),
        ("no document in single quotes",     "RUN echo ' <<EOF'",                              "echo ' <<EOF'"),
        ("escaped quotes are none",          "RUN echo \\' <<EOF\na\nEOF",                     "echo \\' <<EOF\na\nEOF"),
        ("two dashes end the flags",         "RUN -- --network=none",                          "--network=none"),
        ("document over a continued line",   "RUN cat <<EOF \\\n  >/x\na\nEOF",                "cat <<EOF   >/x\na\nEOF"),
    ];
    for (name, text, expected) in ROWS {
        assert_eq!(shell_text(text), *expected, "{name}");
    }
}

#[test]
fn words_run_without_a_shell() {
    #[rustfmt::skip]
    const ROWS: &[(&str, &str, &[&str])] = &[
        ("JSON",                 r#"RUN ["a", "$b \"c\"", "\u0064\\"]"#,                       &["a", "$b \"c\"", "d\\"]),
        ("JSON over two lines",  "RUN [\"a\", \\\n \"b\"]",                                    &["a", "b"]),
        ("other shell",          "SHELL [\"/bin/bash\", \"-ec\"]\nRUN a  b",                   &["/bin/bash", "-ec", "a  b"]),
        ("shell of a document",  "SHELL [\"bash\", \"-c\"]\nRUN <<E\na\nE",                    &["bash", "-c", "a\n"]),
        ("JSON has no document", "RUN [\"cat\", \" <<EOF\"]",                                  &["cat", " <<EOF"]),
    ];
    for (name, text, expected) in ROWS {
        assert_eq!(run(text).words, *expected, "{name}");
    }
}

#[test]
fn a_document_with_a_program_is_a_script() {
    let found = run("RUN <<-'EOF'\n\t#!/usr/bin/env python\n\tprint('$x')\n\tEOF\n");
    assert_eq!(found.words, [""; 0]);
    let script = found.script.unwrap();
    assert_eq!(script.name, "EOF");
    assert_eq!(script.text, "#!/usr/bin/env python\nprint('$x')\n");
    assert_eq!(run("RUN cat <<E\n#!x\nE").script, None);
}

#[test]
fn directives_stand_at_the_top() {
    let escape = "# Syntax = docker/dockerfile:1\n#escape=`\nFROM base\nRUN a `\n b\\\nUSER c`\n\n";
    let found = crate::evaluate(escape).unwrap();
    assert_eq!(found.config.user, "c");
    assert_eq!(found.instructions[0].text, "RUN a  b\\");
    let late = "# a comment\n# escape=`\nFROM base\nRUN a \\\n b `\n";
    assert_eq!(crate::evaluate(late).unwrap().instructions[0].text, "RUN a  b `");
    let unknown = "# sintax=x\n# escape=`\nFROM base\nRUN a \\\n b\n";
    assert_eq!(crate::evaluate(unknown).unwrap().instructions[0].text, "RUN a  b");
    let mark = "\u{feff}# escape=`\nFROM base\nRUN a `\n b\n";
    assert_eq!(crate::evaluate(mark).unwrap().instructions[0].text, "RUN a  b");
}

#[test]
fn texts_are_as_written() {
    let found = on_base("user $BASE\nRUN --network=none cat <<EOF \\\n # b\n >/x\na\nEOF\n");
    let texts: Vec<_> =
        found.instructions.iter().map(|done| (done.position.line, &*done.text)).collect();
    assert_eq!(
        texts,
        [(2, "user $BASE"), (3, "RUN --network=none cat <<EOF  >/x\na\nEOF")],
        "comments are left out"
    );
}

#[test]
fn commands_have_a_user_a_directory_and_a_network() {
    let found = run("WORKDIR a/../b\nUSER me:us\nWORKDIR c\nRUN --network=none x");
    assert_eq!((&*found.user, &*found.workdir), ("me:us", "/b/c"));
    assert_eq!(found.network, Some(Network::None));
    assert_eq!(run("RUN --network=default x").network, Some(Network::User));
    let plain = run("RUN x");
    assert_eq!((&*plain.user, &*plain.workdir, plain.network), ("", "/", None));
}

#[test]
fn commands_see_the_environment_arguments_and_proxies() {
    let found = run("ARG GIVEN\nARG OTHER=1 UNSET\nARG BASE=hidden\nENV A=b\nRUN x");
    let env: Vec<_> = found.env.iter().map(|(n, v)| (&**n, &**v)).collect();
    let expected = [
        ("PATH", "/bin"),
        ("BASE", "base"),
        ("PWD", "/home"),
        ("NULL", ""),
        ("A", "b"),
        ("GIVEN", "given"),
        ("OTHER", "1"),
        ("HTTPS_PROXY", "http://p:1"),
        ("https_proxy", "http://p:1"),
    ];
    assert_eq!(env, expected);
    assert_eq!(found.hidden_env, ["HTTPS_PROXY", "https_proxy"]);
    let declared = run("ARG https_proxy\nARG HTTPS_PROXY=x\nRUN x");
    assert_eq!(declared.hidden_env, [""; 0], "a declared proxy counts");
}
