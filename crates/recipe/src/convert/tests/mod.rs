//! Tests of the conversions: each compares with a recipe that was written by hand.

mod buildfs;
mod fledge;
mod fledge_values;
mod hostile;
mod mistakes;

use super::*;

/// Beginning of a note, and another part of it.
pub(super) type Note = (&'static str, &'static str);

/// Without the positions of steps.
pub(super) fn placeless(mut recipe: Recipe) -> Recipe {
    for step in &mut recipe.steps {
        step.position = Position::default();
    }
    recipe
}

/// Checks that the conversion is the recipe `expected`, and so is its text.
pub(super) fn assert_is(converted: &Converted, expected: &str) {
    let expected = placeless(parse(expected).unwrap_or_else(|mistake| panic!("{mistake}")));
    assert_eq!(placeless(converted.recipe.clone()), expected);
    let text = converted.to_text();
    let read = parse(&text).unwrap_or_else(|mistake| panic!("{mistake}\n{text}"));
    assert_eq!(placeless(read), expected, "{text}");
}

/// Checks that there are these notes and no others, in this order.
pub(super) fn assert_notes(converted: &Converted, expected: &[Note]) {
    let notes = &converted.notes;
    let fits = |(note, (start, part)): (&String, &(&str, &str))| {
        note.starts_with(start) && note.contains(part)
    };
    assert!(
        notes.len() == expected.len() && notes.iter().zip(expected).all(fits),
        "{notes:#?}\nand not\n{expected:#?}"
    );
}

#[test]
fn files_are_recognised_by_their_keys() {
    #[rustfmt::skip]
    let cases: &[(&str, Option<Kind>)] = &[
        ("version = '1'\nstrategy = 'initramfs'",             Some(Kind::Fledge)),
        ("[mappings]\na = '/a'",                              Some(Kind::Fledge)),
        ("[agent]\nsource_strategy = 'release'",              Some(Kind::Fledge)),
        ("[filesystem]\nsize_mib = 1\n[container]",           Some(Kind::Buildfs)),
        ("[[commands]]\ncommand = 'true'",                    Some(Kind::Buildfs)),
        ("[export.files]\ncreate = []",                       Some(Kind::Buildfs)),
        // `[filesystem]` is in both, `strategy` in one.
        ("strategy = 'oci_rootfs'\n[filesystem]\ntype = 'x'", Some(Kind::Fledge)),
        ("version = 1\n[from]\noci = 'debian:12'",            None),
        ("version = 1\n[[step]]\nrun = 'true'",               None),
        ("",                                                  None),
        ("[package]\nname = 'x'",                             None),
        ("strategy = ",                                       None),
    ];
    for (text, kind) in cases {
        assert_eq!(recognise(text), *kind, "{text}");
    }
}

#[test]
fn notes_are_comments_whatever_they_contain() {
    let notes = vec!["a\nversion = 2".to_owned(), "b\u{7f}\u{1}\tc".to_owned()];
    let converted = Converted { recipe: Recipe::default(), notes };
    let text = converted.to_text();
    assert_eq!(parse(&text), Ok(Recipe::default()), "{text}");
    assert!(text.contains("# - a version = 2\n# - b   c\n"), "{text}");
    let converted = Converted { recipe: Recipe::default(), notes: Vec::new() };
    assert_eq!(converted.to_text(), Recipe::default().to_toml());
}
