//! Examples of the documents: commands with their output.
//!
//! Interfaces: blocks marked `console` in Markdown, and the section EXAMPLES of man(7). In
//! a block, a line after the prompt `# ` (root) or `$ ` (any user) is a command of the host.
//! A line after the prompt of a guest's shell is typed into the command that runs. All
//! other lines are output, in which `…` stands for any text, and a line `…` for any lines.
//!
//! Some text differs from run to run, and documents show one value of it: see [`same_line`].

/// Text that stands for any text.
const ANY: &str = "…";

/// Ending of the releases of the kernel in the examples.
const KERNEL: &str = "-cloud-amd64";

/// Digits from which on a number depends on the host or the release: process ids, sizes,
/// numbers of files. Shorter numbers, such as exit statuses, must be equal.
const LONG_NUMBER: usize = 3;

/// One block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Heading above the block.
    pub heading: String,
    /// The commands, in order.
    pub steps: Vec<Step>,
}

/// One command, and what the terminal shows while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The command, as it is typed.
    pub command: String,
    /// The lines that follow it: output, and lines that are typed into the command.
    pub lines: Vec<String>,
}

impl Step {
    /// A command, and the text that the terminal shows while it runs.
    #[must_use]
    pub fn new(command: &str, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self { command: command.into(), lines }
    }

    /// What is typed into the command: prompts that are waited for, and the lines.
    pub fn typed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| after_prompt(line))
    }

    /// Whether the terminal has shown what the document says.
    #[must_use]
    pub fn has_shown(&self, text: &str) -> bool {
        let shown: Vec<&str> = text.lines().map(str::trim_end).collect();
        let end = shown.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        same_lines(&self.lines, &shown[..end])
    }
}

/// A line that begins with the prompt of bash in `/`, or of dash: the prompt, and what is
/// typed after it.
fn after_prompt(line: &str) -> Option<(&str, &str)> {
    let end = match line {
        _ if line.starts_with("root@") => line.find(":/# ")? + ":/# ".len(),
        _ if line.starts_with("# ") => "# ".len(),
        _ => return None,
    };
    Some(line.split_at(end))
}

/// The blocks of a Markdown document that are marked `console`.
#[must_use]
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut heading = "";
    let mut open: Option<Vec<Step>> = None;
    for line in markdown.lines() {
        match (&mut open, line) {
            (None, "```console") => open = Some(Vec::new()),
            (None, _) => {
                let title = line.trim_start_matches('#');
                if title.len() < line.len() {
                    heading = title.trim();
                }
            }
            (Some(steps), "```") => {
                blocks.push(Block { heading: heading.into(), steps: std::mem::take(steps) });
                open = None;
            }
            (Some(steps), _) => add_line(steps, line),
        }
    }
    blocks
}

fn add_line(steps: &mut Vec<Step>, line: &str) {
    match (line.strip_prefix("# ").or(line.strip_prefix("$ ")), steps.last_mut()) {
        (Some(command), _) => steps.push(Step::new(command, "")),
        (None, Some(step)) => step.lines.push(line.into()),
        // Output without a command is output of nothing, which no run shows.
        (None, None) => steps.push(Step::new("", line)),
    }
}

