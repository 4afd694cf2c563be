//! Parameters of modules on the kernel command line.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst; finit_module(2).

use alloc::vec::Vec;

use virtinitrd_proto::modules;
use virtinitrd_proto::words::Word;

/// The parameters for `module` as finit_module(2) takes them: each of `words` that has the
/// form `MODULE.PARAM[=VALUE]`, without `MODULE.`.
#[must_use]
pub fn of_module(words: &[Word<'_>], module: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    for word in words {
        let mut parts = word.param.splitn(2, |&byte| byte == b'.');
        let (Some(name), Some(parameter)) = (parts.next(), parts.next()) else { continue };
        if !modules::is_same(name, module) {
            continue;
        }
        let quote: &[u8] = match word.value {
            Some(value) if value.iter().any(u8::is_ascii_whitespace) => b"\"",
            _ => b"",
        };
        let separator: &[u8] = if parameters.is_empty() { b"" } else { b" " };
        parameters.extend_from_slice(separator);
        parameters.extend_from_slice(parameter);
        if let Some(value) = word.value {
            for part in [b"=", quote, value, quote] {
                parameters.extend_from_slice(part);
            }
        }
    }
    parameters
}
