//! Images that skopeo wrote, in all forms that it knows. Without skopeo, nothing is checked.

use super::*;
use crate::local::recognise;
use crate::sample::{run, tar};

#[test]
fn what_skopeo_writes_is_read() {
    let mut dir = LayoutDir::new();
    let layer = tar(&[("a", &"text ".repeat(10_000)), ("b", "1")]);
    // The second and the fourth layer are the same, for which docker-archive has links.
    let layers = [tar(&[("base", "0")]), layer.clone(), tar(&[("b", "2")]), layer];
    let image = dir.image(PLATFORM, &layers);
    dir.enter(image, "1.0");
    let source = format!("oci:{}:1.0", dir.path().display());
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name);
    let tag = Selector::Tag("1.0".into());
    let docker = |name: &str| Location::DockerArchive(path("docker.tar"), Some(name.to_owned()));
    #[rustfmt::skip]
    let rows: [(&str, &str, &[&str], Vec<Location>); 5] = [
        ("docker-archive:", "docker.tar:r.example/app:1.0", &[], vec![docker("r.example/app:1.0"), Location::DockerArchive(path("docker.tar"), None)]),
        ("oci-archive:", "oci.tar:1.0",  &[],                                   vec![Location::OciArchive(path("oci.tar"), tag.clone())]),
        ("oci:",         "oci:1.0",      &[],                                   vec![Location::Layout(path("oci"), tag.clone())]),
        ("oci:",         "zstd:1.0",     &["--dest-compress-format", "zstd", "--dest-compress"], vec![Location::Layout(path("zstd"), tag.clone())]),
        ("oci:",         "chunked:1.0",  &["--dest-compress-format", "zstd:chunked", "--dest-compress"], vec![Location::Layout(path("chunked"), tag.clone())]),
    ];
    for (transport, name, options, locations) in rows {
        let target = format!("{transport}{}", path(name).display());
        let arguments = [&["--insecure-policy", "copy"], options, &[&source, &target]].concat();
        let Some(copied) = run("skopeo", &arguments) else { return };
        assert!(copied.status.success(), "{name}: {}", String::from_utf8_lossy(&copied.stderr));
        for location in locations {
            let image = open(&location, &unkept()).unwrap_or_else(|error| panic!("{error:#}"));
            let tree = tree(&image).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(tree.nodes().count(), 4, "{name}");
            assert_eq!((text(&tree, "b"), text(&tree, "a").len()), ("1".into(), 50_000), "{name}");
            assert_eq!(image.config.process.cmd, ["/hello"], "{name}");
        }
        let found = recognise(&path(name.split(':').next().unwrap()), u64::MAX).unwrap();
        let expected = match transport {
            "docker-archive:" => matches!(found, Some(Location::DockerArchive(..))),
            "oci-archive:" => matches!(found, Some(Location::OciArchive(..))),
            _ => matches!(found, Some(Location::Layout(..))),
        };
        assert!(expected, "{name}: {found:?}");
    }
    // The archive has the same config as the layout.
    let layout = open(&location(&dir), &unkept()).unwrap();
    let archive = open(&docker("r.example/app:1.0"), &unkept()).unwrap();
    assert_eq!(layout.config, archive.config);
}
