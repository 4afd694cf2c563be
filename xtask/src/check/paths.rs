//! Paths of one Rust source file that name modules of its own crate.
//!
//! Interface: the Rust reference, chapters "Use declarations" and "Paths". The file is
//! cut into tokens, not parsed, so that paths in arguments of macros are found as well.
//! Items under `#[cfg(test)]` are skipped. An import with `*` counts as an import of the
//! module before it.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module or an item, as the names from the crate's root to it.
pub type Path = Vec<String>;

/// Paths that a file contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Every path, made absolute within the crate.
    pub all: Vec<Path>,
    /// Names that `use` binds in the file's module, and the path of each.
    pub bound: Vec<(String, Path)>,
    /// Child modules that are compiled for tests only.
    pub test_modules: Vec<String>,
}

/// Finds the paths in `text`, the source of `module`.
///
/// # Errors
/// `text` is not Rust.
pub fn find(module: &[String], text: &str) -> Result<Paths> {
    let stream: TokenStream = text.parse().map_err(|error| anyhow!("cut into tokens: {error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    let mut scan = Scan { tokens: &tokens, at: 0, inside: Vec::new(), depth: 0 };
    let mut paths = Paths::default();
    while let Some(token) = scan.next() {
        match token {
            "{" => scan.depth += 1,
            "}" => {
                scan.depth = scan.depth.saturating_sub(1);
                scan.inside.retain(|(_, depth)| *depth < scan.depth);
            }
            "#" if scan.starts_with(&["[", "cfg", "(", "test", ")", "]"]) => {
                paths.test_modules.extend(scan.skip_item());
            }
            "mod" if scan.peek(1) == Some("{") => {
                let name = scan.next().unwrap_or_default().to_owned();
                scan.inside.push((name, scan.depth));
            }
            // `use<'a>` in a return type states what the type captures.
            "use" if scan.peek(0) != Some("<") => {
                let mut leaves = Vec::new();
                scan.use_tree(&mut Vec::new(), &mut leaves);
                for (name, path) in leaves {
                    let path = scan.absolute(module, &path);
                    if scan.inside.is_empty() {
                        paths.bound.push((name, path.clone()));
                    }
                    paths.all.push(path);
                }
            }
            "crate" | "super" | "self" if scan.peek(0) == Some("::") => {
                let path = scan.rest_of_path(token);
                paths.all.push(scan.absolute(module, &path));
            }
            _ => {}
        }
    }
    Ok(paths)
}

/// Appends the tokens of `stream`: names, punctuation and brackets, without literals.
fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(open.into());
                flatten(group.stream(), tokens);
                tokens.push(close.into());
            }
            TokenTree::Ident(name) => tokens.push(name.to_string()),
            TokenTree::Punct(mark) => match tokens.last_mut() {
                // The two halves of `::`.
                Some(last) if last == ":" && mark.as_char() == ':' => last.push(':'),
                _ => tokens.push(mark.to_string()),
            },
            TokenTree::Literal(_) => {}
        }
    }
}

/// Position in the tokens of a file.
struct Scan<'t> {
    tokens: &'t [String],
    at: usize,
    /// Inline modules around the position, each with the depth of its braces.
    inside: Vec<(String, usize)>,
    /// Number of open braces.
    depth: usize,
}

