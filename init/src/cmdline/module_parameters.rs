//! The words of the kernel command line that are for modules.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst; finit_module(2).

use alloc::vec::Vec;

use virtinitrd_proto::words::Word;

/// The parameters for `module`, as finit_module(2) takes them: each of `words` that has
/// the form `MODULE.PARAM=VALUE`, without `MODULE.`. In the name of a module `-` and
/// `_` are the same.
#[must_use]
pub fn of_module(words: &[Word<'_>], module: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    for word in words {
        let mut parts = word.param.splitn(2, |&byte| byte == b'.');
        let (Some(name), Some(parameter)) = (parts.next(), parts.next()) else { continue };
        if !same_module(name, module) {
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

/// Names of one module: `-` and `_` are the same (modprobe(8)).
fn same_module(a: &[u8], b: &[u8]) -> bool {
    let canonical = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    a.iter().map(canonical).eq(b.iter().map(canonical))
}
