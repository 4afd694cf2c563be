//! Parameters of modules on the kernel command line.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst; finit_module(2).

use alloc::vec::Vec;

use proto::modules;
use proto::words::Word;

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
        if !parameters.is_empty() {
            parameters.push(b' ');
        }
        Word { param: parameter, value: word.value }.append_to(&mut parameters);
    }
    parameters
}
