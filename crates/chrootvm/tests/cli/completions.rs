//! Completions: what bash completes with its script, and that each shell can read its own.

use std::fs;
use std::process::{Command, Output, Stdio};

/// The output of `chrootvm completions SHELL PROGRAM`.
fn script(shell: &str, program: &str) -> String {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    let output = chrootvm.args(["completions", shell, program]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell} {program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `shell ARGUMENTS` with the path of a file that contains `script`, in a directory with
/// the directory `debian`. Returns `None` if this host does not have the shell.
fn run(shell: &str, arguments: &[&str], script: &str) -> Option<Output> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    fs::write(&path, script).unwrap();
    fs::create_dir(dir.path().join("debian")).unwrap();
    let mut command = Command::new(shell);
    command.args(arguments).arg(path).current_dir(dir.path()).stdin(Stdio::null());
    command.output().ok()
}

/// Words to which bash completes the last word of `line`.
fn completed(line: &[&str]) -> Vec<String> {
    let quoted: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
    let (program, last, before) = (line[0], line[line.len() - 1], line[line.len() - 2]);
    // Without readline, bash has no `compopt`.
    let script = format!(
        "{}\ncompopt() {{ :; }}\nCOMP_WORDS=({}) COMP_CWORD={}\n\
         _{program} {program} '{last}' '{before}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        script("bash", program),
        quoted.join(" "),
        line.len() - 1,
    );
    let output = run("bash", &["--norc", "--noprofile"], &script).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_options_and_their_values() {
    for (line, expected) in [
        (&["chrootvm", "--me"][..], &["--memory"][..]),
        (&["chrootvm", "--rw", "./debian", "--timi"], &["--timing"]),
        (&["chrootvm", "--net", "u"], &["user"]),
        (&["chrootvm", "--kernel", "./deb"], &["./debian"]),
        (&["chrootvm", "comp"], &["completions"]),
        (&["chrootvm", "image", "bu"], &["build"]),
        (&["chrootvm", "image", "la"], &["layers"]),
        (&["chrootvm", "image", "ls", "--pull", "mi"], &["missing"]),
        (&["chrootvm", "image", "build", "--comp"], &["--compress"]),
        (&["chrootvm", "exec", "--work"], &["--workdir"]),
        (&["chrootvm", "run", "--me"], &["--memory"]),
        (&["chrootvm", "stop", "--ti"], &["--timeout"]),
        (&["chrootvm", "resta"], &["restart"]),
        (&["chrootvm", "--wait", "h"], &["healthy"]),
        (&["chrootvm", "logs", "--stream", "stdo"], &["stdout"]),
        // Hidden options are not offered.
        (&["chrootvm", "--inter"], &[]),
        (&["mkvirtinitrd", "--tr"], &["--transport"]),
        (&["mkvirtinitrd", "--transport", "m"], &["mmio"]),
    ] {
        assert_eq!(completed(line), expected, "{line:?}");
    }
}

/// If the script knows no word, bash completes names of files (`-o default`).
#[test]
fn bash_completes_rootfs_as_a_path() {
    for line in [&["chrootvm", "./deb"][..], &["chrootvm", "--net", "user", "./deb"]] {
        assert!(completed(line).is_empty(), "{line:?}");
    }
    let script = format!("{}\ncomplete -p chrootvm\n", script("bash", "chrootvm"));
    let output = run("bash", &["--norc", "--noprofile"], &script).unwrap();
    let specification = String::from_utf8(output.stdout).unwrap();
    for part in ["-o default", "-F _chrootvm", " chrootvm\n"] {
        assert!(specification.contains(part), "{part}: {specification}");
    }
}

#[test]
fn shells_can_read_their_scripts() {
    for (shell, arguments, part) in [
        ("bash", &["-n"][..], "complete -F"),
        ("zsh", &["-n"], "#compdef"),
        ("fish", &["--no-execute"], "complete -c"),
    ] {
        for program in ["chrootvm", "mkvirtinitrd"] {
            let script = script(shell, program);
            assert!(script.contains(part) && script.contains(program), "{shell} {program}");
            // A shell that is not installed cannot check the syntax.
            let Some(output) = run(shell, arguments, &script) else { continue };
            assert!(output.status.success(), "{shell} {program}: {output:?}");
        }
    }
}

#[test]
fn unknown_shells_are_refused() {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    let output = chrootvm.args(["completions", "tcsh"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("[possible values: bash, zsh, fish]"), "{error}");
}
