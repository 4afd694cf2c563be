//! The time of the source in a compiled Python module.
//!
//! Format: PEP 552, of Python 3.7 and later. Numbers are little-endian.
//!
//! | Offset | Bytes | Contents |
//! |---|---|---|
//! | 0 | 2 | version of the byte code (`MAGIC_NUMBER`, `importlib/_bootstrap_external.py`) |
//! | 2 | 2 | `\r\n` |
//! | 4 | 4 | flags; 0 if the source is named by its time, not by its hash |
//! | 8 | 4 | modification time of the source, the lower 32 bits of its seconds since 1970 |
//! | 12 | 4 | size of the source |
//!
//! Python takes a module for up to date if the time and the size are those of the source, however
//! old the source is. So the time in the module must be limited as that of the source is. One
//! exception: a module that is out of date must stay so, although its source and the module may
//! get the same limit.
//!
//! Modules of Python before 3.7 have no flags, and PyPy counts its versions in its own way: both
//! stay as they are.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::tree::{Content, Id, Kind, Reader, Stored, Tree, show};

/// Ending of the name of a compiled module.
const ENDING: &[u8] = b".pyc";
/// Directory of compiled modules beside their sources (PEP 3147).
const CACHE: &[u8] = b"__pycache__";
/// Bytes of the header.
const HEADER: usize = 16;
/// Version of the byte code of Python 3.7a4, the first with this header. Versions of Python 3
/// only grow; those of Python 2 and 1 began with [`VERSION_END`].
const VERSION_FIRST: u16 = 3392;
/// Version of the byte code of Python 1.5, the lowest above those of Python 3.
const VERSION_END: u16 = 20121;
/// Place of the time in the header.
const TIME: Range<u64> = 8..12;

/// Limits the times in all compiled modules of a tree to `latest`.
pub(super) fn limit_times(tree: &mut Tree, latest: i64) -> Result<()> {
    let mut modules: Vec<(Vec<u8>, Id)> = Vec::new();
    tree.walk(&mut |path, id| {
        if path.ends_with(ENDING) && matches!(tree.node(id).kind, Kind::File(_)) {
            modules.push((path.to_vec(), id));
        }
        Ok(())
    })?;
    for (path, id) in modules {
        limit_time(tree, &path, id, latest).with_context(|| format!("/{}", show(&path)))?;
    }
    Ok(())
}

fn limit_time(tree: &mut Tree, path: &[u8], id: Id, latest: i64) -> Result<()> {
    let Kind::File(content) = &tree.node(id).kind else { return Ok(()) };
    if content.size() < HEADER as u64 {
        return Ok(());
    }
    let mut header = [0; HEADER];
    content.open()?.read_exact(&mut header).context("read")?;
    let Some(recorded) = recorded_time(header) else { return Ok(()) };
    let source = source_of(path).and_then(|path| tree.resolve(&path).ok());
    let source = source.map(|id| tree.node(id).meta.mtime);
    let time = stored(new_time(recorded, source, latest));
    if time != stored(recorded.into()) {
        let content = Content::Stored(Arc::new(Redated { content: content.clone(), time }));
        tree.node_mut(id).kind = Kind::File(content);
    }
    Ok(())
}

/// The time of the source in a header; `None` if the header has another form.
fn recorded_time(header: [u8; HEADER]) -> Option<u32> {
    let [v0, v1, b'\r', b'\n', 0, 0, 0, 0, t0, t1, t2, t3, _, _, _, _] = header else {
        return None;
    };
    let is_known = (VERSION_FIRST..VERSION_END).contains(&u16::from_le_bytes([v0, v1]));
    is_known.then_some(u32::from_le_bytes([t0, t1, t2, t3]))
}

/// Path of the source of the compiled module `path`: of `DIR/__pycache__/NAME.TAG.pyc` it is
/// `DIR/NAME.py`, of any other `NAME.pyc` it is `NAME.py` beside it.
fn source_of(path: &[u8]) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let name = names.pop()?;
    let module = match names.last() {
        Some(&CACHE) => {
            names.pop();
            name.split(|&byte| byte == b'.').next()?
        }
        _ => name.strip_suffix(ENDING)?,
    };
    let source = [module, b".py"].concat();
    names.push(&source);
    Some(names.join(&b'/'))
}

