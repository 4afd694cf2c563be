//! Reading and writing small whole files, and listing directories.
//!
//! Interfaces: open(2), read(2), write(2), mkdir(2).

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::{Errno, Result};

/// Bytes to request from one read(2); most files that are read here are smaller.
const CHUNK: usize = 4096;

/// Flags for opening a file of unknown type: without `NONBLOCK`, opening a FIFO would
/// block.
pub const UNTRUSTED: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Reads the file at `path`.
pub fn read(path: &CStr) -> Result<Vec<u8>> {
    read_at(rustix::fs::CWD, path)
}

/// Reads the file at `path`, which may be anything.
///
/// # Errors
/// EINVAL: it is no regular file; EFBIG: it has more than 1 MiB.
pub fn read_regular(path: &CStr) -> Result<Vec<u8>> {
    read_regular_fd(&rustix::fs::open(path, UNTRUSTED, Mode::empty())?)
}

/// As [`read_regular`], for a file that was opened with [`UNTRUSTED`].
pub fn read_regular_fd(fd: &OwnedFd) -> Result<Vec<u8>> {
    const MAX: usize = 1 << 20;
    if FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    read_up_to(fd, MAX)
}

/// Reads the file at `path` below `dir`.
pub fn read_at(dir: BorrowedFd<'_>, path: &CStr) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    read_up_to(&rustix::fs::openat(dir, path, flags, Mode::empty())?, usize::MAX)
}

fn read_up_to(fd: &OwnedFd, max: usize) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) => return Ok(contents),
            Ok(_) if contents.len() > max => return Err(Errno::FBIG),
            Ok(count) => contents.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes `bytes` to the existing file at `path`.
pub fn write(path: &CStr, bytes: &[u8]) -> Result<()> {
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_all(&fd, bytes)
}

/// Writes all of `bytes` to `fd`.
pub fn write_all(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    write_all_to(fd.as_fd(), bytes)
}

fn write_all_to(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes the directory `path` with mode 0755, unless it exists.
pub fn mkdir(path: &CStr) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

/// The names in directory `path` for which `wanted` holds, in byte order.
pub fn names(path: &CStr, wanted: &dyn Fn(&CStr) -> bool) -> Result<Vec<CString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    names_in(&rustix::fs::open(path, flags, Mode::empty())?, wanted)
}

/// As [`names`], for an open directory.
pub fn names_in(dir: &OwnedFd, wanted: &dyn Fn(&CStr) -> bool) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    visit(dir, &mut |name| {
        if wanted(name) {
            // Inserting in order needs a tenth of the code of a sort; the lists are short.
            let at = names.partition_point(|known: &CString| **known < *name);
            names.insert(at, CString::from(name));
        }
    })?;
    Ok(names)
}

/// Calls `each` with the names in `dir`, in no particular order; allocates no memory.
pub fn visit(dir: &OwnedFd, each: &mut dyn FnMut(&CStr)) -> Result<()> {
    // The directory may have been listed before.
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); CHUNK];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        each(entry?.file_name());
    }
    Ok(())
}

/// Fills `buffer` with the bytes from `offset` on; returns fewer at the end of the file.
pub fn read_from<'a>(fd: &OwnedFd, offset: u64, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    fill(buffer, &mut |room, length| rustix::io::pread(fd, room, offset.saturating_add(length)))
}

/// As [`read_from`], for a pipe, from its current position on.
pub fn read_stream<'a>(fd: &OwnedFd, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    fill(buffer, &mut |room, _| rustix::io::read(fd, room))
}

fn fill<'a>(
    buffer: &'a mut [u8],
    read: &mut dyn FnMut(&mut [u8], u64) -> Result<usize>,
) -> Result<&'a [u8]> {
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match read(room, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Joins `parts` to one C string.
///
/// # Errors
/// EINVAL: a part contains NUL.
#[inline(never)]
pub fn c_string(parts: &[&[u8]]) -> Result<CString> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.push(0);
    CString::from_vec_with_nul(bytes).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_paths_hold_any_byte_but_nul() {
        assert_eq!(c_string(&[b"/run/mnt/", b"\xff"]).unwrap().as_bytes(), b"/run/mnt/\xff");
        assert_eq!(c_string(&[b"/", b"a\0b"]), Err(Errno::INVAL));
    }

    #[test]
    fn names_come_in_byte_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.rs", "c.txt", "a.rs", "B.rs", "aa.rs"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let source = CString::new(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let found = names(&source, &|name| name.to_bytes().ends_with(b".rs")).unwrap();
        assert_eq!(found, [c"B.rs", c"a.rs", c"aa.rs", c"b.rs"].map(CString::from));

        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = rustix::fs::open(&*source, flags, Mode::empty()).unwrap();
        let twice = [names_in(&dir, &|_| true).unwrap(), names_in(&dir, &|_| true).unwrap()];
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn files_of_any_size_are_read_whole() {
        let source = CString::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sys/file.rs")).unwrap();
        let text = include_bytes!("file.rs");
        assert!(text.len() > CHUNK);
        assert_eq!(read(&source).unwrap(), text);
        assert_eq!(read(c"/nonexistent/file"), Err(Errno::NOENT));
    }
}
