//! Templates: machines that were saved when they waited for their orders, and from which later
//! runs start.
//!
//! A template is one file: the memory of the machine, and behind it the state of its devices.
//!
//! | Module | Content |
//! |---|---|
//! | [`key`] | names a template by everything that it depends on |
//! | [`footer`] | the format of a template's file |
//! | [`mod@file`] | reads it |
//! | `save` | writes it |
//! | [`store`] | keeps several |

pub mod file;
pub mod footer;
pub mod key;
mod save;
pub mod store;
#[cfg(test)]
mod tests;

use file::Template;
use key::TemplateKey;
use store::TemplateStore;

/// The template of a run.
#[derive(Debug)]
pub struct TemplateUse {
    /// Where templates are kept.
    pub store: TemplateStore,
    /// The name of the template.
    pub key: TemplateKey,
    /// Whether the run must come from the template, or become it.
    pub is_required: bool,
}

impl TemplateUse {
    /// Opens the template, if there is one.
    #[must_use]
    pub fn open(&self) -> Option<Template> {
        self.store.find(&self.key)
    }

    /// Removes the template, which turned out to be of no use.
    pub fn discard(&self) {
        self.store.remove(&self.key);
    }
}