/// The time for the header of a module that has the time `recorded`. The time of the source, if
/// there is a source, is `source` now and will be limited to `latest`.
fn new_time(recorded: u32, source: Option<i64>, latest: i64) -> i64 {
    let limited = i64::from(recorded).min(latest);
    match source {
        Some(source)
            if stored(source) != stored(recorded.into())
                && stored(source.min(latest)) == stored(limited) =>
        {
            limited.wrapping_sub(1)
        }
        _ => limited,
    }
}

/// A time as the header has it.
fn stored(time: i64) -> [u8; 4] {
    let [t0, t1, t2, t3, ..] = time.to_le_bytes();
    [t0, t1, t2, t3]
}

/// A compiled module with another time in its header.
#[derive(Debug)]
struct Redated {
    content: Content,
    time: [u8; 4],
}

impl Stored for Redated {
    fn size(&self) -> u64 {
        self.content.size()
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RedatedReader { input: self.content.open()?, at: 0, time: self.time }))
    }
}

/// Reader that replaces the bytes of the time.
struct RedatedReader<'a> {
    input: Box<dyn Reader + 'a>,
    /// Number of the next byte.
    at: u64,
    time: [u8; 4],
}

impl Read for RedatedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        for (place, byte) in TIME.zip(self.time) {
            let index = place.checked_sub(self.at).and_then(|index| usize::try_from(index).ok());
            let read = buffer.get_mut(..count).unwrap_or_default();
            if let Some(found) = index.and_then(|index| read.get_mut(index)) {
                *found = byte;
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Reader for RedatedReader<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        match self.at < TIME.end {
            true => Ok(0),
            false => self.input.hole(),
        }
    }

