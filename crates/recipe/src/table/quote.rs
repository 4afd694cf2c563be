//! Foreign names in messages.

/// Most characters of a foreign text that a message shows.
const SHOWN_MAX: usize = 60;

/// `text` in quotes, as one line, cut if it is long.
pub(crate) fn quote(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN_MAX);
    match cut.and_then(|(at, _)| text.get(..at)) {
        Some(start) => format!("\"{}…\"", start.escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

/// The `known` name that `name` likely means.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    /// Most letters that a mistyped name has wrong, inserted, left out or swapped.
    const NEAR: usize = 2;
    /// Most letters of a short name, which is another word if two letters differ.
    const SHORT: usize = 4;
    /// Most bytes of a name that is compared: a comparison takes memory for each letter.
    const LONG: usize = 40;
    if name.len() > LONG {
        return None;
    }
    let near = if name.chars().count() <= SHORT { 1 } else { NEAR };
    let distances = known.map(|key| (strsim::damerau_levenshtein(name, key), key));
    distances.filter(|(distance, _)| *distance <= near).min_by_key(|row| row.0).map(|row| row.1)
}

/// `a, b or c`, with `word` before the last name.
pub(crate) fn list<'n>(names: impl IntoIterator<Item = &'n str>, word: &str) -> String {
    let names: Vec<_> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} {word} {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quote("a\n\"b\""), "\"a\\n\\\"b\\\"\"");
        assert_eq!(quote(&"é".repeat(60)), format!("\"{}\"", "é".repeat(60)));
        assert_eq!(quote(&"é".repeat(61)), format!("\"{}…\"", "é".repeat(60)));
    }

    #[test]
    fn only_near_names_are_near() {
        let known = || ["run", "argv", "workdir"].into_iter();
        for (name, found) in [
            ("rum", Some("run")),
            ("rnu", Some("run")),
            ("ruin", Some("run")),
            ("put", None),
            ("wrkdri", Some("workdir")),
            ("work", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known()), found, "{name}");
        }
        assert_eq!(nearest(&"n".repeat(1 << 20), known()), None);
    }

    #[test]
    fn lists_are_read_aloud() {
        assert_eq!(list([], "or"), "");
        assert_eq!(list(["a"], "or"), "a");
        assert_eq!(list(["a", "b", "c"], "or"), "a, b or c");
    }
}
