//! Random stacks of layers, merged by `image` and by others.
//!
//! | Module | Contents |
//! |---|---|
//! | `stack` | the layers: how they are made, and their tar archives |
//! | `model` | the rules of layers again, in the plainest way: a map from paths to files |
//! | `umoci` | umoci(1) on the same layers, in a layout on disk |
//!
//! The stacks are the same in each run.

mod model;
mod stack;
mod umoci;

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Result;
use files::notes::Notes;
use image::source::tar::Budget;
use image::source::tar::layer::{self, LayerOptions};
use image::tree::{Kind, Meta, Tree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::stack::{Layer, Listed, tar_of};

/// A runner whose values are the same in each run.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// The files of the merged layers, as `image` merges them.
fn merged(layers: &[Layer]) -> Result<Vec<Listed>> {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let mut budget = Budget::IMAGE;
    for layer in layers {
        let file = tempfile::tempfile()?;
        file.write_all_at(&tar_of(layer), 0)?;
        let options = LayerOptions::default();
        layer::apply(&Arc::new(file), &mut tree, &options, &mut budget, &mut Notes::default())?;
    }
    let mut listed = Vec::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let what = match &node.kind {
            Kind::Directory(_) => "directory".to_owned(),
            Kind::Symlink(target) => format!("link to {}", String::from_utf8_lossy(target)),
            Kind::File(content) => {
                let mut text = String::new();
                content.open()?.read_to_string(&mut text)?;
                format!("file {text}")
            }
            other => format!("{other:?}"),
        };
        let path = String::from_utf8_lossy(path).into_owned();
        listed.push(Listed::new(path, what, node.meta.permissions, u64::from(id.number())));
        Ok(())
    })?;
    Ok(stack::with_first_names(listed))
}

#[test]
fn random_stacks_are_merged_as_a_plain_model_does_it() {
    let result = runner(1500).run(&stack::stacks(), |layers| {
        let (ours, plain) = (merged(&layers), model::merged(&layers));
        match (&ours, &plain) {
            (Ok(ours), Ok(plain)) => proptest::prop_assert_eq!(ours, plain),
            (Err(_), Err(_)) => return Ok(()),
            (Err(error), Ok(_)) => proptest::prop_assert!(false, "only ours: {error:#}"),
            (Ok(_), Err(error)) => proptest::prop_assert!(false, "only the model's: {error}"),
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Most stacks must be right, or this test says little.
    let mut runner = runner(1);
    let right = (0..100).filter(|_| merged(&stack::one(&mut runner)).is_ok()).count();
    assert!(right > 50, "{right} of 100");
}
