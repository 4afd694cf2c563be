//! Random recipes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proto::settings::health::Unhealthy;
use proto::settings::restart::{Backoff, Restart, RestartPolicy};
use virtinitrd_recipe::{
    Action, Base, Build, Busybox, BusyboxSource, CommandStep, Contents, DirectoryStep, From,
    Health, HostVolume, Init, LinkStep, Machine, Mode, Network, Normalisation, Output, Position,
    Program, PutStep, Recipe, Run, RunCommand, Scope, Secret, Step,
};

/// Most entries of a list.
const MOST: usize = 3;

fn any_text() -> impl Strategy<Value = String> {
    "[ -~é\n\t\r\u{1}\u{7f}\u{85}]{0,12}|'''\n\"\"\"|x\n'"
}

fn line() -> impl Strategy<Value = String> {
    "[ -~é]{1,12}"
}

fn command() -> impl Strategy<Value = String> {
    "[ -~é\n\t]{0,12}[!-~][\n']?"
}

fn guest() -> impl Strategy<Value = String> {
    "(/[a-z *\"\\\\]{1,4}){1,3}"
}

fn package() -> impl Strategy<Value = PathBuf> {
    "[a-z*é']{1,4}(/[a-z?]{1,3}){0,2}".prop_map(PathBuf::from)
}

fn host() -> impl Strategy<Value = PathBuf> {
    "(\\.\\./|/)?[a-z é]{1,6}".prop_map(PathBuf::from)
}

fn owner() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,4}(:[a-z0-9]{1,4})?"
}

fn sha256() -> impl Strategy<Value = String> {
    "[0-9a-f]{64}"
}

fn url() -> impl Strategy<Value = String> {
    "https?://[a-z.]{1,5}(/[a-z?=%]{0,5})?"
}

fn texts<S: Strategy<Value = String>>(text: S) -> impl Strategy<Value = Vec<String>> {
    vec(text, 0..=MOST)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    (command(), texts(any_text()))
        .prop_map(|(program, arguments)| [vec![program], arguments].concat())
}

fn env() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Z_.é\"]{1,4}", any_text(), 0..=MOST)
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![1..100_000_u64, (1..100_u64).prop_map(|minutes| minutes * 60_000)]
        .prop_map(Duration::from_millis)
}

fn memory() -> impl Strategy<Value = u64> {
    (32..1_000_000_u64).prop_map(|size| size << 20)
}

fn network() -> impl Strategy<Value = Network> {
    select(vec![Network::None, Network::User])
}

fn from() -> impl Strategy<Value = From> {
    let oci = |(base, platform)| From { base, platform, digest: None };
    let file = |(base, digest)| From { base, platform: None, digest };
    let plain = |base| From { base, platform: None, digest: None };
    let platform = || of("[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}");
    let digest = || of("sha256:[0-9a-f]{64}");
    prop_oneof![
        Just(From::default()),
        (line().prop_map(Base::Oci), platform()).prop_map(oci),
        (line().prop_map(Base::OciLayout), platform()).prop_map(oci),
        (line().prop_map(Base::OciArchive), platform()).prop_map(oci),
        (line().prop_map(Base::DockerArchive), platform()).prop_map(oci),
        (host().prop_map(Base::Image), digest()).prop_map(file),
        (host().prop_map(Base::Tar), digest()).prop_map(file),
        host().prop_map(Base::Dir).prop_map(plain),
        package().prop_map(Base::Recipe).prop_map(plain),
    ]
}

