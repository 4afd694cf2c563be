//! Questions to the programs of this host, such as `virtiofsd --help`. An answer is kept, so each
//! program is asked once.
//!
//! Interfaces: stat(2); the XDG Base Directory Specification. The directory `virtinitrd/answers`
//! in the user's cache directory has one file for each answer, which is named by a digest of the
//! program's identity and of the question. Only successes of ELF programs are kept: a script may
//! ask another program, which can change.

use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Result;
use files::kept::{self, KeptFile, KeptFiles, Rules};
use nix::unistd::geteuid;

use crate::host;

/// Most bytes of an answer that is kept.
const SIZE_MAX: u64 = 64 << 10;
/// Length of the line with the digest.
const DIGEST: u64 = 65;
/// Prefix of the names of unfinished files.
const UNFINISHED: &str = ".unfinished-";

const RULES: Rules = Rules {
    directory: "answers",
    unfinished: UNFINISHED,
    size: Metadata::len,
    most: 32,
    most_bytes: 32 * (SIZE_MAX + DIGEST),
};

/// The answers that are kept.
#[derive(Clone, Debug)]
pub struct Answers {
    files: KeptFiles,
}

/// What a program printed on standard output, and after that on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Whether its exit status was 0.
    pub is_success: bool,
}

/// A question that was asked.
#[derive(Debug)]
pub struct Question {
    state: State,
    /// The place of the answer; `None` if it is not kept.
    place: Option<(Answers, String)>,
}

#[derive(Debug)]
enum State {
    Answered(String),
    /// The program that answers.
    Running(io::Result<Child>),
}

impl Question {
    /// Starts `program` with `arguments`, unless its answer is known. An answer takes some
    /// milliseconds; meanwhile the caller can go on.
    #[must_use]
    pub fn ask(program: &Path, arguments: &[&str]) -> Self {
        let answers = host::user_cache().and_then(|home| Answers::below(&home));
        Self::ask_once(program, arguments, answers)
    }

    fn ask_once(program: &Path, arguments: &[&str], answers: Option<Answers>) -> Self {
        let place = answers.and_then(|answers| Some((answers, name(program, arguments)?)));
        let known = place.as_ref().and_then(|(answers, name)| answers.find(name));
        let state = match known {
            Some(text) => State::Answered(text),
            None => {
                let mut command = Command::new(program);
                command.args(arguments).stdin(Stdio::null());
                State::Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn())
            }
        };
        Self { state, place }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn answer(self) -> Result<Answer> {
        let child = match self.state {
            State::Answered(text) => return Ok(Answer { text, is_success: true }),
            State::Running(child) => child?,
        };
        let output = child.wait_with_output()?;
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let is_success = output.status.success();
        let place = self.place.filter(|_| is_success);
        if let Some(Err(error)) = place.map(|(answers, name)| answers.keep(&name, &text)) {
            log::debug!("an answer is not kept: {error:#}");
        }
        Ok(Answer { text, is_success })
    }
}

impl Answers {
    /// The answers below the cache directory `home`; `None` if the directory cannot be made, or
    /// another user might own it or write to it.
    #[must_use]
    pub fn below(home: &Path) -> Option<Self> {
        KeptFiles::below(home, &RULES).map(|files| Self { files })
    }

    /// All files of the directory.
    #[must_use]
    pub fn list(&self) -> Vec<KeptFile> {
        self.files.list()
    }

    /// Removes the file `name` of [`Self::list`].
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.files.remove(name)
    }

    fn find(&self, name: &str) -> Option<String> {
        let file = self.files.open(name).ok()??;
        let mut text = String::new();
        (&file).take(SIZE_MAX + DIGEST).read_to_string(&mut text).ok()?;
        kept::note_use(&file);
        // Files are not synced, so a power cut may have lost a part of it.
        let (digest, answer) = text.split_once('\n')?;
        (digest == self::digest(answer)).then(|| answer.to_owned())
    }

    fn keep(&self, name: &str, text: &str) -> Result<()> {
        if text.is_empty() || text.len() as u64 > SIZE_MAX {
            return Ok(());
        }
        self.files.keep(name, |file| write!(file, "{}\n{text}", digest(text)))
    }
}

/// The first line of a file, for damage.
fn digest(answer: &str) -> String {
    blake3::hash(answer.as_bytes()).to_string()
}

/// The name of an answer; `None` if it is not kept. Some programs answer root alone.
fn name(program: &Path, arguments: &[&str]) -> Option<String> {
    let identity = host::identity(program).ok().filter(|_| host::is_elf(program))?;
    let mut hasher = blake3::Hasher::new();
    let user = geteuid().to_string();
    let words = arguments.iter().map(|argument| argument.as_bytes());
    for part in [&identity[..], user.as_bytes()].into_iter().chain(words) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Some(hasher.finalize().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn shell() -> PathBuf {
        PathBuf::from("/bin/sh")
    }

    fn ask(answers: &Answers, program: &Path, script: &str) -> (Answer, bool) {
        let question = Question::ask_once(program, &["-c", script], Some(answers.clone()));
        let is_known = matches!(question.state, State::Answered(_));
        (question.answer().unwrap(), is_known)
    }

    #[test]
    fn a_program_is_asked_once() {
        let home = tempfile::tempdir().unwrap();
        let answers = Answers::below(home.path()).unwrap();
        let script = "echo out; echo err >&2";
        let expected = Answer { text: "out\nerr\n".into(), is_success: true };
        for is_known in [false, true, true] {
            assert_eq!(ask(&answers, &shell(), script), (expected.clone(), is_known));
        }
        assert!(!ask(&answers, &shell(), "echo other").1);
        let kept = answers.list();
        assert_eq!(kept.len(), 2);
        answers.remove(&kept[0].name).unwrap();
        answers.remove(&kept[1].name).unwrap();
        assert!(!ask(&answers, &shell(), script).1);
    }

    #[test]
    fn a_damaged_answer_is_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let answers = Answers::below(home.path()).unwrap();
        for damage in ["", "\n", "out\n"] {
            assert!(!ask(&answers, &shell(), "echo out").1, "{damage:?}");
            assert!(ask(&answers, &shell(), "echo out").1, "{damage:?}");
            let path = answers.files.dir().join(&answers.list()[0].name);
            fs::write(path, damage).unwrap();
        }
    }

    #[test]
    fn a_changed_program_is_asked_again() {
        let home = tempfile::tempdir().unwrap();
        let answers = Answers::below(home.path()).unwrap();
        let copy = home.path().join("sh");
        for _ in 0..2 {
            fs::copy(shell(), &copy).unwrap();
            assert!(!ask(&answers, &copy, "echo out").1);
        }
        assert!(ask(&answers, &copy, "echo out").1);
    }

    #[test]
    fn failures_scripts_and_long_answers_are_not_kept() {
        let home = tempfile::tempdir().unwrap();
        let answers = Answers::below(home.path()).unwrap();
        let script = home.path().join("script");
        fs::write(&script, "#!/bin/sh\necho out\n").unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        for (program, words) in [
            (&shell(), "echo out; exit 1"),
            (&shell(), "true"),
            (&shell(), "head -c 70000 /dev/zero"),
            (&script, ""),
        ] {
            for _ in 0..2 {
                assert!(!ask(&answers, program, words).1, "{words}");
            }
        }
        assert_eq!(answers.list(), []);
        let missing = Question::ask_once(&home.path().join("missing"), &[], Some(answers));
        assert!(missing.answer().is_err());
    }
}
