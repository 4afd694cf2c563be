//! What instructions make of a config, and the layers of archives.

use std::fs;

use serde_json::{Value, json};

use super::{bench, build, listing, succeeds};
use crate::images::bench::Bench;
use crate::images::layout;

/// The config of the image in a layout archive, and its history and layers.
fn config(bench: &Bench, archive: &str) -> Value {
    let dir = bench.path("unpacked");
    let _ = fs::remove_dir_all(&dir); // the first call has none
    tar::Archive::new(fs::File::open(bench.path(archive)).unwrap()).unpack(&dir).unwrap();
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(path)).unwrap()).unwrap()
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        read(&format!("blobs/{digest}"))
    };
    let index = read("index.json");
    let mut config = blob(&blob(&index["manifests"][0])["config"]);
    config["tag"] = index["manifests"][0]["annotations"].clone();
    config
}

#[test]
fn instructions_become_a_config() {
    let bench = bench();
    let text = "FROM scratch
MAINTAINER Ada
ENV PATH=/bin A=\"b c\"
ARG HIDDEN=1
LABEL one=two \"three four\"=five
EXPOSE 80 90/udp
VOLUME /data [\"x\"]
WORKDIR /srv
USER app:staff
STOPSIGNAL SIGQUIT
SHELL [\"/bin/bash\", \"-c\"]
HEALTHCHECK --interval=5s --retries=2 CMD test -e /ok
ENTRYPOINT [\"/entry\", \"x\"]
CMD run it
";
    succeeds(build(&bench, text, &["-o", "o.oci.tar", "-t", "acme/app:2"]));
    let found = config(&bench, "o.oci.tar");
    let expected = json!({
        "Env": ["PATH=/bin", "A=b c"],
        "Labels": { "one": "two", "three four": "five" },
        "ExposedPorts": { "80/tcp": {}, "90/udp": {} },
        "Volumes": { "/data": {}, "[x]": {} },
        "User": "app:staff",
        "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/bash", "-c"],
        "Healthcheck": {
            "Test": ["CMD-SHELL", "test -e /ok"], "Interval": 5_000_000_000_u64, "Retries": 2
        },
        "Entrypoint": ["/entry", "x"],
        "Cmd": ["/bin/bash", "-c", "run it"],
    });
    assert_eq!(found["config"], expected);
    assert_eq!(found["author"], "Ada");
    assert_eq!(found["tag"]["org.opencontainers.image.ref.name"], "2");
    assert_eq!(found["tag"]["io.containerd.image.name"], "docker.io/acme/app:2");
    let history = found["history"].as_array().unwrap();
    let made: Vec<_> = history.iter().map(|step| step["created_by"].as_str().unwrap()).collect();
    assert_eq!(made.len(), 13);
    assert_eq!(made[1], "ENV PATH=/bin A=\"b c\"");
    let with_layer = history.iter().filter(|step| step["empty_layer"] != true);
    assert_eq!(with_layer.count(), 1, "{history:#?}");
    assert_eq!(found["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
}

#[test]
fn a_base_gives_its_config_and_its_layers() {
    let bench = bench();
    fs::create_dir(bench.path("layout")).unwrap();
    let of_base = json!({
        "Env": ["A=1", "B=2"], "Entrypoint": ["/old"], "Cmd": ["arg"], "User": "ada",
        "Labels": { "a": "b" }, "StopSignal": "SIGINT", "WorkingDir": "/home",
        "Healthcheck": { "Test": ["CMD", "x"] },
    });
    layout::image(&bench.path("layout"), json!({ "config": of_base }));
    let named = "my=oci-layout:layout";
    let text = "FROM my
ENV B=${A}3
COPY a.txt /
COPY b.md /
COPY --chmod=600 a.txt /b.md
ENTRYPOINT [\"/new\"]
HEALTHCHECK NONE
";
    succeeds(build(&bench, text, &["--build-context", named, "-o", "o.oci.tar"]));
    let found = config(&bench, "o.oci.tar");
    let expected = json!({
        "Env": ["A=1", "B=13"], "Entrypoint": ["/new"], "User": "ada", "Labels": { "a": "b" },
        "StopSignal": "SIGINT", "WorkingDir": "/home", "Healthcheck": { "Test": ["NONE"] },
    });
    assert_eq!(found["config"], expected);
    let layers = found["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(layers, layout::LAYERS.len() + 3);
    let tree = listing(&bench, "o.oci.tar");
    succeeds(build(&bench, text, &["--build-context", named, "-o", "s.oci.tar", "--squash"]));
    let squashed = config(&bench, "s.oci.tar");
    assert_eq!(squashed["rootfs"]["diff_ids"].as_array().unwrap().len(), layout::LAYERS.len() + 1);
    assert_eq!(squashed["config"], expected);
    assert_eq!(listing(&bench, "s.oci.tar"), tree);
    succeeds(build(&bench, text, &["--build-context", named, "-o", "o.tar"]));
    assert_eq!(listing(&bench, "o.tar"), tree);
}

#[test]
fn triggers_of_a_base_are_refused() {
    let bench = bench();
    fs::create_dir(bench.path("layout")).unwrap();
    layout::image(&bench.path("layout"), json!({ "config": { "OnBuild": ["RUN make"] } }));
    let words = ["--build-context", "my=layout", "-o", "o.tar"];
    let output = build(&bench, "FROM my\n", &words).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(super::WRONG), "{message}");
    assert!(message.contains("ctx/Containerfile:1:1: ") && message.contains("ONBUILD RUN make"));
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let bench = bench();
    let text = "FROM base\nCOPY . /x/\nWORKDIR /y\nENV A=b\n";
    let epoch = |output: &str, words: &[&str]| {
        let words = [&["-o", output, "--no-cache"], words].concat();
        let mut command = build(&bench, text, &words);
        command.env("SOURCE_DATE_EPOCH", "1000000000");
        succeeds(command);
        fs::read(bench.path(output)).unwrap()
    };
    let mut trees = Vec::new();
    for (name, words) in
        [("1.tar", &[][..]), ("1.erofs", &[]), ("1.oci.tar", &[]), ("1.oci.tar", &["--squash"])]
    {
        let first = epoch(name, words);
        let now = std::time::SystemTime::now();
        for file in ["ctx/a.txt", "ctx/dir/c.txt", "base/etc/passwd"] {
            fs::File::open(bench.path(file)).unwrap().set_modified(now).unwrap();
        }
        assert!(first == epoch(&name.replace('1', "2"), words), "{name} {words:?}");
        trees.push(listing(&bench, name));
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:#?}");
}
