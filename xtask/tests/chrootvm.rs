//! The command line of chrootvm, as a shell sees it.

use std::process::Command;

#[test]
fn only_trouble_has_the_status_of_trouble() {
    for (arguments, status) in [
        (&["--help"][..], 0),
        (&["-h"], 0),
        (&["--version"], 0),
        (&[], 125),
        (&["--no-such-option"], 125),
        (&["--memory", "much", "/"], 125),
        (&["--rw", "--overlay", "/", "--", "true"], 125),
        (&["/no/such/directory", "--", "true"], 125),
    ] {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output = chrootvm.arg("chrootvm").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        // Help is what was asked for, an error is not.
        assert_eq!(output.stderr.is_empty(), status == 0, "{arguments:?}");
        assert_eq!(output.stdout.is_empty(), status != 0, "{arguments:?}");
    }
}
