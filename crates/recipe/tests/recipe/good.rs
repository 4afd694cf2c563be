//! Recipes that are read: every key, every verb, every default.

use std::time::Duration;

use proto::settings::health::Unhealthy;
use proto::settings::restart::{Backoff, Restart, RestartPolicy};
use virtinitrd_recipe::{
    Action, Base, Build, Busybox, BusyboxSource, CommandStep, Contents, DirectoryStep, From,
    Health, HostVolume, Init, LinkStep, Machine, Mode, Network, Normalisation, Output, Position,
    Program, PutStep, Recipe, Run, RunCommand, Scope, Secret, parse,
};

/// 64 hexadecimal digits, some of them in capital letters.
const SHA256: &str = "E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A recipe with every key of the tables that are there once.
pub(crate) const FULL: &str = r#"
version = 1
name = "app"
manifest = "manifest.json"

[from]
oci = "debian:12-slim"
platform = "linux/amd64"

[build]
network = "user"
timeout = "10m"
memory = "2G"
cpus = 0x2
disk = "8G"
hostname = "build"
env = { DEBIAN_FRONTEND = "noninteractive" }
secrets.npm = { env = "NPM_TOKEN" }
secrets.key = { file = "../key" }
cache = ["/var/cache/apt/archives"]
volumes = { "/srv/src" = { path = "../src" }, "/srv/out" = { path = "/out", writable = true } }
normalise = ["logs", "apt"]
time = 1_704_067_200

[[step]]
label = "update"
run = """
apt-get update
apt-get install -y curl
"""
network = "none"
user = "nobody:nogroup"
workdir = "/tmp"
env = { A = "b" }
secrets = ["npm"]
inputs = ["check", "dir/x/"]
timeout = "5m"

[[step]]
put = "target/app"
to = "/usr/bin/"
owner = "0:0"
mode = "4755"
mount = true

[init]
file = "init.bin"

[busybox]
path = "busybox"
to = "/usr/bin/busybox"
applets = ["sh", "ls"]

[run]
command = ["/usr/bin/app", ""]
args = ["-v"]
env = { PORT = "8080" }
user = "app"
workdir = "/"
stop-signal = "QUIT"
volumes = ["/data"]
stop-timeout = "90s"
restart = { policy = "on-failure", max = 5, backoff = "1s..1m" }
expose = ["8080/tcp"]
labels = { "org.example/a" = "b" }

[[run.before]]
run = "mkdir -p /run/app"

[[run.before]]
argv = ["/usr/bin/migrate", ""]

[run.health]
run = "curl -fs localhost"
interval = "10s"
timeout = "2s"
start-period = "20s"
start-interval = "500ms"
retries = 3
on-failure = "restart"

[machine]
cpus = 2
memory = "512M"
network = "user"
publish = ["8080:80"]

[[output]]
file = "app.erofs"
format = "erofs"
init = true
include = ["/bin", "/etc"]
exclude = ["/usr/share/man", "*.pyc"]
compress = "zstd:19"
size = "250M"
label = "ROOT"
uuid = "0b1d3c5e-0000-4000-8000-000000000000"
cluster-size = "64k"
mkfs-args = ["-O", "^x"]

[[output]]
file = "../app.ext4"
slack = "10%"
init = false
"#;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn read(text: &str) -> Recipe {
    parse(&format!("version = 1\n{text}")).unwrap_or_else(|mistake| panic!("{text}: {mistake}"))
}

#[test]
fn nothing_but_a_version() {
    let recipe = read("");
    assert_eq!(recipe, Recipe::default());
    assert_eq!(recipe.from.base, Base::Empty);
    let build = recipe.build;
    assert_eq!((build.network, build.timeout), (Network::None, Duration::from_secs(3600)));
    assert_eq!((build.disk, &*build.hostname), (16 << 30, "localhost"));
    assert_eq!(build.normalise.len(), 8);
    assert_eq!((build.time, build.memory, build.cpus), (None, None, None));
}

