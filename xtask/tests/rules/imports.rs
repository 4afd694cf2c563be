//! Crates and rooms of this workspace import each other in one direction.

use std::path::Path;

#[test]
fn imports_have_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let faults = xtask::check::wrong_imports(root).unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
