//! POSIX access control lists (acl(5)) as Linux shows them in extended attributes.
//!
//! Format (`include/uapi/linux/posix_acl_xattr.h`), little-endian: a version of 32
//! bits, which is 2, and entries of 8 bytes: 0 tag (u16), 2 permissions (u16), 4
//! user or group (u32). Archives have lists as text, one entry after another with
//! commas or newlines between them: `TAG:NAME:PERMISSIONS[:NUMBER]` (star(5),
//! acl(5) "ACL TEXT FORMS").

/// Attribute with the list of a file.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute with the list that a directory gives to new files.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `POSIX_ACL_XATTR_VERSION`
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// Bytes of an entry.
const ENTRY: usize = 8;
/// Number in an entry that names nobody (`ACL_UNDEFINED_ID`).
const NO_ID: u32 = u32::MAX;

/// Tags: `ACL_USER_OBJ`, `ACL_USER`, `ACL_GROUP_OBJ`, `ACL_GROUP`, `ACL_MASK`, `ACL_OTHER`.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Words of the text form: long, short, the tag without a name, the tag with one.
const WORDS: [(&str, &str, u16, Option<u16>); 4] = [
    ("user", "u", USER_OBJ, Some(USER)),
    ("group", "g", GROUP_OBJ, Some(GROUP)),
    ("mask", "m", MASK, None),
    ("other", "o", OTHER, None),
];

/// One entry: tag, number, permissions; in the order in which Linux wants them.
type Entry = (u16, u32, u16);

/// What a list in text form says.
#[derive(Debug, PartialEq, Eq)]
pub enum Text {
    /// No more than the permission bits of the file.
    Mode,
    /// The value of an extended attribute.
    List(Vec<u8>),
    /// It is no list, or it has the name of a user or group without the number.
    Unclear,
}

/// Reads a list in text form.
#[must_use]
pub fn from_text(text: &[u8]) -> Text {
    let Some(entries) = std::str::from_utf8(text).ok().and_then(entries) else {
        return Text::Unclear;
    };
    if entries.iter().all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER)) {
        return Text::Mode;
    }
    Text::List(encode(&entries))
}

/// Reads the list of a directory for its new files: as [`from_text`], but a list of
/// only three entries is a list, too.
#[must_use]
pub fn default_from_text(text: &[u8]) -> Text {
    match std::str::from_utf8(text).ok().and_then(entries) {
        Some(entries) => Text::List(encode(&entries)),
        None => Text::Unclear,
    }
}

/// Whether Linux takes `value` as a list.
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

/// As `posix_acl_valid` in `fs/posix_acl.c` has it.
fn is_valid(entries: &[Entry]) -> bool {
    const ALL: u16 = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
    let count = |wanted: u16| entries.iter().filter(|(tag, ..)| *tag == wanted).count();
    let one_each = [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1);
    let is_named = count(USER) + count(GROUP) > 0;
    let is_known = |(tag, _, bits): &Entry| tag.is_power_of_two() && tag & ALL != 0 && *bits <= 7;
    let is_sorted = entries.is_sorted_by_key(|(tag, ..)| *tag);
    let has_mask = count(MASK) == 1 || count(MASK) == 0 && !is_named;
    one_each && has_mask && is_sorted && entries.iter().all(is_known)
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_vec();
    for (tag, id, bits) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// All entries, sorted; `None` where they are no list.
fn entries(text: &str) -> Option<Vec<Entry>> {
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

fn entry(text: &str) -> Option<Entry> {
    let mut fields = text.strip_prefix("default:").unwrap_or(text).split(':').map(str::trim);
    let word = fields.next()?;
    let (.., plain, named) =
        WORDS.iter().find(|(long, short, ..)| *long == word || *short == word)?;
    let mut name = fields.next()?;
    let bits = match fields.next() {
        Some(bits) => bits,
        // `mask:rwx` and `other:rwx`
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

/// `rwx`, in any order, dashes for what is not allowed.
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
    fn text_becomes_what_linux_shows() {
        for text in [
            // star and libarchive, GNU tar, getfacl, other orders and spellings.
            "user::rw-,user:ann:r--:1000,group::r--,group:tty:rwx:5,mask::rwx,other::---",
            "user::rw-\nuser:1000:r--\ngroup::r--\ngroup:5:rwx\nmask::rwx\nother::---\n",
            "o:-, g:5:rwx #effective:rwx\n, u:1000:r,u::rw, g::r,m:rwx",
            "default:user::rw-,default:user:1000:r--,group::r--,group:5:rwx,mask:rwx,other:---",
        ] {
            assert_eq!(from_text(text.as_bytes()), Text::List(LIST.into()), "{text}");
            assert_eq!(default_from_text(text.as_bytes()), Text::List(LIST.into()), "{text}");
        }
        let plain = b"user::rw-,group::r--,other::r--";
        assert_eq!(from_text(plain), Text::Mode);
        assert!(matches!(default_from_text(plain), Text::List(list) if is_list(&list)));
    }

    #[test]
    fn what_is_no_list_is_unclear() {
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
            assert_eq!(from_text(text), Text::Unclear, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn values_are_checked_as_linux_does() {
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
