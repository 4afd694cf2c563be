//! The user of a step, by the files of the image.

use std::path::Path;

use anyhow::{Result, anyhow};
use proto::text::show;

use crate::locate::read;

/// Numbers of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

impl Ids {
    /// Finds the user that the image at `root` names `wanted`; root by default.
    ///
    /// # Errors
    /// The image has no such user or group, or its files cannot be read.
    pub(crate) fn find(root: &Path, wanted: Option<&[u8]>) -> Result<Self> {
        let Some(wanted) = wanted else {
            return Ok(Self { uid: 0, gid: 0, groups: Vec::new() });
        };
        let (passwd, group) = (read(root, "/etc/passwd")?, read(root, "/etc/group")?);
        let user = proto::user::find(Some(wanted), &passwd, &group)
            .map_err(|reason| anyhow!("find user \"{}\": {reason}", show(wanted)))?;
        Ok(Self { uid: user.uid, gid: user.gid, groups: user.groups })
    }

    /// The numbers as words for another process of this program.
    pub(crate) fn to_words(&self) -> Vec<String> {
        [self.uid, self.gid].iter().chain(&self.groups).map(u32::to_string).collect()
    }

    /// Reads the words; `None` if they are malformed.
    pub(crate) fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let numbers: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let (&[uid, gid], groups) = numbers.split_first_chunk::<2>()?;
        Some(Self { uid, gid, groups: groups.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let ids = |uid, gid, groups: &[u32]| Some(Ids { uid, gid, groups: groups.to_vec() });
        let found = |wanted: Option<&str>| Ids::find(root, wanted.map(str::as_bytes)).ok();
        assert_eq!(found(None), ids(0, 0, &[]));
        assert_eq!(found(Some("app")), None);
        assert_eq!(found(Some("7:8")), ids(7, 8, &[]));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "app:x:5:6::/:\n").unwrap();
        std::fs::write(root.join("etc/group"), "more:x:9:app\n").unwrap();
        assert_eq!(found(Some("app")), ids(5, 6, &[9]));
        assert_eq!(found(Some("app:more")), ids(5, 9, &[]));
    }

    #[test]
    fn words_are_read_again() {
        for groups in [vec![], vec![1], vec![4, 3]] {
            let ids = Ids { uid: 1, gid: 2, groups };
            let words = ids.to_words();
            assert_eq!(Ids::from_words(words.iter().map(String::as_str)), Some(ids));
        }
        assert_eq!(Ids::from_words(["1"].into_iter()), None);
        assert_eq!(Ids::from_words(["1", "x"].into_iter()), None);
    }
}