impl<'t> Scan<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let token = self.peek(0)?;
        self.at += 1;
        Some(token)
    }

    fn peek(&self, ahead: usize) -> Option<&'t str> {
        self.tokens.get(self.at + ahead).map(String::as_str)
    }

    /// Moves past `expected` if these are the next tokens.
    fn starts_with(&mut self, expected: &[&str]) -> bool {
        let is_next =
            expected.iter().zip(0..).all(|(token, ahead)| self.peek(ahead) == Some(token));
        self.at += if is_next { expected.len() } else { 0 };
        is_next
    }

    /// Moves past one item. Returns its name if it is a module.
    fn skip_item(&mut self) -> Option<String> {
        let (mut depth, mut module) = (0_usize, None);
        while let Some(token) = self.next() {
            match token {
                "mod" if depth == 0 => module = self.peek(0).map(str::to_owned),
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" if depth <= 1 => return module,
                "}" => depth -= 1,
                ";" if depth == 0 => return module,
                _ => {}
            }
        }
        module
    }

    /// Reads the tree of a `use`, as the names that it binds and their paths. `prefix`
    /// is the path before the tree.
    fn use_tree(&mut self, prefix: &mut Path, leaves: &mut Vec<(String, Path)>) {
        let length = prefix.len();
        while let Some(token) = self.peek(0) {
            match token {
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), None | Some("}")) {
                        self.use_tree(prefix, leaves);
                        self.starts_with(&[","]);
                    }
                    self.at += 1;
                    prefix.truncate(length);
                    return;
                }
                "::" => self.at += 1,
                "," | ";" | "}" | "as" => break,
                name => {
                    prefix.push(name.to_owned());
                    self.at += 1;
                }
            }
        }
        let name = match self.starts_with(&["as"]) {
            true => self.next(),
            false => prefix.last().map(String::as_str),
        };
        leaves.push((name.unwrap_or_default().to_owned(), prefix.clone()));
        prefix.truncate(length);
    }

    /// Reads the names after `first`, up to the end of a path.
    fn rest_of_path(&mut self, first: &str) -> Path {
        let mut path = vec![first.to_owned()];
        let is_name = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
        while let (Some("::"), Some(name)) = (self.peek(0), self.peek(1).filter(|it| is_name(it))) {
            path.push(name.to_owned());
            self.at += 2;
        }
        path
    }

    /// `path` as names from the crate's root. A path that begins with neither `crate`,
    /// `self` nor `super` counts as a path below `module`, even if it leads elsewhere.
    fn absolute(&self, module: &[String], path: &[String]) -> Path {
        let inline = self.inside.iter().map(|(name, _)| name);
        let mut absolute: Path = module.iter().chain(inline).cloned().collect();
        for name in path {
            match name.as_str() {
                "crate" => absolute.clear(),
                "super" => drop(absolute.pop()),
                "self" | "*" => {}
                _ => absolute.push(name.clone()),
            }
        }
        absolute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    fn found(text: &str) -> Paths {
        find(&path("a::b"), text).unwrap()
    }

    #[test]
    fn paths_become_absolute() {
        for (text, expected) in [
            ("use crate::x::Y;", "x::Y"),
            ("use super::x::{self};", "a::x"),
            ("use super::super::x;", "x"),
            ("use super::*;", "a"),
            ("use self::x::Y as Z;", "a::b::x::Y"),
            ("fn f() -> impl A + use<> { g(); } use super::x;", "a::x"),
            ("pub use x::Y;", "a::b::x::Y"),
            ("pub(in crate::a) fn f() {}", "a"),
            ("fn f() { crate::x::g::<u8>(1) }", "x::g"),
            ("fn f() { log::warn!(\"{}\", super::x::g()) }", "a::x::g"),
            ("mod m { fn f() { super::x(); } } use super::y;", "a::b::x a::y"),
            ("use super::{x, y::{z, W as V}};", "a::x a::y::z a::y::W"),
            ("// crate::x\n/* crate::x */ const S: &str = \"crate::x\";", ""),
            ("pub(crate) struct S; impl S { fn f(self) -> Self { self } }", ""),
        ] {
            let expected: Vec<_> = expected.split_whitespace().map(path).collect();
            assert_eq!(found(text).all, expected, "{text}");
        }
    }

    #[test]
    fn code_for_tests_is_skipped() {
        let text = "#[cfg(test)] mod tests; #[cfg(test)] pub mod samples { use crate::x; }
                    #[cfg(test)] use crate::y; #[cfg(test)] fn f(a: [u8; 2]) { crate::z(); }
                    use crate::kept;";
        let paths = found(text);
        assert_eq!(paths.all, [path("kept")]);
        assert_eq!(paths.test_modules, ["tests", "samples"]);
    }

    #[test]
    fn bound_names_are_those_of_the_file() {
        let text = "use crate::x::{Y, Z as W}; mod m { use crate::v; } fn f() { crate::u(); }";
        let expected = [("Y", "x::Y"), ("W", "x::Z")].map(|(name, to)| (name.to_owned(), path(to)));
        assert_eq!(found(text).bound, expected);
    }
}
