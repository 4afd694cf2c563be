//! The paths that a recipe names.

use virtinitrd_recipe::{Target, parse};

#[test]
fn every_path_is_named_with_its_meaning() {
    let text = r#"
version = 1
from.recipe = "base/recipe.toml"
[build]
secrets.a = { file = "../secret" }
secrets.b = { env = "B" }
volumes = { "/src" = { path = "../src" } }
[busybox]
path = "bin/busybox"
[init]
file = "init"
[[step]]
script = "setup.sh"
inputs = ["x", "dir"]
[[step]]
run = "true"
[[step]]
put = "conf"
to = "/etc/"
[[step]]
put = "*.conf"
to = "/etc/"
[[step]]
text = "x"
to = "/x"
[[output]]
file = "../out.erofs"
"#;
    let recipe = parse(text).unwrap();
    let found = recipe.references().into_iter().map(|found| {
        let line = found.position.map_or(0, |position| position.line);
        (found.key, found.path.to_str().unwrap(), found.target, line)
    });
    let found: Vec<_> = found.collect();
    #[rustfmt::skip]
    assert_eq!(found, [
        ("from.recipe", "base/recipe.toml", Target::Recipe, 0),
        ("secrets", "../secret", Target::Host, 0),
        ("volumes", "../src", Target::Host, 0),
        ("busybox.path", "bin/busybox", Target::File, 0),
        ("script", "setup.sh", Target::File, 12),
        ("inputs", "x", Target::FileOrDirectory, 12),
        ("inputs", "dir", Target::FileOrDirectory, 12),
        ("put", "conf", Target::FileOrDirectory, 17),
        ("put", "*.conf", Target::Pattern, 20),
        ("init.file", "init", Target::File, 0),
    ]);
}

#[test]
fn bases_of_the_host_are_named() {
    for (key, value, expected) in [
        ("oci", "debian:12", None),
        ("oci-layout", "layout:tag", Some("from.oci-layout")),
        ("oci-archive", "a.tar", Some("from.oci-archive")),
        ("docker-archive", "a.tar", Some("from.docker-archive")),
        ("image", "a.erofs", Some("from.image")),
        ("dir", "../rootfs", Some("from.dir")),
        ("tar", "a.tar", Some("from.tar")),
    ] {
        let recipe = parse(&format!("version = 1\nfrom.{key} = \"{value}\"\n")).unwrap();
        let found = recipe.references();
        let found: Vec<_> =
            found.iter().map(|found| (found.key, found.path.to_str(), found.target)).collect();
        let expected: Vec<_> =
            expected.iter().map(|key| (*key, Some(value), Target::Host)).collect();
        assert_eq!(found, expected);
    }
}
