//! [`Recipe`] → canonical text of a recipe.toml.
//!
//! Invariant: [`parse`](crate::parse()) reads the text as the same recipe, but for the positions of
//! its steps. What has its default is left out, except where a recipe needs it.

use std::path::Path;

use proto::settings::health::{UNHEALTHY, Unhealthy};
use proto::settings::restart::{Backoff, RESTARTS, RestartPolicy};

use crate::keys::VERSION;
use crate::model::{
    Action, Base, Build, Busybox, BusyboxSource, CommandStep, Contents, DirectoryStep, From,
    Health, HostVolume, Init, LinkStep, Machine, Mode, Network, Normalisation, Output, Program,
    PutStep, Recipe, Run, RunCommand, Scope, Secret, Step,
};
use crate::values::{show_backoff, show_duration, show_mode, show_size};
use crate::writer::{Writer, inline, key_of, quoted};

impl Recipe {
    /// Canonical text. A path that is not UTF-8 is written with replacement characters.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let Self { name, manifest, from, build, steps, init, busybox, run, machine, outputs } =
            self;
        let mut to = Writer::default();
        to.raw("version", VERSION);
        to.maybe("name", name.as_deref());
        to.maybe("manifest", manifest.as_deref().map(Path::to_string_lossy));
        write_from(&mut to, from);
        write_build(&mut to, build);
        for step in steps {
            write_step(&mut to, step);
        }
        if let Some(init) = init {
            write_init(&mut to, init);
        }
        if let Some(busybox) = busybox {
            write_busybox(&mut to, busybox);
        }
        write_run(&mut to, run);
        if let Some(machine) = machine {
            write_machine(&mut to, machine);
        }
        for output in outputs {
            write_output(&mut to, output);
        }
        to.finish()
    }
}