/// The commands in the EXAMPLES of a manual page. A backslash at the end of a line
/// continues the command.
#[must_use]
pub fn manual_examples(page: &str) -> Vec<String> {
    let examples = page.split("\n.SH ").find(|section| section.starts_with("EXAMPLES\n"));
    let lines = examples.unwrap_or_default().lines().skip_while(|line| *line != ".EX").skip(1);
    let text: Vec<_> = lines.take_while(|line| *line != ".EE").collect();
    let text = text.join("\n").replace("\\e\n", "").replace("\\-", "-");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn same_lines(expected: &[String], shown: &[&str]) -> bool {
    match expected.split_first() {
        None => shown.is_empty(),
        Some((line, rest)) if line == ANY => {
            (0..=shown.len()).any(|skipped| same_lines(rest, &shown[skipped..]))
        }
        Some((line, rest)) => {
            let matching = shown.split_first().filter(|(first, _)| same_line(line, first));
            matching.is_some_and(|(_, shown)| same_lines(rest, shown))
        }
    }
}

/// Whether a line is the documented one. Time stamps of the kernel, releases of Debian's
/// kernel, numbers of `LONG_NUMBER` digits or more, and the widths of blanks may differ.
#[must_use]
pub fn same_line(expected: &str, shown: &str) -> bool {
    let (expected, shown) = (without_variation(expected), without_variation(shown));
    let parts: Vec<&str> = expected.split(ANY).collect();
    let [first, middle @ .., last] = &parts[..] else { return expected == shown };
    let Some(mut rest) = shown.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The line with one spelling of everything that differs from run to run.
fn without_variation(line: &str) -> String {
    let words = without_timestamp(line).split_whitespace().map(|word| {
        let numbers = |text: &str| {
            text.split_inclusive(|c: char| !c.is_ascii_digit()).map(number).collect::<String>()
        };
        match word.split_once(KERNEL) {
            None => numbers(word),
            Some((before, after)) => {
                let start =
                    before.trim_end_matches(|c: char| c.is_ascii_digit() || ".-".contains(c));
                format!("{start}RELEASE{}", numbers(after))
            }
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A run of digits and the character behind it, with one spelling of a long number.
fn number(run: &str) -> String {
    let digits = run.bytes().take_while(u8::is_ascii_digit).count();
    if digits < LONG_NUMBER { run.into() } else { format!("NUMBER{}", &run[digits..]) }
}

/// A line without the kernel's time stamp, such as `[    1.234567] `.
#[must_use]
pub fn without_timestamp(line: &str) -> &str {
    let after = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match after {
        Some((time, text)) if time.contains('.') && time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_commands_output_and_typed_lines() {
        let text = "# Title\n```text\n# no\n```\n## Part\n```console\n# a\nout\n$ b &\n\
                    root@(none):/# c d\nout\n```\n";
        let steps = vec![Step::new("a", "out"), Step::new("b &", "root@(none):/# c d\nout")];
        assert_eq!(steps[1].typed().collect::<Vec<_>>(), [("root@(none):/# ", "c d")]);
        assert_eq!(blocks(text), [Block { heading: "Part".into(), steps }]);
    }

    #[test]
    fn examples_of_a_manual_page_are_commands() {
        let page = ".SH NAME\nx\n.SH EXAMPLES\n.EX\na \\-\\-b\nc \\e\n    d\n.EE\n.SH END\n";
        assert_eq!(manual_examples(page), ["a --b", "c d"]);
        assert!(manual_examples(".SH NAME\nx\n").is_empty());
    }

    #[test]
    fn output_is_compared_line_by_line() {
        #[rustfmt::skip]
        let rows = [
            ("equal",               "a\nb",                   "a\nb\n",                   true),
            ("other text",          "a\nb",                   "a\nc\n",                   false),
            ("a line more",         "a",                      "a\nb\n",                   false),
            ("a line less",         "a\nb",                   "a\n",                      false),
            ("no output",           "",                       "",                         true),
            ("output of nothing",   "",                       "error: no\n",              false),
            ("any lines",           "…\nb",                   "x\ny\nb\n",                true),
            ("no lines",            "…\nb",                   "b\n",                      true),
            ("any text",            "a …/b c",                "a /x/y/b c\n",             true),
            ("no such text",        "a …/b c",                "a /x/y/b\n",               false),
            ("release",             "Linux 6.1.0-50-cloud-amd64", "Linux 6.1.0-7-cloud-amd64\n", true),
            ("no release",          "Linux 6.1.0-50-cloud-amd64", "Linux 6.1.0-50-amd64\n", false),
            ("time stamp",          "[    2.1254] reboot",    "[   10.2] reboot\n",       true),
            ("number of files",     "erofs, 9618 files",      "erofs, 9700 files\n",      true),
            ("short number",        "42",                     "43\n",                     false),
            ("widths of blanks",    "NAME  PID    X",         "NAME  PID  X\n",           true),
        ];
        for (name, expected, shown, is_same) in rows {
            assert_eq!(Step::new("x", expected).has_shown(shown), is_same, "{name}");
        }
    }
}
