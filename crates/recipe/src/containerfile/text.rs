//! Texts of instructions with their here-documents.

use super::documents::Document;

/// `text` with its here-documents as they were written.
pub(super) fn with_documents(text: &str, documents: &[Document]) -> String {
    let mut whole = text.to_owned();
    for document in documents {
        whole.push('\n');
        whole.push_str(&document.text);
        whole.push_str(&document.name);
    }
    whole
}