/// Name of a value in its table of names.
fn name_of<T: PartialEq>(rows: &[(&'static str, T)], value: &T) -> &'static str {
    rows.iter().find(|(_, row)| row == value).map_or("", |(name, _)| name)
}

fn write_from(to: &mut Writer, From { base, platform, digest }: &From) {
    let (key, value) = match base {
        Base::Empty => return,
        Base::Oci(text) => ("oci", text.into()),
        Base::OciLayout(text) => ("oci-layout", text.into()),
        Base::OciArchive(text) => ("oci-archive", text.into()),
        Base::DockerArchive(text) => ("docker-archive", text.into()),
        Base::Image(path) => ("image", path.to_string_lossy()),
        Base::Dir(path) => ("dir", path.to_string_lossy()),
        Base::Tar(path) => ("tar", path.to_string_lossy()),
        Base::Recipe(path) => ("recipe", path.to_string_lossy()),
    };
    to.table("[from]");
    to.text(key, value);
    to.maybe("platform", platform.as_deref());
    to.maybe("digest", digest.as_deref());
}

fn write_build(to: &mut Writer, build: &Build) {
    let default = Build::default();
    if *build == default {
        return;
    }
    let Build {
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
    } = build;
    to.table("[build]");
    if *network != default.network {
        to.text("network", name_of(Network::ALL, network));
    }
    if *timeout != default.timeout {
        to.text("timeout", show_duration(*timeout));
    }
    to.maybe("memory", memory.map(show_size));
    if let Some(cpus) = cpus {
        to.raw("cpus", cpus);
    }
    if *disk != default.disk {
        to.text("disk", show_size(*disk));
    }
    if *hostname != default.hostname {
        to.text("hostname", hostname);
    }
    to.map("env", env);
    for (name, secret) in secrets {
        let (kind, value) = match secret {
            Secret::Env(name) => ("env", quoted(name)),
            Secret::File(path) => ("file", quoted(&path.to_string_lossy())),
        };
        to.raw(&format!("secrets.{}", key_of(name)), inline([(kind, value)]));
    }
    to.texts("cache", cache);
    for (at, HostVolume { path, writable }) in volumes {
        let path = [("path", quoted(&path.to_string_lossy()))];
        let writable = writable.then(|| ("writable", "true".to_owned()));
        to.raw(&format!("volumes.{}", key_of(at)), inline(path.into_iter().chain(writable)));
    }
    if normalise.is_empty() {
        to.raw("normalise", false);
    } else if *normalise != default.normalise {
        to.list("normalise", normalise.iter().map(|kind| name_of(Normalisation::ALL, kind)));
    }
    if let Some(time) = time {
        to.raw("time", time);
    }
}

fn write_step(to: &mut Writer, Step { position: _, label, action }: &Step) {
    to.table("[[step]]");
    to.maybe("label", label.as_deref());
    match action {
        Action::Command(step) => write_command(to, step),
        Action::Put(step) => write_put(to, step),
        Action::Link(LinkStep { target, to: path, owner }) => {
            to.text("link", target);
            to.text("to", path);
            to.maybe("owner", owner.as_deref());
        }
        Action::Directory(DirectoryStep { path, owner, mode }) => {
            to.text("mkdir", path);
            to.maybe("owner", owner.as_deref());
            if *mode != DirectoryStep::MODE {
                to.text("mode", show_mode(Mode::Fixed(*mode)));
            }
        }
        Action::Remove(patterns) => to.list("remove", patterns),
    }
}

fn write_command(to: &mut Writer, step: &CommandStep) {
    let CommandStep { program, network, user, workdir, env, secrets, inputs, timeout } = step;
    match program {
        Program::Shell(text) => to.text("run", text),
        Program::Words(words) => to.list("argv", words),
        Program::Script(path) => to.text("script", path.to_string_lossy()),
    }
    to.maybe("network", network.as_ref().map(|network| name_of(Network::ALL, network)));
    to.maybe("user", user.as_deref());
    to.maybe("workdir", workdir.as_deref());
    to.map("env", env);
    to.texts("secrets", secrets);
    if !inputs.is_empty() {
        to.list("inputs", inputs.iter().map(|path| path.to_string_lossy()));
    }
    to.maybe("timeout", timeout.map(show_duration));
}

fn write_put(to: &mut Writer, PutStep { contents, to: path, owner, mode, scope }: &PutStep) {
    match contents {
        Contents::Files(files) => to.text("put", files),
        Contents::Text(text) => to.text("text", text),
        Contents::Url { url, sha256 } => {
            to.text("url", url);
            to.text("sha256", sha256);
        }
    }
    to.text("to", path);
    to.maybe("owner", owner.as_deref());
    if *mode != Mode::Auto {
        to.text("mode", show_mode(*mode));
    }
    match scope {
        Scope::Image => {}
        Scope::Build => to.raw("mount", true),
    }
}

fn write_init(to: &mut Writer, init: &Init) {
    to.table("[init]");
    match init {
        Init::Builtin => to.raw("builtin", true),
        Init::File(path) => to.text("file", path.to_string_lossy()),
        Init::Image(path) => to.text("image", path),
        Init::None => to.raw("none", true),
    }
}

fn write_busybox(to: &mut Writer, Busybox { source, to: path, applets }: &Busybox) {
    to.table("[busybox]");
    match source {
        BusyboxSource::Path(path) => to.text("path", path.to_string_lossy()),
        BusyboxSource::Url { url, sha256 } => {
            to.text("url", url);
            to.text("sha256", sha256);
        }
    }
    if path != Busybox::TO {
        to.text("to", path);
    }
    if let Some(applets) = applets {
        to.list("applets", applets);
    }
}

fn write_run(to: &mut Writer, run: &Run) {
    if *run == Run::default() {
        return;
    }
    let Run {
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
    } = run;
    to.table("[run]");
    to.texts("command", command);
    to.texts("args", args);
    to.map("env", env);
    to.maybe("user", user.as_deref());
    to.maybe("workdir", workdir.as_deref());
    to.maybe("stop-signal", stop_signal.as_deref());
    to.maybe("stop-timeout", stop_timeout.map(show_duration));
    to.texts("volumes", volumes);
    if let Some(RestartPolicy { when, max, backoff }) = restart {
        let max = max.map(|max| ("max", max.to_string()));
        let backoff = Some(*backoff).filter(|backoff| *backoff != Backoff::default());
        let backoff = backoff.map(|backoff| ("backoff", quoted(&show_backoff(backoff))));
        let policy = [("policy", quoted(name_of(&RESTARTS, when)))];
        to.raw("restart", inline(policy.into_iter().chain(max).chain(backoff)));
    }
    to.texts("expose", expose);
    to.map("labels", labels);
    // Tables of their own come last: keys after their headers are their own.
    for command in before {
        to.table("[[run.before]]");
        write_run_command(to, command);
    }
    if let Some(health) = health {
        write_health(to, health);
    }
}

fn write_run_command(to: &mut Writer, command: &RunCommand) {
    match command {
        RunCommand::Shell(text) => to.text("run", text),
        RunCommand::Words(words) => to.list("argv", words),
    }
}

fn write_health(to: &mut Writer, health: &Health) {
    let Health { args, interval, timeout, start_period, start_interval, retries, on_failure } =
        health;
    to.table("[run.health]");
    write_run_command(to, args);
    to.maybe("interval", interval.map(show_duration));
    to.maybe("timeout", timeout.map(show_duration));
    to.maybe("start-period", start_period.map(show_duration));
    to.maybe("start-interval", start_interval.map(show_duration));
    if let Some(retries) = retries {
        to.raw("retries", retries);
    }
    let on_failure = Some(on_failure).filter(|action| **action != Unhealthy::default());
    to.maybe("on-failure", on_failure.map(|action| name_of(&UNHEALTHY, action)));
}

fn write_machine(to: &mut Writer, Machine { cpus, memory, network, publish }: &Machine) {
    to.table("[machine]");
    if let Some(cpus) = cpus {
        to.raw("cpus", cpus);
    }
    to.maybe("memory", memory.map(show_size));
    to.maybe("network", network.as_ref().map(|network| name_of(Network::ALL, network)));
    to.texts("publish", publish);
}

fn write_output(to: &mut Writer, output: &Output) {
    let Output {
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
    } = output;
    to.table("[[output]]");
    to.text("file", file.to_string_lossy());
    to.maybe("format", format.as_deref());
    if let Some(init) = init {
        to.raw("init", init);
    }
    to.texts("include", include);
    to.texts("exclude", exclude);
    to.maybe("compress", compress.as_deref());
    to.maybe("size", size.map(show_size));
    to.maybe("slack", slack.map(|percent| format!("{percent}%")));
    to.maybe("label", label.as_deref());
    to.maybe("uuid", uuid.as_deref());
    to.maybe("cluster-size", cluster_size.map(show_size));
    to.texts("mkfs-args", mkfs_args);
}
