//! Tests of manifests, indexes and configs, as different programs write them.

use serde_json::{Value, json};

use super::config::{Config, Healthcheck};
use super::manifest::{Descriptor, Document, Media};
use crate::name::digest::Digest;
use crate::name::platform::Platform;

fn config(value: &Value) -> Config {
    Config::parse(value.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error:#}"))
}

fn process(value: &Value) -> super::config::Process {
    config(&json!({ "config": value })).process
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn a_config_is_read_with_all_its_members() {
    let found = config(&json!({
        "os": "linux", "architecture": "arm", "variant": "v7", "author": "", "x.unknown": {},
        "created": "2024-01-02T03:04:05.678+01:00",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"1"), Digest::of(b"2")] },
        "config": {
            "User": "app:staff", "WorkingDir": "/srv", "StopSignal": "SIGRTMIN+3",
            "Env": ["PATH=/sbin", "=x", "word", "PATH=/bin"], "Entrypoint": ["/bin/app"], "Cmd": ["-v"],
            "Volumes": { "/b": {}, "/a": {} }, "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Labels": { "k": "v" }, "Shell": ["/bin/sh"], "ArgsEscaped": true,
            "OnBuild": ["RUN a"],
            "Healthcheck": {
                "Test": ["CMD-SHELL", "true"], "Interval": 30_000_000_000_u64, "Retries": 3,
            },
        },
    }));
    assert_eq!(found.platform.to_string(), "linux/arm/v7");
    assert_eq!(found.created, 1_704_161_045);
    assert_eq!(found.diff_ids, [Digest::of(b"1"), Digest::of(b"2")]);
    let process = found.process;
    assert_eq!((&*process.user, &*process.working_dir), ("app:staff", "/srv"));
    assert_eq!(process.stop_signal.as_deref(), Some("SIGRTMIN+3"));
    assert_eq!(process.env, ["PATH=/bin"]);
    assert_eq!(process.volumes, ["/a", "/b"]);
    assert_eq!(process.exposed_ports, ["53/udp", "80/tcp"]);
    assert_eq!(process.labels["k"], "v");
    assert_eq!((process.shell, process.on_build), (words(&["/bin/sh"]), words(&["RUN a"])));
    let test = words(&["CMD-SHELL", "true"]);
    let health =
        Healthcheck { test, interval: 30_000_000_000, retries: 3, ..Healthcheck::default() };
    assert_eq!(process.health, Some(health));
}

