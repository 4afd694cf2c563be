//! `image inspect` and `image layers`: what they say about an OCI image.

use oci::name::digest::Digest;
use serde_json::{Value, json};

use crate::images::bench::Bench;
use crate::images::layout::{self, LAYERS, arch};

/// A config with all members; texts of it try to steer a terminal.
fn config() -> Value {
    json!({
        "created": "2024-02-29T23:59:59.5+01:00",
        "config": {
            "Entrypoint": ["/bin/app", "a b"],
            "Cmd": ["*", "\u{1b}[2J"],
            "Env": ["PATH=/bin", "A=1"],
            "User": "ada:users",
            "WorkingDir": "/srv",
            "StopSignal": "SIGQUIT",
            "Volumes": {"/data": {}, "/cache": {}},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Labels": {"org.example.name": "x\u{9b}y"},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Retries": 3}
        },
        "history": [
            {"created_by": "ADD rootfs"},
            {"created_by": "ENV A=1", "empty_layer": true},
            {"created_by": "RUN echo\n\u{1b}[2J"}
        ]
    })
}

fn bench() -> Bench {
    let bench = Bench::new();
    layout::image(&bench.path("img"), config());
    bench
}

#[test]
fn the_config_is_shown_for_people() {
    let bench = bench();
    let text = bench.prints(&["inspect", "img"]);
    let lines: Vec<_> = text.lines().collect();
    let digests = |line: &str| line.split("sha256:").count() == 2;
    assert!(digests(lines[1]) && digests(lines[2]), "{text}");
    let platform = format!("platform     linux/{}", arch());
    let size: usize = LAYERS.iter().map(|members| layout::tar(members).len()).sum();
    assert_eq!(size % 512, 0);
    let layers = format!("layers       2, {}.{}0 KiB", size / 1024, size % 1024 / 512 * 5);
    let expected = [
        "image        oci-layout:img",
        lines[1],
        lines[2],
        &platform,
        "created      2024-02-29T22:59:59Z",
        "entrypoint   \"/bin/app\" \"a b\"",
        "command      \"*\" \"\\u{1b}[2J\"",
        "env          PATH=/bin",
        "             A=1",
        "user         ada:users",
        "directory    /srv",
        "stop signal  SIGQUIT",
        "volume       /cache",
        "             /data",
        "port         53/udp",
        "             80/tcp",
        "label        org.example.name=x\\u{9b}y",
        "health       CMD true, every 30s, 3 retries",
        &layers,
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_config_is_json_for_programs() {
    let bench = bench();
    let text = bench.prints(&["inspect", "img", "--json"]);
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    let facts: Value = serde_json::from_str(&text).unwrap();
    let config = &facts["config"];
    assert_eq!(facts["platforms"], json!([format!("linux/{}", arch())]));
    assert_eq!(facts["created"], "2024-02-29T22:59:59Z");
    assert_eq!(config["entrypoint"], json!(["/bin/app", "a b"]));
    assert_eq!(config["cmd"], json!(["*", "\u{1b}[2J"]));
    assert_eq!(config["labels"]["org.example.name"], "x\u{9b}y");
    assert_eq!(config["healthcheck"]["test"], json!(["CMD", "true"]));
    assert_eq!(config["healthcheck"]["interval"], 30_000_000_000_u64);
    let layers = facts["layers"].as_array().unwrap();
    let alone: Value = serde_json::from_str(&bench.prints(&["layers", "img", "--json"])).unwrap();
    assert_eq!(alone, facts["layers"]);
    for (layer, (members, by)) in
        layers.iter().zip(LAYERS.iter().zip(["ADD rootfs", "RUN echo\n\u{1b}[2J"]))
    {
        let bytes = layout::tar(members);
        assert_eq!(layer["digest"], Digest::of(&bytes).as_str());
        assert_eq!(layer["diff_id"], layer["digest"]);
        assert_eq!((&layer["size"], &layer["unpacked_size"]), (&json!(bytes.len()), &Value::Null));
        assert_eq!((&layer["compression"], &layer["created_by"]), (&json!("none"), &json!(by)));
    }
    // The unpacked size is known once the image was read.
    bench.prints(&["ls", "img"]);
    let facts: Value = serde_json::from_str(&bench.prints(&["inspect", "img", "--json"])).unwrap();
    assert_eq!(facts["layers"][0]["unpacked_size"], facts["layers"][0]["size"]);
}

/// Members of the JSON object: programs may rely on them.
#[test]
fn members_of_json_are_always_there() {
    let bench = bench();
    layout::image(&bench.path("bare"), json!({}));
    bench.write("root/file", "x");
    let members = |arguments: &[&str]| {
        let facts: Value = serde_json::from_str(&bench.prints(arguments)).unwrap();
        facts.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let of_image = members(&["inspect", "img", "--json"]);
    assert_eq!(members(&["inspect", "bare", "--json"]), of_image);
    assert_eq!(
        of_image,
        ["config", "config_digest", "created", "digest", "layers", "name", "platform", "platforms"]
    );
    assert_eq!(
        members(&["inspect", "root", "--json"]),
        [
            "contents",
            "directories",
            "files",
            "format",
            "kernels",
            "label",
            "links",
            "others",
            "runs",
            "size",
            "uuid"
        ]
    );
}

#[test]
fn a_layer_is_one_line() {
    let bench = bench();
    let text = bench.prints(&["layers", "img"]);
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split("  ").collect()).collect();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        rows[0].contains(&"CREATED BY") && text.ends_with("  RUN echo\\n\\u{1b}[2J\n"),
        "{text}"
    );
    assert!(text.lines().nth(1).unwrap().ends_with("  ADD rootfs"), "{text}");
    // A history that does not fit the layers says nothing about them.
    let odd = json!({"history": [{"created_by": "RUN x"}]});
    layout::image(&bench.path("odd"), odd);
    assert!(!bench.prints(&["layers", "odd"]).contains("RUN x"));
}