fn build() -> impl Strategy<Value = Build> {
    let secret = prop_oneof!["[A-Z]{1,4}".prop_map(Secret::Env), host().prop_map(Secret::File)];
    let volume = (host(), any::<bool>()).prop_map(|(path, writable)| HostVolume { path, writable });
    let all: Vec<_> = Normalisation::ALL.iter().map(|(_, kind)| *kind).collect();
    let normalise = prop_oneof![Just(all.clone()), proptest::sample::subsequence(all, 0..=8)];
    let numbers =
        (network(), duration(), of(memory()), of(1..u32::MAX), any::<u64>(), of(any::<u32>()));
    let names = (
        "[a-z][a-z.-]{0,5}",
        env(),
        btree_map("[a-z][a-z.]{0,3}", secret, 0..=MOST),
        btree_map(guest(), Just(()), 0..=MOST),
        btree_map(guest(), volume, 0..=MOST),
        normalise,
    );
    let build = (numbers, names).prop_map(|(numbers, names)| {
        let (network, timeout, memory, cpus, disk, time) = numbers;
        let (hostname, env, secrets, cache, volumes, normalise) = names;
        let cache = cache.into_keys().collect();
        Build {
            network,
            timeout,
            memory,
            cpus,
            disk,
            hostname,
            env,
            secrets,
            cache,
            volumes,
            normalise,
            time,
        }
    });
    prop_oneof![Just(Build::default()), build]
}

fn command_step() -> impl Strategy<Value = Action> {
    let program = prop_oneof![
        command().prop_map(Program::Shell),
        words().prop_map(Program::Words),
        package().prop_map(Program::Script),
    ];
    let rest = (of(network()), of(owner()), of(guest()), env(), of(package()), of(duration()));
    (program, rest).prop_map(|(program, (network, user, workdir, env, input, timeout))| {
        let (secrets, inputs) = (Vec::new(), input.into_iter().collect());
        Action::Command(CommandStep {
            program,
            network,
            user,
            workdir,
            env,
            secrets,
            inputs,
            timeout,
        })
    })
}

fn put_step() -> impl Strategy<Value = Action> {
    let contents = prop_oneof![
        package().prop_map(|path| Contents::Files(path.to_string_lossy().into_owned())),
        any_text().prop_map(Contents::Text),
        (url(), sha256()).prop_map(|(url, sha256)| Contents::Url { url, sha256 }),
    ];
    let mode = prop_oneof![Just(Mode::Auto), (0..=0o7777_u16).prop_map(Mode::Fixed)];
    let scope = select(vec![Scope::Image, Scope::Build]);
    (contents, guest(), of(owner()), mode, scope).prop_map(|(contents, to, owner, mode, scope)| {
        Action::Put(PutStep { contents, to, owner, mode, scope })
    })
}

fn step() -> impl Strategy<Value = Step> {
    let link = (line(), guest(), of(owner()))
        .prop_map(|(target, to, owner)| Action::Link(LinkStep { target, to, owner }));
    let directory = (guest(), of(owner()), 0..=0o7777_u16)
        .prop_map(|(path, owner, mode)| Action::Directory(DirectoryStep { path, owner, mode }));
    let removal = vec("!?/[a-z*/\\\\]{1,6}", 1..=MOST).prop_map(Action::Remove);
    let action = prop_oneof![command_step(), put_step(), link, directory, removal];
    (of(line()), action).prop_map(|(label, action)| Step {
        position: Position::default(),
        label,
        action,
    })
}

fn init() -> impl Strategy<Value = Init> {
    prop_oneof![
        Just(Init::Builtin),
        Just(Init::None),
        package().prop_map(Init::File),
        guest().prop_map(Init::Image),
    ]
}

fn busybox() -> impl Strategy<Value = Busybox> {
    let source = prop_oneof![
        package().prop_map(BusyboxSource::Path),
        (url(), sha256()).prop_map(|(url, sha256)| BusyboxSource::Url { url, sha256 }),
    ];
    let to = prop_oneof![Just(Busybox::TO.to_owned()), guest()];
    (source, to, of(texts("[a-z\\[]{1,4}"))).prop_map(|(source, to, applets)| Busybox {
        source,
        to,
        applets,
    })
}

fn run_command() -> impl Strategy<Value = RunCommand> {
    prop_oneof![command().prop_map(RunCommand::Shell), words().prop_map(RunCommand::Words)]
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let when = select(vec![Restart::No, Restart::OnFailure, Restart::Always]);
    (when, of(1..u32::MAX), duration(), duration()).prop_map(|(when, max, first, second)| {
        let backoff = Backoff { first: first.min(second), longest: first.max(second) };
        RestartPolicy { when, max, backoff }
    })
}

