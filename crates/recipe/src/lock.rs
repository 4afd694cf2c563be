//! recipe.lock: what the names of a recipe meant when it was built.
//!
//! It is TOML, so that people can read what a change of it means:
//!
//! ```toml
//! version = 1
//! recipe = "sha256:…"            # of the text of the recipe
//!
//! [[image]]
//! oci = "debian:12-slim"
//! platform = "linux/amd64"
//! digest = "sha256:…"
//!
//! [[url]]
//! url = "https://example.org/tool"
//! sha256 = "…"
//! ```

use std::collections::BTreeMap;

use crate::model::Mistake;
use crate::table::Form::{Number, Tables, Text};
use crate::table::Need::{May, Must};
use crate::table::{Fault, Fields, Key, Table, quote, read, rule};
use crate::writer::Writer;

/// Version of the format.
const VERSION: u32 = 1;

/// Keys of the file.
#[rustfmt::skip]
const LOCK: Table = Table { name: "a lock file", example: "", keys: &[
    Key { name: "version", need: Must, form: Number(VERSION, VERSION),   about: "Version of the format" },
    Key { name: "recipe",  need: May,  form: Text(rule::SHA256_DIGEST),  about: "SHA-256 of the text of the recipe" },
    Key { name: "image",   need: May,  form: Tables(&IMAGE),             about: "OCI images" },
    Key { name: "url",     need: May,  form: Tables(&URL),               about: "Downloads" },
] };

/// Keys of an image.
#[rustfmt::skip]
const IMAGE: Table = Table { name: "an image", example: "[[image]]", keys: &[
    Key { name: "oci",      need: Must, form: Text(rule::LINE),     about: "Reference of the image" },
    Key { name: "platform", need: Must, form: Text(rule::PLATFORM), about: "Platform" },
    Key { name: "digest",   need: Must, form: Text(rule::DIGEST),   about: "Digest of its manifest" },
] };

/// Keys of a download.
#[rustfmt::skip]
const URL: Table = Table { name: "a url", example: "[[url]]", keys: &[
    Key { name: "url",    need: Must, form: Text(rule::URL),    about: "Address" },
    Key { name: "sha256", need: Must, form: Text(rule::SHA256), about: "SHA-256 of the file" },
] };

/// Comment at the top of the file.
const HEAD: &str = "# Versions that the recipe was built with; made by `chrootvm image build`.\n";

/// Contents of a lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// `sha256:` and 64 hexadecimal digits, of the text of the recipe.
    pub recipe: Option<String>,
    /// Digests of the manifests of OCI images, `METHOD:HEX`.
    pub images: BTreeMap<ImageName, String>,
    /// SHA-256 of downloads by their addresses, 64 hexadecimal digits.
    pub urls: BTreeMap<String, String>,
}

/// Name of an image in a lock file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Reference as the recipe has it, such as `debian:12-slim`.
    pub reference: String,
    /// Platform, such as `linux/amd64`.
    pub platform: String,
}

impl Lock {
    /// The text of the file. Equal locks have equal texts.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { recipe, images, urls } = self;
        let mut to = Writer::default();
        to.raw("version", VERSION);
        to.maybe("recipe", recipe.as_deref());
        for (ImageName { reference, platform }, digest) in images {
            to.table("[[image]]");
            to.text("oci", reference);
            to.text("platform", platform);
            to.text("digest", digest);
        }
        for (url, sha256) in urls {
            to.table("[[url]]");
            to.text("url", url);
            to.text("sha256", sha256);
        }
        format!("{HEAD}{}", to.finish())
    }
}

/// Parses a lock file.
///
/// # Errors
/// The text is longer than 1 MiB or no TOML, has a key or a value that a lock file cannot have, or
/// an entry twice.
pub fn parse(text: &str) -> Result<Lock, Mistake> {
    read(text, &LOCK, VERSION, |fields, _| lock(fields))
}

