//! Steps as bytes, for the keys of caches.
//!
//! Equal actions have equal bytes, other actions have other bytes, and neither depends on how
//! the recipe is written. The position and the label of a step do not count.
//!
//! Format: [`MAGIC`], then fields. A field is its name, `:`, the number of bytes of its value in
//! decimal, `:`, the value, and a newline, so that no value can look like another field. A value
//! that is missing has no field; the verb comes first. Lists are fields of the same name, and a
//! map is a list of fields whose values are `NAME=VALUE`. A change of this format runs every step
//! again, so it needs another [`MAGIC`].

use std::os::unix::ffi::OsStrExt;

use crate::model::{
    Action, CommandStep, Contents, DirectoryStep, LinkStep, Network, Program, PutStep, Scope, Step,
};
use crate::values::{show_duration, show_mode};

/// First line.
const MAGIC: &[u8] = b"virtinitrd recipe step 1\n";

impl Step {
    /// Stable bytes of what the step does. They say nothing of the contents of the files that it
    /// names, nor of the settings of the build.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut fields = Fields(MAGIC.to_vec());
        match &self.action {
            Action::Command(command) => fields.command(command),
            Action::Put(put) => fields.put(put),
            Action::Link(LinkStep { target, to, owner }) => {
                fields.add("link", target);
                fields.add("to", to);
                fields.maybe("owner", owner.as_deref());
            }
            Action::Directory(DirectoryStep { path, owner, mode }) => {
                fields.add("mkdir", path);
                fields.maybe("owner", owner.as_deref());
                fields.add("mode", format!("{mode:04o}"));
            }
            Action::Remove(patterns) => fields.all("remove", patterns),
        }
        fields.0
    }
}

