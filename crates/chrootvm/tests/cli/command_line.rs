//! Words of chrootvm's command line: which ones it takes, and what it says to the others.

use std::process::{Command, Output};

/// Runs `chrootvm WORDS`.
fn chrootvm(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chrootvm")).args(words).output().unwrap()
}

/// Asserts that `output` has this status, and that both streams together contain `part`.
fn assert_says(output: &Output, status: i32, part: &str, case: &dyn std::fmt::Debug) {
    let streams = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert_eq!(output.status.code(), Some(status), "{case:?}: {streams:?}");
    assert!(streams.concat().contains(part), "{case:?}: no {part:?} in {streams:?}");
}

#[test]
fn help_is_a_subcommand() {
    for (words, status, part) in [
        (&["help"][..], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "help"], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "-h"], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "exec"], 0, "Usage: chrootvm exec"),
        (&["help", "image", "build"], 0, "Usage: chrootvm image build"),
        (&["help", "no-such"], 125, "no subcommand no-such: `chrootvm --help` lists them"),
    ] {
        assert_says(&chrootvm(words), status, part, &words);
    }
}

/// Options stand before the command. An unknown one is neither INIT nor a COMMAND.
#[test]
fn words_after_rootfs_are_a_command() {
    for (words, part) in [
        (&["/nonexistent", "uname", "-r"][..], "find /nonexistent"),
        (&["/nonexistent", "ls", "--no-such-option"], "find /nonexistent"),
        (&["/nonexistent", "--quiet", "ls", "--help"], "find /nonexistent"),
        (&["/nonexistent", "-r", "uname"], "unexpected argument '-r'"),
        (&["/nonexistent", "--quit", "ls"], "a similar argument exists: '--quiet'"),
        (&["/nonexistent", "--"], "no COMMAND after --"),
        (&["/nonexistent", "-w", "/tmp", "ls"], "--workdir is for a COMMAND"),
        (&["/nonexistent", "--keep", "ls"], "--keep is for a COMMAND"),
        (&["exec", "no-such-machine", "ls", "--help"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "ls"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "--", "ls"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "--quit", "ls"], "unexpected argument '--quit'"),
        (&["exec", "no-such-machine"], "[--] COMMAND"),
        (&["exec", "no-such-machine", "--"], "[--] COMMAND"),
    ] {
        assert_says(&chrootvm(words), 125, part, &words);
    }
}

/// With `run`, one word is a COMMAND, so that the options of one are not refused.
#[test]
fn run_takes_words_of_podman() {
    for (words, part) in [
        (&["run", "/nonexistent", "hostname"][..], "find /nonexistent"),
        (&["run", "--timing", "/nonexistent", "hostname"], "find /nonexistent"),
        (&["run", "-it", "--rm", "/nonexistent", "sh"], "find /nonexistent"),
        (&["run", "-ti", "--interactive", "/nonexistent", "sh"], "find /nonexistent"),
        (&["run", "-i", "/nonexistent"], "find /nonexistent"),
        (&["--rm", "/nonexistent", "sh"], "find /nonexistent"),
        (&["run", "--timing", "."], "--timing is for a COMMAND"),
        (&["run", "/nonexistent", "--"], "no COMMAND after --"),
        (&["run"], "Usage: chrootvm run [OPTIONS] ROOTFS"),
        (&["exec", "-it", "no-such-machine", "sh"], "no machine \"no-such-machine\""),
    ] {
        assert_says(&chrootvm(words), 125, part, &words);
    }
    let help = String::from_utf8(chrootvm(&["run", "-h"]).stdout).unwrap();
    assert!(help.contains("Usage: chrootvm run") && !help.contains("--interactive"), "{help}");
    assert!(!help.contains("--rm") && !help.contains("is INIT"), "{help}");
}

#[test]
fn options_of_images_are_not_for_directories() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().to_str().unwrap();
    for (words, part) in [
        (&["-P", rootfs, "--", "x"][..], "--publish-all is for OCI images"),
        (&["--entrypoint", "x", rootfs], "--entrypoint is for OCI images"),
        (&["--pull=never", rootfs, "--", "x"], "--pull is for OCI images"),
        (&["--platform", "arm64", rootfs], "--platform is for OCI images"),
        (&["--ca", "/x", rootfs], "--ca is for OCI images"),
        (&["--insecure", rootfs], "--insecure is for OCI images"),
        (&["image", "ls", "--keep-dirlinks", rootfs], "--keep-dirlinks is for OCI images"),
        (&["image", "diff", "--creds=a:b", rootfs, rootfs], "--creds is for OCI images"),
        (&["image", "build", "--platform=arm64", rootfs, "-o", "/x/y.erofs"], "--platform is for"),
        (&["--rw", "oci-layout:/nonexistent"], "--rw: an image stays as it is"),
        (&["--creds", "user", "oci:127.0.0.1:1/x"], "--creds: give USER:PASSWORD or --authfile"),
        (&["oci-archive:-"], "standard input belongs to the machine"),
        (&["-", "--", "id"], "standard input belongs to the machine"),
        (&["oci:Upper"], "lower case"),
        (&["debian:12"], "does not exist: an image in a registry is oci:debian:12"),
        (
            &["docker:debian"],
            "does not exist: an image in a registry is oci:debian or docker://debian",
        ),
        (&["containers-storage:x"], "`podman save -o FILE IMAGE` writes an archive"),
        (&["--pull=never", "oci:127.0.0.1:1/x"], "--pull=never forbids"),
    ] {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        let output = chrootvm.args(words).env("XDG_CACHE_HOME", dir.path().join("cache")).output();
        assert_says(&output.unwrap(), 125, part, &words);
    }
}

