//! Mount options as people write them in fstab(5).
//!
//! There are three sorts: options of every file system, which the kernel takes as flags;
//! options of mount(8) and systemd, which the kernel must not see; and options of one file
//! system, which the kernel takes as text.
//!
//! Sources: mount(8), "Filesystem-independent mount options", and the tables of
//! util-linux (`libmount/src/optmap.c`); fstab(5); systemd.mount(5); mount(2). The
//! kernel passes `rootflags=` to the file system as text, and no file system knows `noatime`.
//! Options for another operation than mounting a device (`bind`, `loop`, `remount`) are
//! passed on, so that the kernel refuses them.

use alloc::vec::Vec;

use proto::words::words;
use rustix::mount::MountFlags;

/// Flags and data for mount(2).
#[derive(Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Options of all file systems.
    pub flags: MountFlags,
    /// Options of this file system, separated by commas.
    pub data: Vec<u8>,
}

/// Flags that an option sets or clears, in the order of [`FLAG_WORDS`].
#[rustfmt::skip]
const FLAGS: [MountFlags; 19] = [
    MountFlags::RDONLY,
    MountFlags::NOSUID,
    MountFlags::NODEV,
    MountFlags::NOEXEC,
    MountFlags::SYNCHRONOUS,
    MountFlags::DIRSYNC,
    MountFlags::NOATIME,
    MountFlags::NODIRATIME,
    MountFlags::RELATIME,
    MountFlags::STRICTATIME,
    MountFlags::LAZYTIME,
    MountFlags::NOSYMFOLLOW,
    MountFlags::SILENT,
    MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
    I_VERSION,
    USERS,
    USERS,
    OWNERS,
    OWNERS,
];

/// Two options for each of [`FLAGS`]: the first sets it, the second clears it; `-`
/// stands for no option. One text takes a third of the space of a table of references.
/// `user`, `users`, `owner` and `group` imply flags, which later options can clear.
const FLAG_WORDS: &[u8] = b"\
    ro rw \
    nosuid suid \
    nodev dev \
    noexec exec \
    sync async \
    dirsync - \
    noatime atime \
    nodiratime diratime \
    relatime norelatime \
    strictatime nostrictatime \
    lazytime nolazytime \
    nosymfollow symfollow \
    silent loud \
    mand nomand \
    iversion noiversion \
    user - \
    users - \
    owner - \
    group -";

/// `MS_I_VERSION` (`include/uapi/linux/mount.h`).
const I_VERSION: MountFlags = MountFlags::from_bits_retain(1 << 23);

/// Flags that `owner` and `group` imply (mount(8)).
const OWNERS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Flags that `user` and `users` imply (mount(8)).
const USERS: MountFlags = OWNERS.union(MountFlags::NOEXEC);

/// Options for mount(8), systemd and other readers of fstab(5), which no file system
/// knows. An entry that ends in `-` or `=` is the beginning of an option.
const IGNORED: &[u8] = b"defaults auto noauto nofail _netdev nouser nousers noowner nogroup \
    x- X- comment= helper= uhelper=";

/// Option of a file system that may be missing (fstab(5)).
const NOFAIL: &[u8] = b"nofail";

impl MountOptions {
    /// Reads `options` on top of `flags`. If two options contradict each other, the
    /// last one wins.
    #[must_use]
    pub fn parse(options: &[u8], flags: MountFlags) -> Self {
        let mut parsed = Self { flags, data: Vec::new() };
        for option in options_of(options) {
            let place = words(FLAG_WORDS).position(|word| word == option && word != b"-");
            match place.and_then(|at| Some((*FLAGS.get(at / 2)?, at % 2 == 0))) {
                Some((flag, is_set)) => parsed.flags.set(flag, is_set),
                None if is_ignored(option) => {}
                None => {
                    if !parsed.data.is_empty() {
                        parsed.data.push(b',');
                    }
                    parsed.data.extend_from_slice(option);
                }
            }
        }
        parsed
    }
}

/// Whether `options` contain `nofail`.
#[must_use]
pub fn may_fail(options: &[u8]) -> bool {
    options_of(options).any(|option| option == NOFAIL)
}

fn options_of(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    options.split(|&byte| byte == b',').filter(|option| !option.is_empty())
}

fn is_ignored(option: &[u8]) -> bool {
    words(IGNORED).any(|word| match word.last() {
        Some(b'-' | b'=') => option.starts_with(word),
        _ => option == word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_file_systems_become_flags() {
        const NONE: MountFlags = MountFlags::empty();
        const RO: MountFlags = MountFlags::RDONLY;
        for (text, before, flags, data) in [
            ("", RO, RO, ""),
            ("noload", RO, RO, "noload"),
            (
                "noatime,data=journal,nosuid,,x=\"a\"",
                NONE,
                MountFlags::NOATIME | MountFlags::NOSUID,
                "data=journal,x=\"a\"",
            ),
            ("rw", RO, NONE, ""),
            ("rw,ro,defaults", RO, RO, ""),
            ("nodev,dev,NODEV,\u{e9}", NONE, NONE, "NODEV,\u{e9}"),
            ("async,atime,diratime,dev,exec,suid,symfollow,loud,nomand", NONE, NONE, ""),
            ("norelatime,nostrictatime,nolazytime,noiversion", NONE, NONE, ""),
            ("sync,async,noatime,atime,nodiratime,diratime", RO, RO, ""),
            ("mand,iversion", NONE, MountFlags::from_bits_retain(1 << 6 | 1 << 23), ""),
            ("nosymfollow", NONE, MountFlags::from_bits_retain(1 << 8), ""),
            // Options for mount(8) and systemd.
            ("defaults,auto,noauto,nofail,_netdev,nouser", RO, RO, ""),
            ("x-systemd.automount,x-,X-mount.mkdir=0755,comment=a b", RO, RO, ""),
            ("user", NONE, USERS, ""),
            ("users,exec", NONE, OWNERS, ""),
            ("owner,group,suid,dev", NONE, NONE, ""),
            ("nosuid,nouser,noowner", NONE, MountFlags::NOSUID, ""),
            // Options of one file system: a value or more letters make another option.
            (
                "user=x,xattr,nouser_xattr,autodefrag",
                NONE,
                NONE,
                "user=x,xattr,nouser_xattr,autodefrag",
            ),
            ("bind,remount,loop,offset=1", NONE, NONE, "bind,remount,loop,offset=1"),
        ] {
            let expected = MountOptions { flags, data: data.into() };
            assert_eq!(MountOptions::parse(text.as_bytes(), before), expected, "{text}");
        }
    }

    #[test]
    fn each_flag_has_its_pair_of_words() {
        let words: Vec<_> = words(FLAG_WORDS).collect();
        assert_eq!(words.len(), 2 * FLAGS.len());
        let flags_of = |word: &[u8]| MountOptions::parse(word, MountFlags::empty()).flags;
        for (pair, flag) in words.chunks(2).zip(FLAGS) {
            assert_eq!(flags_of(pair[0]), flag);
        }
    }

    #[test]
    fn only_nofail_lets_a_mount_fail() {
        for (options, expected) in
            [("", false), ("ro,nofail", true), ("nofail=1,x-nofail,fail", false)]
        {
            assert_eq!(may_fail(options.as_bytes()), expected, "{options}");
        }
    }
}
