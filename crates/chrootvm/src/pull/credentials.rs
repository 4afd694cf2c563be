//! User and password of `--creds`.
//!
//! Interface: termios(3), to hide what a user types.

use std::fmt;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

/// A special character that a terminal does not have (`_POSIX_VDISABLE`, termios(3)).
const VDISABLE: u8 = 0;

/// Most bytes of a password. Tokens of registries have up to a few thousand.
const PASSWORD_MAX: usize = 16 << 10;

/// Value of `--creds`.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenCredentials {
    user: String,
    password: Option<String>,
}

impl FromStr for GivenCredentials {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (text, None),
        };
        if user.is_empty() {
            return Err("give USER or USER:PASSWORD".into());
        }
        Ok(Self { user: user.into(), password })
    }
}

impl fmt::Debug for GivenCredentials {
    /// Shows the user only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl GivenCredentials {
    /// Whether the password has to be read from standard input.
    #[must_use]
    pub fn needs_stdin(&self) -> bool {
        self.password.is_none()
    }

    /// User and password. A password that was not given is read from standard input.
    ///
    /// # Errors
    /// Standard input has no line, or one of more than 16 KiB.
    pub fn complete(&self) -> Result<(String, String)> {
        let password = match &self.password {
            Some(password) => password.clone(),
            None => {
                self.ask().with_context(|| format!("--creds {}: read the password", self.user))?
            }
        };
        Ok((self.user.clone(), password))
    }

    fn ask(&self) -> Result<String> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return line(&mut unbuffered(stdin.as_fd())?, None);
        }
        let hidden = HiddenInput::new(stdin.as_fd())?;
        let mut stderr = std::io::stderr();
        write!(stderr, "password of {}: ", self.user.escape_debug())?;
        stderr.flush()?;
        let password = line(&mut unbuffered(stdin.as_fd())?, hidden.interrupt);
        drop(hidden);
        writeln!(stderr)?;
        password
    }
}

/// Standard input without the buffer of Rust's library: bytes after the line belong to somebody
/// else, such as the command in a guest.
fn unbuffered(fd: BorrowedFd<'_>) -> Result<std::fs::File> {
    Ok(std::fs::File::from(fd.try_clone_to_owned().context("duplicate standard input")?))
}

/// Reads a line byte by byte, and nothing after it. The character `interrupt` is an error.
fn line(input: &mut impl Read, interrupt: Option<u8>) -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? == 1 && byte != *b"\n" {
        ensure!(line.len() < PASSWORD_MAX, "it has more than {PASSWORD_MAX} bytes");
        ensure!(interrupt != Some(byte[0]), "interrupted");
        line.extend(byte);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    ensure!(!line.is_empty(), "standard input has no line with it");
    String::from_utf8(line).ok().context("it is not UTF-8")
}

/// A terminal that does not show what is typed, until this is dropped.
///
/// A signal would end the program and leave the terminal so. Therefore, keys send no signals
/// meanwhile, and the key of SIGINT ends the line, as Enter does.
struct HiddenInput<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    /// The character of SIGINT, usually Ctrl-C; `None` if the terminal has none.
    interrupt: Option<u8>,
}

impl<'a> HiddenInput<'a> {
    fn new(terminal: BorrowedFd<'a>) -> Result<Self> {
        let before = tcgetattr(terminal).context("tcgetattr")?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        let key = |at: SpecialCharacterIndices| at as usize;
        let interrupt = before.control_chars[key(SpecialCharacterIndices::VINTR)];
        hidden.control_chars[key(SpecialCharacterIndices::VEOL)] = interrupt;
        tcsetattr(terminal, SetArg::TCSAFLUSH, &hidden).context("tcsetattr")?;
        Ok(Self { terminal, before, interrupt: (interrupt != VDISABLE).then_some(interrupt) })
    }
}

impl Drop for HiddenInput<'_> {
    fn drop(&mut self) {
        // Nothing can be done about an error: the terminal is gone.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_and_is_not_shown() {
        let given: GivenCredentials = "ada:a:b".parse().unwrap();
        assert_eq!(given.complete().unwrap(), ("ada".into(), "a:b".into()));
        assert!(!given.needs_stdin());
        assert!(!format!("{given:?}").contains("a:b"));
        assert!("ada".parse::<GivenCredentials>().unwrap().needs_stdin());
        for bad in ["", ":", ":x"] {
            assert!(bad.parse::<GivenCredentials>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interrupted_password_leaves_the_terminal_as_it_was() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut master = std::fs::File::from(pty.master);
        let settings = || {
            let termios = tcgetattr(&pty.slave).unwrap();
            (termios.local_flags, termios.control_chars)
        };
        let before = settings();
        assert!(before.0.contains(LocalFlags::ECHO | LocalFlags::ISIG));
        for (typed, expected) in [("abc\x03", Err("interrupted")), ("secret\n", Ok("secret"))] {
            let hidden = HiddenInput::new(pty.slave.as_fd()).unwrap();
            assert!(!settings().0.intersects(LocalFlags::ECHO | LocalFlags::ISIG));
            master.write_all(typed.as_bytes()).unwrap();
            let mut polled = [PollFd::new(pty.slave.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::from(10_000_u16)).unwrap(), 1, "{typed:?}");
            let found = line(&mut unbuffered(pty.slave.as_fd()).unwrap(), hidden.interrupt);
            let found = found.map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(|error| &**error), expected);
            drop(hidden);
            assert_eq!(settings(), before);
        }
    }

    #[test]
    fn one_line_is_read_and_no_more() {
        for (text, expected, rest) in
            [("secret\nrest", "secret", "rest"), ("x\r\n", "x", ""), ("no end", "no end", "")]
        {
            let mut input = text.as_bytes();
            assert_eq!(line(&mut input, None).unwrap(), expected);
            assert_eq!(input, rest.as_bytes());
        }
        let long = vec![b'x'; PASSWORD_MAX + 1];
        for bad in [&b""[..], b"\n", b"\xff\n", &long[..]] {
            assert!(line(&mut &*bad, None).is_err());
        }
    }
}
