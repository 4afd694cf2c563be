//! Targets for recipes and their lock files.

use anyhow::{Result, ensure};
use recipe::{Position, Recipe, lock};

use super::input::Answer;

/// 64 hexadecimal digits.
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Words of recipes.
#[rustfmt::skip]
pub(super) const RECIPE_WORDS: &[&str] = &[
    "\n[from]\n", "\n[build]\n", "\n[[step]]\n", "\n[init]\n", "\n[busybox]\n", "\n[run]\n", "\n[machine]\n",
    "\n[[output]]\n", "oci = ", "tar = ", "run = ", "argv = ", "put = ", "text = ", "url = ", "link = ",
    "mkdir = ", "remove = ", "to = ", "secrets.a = { env = \"A\" }\n", "secrets = [\"a\"]\n", "env = { A = \"b\" }\n",
    "mode = \"0755\"\n", "size = \"1.5G\"\n", "timeout = \"5m\"\n", "file = ", "\"/a\"\n", "\"a\"\n", "\"../a\"\n",
    "'''", "\"\"\"", "\\u0000", "\\U0010FFFF", "true\n", "[", "]", "{", "}", ",", "=", ".", "#", "\n", "\r\n",
    "0x1", "1_0", "-1", "1e9", "nan", "2024-01-01T00:00:00Z", "é", SHA256,
];

/// Words of lock files.
#[rustfmt::skip]
pub(super) const LOCK_WORDS: &[&str] = &[
    "\n[[image]]\n", "\n[[url]]\n", "oci = ", "platform = ", "digest = ", "url = ", "sha256 = ", "recipe = ",
    "\"linux/amd64\"\n", "\"https://a\"\n", "\"a\"\n", "sha256:", "sha512:", "\\u0000", "[", "]", "\n", "'", SHA256,
];

/// Seeds of recipes.
pub(super) fn recipes() -> Vec<Vec<u8>> {
    let whole = format!(
        r#"version = 1
name = "app"
manifest = "m.json"
[from]
oci = "debian:12-slim"
platform = "linux/amd64"
[build]
network = "user"
timeout = "10m"
memory = "2G"
env = {{ A = "b" }}
secrets.npm = {{ env = "NPM_TOKEN" }}
cache = ["/var/cache/apt"]
volumes = {{ "/src" = {{ path = "../src", writable = true }} }}
normalise = ["logs", "apt"]
time = 1_704_067_200
[[step]]
run = """
apt-get update \
  -y
"""
secrets = ["npm"]
inputs = ["check"]
user = "nobody"
[[step]]
url = "https://example.org/tool"
sha256 = "{SHA256}"
to = "/usr/bin/tool"
mode = "0755"
[[step]]
remove = ["/usr/share/doc/**", "!/usr/share/doc/*/copyright"]
[busybox]
path = "busybox"
applets = ["sh"]
[run]
command = ["/usr/bin/app"]
restart = {{ policy = "always" }}
health = {{ run = "true", interval = "10s", retries = 3 }}
labels = {{ "a b" = "c" }}
[machine]
publish = ["8080:80"]
[[output]]
file = "app.ext4"
size = "250M"
include = ["/bin"]
"#
    );
    let small = r#"version = 1
step = [{ put = "a", to = "/b/", mount = true }, { link = "a", to = "/c" }, { text = '''x''', to = "/d" }, { mkdir = "/e" }, { argv = ["a", ""] }]
init.none = true
"#;
    vec![whole.into_bytes(), small.as_bytes().to_vec()]
}

/// Rules for every recipe: a mistake is inside the text, a recipe is read again from its
/// canonical text, and its steps have stable bytes.
pub(super) fn check_recipe(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    let found = match recipe::parse(text) {
        Ok(found) => found,
        Err(mistake) => {
            let Position { line, column } = mistake.position;
            let lines = text.matches('\n').count() + 1;
            ensure!((1..=lines).contains(&line) && column > 0, "a mistake at {line}:{column}");
            ensure!(mistake.message.len() < 4096, "a message of {} bytes", mistake.message.len());
            return Ok(Answer::Refused);
        }
    };
    let canonical = found.to_toml();
    match recipe::parse(&canonical) {
        Ok(again) => {
            let are_equal =
                found.steps.iter().zip(&again.steps).all(|(a, b)| a.canonical() == b.canonical());
            ensure!(are_equal, "a step has other bytes when it is read again");
            ensure!(again.to_toml() == canonical, "the canonical text is not stable");
            let again = without_positions(again);
            ensure!(without_positions(found) == again, "another recipe when it is read again");
        }
        // Escapes may make the text longer than a recipe can be.
        Err(mistake) => {
            ensure!(mistake.message.starts_with("the text has"), "{mistake}\n{canonical}");
        }
    }
    Ok(Answer::Accepted)
}

/// A recipe without the positions of its steps.
fn without_positions(mut recipe: Recipe) -> Recipe {
    for step in &mut recipe.steps {
        step.position = Position::default();
    }
    recipe
}

/// Seeds of lock files.
pub(super) fn locks() -> Vec<Vec<u8>> {
    let text = format!(
        "version = 1\nrecipe = \"sha256:{SHA256}\"\n[[image]]\noci = \"a:1\"\nplatform = \"linux/amd64\"\n\
         digest = \"sha256:{SHA256}\"\n[[url]]\nurl = \"https://a/b\"\nsha256 = \"{SHA256}\"\n"
    );
    vec![text.into_bytes()]
}

/// Rule for every lock file: it is read again from its text.
pub(super) fn check_lock(input: &[u8]) -> Result<Answer> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(Answer::Refused) };
    let Ok(found) = lock::parse(text) else { return Ok(Answer::Refused) };
    match lock::parse(&found.to_text()) {
        Ok(again) => ensure!(again == found, "another lock file when it is read again"),
        // Escapes may make the text longer than a lock file can be.
        Err(mistake) => ensure!(mistake.message.starts_with("the text has"), "{mistake}"),
    }
    Ok(Answer::Accepted)
}