fn lock(fields: &Fields) -> Result<Lock, Fault> {
    let text = |fields: &Fields, key| fields.text(key).unwrap_or_default();
    let hex = |fields: &Fields, key| text(fields, key).to_ascii_lowercase();
    let twice = |fields: &Fields, key| {
        let name = quote(&text(fields, key));
        Fault::new(fields.at_value(key), format!("{key}: {name} is there twice"))
    };
    let mut lock = Lock {
        recipe: fields.text("recipe").map(|digest| digest.to_ascii_lowercase()),
        ..Lock::default()
    };
    for entry in fields.tables("image") {
        let (reference, platform) = (text(entry, "oci"), text(entry, "platform"));
        let name = ImageName { reference, platform };
        if lock.images.insert(name, hex(entry, "digest")).is_some() {
            return Err(twice(entry, "oci"));
        }
    }
    for entry in fields.tables("url") {
        if lock.urls.insert(text(entry, "url"), hex(entry, "sha256")).is_some() {
            return Err(twice(entry, "url"));
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;
    use proptest::prelude::*;

    #[test]
    fn texts_are_stable() {
        let digest = "a".repeat(64);
        let image = |reference: &str, platform: &str| {
            let name = ImageName { reference: reference.into(), platform: platform.into() };
            (name, format!("sha256:{digest}"))
        };
        let lock = Lock {
            recipe: Some(format!("sha256:{digest}")),
            images: [
                image("b", "linux/amd64"),
                image("a", "linux/arm64"),
                image("a", "linux/amd64"),
            ]
            .into(),
            urls: [("https://a/b".to_owned(), digest.clone())].into(),
        };
        let part = |reference, platform| {
            format!(
                "\n[[image]]\noci = \"{reference}\"\nplatform = \"{platform}\"\n\
                 digest = \"sha256:{digest}\"\n"
            )
        };
        let expected = [
            HEAD,
            &format!("version = 1\nrecipe = \"sha256:{digest}\"\n"),
            &part("a", "linux/amd64"),
            &part("a", "linux/arm64"),
            &part("b", "linux/amd64"),
            &format!("\n[[url]]\nurl = \"https://a/b\"\nsha256 = \"{digest}\"\n"),
        ];
        assert_eq!(lock.to_text(), expected.concat());
        assert_eq!(parse(&lock.to_text()), Ok(lock));
        assert_eq!(parse("version = 1"), Ok(Lock::default()));
    }

    #[test]
    fn mistakes_have_a_position() {
        let digest = "a".repeat(64);
        let url = format!("[[url]]\nurl = 'https://a'\nsha256 = '{digest}'\n");
        let image =
            format!("[[image]]\noci = 'a'\nplatform = 'linux/a'\ndigest = 'sha256:{digest}'\n");
        for (text, line, column, part) in [
            (String::new(), 1, 1, "the version is missing: write version = 1"),
            ("version = 2\nnew = 1".into(), 1, 11, "version 2 is not known"),
            ("version = 1\nrecipes = ''".into(), 2, 1, "did you mean recipe?"),
            ("version = 1\nrecipe = 'x'".into(), 2, 10, "give sha256: and 64"),
            ("version = 1\n[[url]]\nurl = 'https://a'".into(), 2, 1, "a url needs sha256"),
            ("version = 1\n[[image]]\noci = 'a'".into(), 2, 1, "an image needs platform"),
            (format!("version = 1\n{url}{url}"), 6, 7, "url: \"https://a\" is there twice"),
            (format!("version = 1\n{image}{image}"), 7, 7, "oci: \"a\" is there twice"),
        ] {
            let mistake = parse(&text).unwrap_err();
            assert_eq!(mistake.position, Position { line, column }, "{text}: {mistake}");
            assert!(mistake.message.contains(part), "{text}: {mistake}");
        }
    }

    proptest! {
        #[test]
        fn every_lock_is_read_again(
            recipe in proptest::option::of("sha256:[0-9a-f]{64}"),
            images in proptest::collection::btree_map(
                ("[!-~é ]{1,20}", "linux/[a-z0-9]{1,5}"), "sha512:[0-9a-f]{128}", 0..4),
            urls in proptest::collection::btree_map("https://[!-~]{1,20}", "[0-9a-f]{64}", 0..4),
        ) {
            let name = |(reference, platform)| ImageName { reference, platform };
            let images = images.into_iter().map(|(key, digest)| (name(key), digest)).collect();
            let urls = urls.into_iter().filter(|(url, _)| !url.starts_with("https:///")).collect();
            let lock = Lock { recipe, images, urls };
            prop_assert_eq!(parse(&lock.to_text()), Ok(lock));
        }
    }
}