/// An unknown option of another program gets one line that helps; clap's advice to type
/// `-- --option` appears nowhere.
#[test]
fn options_of_other_programs_get_a_hint() {
    for (words, part) in [
        (&["run", "--network=host", "/r", "x"][..], "tip: --net user is"),
        (&["--network", "host", "/r", "x", "y"], "tip: --net user is"),
        (&["run", "-itd", "/r", "x"], "'--tty' cannot be used with '--detach'"),
        (&["exec", "--detach", "box", "x"], "tip: `chrootvm exec` stays in the foreground"),
        (&["--mount", "type=bind,src=/a,dst=/b", "/r", "x"], "tip: --volume HOST:GUEST"),
        (&["--mount=type=bind,src=/a,dst=/b", "/r", "x"], "tip: --volume HOST:GUEST"),
        (&["-D", "/r", "x"], "tip: ROOTFS is a word"),
        (&["--bind=/a:/b", "/r", "x"], "tip: --volume HOST:GUEST"),
        (&["--run", "--", "uname"], "tip: --kernel FILE"),
        (&["--memry", "1G", "/r", "x"], "tip: a similar argument exists: '--memory'"),
        (&["image", "build", "--sise", "1G"], "tip: a similar argument exists: '--size'"),
        (&["--zzzz", "/r"], "unexpected argument '--zzzz'"),
        (&["-Z", "/r"], "unexpected argument '-Z'"),
        (&["exec", "-Z", "box", "x"], "unexpected argument '-Z'"),
        (&["image", "-Z"], "unexpected argument '-Z'"),
        (&["ps", "-Z"], "unexpected argument '-Z'"),
    ] {
        let output = chrootvm(words);
        assert_says(&output, 125, part, &words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("to pass") && error.matches("tip:").count() < 2, "{error}");
        assert_eq!(part.contains("tip:"), error.contains("tip:"), "{error}");
    }
}

#[test]
fn subcommands_of_other_programs_get_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
        chrootvm.args(words).current_dir(dir.path()).output().unwrap()
    };
    for (words, part) in [
        (&["ls", "-la"][..], "no subcommand ls: `chrootvm ps` lists the machines"),
        (&["pull", "debian"], "pulls the image that it boots"),
        (&["images"], "a directory images is typed ./images"),
        (&["./images"], "find ./images: No such file"),
        (&["run", "debian", "bash"], "debian does not exist: an image in a registry is oci:debian"),
        (&["docker:debian", "--", "ls"], "an image in a registry is oci:debian or docker://debian"),
    ] {
        assert_says(&run(words), 125, part, &words);
    }
    // What exists is ROOTFS.
    std::fs::create_dir(dir.path().join("images")).unwrap();
    std::fs::write(dir.path().join("images/init"), "").unwrap();
    let output = run(&["images", "--qemu", "/nonexistent", "ls", "/"]);
    assert_says(&output, 125, "--qemu /nonexistent", &"images");
}

/// Each option that takes a size reads it in the same way, and says what a bare number is.
#[test]
fn sizes_have_one_form() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.ext4");
    let image = image.to_str().unwrap();
    for (words, part) in [
        (&["--memory", "2GiB", "/nonexistent"][..], "find /nonexistent"),
        (&["--memory", "2048", "/nonexistent"], "find /nonexistent"),
        (&["--memory=1.5g", "/nonexistent"], "find /nonexistent"),
        (&["--memory", "2 GB", "/nonexistent"], "a number without a suffix is in MiB"),
        (&["--memory", "50%", "/nonexistent"], "a number without a suffix is in MiB"),
        (&["--overlay=1.5GB", "/nonexistent"], "find /nonexistent"),
        (&["--overlay=0", "/nonexistent"], "at least 1 byte"),
        (&["--overlay=x", "/nonexistent"], "a number without a suffix is in bytes; or give a perc"),
        (&["--overlay", "2G", "/nonexistent", "ls", "/"], "as in --overlay=2G"),
        (&["/nonexistent", "--overlay", "50%", "--", "ls"], "as in --overlay=50%"),
        (&["image", "build", "src", "-o", image, "--size", "x"], "is in bytes"),
        (&["image", "build", "src", "-o", image, "--slack", "10001%"], "at most 10000%"),
        (&["image", "ls", "/nonexistent", "--max-size", "x"], "is in bytes"),
    ] {
        assert_says(&chrootvm(words), 125, part, &words);
    }
    for options in [["--size", "8.5MiB"], ["--slack", "25%"]] {
        let output = chrootvm(&[&["image", "build", "src", "-o", image][..], &options].concat());
        assert_says(&output, 0, "ext4", &options);
    }
}

#[test]
fn an_empty_input_is_for_a_command() {
    for (words, part) in [
        (&["-n", "/nonexistent", "sh"][..], "--no-stdin is for a COMMAND"),
        (&["-n", "-t", "/nonexistent", "ls", "/"], "cannot be used with"),
        (&["-n", "/nonexistent", "ls", "/"], "find /nonexistent"),
        (&["exec", "-n", "no-such-machine", "ls"], "no machine \"no-such-machine\""),
    ] {
        assert_says(&chrootvm(words), 125, part, &words);
    }
}

/// podman's --init has no value.
#[test]
fn init_that_took_rootfs_is_explained() {
    let output = chrootvm(&["run", "--init", ".", "/nonexistent"]);
    assert_says(&output, 125, "leave out --init", &"--init");
}
