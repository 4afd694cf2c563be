//! The names in `/etc/hosts` that every program may rely on: `localhost`, and the name of the
//! machine.
//!
//! Format: hosts(5).
//!
//! Names that the root's own file has stay as they are; missing ones follow its text.

use alloc::ffi::CString;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::sys::error::ErrnoName;
use crate::sys::file;

/// Path of the file.
pub const PATH: &[u8] = b"/etc/hosts";

/// The name of each machine for itself.
const LOCALHOST: &[u8] = b"localhost";

/// Lines for [`LOCALHOST`].
const LOCAL_LINES: &[u8] = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// Gives the root the names that it lacks: `localhost` and, at `address`, `name`.
pub fn provide(root: &NewRoot, name: Option<&[u8]>, address: &[u8]) {
    if !is_ours(root).unwrap_or_default() {
        return;
    }
    // If the file cannot be read, it is none of ours: a directory, or too large.
    let Ok(own) = root.read(PATH) else { return };
    let Some(text) = complete(own.as_deref().unwrap_or_default(), name, address) else { return };
    if let Err(errno) = root.provide_file(PATH, c"hosts", text.as_bytes()) {
        log::debug!("no names for /etc/hosts: {}", ErrnoName(errno));
    }
}

/// Whether the file may be covered or made. In a root that outlives the machine and can be
/// written to, changes of the guest to its own file must arrive there. A root without `/etc`
/// is no system, so nothing is made in it.
fn is_ours(root: &NewRoot) -> Result<bool, Errno> {
    let dir = root.locate(b"/etc", OFlags::DIRECTORY)?;
    Ok(root.is_read_only(&dir) || root.owns(&dir)?)
}

/// The text `own` with the names that it lacks; `None` if it has all of them, or contains NUL.
fn complete(own: &[u8], name: Option<&[u8]>, address: &[u8]) -> Option<CString> {
    let local = if has(own, LOCALHOST) { b"" } else { LOCAL_LINES };
    let end: &[u8] = if own.is_empty() || own.ends_with(b"\n") { b"" } else { b"\n" };
    let named = name.filter(|name| *name != LOCALHOST && !has(own, name));
    let text = match named {
        Some(name) => file::c_string(&[own, end, local, address, b"\t", name, b"\n"]),
        None if local.is_empty() => return None,
        None => file::c_string(&[own, end, local]),
    };
    text.ok()
}

/// Whether a line of `text` gives an address to `name`.
fn has(text: &[u8], name: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(|line| {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.skip(1).any(|word| word == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_names_are_added() {
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";
        let both = "127.0.0.1\tlocalhost\n::1\tlocalhost\n1.2.3.4\tbox\n";
        let own = "127.0.0.1 localhost # box\n";
        #[rustfmt::skip]
        let cases = [
            ("empty",            "",                       None,              Some(local.into())),
            ("with a name",      "",                       Some("box"),       Some(both.into())),
            ("localhost itself", "",                       Some("localhost"), Some(local.into())),
            ("complete",         own,                      None,              None),
            ("in a comment",     own,                      Some("box"),       Some(std::format!("{own}1.2.3.4\tbox\n"))),
            ("an alias",         "::1 a\tlocalhost  box", Some("box"),       None),
            ("as an address",    "localhost x\n",         None,              Some(std::format!("localhost x\n{local}"))),
            ("a longer name",    "::1 localhost4",         None,              Some(std::format!("::1 localhost4\n{local}"))),
            ("other names",      "10.0.0.1 db\n",         Some("box"),       Some(std::format!("10.0.0.1 db\n{both}"))),
        ];
        for (case, own, name, expected) in cases {
            let text = complete(own.as_bytes(), name.map(str::as_bytes), b"1.2.3.4");
            assert_eq!(text.map(|text| text.into_string().unwrap()), expected, "{case}");
        }
    }
}
