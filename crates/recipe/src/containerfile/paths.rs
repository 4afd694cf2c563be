//! Paths of the image.

/// `path` as seen from the absolute directory `from`: absolute, without `.`, `..` and repeated
/// slashes. `..` does not leave the root.
pub(super) fn absolute(from: &str, path: &str) -> String {
    let from = if path.starts_with('/') { "" } else { from };
    let mut names: Vec<&str> = Vec::new();
    for name in from.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Like [`absolute`], with a final `/` if `path` names a directory by its end.
pub(super) fn target(from: &str, path: &str) -> String {
    let mut target = absolute(from, path);
    let last = path.rsplit('/').next().unwrap_or_default();
    if matches!(last, "" | "." | "..") && !target.ends_with('/') {
        target.push('/');
    }
    target
}
