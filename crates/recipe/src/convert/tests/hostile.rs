//! Damaged and strange files: a mistake or a recipe that can be read, never a panic.

use proptest::prelude::*;

use super::*;

/// A file with every kind of value, for each tool.
const SEEDS: &[&str] = &[
    "[filesystem]\nsize_mib = 9\nmkfs_args = ['x']\n[container]\nimage = { name = 'a', tag = 'b' }\n\
     env = { A = 'b' }\nvolumes = { '/a' = '/b' }\n[[commands]]\nscript_inline = '#!/bin/sh -e'\n\
     uid = 1\n[[overlays]]\nsource = '/a'\ndestination = '/b'\n[export.files]\ncreate = ['/c']\n",
    "version = '1'\nstrategy = 'initramfs'\n[agent]\nsource_strategy = 'local'\npath = 'a'\n[init]\n\
     path = '/b'\n[source]\nimage = 'c'\n[mappings]\n'd/' = '/e/'\n[filesystem]\ntype = 'ext4'\n",
    "name = 'a'\nversion = '1'\n[resources]\ncpu_cores = 1\n[workload]\nentrypoint = '/a'\n\
     [network]\nmode = 'dhcp'\nexpose = [{ port = 1 }]\n[env]\nA = 'b'\n",
];

/// Pieces that have a meaning in TOML or in a path.
const PIECES: &[&str] = &[
    "..",
    "/",
    "\\u0000",
    "\\n",
    "\"",
    "'",
    "'''",
    "[",
    "]",
    "[[",
    "=",
    "\n",
    "#",
    "{",
    "}",
    ",",
    "-1",
    "99999999999999999999",
    "0x1f",
    "true",
    "1979-05-27",
    "ä",
    "\u{85}",
    "*",
    "!",
    "nan",
    "'\u{7f}'",
    ":",
    "a.b",
];

/// A seed in which some places are overwritten or filled.
fn damaged() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..3_usize, prop::sample::select(PIECES));
    (prop::sample::select(SEEDS), prop::collection::vec(edit, 0..4)).prop_map(|(seed, edits)| {
        let mut characters: Vec<char> = seed.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(characters.len().max(1)).min(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, piece.chars());
        }
        characters.into_iter().collect()
    })
}

/// A seed in which one value is any text.
fn filled() -> impl Strategy<Value = String> {
    (prop::sample::select(SEEDS), any::<prop::sample::Index>(), ".*").prop_map(
        |(seed, at, text)| {
            let parts: Vec<_> = seed.split('\'').collect();
            let at = at.index(parts.len() / 2) * 2 + 1;
            let escaped: Vec<_> =
                text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
            let escaped = escaped.concat();
            let parts = parts.iter().enumerate().map(|(number, part)| match number % 2 {
                0 => (*part).to_owned(),
                _ if number == at => format!("\"{escaped}\""),
                _ => format!("'{part}'"),
            });
            parts.collect()
        },
    )
}

fn assert_all_read(text: &str) -> Result<(), TestCaseError> {
    let least = "version = '1'\nstrategy = 'initramfs'\n";
    for converted in [buildfs(text), fledge(text, None), fledge(least, Some(text))] {
        let Ok(converted) = converted else { continue };
        let read = parse(&converted.to_text()).map_err(|mistake| mistake.to_string());
        prop_assert_eq!(read.map(placeless), Ok(placeless(converted.recipe)), "{}", text);
    }
    // It decides by keys, and must end.
    let _ = recognise(text);
    Ok(())
}

proptest! {
    #[test]
    fn damaged_files_are_mistakes_or_recipes(text in damaged()) {
        assert_all_read(&text)?;
    }

    #[test]
    fn values_of_any_text_are_mistakes_or_recipes(text in filled()) {
        assert_all_read(&text)?;
    }

    #[test]
    fn any_text_is_a_mistake_or_a_recipe(text in ".*") {
        assert_all_read(&text)?;
    }
}

#[test]
fn deep_files_are_mistakes() {
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(buildfs(&deep).is_err());
    assert!(fledge(&deep, None).is_err());
    assert_eq!(recognise(&deep), None);
}

#[test]
fn what_no_recipe_can_say_is_a_mistake() {
    let text = SEEDS[0].replace("env =", "hostname = \"a\\nb\"\nenv =");
    let mistake = buildfs(&text).unwrap_err();
    assert!(mistake.message.starts_with("a recipe cannot say this: "), "{mistake}");
}

#[test]
fn large_files_end() {
    let keys: Vec<_> = (0..60_000).map(|number| format!("k{number} = 1\n")).collect();
    let keys = SEEDS[0].replace("[container]", &format!("{}[container]", keys.concat()));
    let converted = buildfs(&keys).unwrap();
    assert_eq!(converted.notes.len(), 1001);
    assert!(converted.notes[1000].ends_with("more notes are left out"), "{converted:?}");
    assert_eq!(parse(&converted.to_text()).map(placeless), Ok(placeless(converted.recipe)));
    let paths = "'/a',".repeat(100_000);
    let list = SEEDS[0].replace("create = [", &format!("include = [{paths}]\ncreate = ["));
    let mistake = buildfs(&list).unwrap_err();
    assert!(mistake.message.contains("must have at most 1000 items"), "{mistake}");
    let commands = format!("{}[[commands]]\ncommand = 'a'\n", SEEDS[0]);
    let commands = commands + &"[[commands]]\ncommand = 'a'\n".repeat(998);
    assert!(buildfs(&commands).unwrap_err().message.starts_with("a recipe cannot say this"));
}