#[test]
fn members_may_be_missing_or_null() {
    for value in [
        json!({}),
        json!({ "config": null, "rootfs": { "type": "layers", "diff_ids": null } }),
        json!({ "config": { "Env": null, "Cmd": null, "Entrypoint": null, "Labels": null,
            "Volumes": null, "ExposedPorts": null, "User": null, "WorkingDir": null,
            "StopSignal": "", "Healthcheck": null, "Shell": null, "OnBuild": null } }),
    ] {
        assert_eq!(config(&value), Config::default(), "{value}");
    }
    for bad in [
        json!([]),
        json!({ "config": { "Cmd": "/bin/sh" } }),
        json!({ "config": { "Volumes": ["/a"] } }),
        json!({ "rootfs": { "type": "squashfs" } }),
        json!({ "rootfs": { "type": "layers", "diff_ids": ["sha256:../.."] } }),
    ] {
        assert!(Config::parse(bad.to_string().as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn words_are_taken_as_they_are() {
    let odd = ["*", "a b", "'\"", "", "line\nline", "$HOME"];
    let process = process(&json!({ "Entrypoint": odd, "Cmd": odd }));
    assert_eq!((process.entrypoint, process.cmd), (words(&odd), words(&odd)));
}

#[test]
fn the_last_value_of_a_variable_counts() {
    let env = process(&json!({ "Env": ["HOME=/a", "B=", "NOTHING", "C==", "HOME=/b"] })).env;
    assert_eq!(env, ["HOME=/b", "B=", "C=="]);
}

#[test]
fn very_many_variables_are_read_at_once() {
    /// As many as a config of 4 MiB may have.
    const COUNT: usize = 300_000;
    let env: Vec<_> = (0..COUNT).map(|number| format!("{number}=")).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        // Nobody listens any more when the time is over.
        let _ = sender.send(process(&json!({ "Env": env })).env);
    });
    // A search for each among all others takes minutes.
    let found = receiver.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    assert_eq!((found.len(), found[COUNT - 1].as_str()), (COUNT, "299999="));
    reader.join().unwrap();
}

#[test]
fn messages_show_little_of_a_document() {
    let long = "x".repeat(1 << 20);
    let odd = format!("{long}\u{1b}[2J");
    let config_of = |kind: &str| json!({ "mediaType": kind, "digest": Digest::of(b""), "size": 0 });
    let platforms =
        json!([{ "digest": Digest::of(b""), "platform": { "os": odd, "architecture": odd } }]);
    let entries: Vec<Descriptor> = serde_json::from_value(platforms).unwrap();
    let parse = |value: &Value| {
        format!("{:#}", Document::parse(value.to_string().as_bytes(), "").unwrap_err())
    };
    let layers = json!([config_of(&odd)]);
    for (name, text) in [
        (
            "type of a config",
            parse(&json!({ "schemaVersion": 2, "config": config_of(&odd), "layers": [] })),
        ),
        (
            "type of an artifact",
            parse(
                &json!({ "schemaVersion": 2, "artifactType": odd, "config": config_of("x/y"), "layers": [] }),
            ),
        ),
        (
            "type of a layer",
            parse(&json!({ "schemaVersion": 2, "config": config_of(""), "layers": layers })),
        ),
        ("digest", parse(&json!({ "schemaVersion": 2, "manifests": [{ "digest": odd }] }))),
        ("string in place of a number", parse(&json!({ "schemaVersion": odd }))),
        (
            "root file system",
            format!(
                "{:#}",
                Config::parse(json!({ "rootfs": { "type": odd } }).to_string().as_bytes())
                    .unwrap_err()
            ),
        ),
        (
            "string in place of an array",
            format!(
                "{:#}",
                Config::parse(json!({ "config": { "Env": odd } }).to_string().as_bytes())
                    .unwrap_err()
            ),
        ),
        (
            "platforms",
            super::manifest::select(&entries, &Platform::host()).unwrap_err().to_string(),
        ),
    ] {
        assert!(text.contains('x') && !text.contains('\u{1b}'), "{name}");
        assert!(text.chars().count() < 500, "{name}: {}", text.chars().count());
    }
}

#[test]
fn times_are_those_of_rfc_3339() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T12:00:00.123456789Z", 1_709_208_000),
        ("2024-02-29t12:00:00z", 1_709_208_000),
        ("2024-02-29T14:30:00+02:30", 1_709_208_000),
        ("2024-02-29T10:00:00-02:00", 1_709_208_000),
        ("1969-12-31T23:59:59Z", -1),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        // What is no time counts as none.
        ("", 0),
        ("yesterday", 0),
        ("2024-13-01T00:00:00Z", 0),
        ("2024-01-01T24:00:00Z", 0),
        ("2024-01-01T00:00:00", 0),
        ("2024-01-01T00:00:00+é0:00", 0),
        ("99999999999999999999-01-01T00:00:00Z", 0),
        ("9223372036854775807-01-01T00:00:00Z", 0),
        ("2024-01-9223372036854775807T00:00:00Z", 0),
        ("2024-01-01T9223372036854775807:00:00Z", 0),
        ("2024-01-01T00:00:00+9223372036854775807:00", 0),
        ("2024-01-01T00:00:00-24:00", 0),
        ("2024-01-01T00:00:00-00:60", 0),
        ("+2024-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(config(&json!({ "created": text })).created, expected, "{text}");
    }
}

#[test]
fn the_kind_of_a_document_is_clear_or_refused() {
    const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const V2S2: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let config = json!({ "digest": Digest::of(b""), "size": 0 });
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    let index = json!({ "schemaVersion": 2, "manifests": [] });
    let with = |mut value: Value, media_type: &str| {
        value["mediaType"] = media_type.into();
        value
    };
    for (name, value, called, expected) in [
        ("by its members", manifest.clone(), "", Some("manifest")),
        ("by its members", index.clone(), "", Some("index")),
        ("as it is called", manifest.clone(), OCI_MANIFEST, Some("manifest")),
        (
            "with parameters",
            index.clone(),
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            Some("index"),
        ),
        (
            "by a server that does not know",
            manifest.clone(),
            "application/octet-stream",
            Some("manifest"),
        ),
        ("Docker's in OCI's", with(manifest.clone(), V2S2), OCI_MANIFEST, Some("manifest")),
        ("called an index", manifest.clone(), OCI_INDEX, None),
        ("called a manifest", index.clone(), OCI_MANIFEST, None),
        ("calls itself an index", with(manifest.clone(), OCI_INDEX), "", None),
        ("disagrees with its name", with(manifest.clone(), OCI_MANIFEST), OCI_INDEX, None),
        (
            "of another type",
            with(manifest.clone(), "application/vnd.oci.image.config.v1+json"),
            "",
            None,
        ),
        (
            "both",
            json!({ "schemaVersion": 2, "config": config, "layers": [], "manifests": [] }),
            "",
            None,
        ),
        ("no config", json!({ "schemaVersion": 2, "layers": [] }), "", None),
        ("neither", json!({ "schemaVersion": 2 }), "", None),
        ("no version", json!({ "manifests": [] }), "", None),
    ] {
        let found = match Document::parse(value.to_string().as_bytes(), called) {
            Ok(Document::Manifest(_)) => Some("manifest"),
            Ok(Document::Index(_)) => Some("index"),
            Err(_) => None,
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn layers_of_all_known_types_are_accepted() {
    let accepted: Vec<_> = Media::accepted().collect();
    assert_eq!(accepted.len(), 4);
    assert!(accepted.iter().all(|name| Media::of(name).is_some()));
    for (media_type, expected) in [
        ("application/vnd.oci.image.layer.v1.tar", Some(Media::Layer)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Media::Layer)),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Media::Layer)),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Media::Layer)),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Media::Layer)),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", Some(Media::EncryptedLayer)),
        ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None),
        ("", None),
    ] {
        assert_eq!(Media::of(media_type), expected, "{media_type}");
    }
}

#[test]
fn sizes_are_numbers_of_bytes() {
    for (size, is_fine) in [
        (json!(0), true),
        (json!(u64::MAX), true),
        (json!(-1), false),
        (json!(1.5), false),
        (json!("1"), false),
        (json!(null), false),
    ] {
        let value = json!({ "digest": Digest::of(b""), "size": size });
        let parsed = serde_json::from_value::<Descriptor>(value);
        assert_eq!(parsed.is_ok(), is_fine, "{size}");
    }
}

#[test]
fn data_of_a_descriptor_is_its_contents() {
    for (data, expected) in [
        (json!("e30="), Some(Some(&b"{}"[..]))),
        (json!(""), Some(None)),
        (json!(null), Some(None)),
        (json!("?"), None),
    ] {
        let value = json!({ "digest": Digest::of(b"{}"), "size": 2, "data": data });
        let found = serde_json::from_value::<Descriptor>(value).unwrap().embedded().ok();
        assert_eq!(found.as_ref().map(|bytes| bytes.as_deref()), expected, "{data}");
    }
}