fn health() -> impl Strategy<Value = Health> {
    let times = (of(duration()), of(duration()), of(duration()), of(duration()));
    let unhealthy = select(vec![Unhealthy::Report, Unhealthy::Restart, Unhealthy::PowerOff]);
    let rest = (of(1..u32::MAX), unhealthy);
    (run_command(), times, rest).prop_map(|(args, times, (retries, on_failure))| {
        let (interval, timeout, start_period, start_interval) = times;
        Health { args, interval, timeout, start_period, start_interval, retries, on_failure }
    })
}

fn run() -> impl Strategy<Value = Run> {
    let command = prop_oneof![Just(Vec::new()), words()];
    let first = (command, texts(any_text()), env(), of(owner()), of(guest()));
    let signal = of(select(vec!["TERM".to_owned(), "SIGQUIT".to_owned(), "RTMIN+3".to_owned()]));
    let expose = texts("[1-9][0-9]{0,3}(/(tcp|udp))?");
    let second = (
        (signal, of(duration())),
        texts(guest()),
        (vec(run_command(), 0..=MOST), of(restart())),
        of(health()),
        expose,
        btree_map(line(), any_text(), 0..=MOST),
    );
    (first, second).prop_map(|(first, second)| {
        let (command, args, env, user, workdir) = first;
        let (stop, volumes, starts, health, expose, labels) = second;
        let ((stop_signal, stop_timeout), (before, restart)) = (stop, starts);
        Run {
            command,
            args,
            env,
            user,
            workdir,
            stop_signal,
            stop_timeout,
            volumes,
            before,
            restart,
            health,
            expose,
            labels,
        }
    })
}

fn machine() -> impl Strategy<Value = Machine> {
    let publish = texts("([1-9]\\.0\\.0\\.1:)?[1-9][0-9]{0,3}:[1-9][0-9]{0,3}(/udp)?");
    (of(1..u32::MAX), of(memory()), of(network()), publish)
        .prop_map(|(cpus, memory, network, publish)| Machine { cpus, memory, network, publish })
}

fn output() -> impl Strategy<Value = Output> {
    let size = prop_oneof![
        Just((None, None)),
        any::<u64>().prop_map(|size| (Some(size), None)),
        any::<u32>().prop_map(|slack| (None, Some(slack))),
    ];
    let texts_of = (of(line()), of(line()), of(line()), of(line()));
    let lists = (texts(guest()), texts(line()), texts(any_text()));
    (host(), of(any::<bool>()), texts_of, lists, size, of(any::<u64>())).prop_map(
        |(file, init, texts, lists, (size, slack), cluster_size)| {
            let (format, compress, label, uuid) = texts;
            let (include, exclude, mkfs_args) = lists;
            Output {
                file,
                format,
                init,
                include,
                exclude,
                compress,
                size,
                slack,
                label,
                uuid,
                cluster_size,
                mkfs_args,
            }
        },
    )
}

/// Recipes whose values keep the rules, with steps at the default position.
pub(super) fn recipe() -> impl Strategy<Value = Recipe> {
    let name = of("[a-z0-9][a-z0-9._-]{0,10}");
    let first = (name, of(host()), from(), build(), vec(step(), 0..=4));
    let second = (of(init()), of(busybox()), run(), of(machine()), vec(output(), 0..=MOST));
    (first, second).prop_map(|(first, second)| {
        let (name, manifest, from, build, mut steps) = first;
        let (init, busybox, run, machine, mut outputs) = second;
        // What names another part of the recipe follows from that part.
        for step in &mut steps {
            if let Action::Command(step) = &mut step.action {
                step.secrets = build.secrets.keys().cloned().collect();
            }
        }
        for (number, output) in outputs.iter_mut().enumerate() {
            output.file.push(number.to_string());
        }
        Recipe { name, manifest, from, build, steps, init, busybox, run, machine, outputs }
    })
}