/// The fields so far.
struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.extend_from_slice(format!("{name}:{}:", value.len()).as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn maybe(&mut self, name: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn all(&mut self, name: &str, values: &[impl AsRef<[u8]>]) {
        for value in values {
            self.add(name, value);
        }
    }

    fn command(&mut self, step: &CommandStep) {
        let CommandStep { program, network, user, workdir, env, secrets, inputs, timeout } = step;
        match program {
            Program::Shell(text) => self.add("run", text),
            Program::Words(words) => self.all("argv", words),
            Program::Script(path) => self.add("script", path.as_os_str().as_bytes()),
        }
        let network = network.map(|network| match network {
            Network::None => "none",
            Network::User => "user",
        });
        self.maybe("network", network);
        self.maybe("user", user.as_deref());
        self.maybe("workdir", workdir.as_deref());
        for (name, value) in env {
            self.add("env", format!("{name}={value}"));
        }
        self.all("secret", secrets);
        for path in inputs {
            self.add("input", path.as_os_str().as_bytes());
        }
        self.maybe("timeout", timeout.map(show_duration));
    }

    fn put(&mut self, step: &PutStep) {
        let PutStep { contents, to, owner, mode, scope } = step;
        match contents {
            Contents::Files(path) => self.add("put", path),
            Contents::Text(text) => self.add("text", text),
            Contents::Url { url, sha256 } => {
                self.add("url", url);
                self.add("sha256", sha256);
            }
        }
        self.add("to", to);
        self.maybe("owner", owner.as_deref());
        self.add("mode", show_mode(*mode));
        match scope {
            Scope::Image => {}
            Scope::Build => self.add("mount", "true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::model::{Mode, Position};

    fn step(action: Action) -> Step {
        Step { position: Position::default(), label: None, action }
    }

    fn command(edit: impl FnOnce(&mut CommandStep)) -> Action {
        let mut command = CommandStep::new(Program::Shell("x".into()));
        edit(&mut command);
        Action::Command(command)
    }

    fn put(edit: impl FnOnce(&mut PutStep)) -> Action {
        let mut put = PutStep {
            contents: Contents::Files("x".into()),
            to: "/x".into(),
            owner: None,
            mode: Mode::Auto,
            scope: Scope::Image,
        };
        edit(&mut put);
        Action::Put(put)
    }

    fn url(url: &str, sha256: &str) -> Contents {
        Contents::Url { url: url.into(), sha256: sha256.into() }
    }

    #[test]
    fn the_bytes_are_stable() {
        let step = step(command(|step| {
            step.env.insert("A".into(), "é\n".into());
            step.inputs.push("in".into());
            step.timeout = Some(Duration::from_secs(90));
        }));
        let expected =
            "virtinitrd recipe step 1\nrun:1:x\nenv:5:A=é\n\ninput:2:in\ntimeout:3:90s\n";
        assert_eq!(String::from_utf8(step.canonical()).unwrap(), expected);
    }

    #[test]
    fn positions_and_labels_do_not_count() {
        let plain = step(command(|_| ()));
        let position = Position { line: 7, column: 9 };
        let other = Step { position, label: Some("label".into()), action: plain.action.clone() };
        assert_eq!(plain.canonical(), other.canonical());
    }

    #[test]
    fn each_field_counts() {
        let link = |target: &str, to: &str, owner: Option<&str>| {
            let owner = owner.map(str::to_owned);
            Action::Link(LinkStep { target: target.into(), to: to.into(), owner })
        };
        let directory = |path: &str, owner: Option<&str>, mode| {
            let owner = owner.map(str::to_owned);
            Action::Directory(DirectoryStep { path: path.into(), owner, mode })
        };
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let actions = [
            command(|_| ()),
            command(|step| step.program = Program::Shell("y".into())),
            command(|step| step.program = Program::Words(words(&["x"]))),
            command(|step| step.program = Program::Words(words(&["x", "y"]))),
            command(|step| step.program = Program::Words(words(&["xy"]))),
            command(|step| step.program = Program::Words(words(&["x\nargv:1:y"]))),
            command(|step| step.program = Program::Words(words(&["y", "x"]))),
            command(|step| step.program = Program::Script("x".into())),
            command(|step| step.network = Some(Network::None)),
            command(|step| step.network = Some(Network::User)),
            command(|step| step.user = Some("x".into())),
            command(|step| step.workdir = Some("/x".into())),
            command(|step| step.env = [("A".into(), "b".into())].into()),
            command(|step| step.env = [("A".into(), "b\nenv:3:C=d".into())].into()),
            command(|step| step.env = [("A".into(), "b".into()), ("C".into(), "d".into())].into()),
            command(|step| step.secrets = words(&["x"])),
            command(|step| step.inputs = vec!["x".into()]),
            command(|step| step.inputs = vec!["x".into(), "y".into()]),
            command(|step| step.timeout = Some(Duration::from_secs(1))),
            command(|step| step.timeout = Some(Duration::from_millis(1001))),
            put(|_| ()),
            put(|step| step.contents = Contents::Files("y".into())),
            put(|step| step.contents = Contents::Text("x".into())),
            put(|step| step.contents = Contents::Text(String::new())),
            put(|step| step.contents = url("x", "y")),
            put(|step| step.contents = url("x", "z")),
            put(|step| step.contents = url("z", "y")),
            put(|step| step.to = "/x/".into()),
            put(|step| step.owner = Some("0:0".into())),
            put(|step| step.mode = Mode::Fixed(0o644)),
            put(|step| step.mode = Mode::Fixed(0)),
            put(|step| step.scope = Scope::Build),
            link("x", "/x", None),
            link("y", "/x", None),
            link("x", "/y", None),
            link("x", "/x", Some("a")),
            directory("/x", None, 0o755),
            directory("/y", None, 0o755),
            directory("/x", Some("a"), 0o755),
            directory("/x", None, 0o700),
            Action::Remove(words(&["/x"])),
            Action::Remove(words(&["/x", "!/y"])),
            Action::Remove(words(&["!/y", "/x"])),
        ];
        let count = actions.len();
        let bytes: BTreeSet<_> = actions.map(|action| step(action).canonical()).into();
        assert_eq!(bytes.len(), count);
    }
}
