//! POSIX access control lists (acl(5)), as the extended attributes that Linux shows.
//!
//! Format of an attribute's value (`include/uapi/linux/posix_acl_xattr.h`), little endian:
//! a version of 32 bits, which is 2; then entries of 8 bytes each: tag (16 bits at offset
//! 0), permissions (16 bits at 2), number of a user or group (32 bits at 4).
//!
//! Archives contain lists as text, with commas or newlines between the entries. An entry
//! is `TAG:NAME:PERMISSIONS[:NUMBER]` (star(5), acl(5) "ACL TEXT FORMS").

/// Name of the attribute with the list of a file (`XATTR_NAME_POSIX_ACL_ACCESS`).
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the attribute with the list that new files in a directory get
/// (`XATTR_NAME_POSIX_ACL_DEFAULT`).
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// First bytes of a list (`POSIX_ACL_XATTR_VERSION`).
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// Bytes of an entry (`struct posix_acl_xattr_entry`).
const ENTRY: usize = 8;
/// User or group number of an entry that names neither (`ACL_UNDEFINED_ID`).
const NO_ID: u32 = u32::MAX;

/// Tag of the owner's entry (`ACL_USER_OBJ`).
const USER_OBJ: u16 = 0x01;
/// Tag of a named user's entry (`ACL_USER`).
const USER: u16 = 0x02;
/// Tag of the owning group's entry (`ACL_GROUP_OBJ`).
const GROUP_OBJ: u16 = 0x04;
/// Tag of a named group's entry (`ACL_GROUP`).
const GROUP: u16 = 0x08;
/// Tag of the entry that limits named users and groups (`ACL_MASK`).
const MASK: u16 = 0x10;
/// Tag of the entry for everybody else (`ACL_OTHER`).
const OTHER: u16 = 0x20;

/// Words of the text form: long and short word, tag of an entry without a name, tag of an
/// entry with a name.
const WORDS: [(&str, &str, u16, Option<u16>); 4] = [
    ("user", "u", USER_OBJ, Some(USER)),
    ("group", "g", GROUP_OBJ, Some(GROUP)),
    ("mask", "m", MASK, None),
    ("other", "o", OTHER, None),
];

/// One entry: tag, number, permissions. Sorted as tuples, entries have the order that
/// Linux requires.
type AclEntry = (u16, u32, u16);

/// Result of reading a list in text form.
#[derive(Debug, PartialEq, Eq)]
pub enum AclText {
    /// The list says no more than the permission bits of the file.
    Mode,
    /// The list as the value of the extended attribute.
    List(Vec<u8>),
    /// The text is not a list, or it names a user or group without the number.
    Unclear,
}

/// Reads a list in text form.
#[must_use]
pub fn from_text(text: &[u8]) -> AclText {
    let Some(entries) = std::str::from_utf8(text).ok().and_then(entries) else {
        return AclText::Unclear;
    };
    if entries.iter().all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER)) {
        return AclText::Mode;
    }
    AclText::List(encode(&entries))
}

/// Reads the default list of a directory in text form. Unlike [`from_text`], this never
/// returns `Mode`: a default list with only three entries has a meaning of its own.
#[must_use]
pub fn default_from_text(text: &[u8]) -> AclText {
    match std::str::from_utf8(text).ok().and_then(entries) {
        Some(entries) => AclText::List(encode(&entries)),
        None => AclText::Unclear,
    }
}

/// Whether Linux accepts `value` as a list.
#[must_use]
pub fn is_list(value: &[u8]) -> bool {
    let Some(bytes) = value.strip_prefix(&VERSION) else { return false };
    let (entries, rest) = bytes.as_chunks::<ENTRY>();
    let entry = |&[tag, tag_high, bits, bits_high, a, b, c, d]: &[u8; ENTRY]| {
        let tag = u16::from_le_bytes([tag, tag_high]);
        let id = if names_somebody(tag) { u32::from_le_bytes([a, b, c, d]) } else { NO_ID };
        (tag, id, u16::from_le_bytes([bits, bits_high]))
    };
    rest.is_empty() && is_valid(&entries.iter().map(entry).collect::<Vec<_>>())
}

fn names_somebody(tag: u16) -> bool {
    matches!(tag, USER | GROUP)
}

/// Checks the rules of `posix_acl_valid` (`fs/posix_acl.c`).
fn is_valid(entries: &[AclEntry]) -> bool {
    const ALL: u16 = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
    let count = |wanted: u16| entries.iter().filter(|(tag, ..)| *tag == wanted).count();
    let one_each = [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1);
    let is_named = count(USER) + count(GROUP) > 0;
    let is_known =
        |(tag, _, bits): &AclEntry| tag.is_power_of_two() && tag & ALL != 0 && *bits <= 7;
    let is_sorted = entries.is_sorted_by_key(|(tag, ..)| *tag);
    let has_mask = count(MASK) == 1 || count(MASK) == 0 && !is_named;
    one_each && has_mask && is_sorted && entries.iter().all(is_known)
}

