//! Recipe → text → recipe.

use proptest::prelude::*;
use virtinitrd_recipe::{Recipe, parse};

use super::good::FULL;
use super::strategies::recipe;
use super::without_positions;

#[test]
fn the_canonical_text_is_stable() {
    let recipe = parse(FULL).unwrap();
    let text = recipe.to_toml();
    let again = parse(&text).unwrap();
    assert_eq!(without_positions(again.clone()), without_positions(recipe));
    assert_eq!(again.to_toml(), text);
}

#[test]
fn defaults_are_left_out() {
    assert_eq!(Recipe::default().to_toml(), "version = 1\n");
    let text = "version = 1\n\n[[step]]\nrun = '''\ncd /\necho \"it's \\n\"\n'''\n\n[[step]]\nput = \"a\"\nto = \
                \"/b/\"\nmode = \"0644\"\n\n[machine]\n";
    assert_eq!(parse(text).unwrap().to_toml(), text);
}

proptest! {
    #[test]
    fn every_recipe_is_read_again(recipe in recipe()) {
        let text = recipe.to_toml();
        let again = parse(&text).map_err(|mistake| TestCaseError::fail(format!("{mistake}\n{text}")))?;
        prop_assert_eq!(&again.to_toml(), &text);
        for (step, other) in recipe.steps.iter().zip(&again.steps) {
            prop_assert_eq!(step.canonical(), other.canonical());
        }
        prop_assert_eq!(without_positions(again), recipe);
    }
}