    fn skip(&mut self, count: u64) {
        self.input.skip(count);
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    /// Latest time of a file in the tests.
    const LATEST: i64 = 1_000;
    /// Version of the byte code of Python 3.11.
    const PYTHON_3_11: u16 = 3495;
    /// Bytes behind the header.
    const CODE: &[u8] = b"\xe3\0\0\0\x01\xff";

    fn module(version: u16, flags: u32, time: u32) -> Vec<u8> {
        let size = 7_u32.to_le_bytes();
        let head = [&version.to_le_bytes()[..], b"\r\n", &flags.to_le_bytes()].concat();
        [&head[..], &time.to_le_bytes(), &size, CODE].concat()
    }

    fn put(tree: &mut Tree, path: &str, mtime: i64, bytes: Vec<u8>) {
        let meta = Meta { mtime, ..Meta::default() };
        tree.put(path.as_bytes(), meta, Kind::File(Content::Bytes(bytes.into()))).unwrap();
    }

    fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
        let Kind::File(content) = &tree.node(tree.find(path.as_bytes()).unwrap()).kind else {
            panic!("{path} is no file");
        };
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn only_times_of_sources_are_limited() {
        let timed = |time| module(PYTHON_3_11, 0, time);
        let patched = |module: &[u8]| {
            let mut tree = Tree::new(Meta::default());
            put(&mut tree, "m.pyc", 0, module.to_vec());
            limit_times(&mut tree, LATEST).unwrap();
            bytes(&tree, "m.pyc")
        };
        for (name, before, after) in [
            ("later", timed(5_000), timed(1_000)),
            ("much later", timed(u32::MAX), timed(1_000)),
            ("equal", timed(1_000), timed(1_000)),
            ("earlier", timed(7), timed(7)),
            ("Python 3.7", module(3394, 0, 5_000), module(3394, 0, 1_000)),
            ("by hash", module(PYTHON_3_11, 1, 5_000), module(PYTHON_3_11, 1, 5_000)),
            ("checked hash", module(PYTHON_3_11, 3, 5_000), module(PYTHON_3_11, 3, 5_000)),
            ("Python 3.6", module(3379, 0, 5_000), module(3379, 0, 5_000)),
            ("Python 2.7", module(62_211, 0, 5_000), module(62_211, 0, 5_000)),
            ("PyPy", module(336, 0, 5_000), module(336, 0, 5_000)),
            ("header only", timed(5_000)[..16].into(), timed(1_000)[..16].into()),
            ("short", timed(5_000)[..15].into(), timed(5_000)[..15].into()),
            ("empty", Vec::new(), Vec::new()),
            ("text", vec![b'x'; 100], vec![b'x'; 100]),
        ] {
            assert_eq!(patched(&before), after, "{name}");
            assert_eq!(patched(&after), after, "{name}, again");
        }
    }

    #[test]
    fn only_files_with_the_ending_are_modules() {
        let mut tree = Tree::new(Meta::default());
        let module = module(PYTHON_3_11, 0, 5_000);
        put(&mut tree, "a.py", 5_000, module.clone());
        tree.put(b"d.pyc", Meta::default(), crate::tree::directory()).unwrap();
        tree.put(b"l.pyc", Meta::default(), Kind::Symlink(b"a.py"[..].into())).unwrap();
        limit_times(&mut tree, LATEST).unwrap();
        assert_eq!(bytes(&tree, "a.py"), module);
    }

    /// Python compares the lower 32 bits of both times (`_validate_timestamp_pyc`).
    #[test]
    fn a_module_is_up_to_date_afterwards_if_it_was_before() {
        let times = [-5, 0, 1, 999, 1_000, 1_001, 5_000, 6_000, i64::from(u32::MAX)];
        let latests = [i64::MIN, -9, 0, 1_000, 5_500, 1 << 32, i64::MAX];
        for recorded in times.into_iter().filter_map(|time| u32::try_from(time).ok()) {
            for source in times {
                for latest in latests {
                    let is_current = |recorded, source| stored(recorded) == stored(source);
                    let before = is_current(i64::from(recorded), source);
                    let new = new_time(recorded, Some(source), latest);
                    let after = is_current(new, source.min(latest));
                    assert_eq!(before, after, "{recorded} {source} {latest}: {new}");
                }
            }
        }
    }

    #[test]
    fn the_source_of_a_module_is_found() {
        for (path, expected) in [
            ("usr/lib/__pycache__/m.cpython-311.pyc", "usr/lib/m.py"),
            ("usr/lib/__pycache__/m.cpython-311.opt-2.pyc", "usr/lib/m.py"),
            ("__pycache__/m.cpython-311.pyc", "m.py"),
            ("usr/m.pyc", "usr/m.py"),
            ("m.x.pyc", "m.x.py"),
        ] {
            assert_eq!(source_of(path.as_bytes()).unwrap(), expected.as_bytes(), "{path}");
        }
        let mut tree = Tree::new(Meta::default());
        let timed = |time| module(PYTHON_3_11, 0, time);
        for (name, time) in [("current", 5_000), ("old", 4_000)] {
            put(&mut tree, &format!("usr/{name}.py"), 5_000, b"pass".to_vec());
            put(&mut tree, &format!("usr/__pycache__/{name}.cpython-311.pyc"), 0, timed(time));
        }
        limit_times(&mut tree, LATEST).unwrap();
        let found = |name: &str| bytes(&tree, &format!("usr/__pycache__/{name}.cpython-311.pyc"));
        assert_eq!(found("current"), timed(1_000));
        assert_eq!(found("old"), timed(999), "still out of date");
    }

    #[test]
    fn small_reads_and_holes_give_the_same_bytes() {
        let content = Content::Bytes(module(PYTHON_3_11, 0, 5_000).into());
        let redated = Redated { content, time: stored(LATEST) };
        for size in 1..20 {
            let mut reader = redated.open().unwrap();
            let mut found = Vec::new();
            let mut piece = vec![0; size];
            while let count @ 1.. = reader.read(&mut piece).unwrap() {
                found.extend_from_slice(&piece[..count]);
                assert_eq!(reader.hole().unwrap(), 0);
            }
            assert_eq!(found, module(PYTHON_3_11, 0, 1_000), "{size}");
        }
    }
}