#[test]
fn every_key_of_the_whole() {
    let recipe = parse(FULL).unwrap();
    assert_eq!(recipe.name.as_deref(), Some("app"));
    assert_eq!(recipe.manifest, Some("manifest.json".into()));
    let base = Base::Oci("debian:12-slim".into());
    let platform = Some("linux/amd64".into());
    assert_eq!(recipe.from, From { base, platform, digest: None });
    let volume = |path: &str, writable| HostVolume { path: path.into(), writable };
    let build = Build {
        network: Network::User,
        timeout: Duration::from_secs(600),
        memory: Some(2 << 30),
        cpus: Some(2),
        disk: 8 << 30,
        hostname: "build".into(),
        env: [("DEBIAN_FRONTEND".into(), "noninteractive".into())].into(),
        secrets: [
            ("npm".into(), Secret::Env("NPM_TOKEN".into())),
            ("key".into(), Secret::File("../key".into())),
        ]
        .into(),
        cache: texts(&["/var/cache/apt/archives"]),
        volumes: [
            ("/srv/src".into(), volume("../src", false)),
            ("/srv/out".into(), volume("/out", true)),
        ]
        .into(),
        normalise: vec![Normalisation::Logs, Normalisation::Apt],
        time: Some(1_704_067_200),
    };
    assert_eq!(recipe.build, build);
    assert_eq!(recipe.init, Some(Init::File("init.bin".into())));
    let busybox = Busybox {
        source: BusyboxSource::Path("busybox".into()),
        to: "/usr/bin/busybox".into(),
        applets: Some(texts(&["sh", "ls"])),
    };
    assert_eq!(recipe.busybox, Some(busybox));
    let machine = Machine {
        cpus: Some(2),
        memory: Some(512 << 20),
        network: Some(Network::User),
        publish: texts(&["8080:80"]),
    };
    assert_eq!(recipe.machine, Some(machine));
}

#[test]
fn every_key_of_the_workload() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let health = Health {
        args: RunCommand::Shell("curl -fs localhost".into()),
        interval: seconds(10),
        timeout: seconds(2),
        start_period: seconds(20),
        start_interval: Some(Duration::from_millis(500)),
        retries: Some(3),
        on_failure: Unhealthy::Restart,
    };
    let backoff = Backoff { first: Duration::from_secs(1), ..Backoff::default() };
    let run = Run {
        command: texts(&["/usr/bin/app", ""]),
        args: texts(&["-v"]),
        env: [("PORT".into(), "8080".into())].into(),
        user: Some("app".into()),
        workdir: Some("/".into()),
        stop_signal: Some("QUIT".into()),
        stop_timeout: seconds(90),
        volumes: texts(&["/data"]),
        before: vec![
            RunCommand::Shell("mkdir -p /run/app".into()),
            RunCommand::Words(texts(&["/usr/bin/migrate", ""])),
        ],
        restart: Some(RestartPolicy { when: Restart::OnFailure, max: Some(5), backoff }),
        health: Some(health),
        expose: texts(&["8080/tcp"]),
        labels: [("org.example/a".into(), "b".into())].into(),
    };
    assert_eq!(parse(FULL).unwrap().run, run);
    let health = read("[run]\nhealth = { argv = ['a', 'b'] }").run.health.unwrap();
    assert_eq!(health.args, RunCommand::Words(texts(&["a", "b"])));
    assert_eq!((health.interval, health.retries), (None, None));
}

#[test]
fn every_key_of_an_output() {
    let outputs = parse(FULL).unwrap().outputs;
    let first = Output {
        file: "app.erofs".into(),
        format: Some("erofs".into()),
        init: Some(true),
        include: texts(&["/bin", "/etc"]),
        exclude: texts(&["/usr/share/man", "*.pyc"]),
        compress: Some("zstd:19".into()),
        size: Some(250 << 20),
        slack: None,
        label: Some("ROOT".into()),
        uuid: Some("0b1d3c5e-0000-4000-8000-000000000000".into()),
        cluster_size: Some(64 << 10),
        mkfs_args: texts(&["-O", "^x"]),
    };
    let second = Output {
        file: "../app.ext4".into(),
        slack: Some(10),
        init: Some(false),
        ..Output::default()
    };
    assert_eq!(outputs, [first, second]);
}

