//! Counts the words of files.

use std::process::ExitCode;

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match std::fs::read_to_string(&path) {
            Ok(text) => println!("{} {path}", count(&text)),
            Err(error) => {
                eprintln!("words: {path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_counted() {
        assert_eq!(super::count(" one two\tthree\n"), 3);
    }
}
