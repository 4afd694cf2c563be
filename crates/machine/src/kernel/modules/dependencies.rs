//! Dependencies of one module.
//!
//! Format of soft dependencies: `pre: A B post: C`, as in a module's `.modinfo`
//! (kernel: `MODULE_SOFTDEP`) and in modules.softdep (modprobe.d(5)).

use super::name::canonical_name;

/// Names of the modules that one module depends on, all canonical.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Modules that must be loaded before it.
    pub depends: Vec<String>,
    /// Modules that should be loaded before it, if they exist.
    pub soft_pre: Vec<String>,
    /// Modules that should be loaded after it, if they exist.
    pub soft_post: Vec<String>,
}

impl Dependencies {
    /// Adds the soft dependencies in `text`, such as `pre: A B post: C`.
    pub fn add_soft(&mut self, text: &str) {
        let mut names = None;
        for word in text.split_whitespace() {
            match (word, &mut names) {
                ("pre:", _) => names = Some(&mut self.soft_pre),
                ("post:", _) => names = Some(&mut self.soft_post),
                (name, Some(names)) => names.push(canonical_name(name)),
                // Words before the first "pre:" or "post:" mean nothing.
                (_, None) => {}
            }
        }
    }
}