#[test]
fn every_verb_of_a_step() {
    let steps = parse(FULL).unwrap().steps;
    let command = CommandStep {
        program: Program::Shell("apt-get update\napt-get install -y curl\n".into()),
        network: Some(Network::None),
        user: Some("nobody:nogroup".into()),
        workdir: Some("/tmp".into()),
        env: [("A".into(), "b".into())].into(),
        secrets: texts(&["npm"]),
        inputs: vec!["check".into(), "dir/x/".into()],
        timeout: Some(Duration::from_secs(300)),
    };
    assert_eq!(steps[0].action, Action::Command(command));
    assert_eq!(steps[0].label.as_deref(), Some("update"));
    assert_eq!(steps[0].position, Position { line: 25, column: 1 });
    assert_eq!(steps[1].position, Position { line: 39, column: 1 });

    let put = |contents, to: &str, owner: Option<&str>, mode, scope| {
        let owner = owner.map(str::to_owned);
        Action::Put(PutStep { contents, to: to.into(), owner, mode, scope })
    };
    let url = Contents::Url { url: "https://a/b".into(), sha256: SHA256.to_ascii_lowercase() };
    let files = Contents::Files("target/app".into());
    let (mode, directory) = (Mode::Fixed(0o4755), |mode, owner: Option<&str>| {
        let owner = owner.map(str::to_owned);
        Action::Directory(DirectoryStep { path: "/var/lib/app".into(), owner, mode })
    });
    assert_eq!(steps[1].action, put(files, "/usr/bin/", Some("0:0"), mode, Scope::Build));
    let link = |owner: Option<&str>| {
        let (target, to, owner) = ("../a".into(), "/b".into(), owner.map(str::to_owned));
        Action::Link(LinkStep { target, to, owner })
    };
    let text = Contents::Text(String::new());
    for (step, action) in [
        ("argv = ['a', '']", Action::Command(CommandStep::new(Program::Words(texts(&["a", ""]))))),
        ("script = 's.sh'", Action::Command(CommandStep::new(Program::Script("s.sh".into())))),
        (
            "put = '*.conf'\nto = '/'",
            put(Contents::Files("*.conf".into()), "/", None, Mode::Auto, Scope::Image),
        ),
        (
            "put = '.'\nto = '/a'",
            put(Contents::Files(".".into()), "/a", None, Mode::Auto, Scope::Image),
        ),
        (
            "text = ''\nto = '/a'\nmode = 'auto'\nmount = false",
            put(text, "/a", None, Mode::Auto, Scope::Image),
        ),
        (
            &format!("url = 'https://a/b'\nsha256 = '{SHA256}'\nto = '/a'"),
            put(url, "/a", None, Mode::Auto, Scope::Image),
        ),
        ("link = '../a'\nto = '/b'", link(None)),
        ("link = '../a'\nto = '/b'\nowner = 'app'", link(Some("app"))),
        ("mkdir = '/var/lib/app'", directory(0o755, None)),
        ("mkdir = '/var/lib/app'\nmode = 'auto'", directory(0o755, None)),
        ("mkdir = '/var/lib/app'\nmode = '0700'\nowner = '1:2'", directory(0o700, Some("1:2"))),
        ("remove = ['/a/**', '!/a/b']", Action::Remove(texts(&["/a/**", "!/a/b"]))),
    ] {
        assert_eq!(read(&format!("[[step]]\n{step}")).steps[0].action, action, "{step}");
    }
}

#[test]
fn every_base() {
    let digest = format!("sha256:{SHA256}");
    for (text, base) in [
        ("oci-layout = 'dir:1.0'", Base::OciLayout("dir:1.0".into())),
        ("oci-archive = '../a.tar'\nplatform = 'arm64'", Base::OciArchive("../a.tar".into())),
        ("docker-archive = '/a.tar'", Base::DockerArchive("/a.tar".into())),
        ("image = '/base.erofs'", Base::Image("/base.erofs".into())),
        ("dir = '../rootfs'", Base::Dir("../rootfs".into())),
        ("recipe = 'base/recipe.toml'", Base::Recipe("base/recipe.toml".into())),
    ] {
        assert_eq!(read(&format!("[from]\n{text}")).from.base, base, "{text}");
    }
    let from = read(&format!("[from]\ntar = 'a.tar.gz'\ndigest = '{digest}'")).from;
    assert_eq!(from.base, Base::Tar("a.tar.gz".into()));
    assert_eq!(from.digest, Some(digest.to_ascii_lowercase()));
}

#[test]
fn every_init_and_every_normalisation() {
    for (text, init) in [
        ("builtin = true", Init::Builtin),
        ("image = '/sbin/init'", Init::Image("/sbin/init".into())),
        ("none = true", Init::None),
    ] {
        assert_eq!(read(&format!("[init]\n{text}")).init, Some(init), "{text}");
    }
    let names = "['logs', 'ldconfig', 'machine-id', 'dbus-id', 'random-seed', 'wget-hsts', 'apt', \
                 'python']";
    for (text, count) in [("true", 8), ("false", 0), ("[]", 0), ("['python']", 1), (names, 8)] {
        let build = read(&format!("[build]\nnormalise = {text}")).build;
        assert_eq!(build.normalise.len(), count, "{text}");
    }
    let busybox =
        read(&format!("[busybox]\nurl = 'http://a'\nsha256 = '{SHA256}'")).busybox.unwrap();
    let source = BusyboxSource::Url { url: "http://a".into(), sha256: SHA256.to_ascii_lowercase() };
    assert_eq!(busybox, Busybox { source, to: "/bin/busybox".into(), applets: None });
}