fn encode(entries: &[AclEntry]) -> Vec<u8> {
    let mut value = VERSION.to_vec();
    for (tag, id, bits) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// The sorted entries of a list in text form; `None` if the text is not a valid list.
fn entries(text: &str) -> Option<Vec<AclEntry>> {
    let texts = text.split([',', '\n']).map(|text| text.split('#').next().unwrap_or_default());
    let texts = texts.map(str::trim).filter(|text| !text.is_empty());
    let mut entries = texts.map(entry).collect::<Option<Vec<_>>>()?;
    entries.sort_unstable();
    let is_once = entries.windows(2).all(|pair| match pair {
        [(tag, id, _), (next_tag, next_id, _)] => (tag, id) != (next_tag, next_id),
        _ => true,
    });
    (is_once && is_valid(&entries)).then_some(entries)
}

fn entry(text: &str) -> Option<AclEntry> {
    let mut fields = text.strip_prefix("default:").unwrap_or(text).split(':').map(str::trim);
    let word = fields.next()?;
    let (.., plain, named) =
        WORDS.iter().find(|(long, short, ..)| *long == word || *short == word)?;
    let mut name = fields.next()?;
    let bits = match fields.next() {
        Some(bits) => bits,
        // Some writers leave the empty name out: `mask:rwx`, `other:rwx`.
        None if named.is_none() => std::mem::take(&mut name),
        None => return None,
    };
    let number = fields.next().filter(|number| !number.is_empty());
    let bits = permissions(bits)?;
    if name.is_empty() {
        return Some((*plain, NO_ID, bits));
    }
    let id: u32 = number.unwrap_or(name).parse().ok()?;
    Some(((*named)?, id, bits))
}

/// Permissions from the letters `r`, `w` and `x` in any order; dashes are ignored.
fn permissions(text: &str) -> Option<u16> {
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Some(bits | 4),
        'w' => Some(bits | 2),
        'x' => Some(bits | 1),
        '-' => Some(bits),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `getfattr -n system.posix_acl_access` after
    /// `setfacl -m u:1000:r--,g:5:rwx` of a file of mode 0640.
    #[rustfmt::skip]
    const LIST: &[u8] = &[
        2, 0, 0, 0,
        0x01, 0, 6, 0, 255, 255, 255, 255,
        0x02, 0, 4, 0, 0xe8, 3, 0, 0,
        0x04, 0, 4, 0, 255, 255, 255, 255,
        0x08, 0, 7, 0, 5, 0, 0, 0,
        0x10, 0, 7, 0, 255, 255, 255, 255,
        0x20, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn text_becomes_the_attribute_of_linux() {
        for text in [
            // The forms of star and libarchive, of GNU tar, and other orders and spellings.
            "user::rw-,user:ann:r--:1000,group::r--,group:tty:rwx:5,mask::rwx,other::---",
            "user::rw-\nuser:1000:r--\ngroup::r--\ngroup:5:rwx\nmask::rwx\nother::---\n",
            "o:-, g:5:rwx #effective:rwx\n, u:1000:r,u::rw, g::r,m:rwx",
            "default:user::rw-,default:user:1000:r--,group::r--,group:5:rwx,mask:rwx,other:---",
        ] {
            assert_eq!(from_text(text.as_bytes()), AclText::List(LIST.into()), "{text}");
            assert_eq!(default_from_text(text.as_bytes()), AclText::List(LIST.into()), "{text}");
        }
        let plain = b"user::rw-,group::r--,other::r--";
        assert_eq!(from_text(plain), AclText::Mode);
        assert!(matches!(default_from_text(plain), AclText::List(list) if is_list(&list)));
    }

    #[test]
    fn invalid_lists_are_unclear() {
        for text in [
            &b""[..],
            b"\xff",
            b"user::rw-,group::r--",
            b"user::rw-,user::r--,group::r--,other::r--",
            b"user::rw-,user:ann:r--,group::r--,mask::r--,other::r--",
            b"user::rw-,user:5:r--,group::r--,other::r--",
            b"user::rw-,user:5:r--,user:5:rwx,group::r--,mask::r--,other::r--",
            b"user::rws,group::r--,other::r--",
            b"user:rw-,group::r--,other::r--",
            b"mask:5:rwx,user::rw-,group::r--,other::r--",
            b"everyone@:r:allow",
        ] {
            assert_eq!(from_text(text), AclText::Unclear, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn values_are_checked_by_the_rules_of_linux() {
        assert!(is_list(LIST));
        let mut without_mask = LIST.to_vec();
        without_mask.drain(36..44);
        let mut unsorted = LIST.to_vec();
        unsorted[4..].rotate_left(8);
        for value in [&b""[..], b"x", &VERSION, &LIST[..51], &LIST[..44], &without_mask, &unsorted]
        {
            assert!(!is_list(value), "{value:?}");
        }
    }
}
