//! Tests of archives with a layer for each step.

use super::*;

/// The steps of a test: what made each, and how it changes the tree.
type Steps<'a> = &'a [(&'a str, Change)];

const NOTHING: Change = |_| ();

/// Makes the layers of `steps`, which change `base` one after the other; returns the last tree, too.
fn layers(base: &Tree, steps: Steps<'_>) -> (Vec<Option<Tree>>, Tree) {
    let mut tree = base.clone();
    let mut made = Vec::new();
    for (_, change) in steps {
        let before = tree.clone();
        change(&mut tree);
        made.push(layer(&before, &tree).unwrap());
    }
    (made, tree)
}

fn made<'a>(steps: Steps<'a>, layers: &'a [Option<Tree>]) -> Vec<Made<'a>> {
    let rows = steps.iter().zip(layers);
    rows.map(|((name, _), layer)| Made { created_by: name, comment: None, layer: layer.as_ref() })
        .collect()
}

/// `created_by` of each step of the history; in brackets for a step without a layer.
fn history(image: &Image) -> Vec<String> {
    let shown = |step: &crate::document::config::Step| match step.empty_layer {
        true => format!("({})", step.created_by),
        false => step.created_by.clone(),
    };
    image.config.history.iter().map(shown).collect()
}

/// Names below the root in an uncompressed layer.
fn names(layer: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    let mut visit = |path: &[u8], _| {
        names.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    };
    layer.walk(&mut visit).unwrap();
    names.split_off(1)
}

/// Writes twice, and checks that the bytes are equal; reads the image again.
fn image(tree: &Tree, options: &ArchiveOptions<'_>) -> (tempfile::NamedTempFile, Image) {
    let (file, _) = written(tree, options);
    let again = written(tree, options).0;
    assert!(std::fs::read(file.path()).unwrap() == std::fs::read(again.path()).unwrap());
    let image = read(file.path());
    let steps = image.config.history.iter().filter(|step| !step.empty_layer).count();
    assert_eq!((image.config.diff_ids.len(), image.manifest.layers.len()), (steps, steps));
    (file, image)
}

fn link(tree: &mut Tree, from: &str, to: &str) {
    let id = tree.find(from.as_bytes()).unwrap();
    tree.put_link(to.as_bytes(), id).unwrap();
}

#[test]
fn each_step_has_its_layer_upon_those_of_the_base() {
    let dir = base();
    let base = image_of(&dir);
    let base_tree = tree_of(&base);
    #[rustfmt::skip]
    let rows: &[(&str, Steps<'_>, &[&[&str]])] = &[
        ("no step", &[], &[]),
        ("only the config", &[("ENV A=1", NOTHING), ("USER a", NOTHING)], &[]),
        ("a step without changes between others",
            &[("COPY a", |tree| put(tree, "a", contents("a"))), ("RUN true", NOTHING), ("COPY b", |tree| put(tree, "b", contents("b")))],
            &[&["a"], &["b"]]),
        ("what one step adds, the next one removes",
            &[("RUN make", |tree| { put(tree, "tmp/x", contents("x")); put(tree, "tmp/y", contents("y")); }), ("RUN rm", |tree| take(tree, "tmp", "x"))],
            &[&["tmp", "tmp/x", "tmp/y"], &["tmp", "tmp/.wh.x"]]),
        ("removed and added again",
            &[("RUN rm", |tree| take(tree, "", "dir")), ("RUN add", |tree| put(tree, "dir/new", contents("n")))],
            &[&[".wh.dir"], &["dir", "dir/new"]]),
        ("emptied and filled in one step",
            &[("RUN fill", |tree| { take(tree, "etc", "a"); take(tree, "etc", "b"); put(tree, "etc/new", contents("n")); })],
            &[&["etc", "etc/.wh.a", "etc/.wh.b", "etc/new", "home", "home/hard"]]),
        ("a directory becomes a file, and a directory again",
            &[("RUN file", |tree| { take(tree, "", "dir"); put(tree, "dir", contents("d")); }), ("RUN dir", |tree| { take(tree, "", "dir"); put(tree, "dir/z", contents("z")); })],
            &[&["dir"], &["dir", "dir/z"]]),
        ("hard links of one step to a file of another",
            &[("COPY a", |tree| put(tree, "one", contents("1"))), ("RUN ln", |tree| link(tree, "one", "two")), ("RUN ln", |tree| link(tree, "two", "three")), ("RUN rm", |tree| take(tree, "", "one"))],
            &[&["one"], &["one", "two"], &["one", "three", "two"], &[".wh.one", "three", "two"]]),
        ("attributes of the root", &[("RUN chmod", |tree| tree.node_mut(Tree::ROOT).meta = meta(0o711))], &[&[]]),
    ];
    for (name, steps, expected) in rows {
        let (layers, tree) = layers(&base_tree, steps);
        let found: Vec<_> = layers.iter().flatten().map(names).collect();
        assert_eq!(found, *expected, "{name}");
        let options = ArchiveOptions {
            base: Some(&base),
            base_tree: Some(&tree),
            steps: &made(steps, &layers),
            tag: Some("app:1"),
            time: TIME,
            ..ArchiveOptions::default()
        };
        let (file, _) = written(&tree, &options);
        let image = read(file.path());
        assert_eq!(image.manifest.layers.len(), 2 + expected.len(), "{name}");
        assert_eq!(differences(&tree, &tree_of(&image)), [""; 0], "{name}");
        let names: Vec<_> = image.config.history.iter().skip(2).map(|it| &*it.created_by).collect();
        assert_eq!(names, steps.iter().map(|step| step.0).collect::<Vec<_>>(), "{name}");
        if steps.len() > 1 {
            others_read(file.path(), &tree, "1");
        }
    }
}

#[test]
fn an_image_from_nothing_has_the_layers_of_its_steps() {
    let nothing = Tree::new(Meta::default());
    let steps: Steps<'_> = &[
        ("COPY a", |tree| put(tree, "a", contents("a"))),
        ("ENV A=1", NOTHING),
        ("COPY b", |tree| put(tree, "d/b", contents("b"))),
        ("RUN rm", |tree| take(tree, "", "a")),
    ];
    let (layers, before) = layers(&nothing, steps);
    let mut tree = before.clone();
    put(&mut tree, "init", contents("i"));
    let mut made = made(steps, &layers);
    made[1].comment = Some("a remark");
    let options = ArchiveOptions {
        base_tree: Some(&before),
        steps: &made,
        author: Some("Ada"),
        platform: PLATFORM.parse().unwrap(),
        tag: Some("localhost/app:1"),
        time: TIME,
        ..ArchiveOptions::default()
    };
    for method in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let method = Method { compression: method, level: None };
        let options = ArchiveOptions { method, threads: 2, ..options.clone() };
        let (file, found) = image(&tree, &options);
        let expected = ["COPY a", "(ENV A=1)", "COPY b", "RUN rm", "chrootvm image build"];
        assert_eq!(history(&found), expected);
        let times: Vec<_> = found.config.history.iter().map(|step| &*step.created).collect();
        assert_eq!(times, [&*files::time::timestamp(TIME); 5]);
        assert_eq!(found.config.history[1].comment, "a remark");
        assert_eq!(differences(&tree, &tree_of(&found)), [""; 0]);
        let config: Value = serde_json::from_slice(&found.config_bytes).unwrap();
        assert_eq!(config["author"], "Ada");
        others_read(file.path(), &tree, "1");
    }
    // If the last step makes the tree, no layer follows.
    let (_, found) = image(&before, &options);
    assert_eq!(history(&found), ["COPY a", "(ENV A=1)", "COPY b", "RUN rm"]);
    // An image may have no layer at all.
    let only_config = [Made { created_by: "CMD a", ..Made::default() }];
    let options =
        ArchiveOptions { base_tree: Some(&nothing), steps: &only_config, ..options.clone() };
    let (_, found) = image(&nothing, &options);
    assert_eq!((history(&found), tree_of(&found).len()), (vec!["(CMD a)".to_owned()], 1));
}

#[test]
fn a_layer_that_changes_nothing_is_no_layer() {
    let empty = Tree::new(Meta::default());
    let root = Tree::new(meta(0o711));
    let mut tree = root.clone();
    put(&mut tree, "a", contents("a"));
    let step = |layer| Made { created_by: "RUN a", comment: None, layer };
    for (name, steps, expected) in [
        ("first", &[step(Some(&empty)), step(Some(&tree))][..], &["(RUN a)", "RUN a"][..]),
        ("after another", &[step(Some(&tree)), step(Some(&root))], &["RUN a", "(RUN a)"]),
        (
            "root",
            &[step(Some(&root)), step(None), step(Some(&tree))],
            &["RUN a", "(RUN a)", "RUN a"],
        ),
    ] {
        let options = ArchiveOptions { base_tree: Some(&tree), steps, ..ArchiveOptions::default() };
        assert_eq!(history(&image(&tree, &options).1), expected, "{name}");
    }
}

#[test]
fn the_first_layer_on_a_base_stays_whatever_its_root() {
    let dir = base();
    let base = image_of(&dir);
    let mut tree = tree_of(&base);
    assert_ne!(tree.node(Tree::ROOT).meta, Meta::default());
    let empty = Tree::new(Meta::default());
    tree.node_mut(Tree::ROOT).meta = Meta::default();
    let step = Made { created_by: "RUN a", comment: None, layer: Some(&empty) };
    let options = ArchiveOptions {
        base: Some(&base),
        base_tree: Some(&tree),
        steps: &[step, step],
        ..ArchiveOptions::default()
    };
    let (file, _) = written(&tree, &options);
    let found = read(file.path());
    assert_eq!(found.manifest.layers.len(), base.manifest.layers.len() + 1);
    assert_eq!(differences(&tree, &tree_of(&found)), [""; 0]);
}

#[test]
fn a_history_that_does_not_agree_with_the_layers() {
    let missing = "";
    #[rustfmt::skip]
    let rows: [(&str, Value, &[&str], usize); 5] = [
        ("agrees",           json!([{ "created_by": "one" }]), &["one", "(ENV)", "COPY", "last"], 0),
        ("none",             Value::Null, &[missing, "(ENV)", "COPY", "last"], 0),
        ("only the config",  json!([{ "created_by": "one", "empty_layer": true }]), &["(one)", missing, "(ENV)", "COPY", "last"], 0),
        ("too many",         json!([{ "created_by": "one" }, { "created_by": "two" }]), &["one", "two"], 1),
        ("null is no value", json!([{ "created_by": "one", "empty_layer": null }]), &["one", "(ENV)", "COPY", "last"], 0),
    ];
    for (name, given, expected, notes_count) in rows {
        let dir = base_with_config(&json!({ "history": given }));
        let base = image_of(&dir);
        let base_tree = tree_of(&base);
        let steps: Steps<'_> =
            &[("ENV", NOTHING), ("COPY", |tree| put(tree, "new", contents("n")))];
        let (layers, before) = layers(&base_tree, steps);
        let mut tree = before.clone();
        put(&mut tree, "last", contents("l"));
        let options = ArchiveOptions {
            base: Some(&base),
            base_tree: Some(&before),
            steps: &made(steps, &layers),
            created_by: "last",
            ..ArchiveOptions::default()
        };
        let (mut bytes, mut notes) = (Vec::new(), Notes::default());
        archive(&tree, &options, &mut bytes, &mut notes).unwrap();
        let found = read(file(&bytes).path());
        assert_eq!(history(&found), expected, "{name}");
        assert_eq!(notes.lines().count(), notes_count, "{name}");
        assert_eq!(found.manifest.layers.len(), 3, "{name}");
        assert_eq!(found.config.steps().all(|step| step.is_some()), notes_count == 0, "{name}");
        assert_eq!(differences(&tree, &tree_of(&found)), [""; 0], "{name}");
        // Without a change, the history of the base stays as it is.
        let options = ArchiveOptions { base_tree: Some(&base_tree), steps: &[], ..options };
        let (file, _) = written(&base_tree, &options);
        assert_eq!(read(file.path()).config.history, base.config.history, "{name}");
    }
}

#[test]
fn the_name_of_the_image_is_in_the_index() {
    for (tag, reference, image) in [
        ("app:1", "1", "docker.io/library/app:1"),
        ("app", "latest", "docker.io/library/app:latest"),
        ("localhost/app:1", "1", "localhost/app:1"),
    ] {
        let options = ArchiveOptions { tag: Some(tag), ..ArchiveOptions::default() };
        let (file, _) = written(&sample(), &options);
        let mut archive = ::tar::Archive::new(std::fs::File::open(file.path()).unwrap());
        let members = archive.entries().unwrap().map(Result::unwrap);
        let is_index = |member: &::tar::Entry<'_, _>| *member.path_bytes() == b"index.json"[..];
        let index = members.into_iter().find(is_index).unwrap();
        let index: Value = serde_json::from_reader(index).unwrap();
        let expected = json!({
            "org.opencontainers.image.ref.name": reference,
            "io.containerd.image.name": image,
        });
        assert_eq!(index["manifests"][0]["annotations"], expected, "{tag}");
    }
}

#[test]
fn steps_that_cannot_be_written_are_refused() {
    let mut small = Tree::new(meta(0o755));
    put(&mut small, "a", contents("a"));
    let step = Made { created_by: "RUN a", comment: None, layer: Some(&small) };
    let many = vec![step; LAYERS_MAX + 1];
    let usual = ArchiveOptions::default();
    for (name, options, word) in [
        ("tag", ArchiveOptions { tag: Some("App:1"), ..usual.clone() }, "lower case"),
        ("no tree", ArchiveOptions { steps: &[step], ..usual.clone() }, "after the last step"),
        (
            "too many",
            ArchiveOptions { base_tree: Some(&small), steps: &many, ..usual.clone() },
            "would have 513 layers",
        ),
    ] {
        let error = archive(&small, &options, &mut Vec::new(), &mut Notes::default());
        let error = format!("{:#}", error.expect_err(name));
        assert!(error.contains(word), "{name}: {error}");
    }
    let mut reserved = small.clone();
    put(&mut reserved, ".wh.x", contents("x"));
    assert!(format!("{:#}", layer(&small, &reserved).unwrap_err()).contains(".wh.x"));
}
